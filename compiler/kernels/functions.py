"""Elementwise functions in C, on vectors. NaN passes through all of them.

The exponential is Cephes' `expf`, the hyperbolic tangent the rational approximation of Eigen, and the error function
Abramowitz & Stegun's 7.1.26; none is off by more than 3e-7, relative or of the largest result.
"""

from __future__ import annotations

import math

FUNCTIONS = """\
INLINE vf npas_splat(float a) { return a - (vf){0}; }
INLINE vf npas_select(vi m, vf a, vf b) { return (vf)((m & (vi)a) | (~m & (vi)b)); }
INLINE vf npas_abs(vf a) { return (vf)((vi)a & 0x7fffffff); }
INLINE vf npas_neg(vf a) { return -a; }
INLINE vf npas_relu(vf a) { return (vf)(~(a < npas_splat(0.0f)) & (vi)a); }
INLINE vf npas_clip(vf a, float low, float high)
{
  a = npas_select(a < npas_splat(low), npas_splat(low), a);
  return npas_select(a > npas_splat(high), npas_splat(high), a);
}
INLINE vf npas_relu6(vf a) { return npas_select(a > npas_splat(6.0f), npas_splat(6.0f), npas_relu(a)); }
INLINE vf npas_hard_sigmoid(vf a) { return npas_relu6(a + 3.0f) * (1.0f / 6.0f); }
INLINE vf npas_hard_swish(vf a) { return a * npas_hard_sigmoid(a); }
INLINE vf npas_leaky_relu(vf a, float slope) { return npas_select(a < npas_splat(0.0f), a * slope, a); }
INLINE vf npas_square(vf a) { return a * a; }
INLINE vf npas_reciprocal(vf a) { return 1.0f / a; }
INLINE vf npas_sign(vf a)
{
  const vf zero = npas_splat(0.0f);
  return npas_select(a > zero, npas_splat(1.0f), npas_select(a < zero, npas_splat(-1.0f), a));
}
INLINE vf npas_hard_shrink(vf a, float l)
{
  return npas_select((a < npas_splat(-l)) | (a > npas_splat(l)), a, a * 0.0f);
}
INLINE vf npas_soft_shrink(vf a, float l) { return a - npas_clip(a, -l, l); }
INLINE vf npas_threshold(vf a, float t, float v) { return npas_select(a <= npas_splat(t), npas_splat(v), a); }
INLINE vf npas_truth(vi m) { return npas_select(m, npas_splat(1.0f), npas_splat(0.0f)); }
INLINE vf npas_above(vf a, float b) { return npas_truth(a > npas_splat(b)); }
INLINE vf npas_at_least(vf a, float b) { return npas_truth(a >= npas_splat(b)); }
INLINE vf npas_below(vf a, float b) { return npas_truth(a < npas_splat(b)); }
INLINE vf npas_at_most(vf a, float b) { return npas_truth(a <= npas_splat(b)); }
INLINE vf npas_equals(vf a, float b) { return npas_truth(a == npas_splat(b)); }
INLINE vf npas_differs(vf a, float b) { return npas_truth(a != npas_splat(b)); }
INLINE vf npas_either(vf a, float b, float c)
{
  return npas_select(a != npas_splat(0.0f), npas_splat(b), npas_splat(c));
}
INLINE vf npas_exp(vf a)
{
  const vf x = npas_clip(a, -87.33f, 88.72f);
  const vf shifted = x * 1.44269504088896341f + 12582912.0f, n = shifted - 12582912.0f;
  const vf r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  vf p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const vi exponent = ((vi)shifted - 0x4b400000) << 23;
  const vf y = (vf)((vi)p + exponent);
  const vf small = npas_select(a < npas_splat(-87.33f), npas_splat(0.0f), npas_select(a != a, a, y));
  return npas_select(a > npas_splat(88.72f), npas_splat(__builtin_inff()), small);
}
INLINE vf npas_sigmoid(vf a) { return 1.0f / (1.0f + npas_exp(-a)); }
INLINE vf npas_silu(vf a) { return a / (1.0f + npas_exp(-a)); }
INLINE vf npas_tanh(vf a)
{
  const vf x = npas_clip(a, -7.90531110763549805f, 7.90531110763549805f), s = x * x;
  vf p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  vf q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return x * p / q;
}
INLINE vf npas_erf(vf a)
{
  const vf x = npas_abs(a), t = 1.0f / (1.0f + 0.3275911f * x);
  vf p = t * 1.061405429f + -1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t + -0.284496736f;
  p = (p * t + 0.254829592f) * t;
  const vf y = 1.0f - p * npas_exp(-x * x);
  return npas_select(a < npas_splat(0.0f), -y, y);
}
INLINE vf npas_gelu(vf a) { return 0.5f * a * (1.0f + npas_erf(a * 0.70710678118654752f)); }
INLINE vf npas_gelu_tanh(vf a)
{
  return 0.5f * a * (1.0f + npas_tanh(0.79788456080286536f * (a + 0.044715f * a * a * a)));
}
INLINE vf npas_elu(vf a, float alpha, float scale, float input)
{
  return npas_select(a < npas_splat(0.0f), (npas_exp(a * input) - 1.0f) * (alpha * scale), a * scale);
}
"""

SLOW = """\
INLINE vf npas_sqrt(vf a) { for (int i = 0; i < VL; i++) a[i] = __builtin_sqrtf(a[i]); return a; }
INLINE vf npas_rsqrt(vf a) { return 1.0f / npas_sqrt(a); }
INLINE vf npas_log(vf a) { for (int i = 0; i < VL; i++) a[i] = logf(a[i]); return a; }
INLINE vf npas_sin(vf a) { for (int i = 0; i < VL; i++) a[i] = sinf(a[i]); return a; }
INLINE vf npas_cos(vf a) { for (int i = 0; i < VL; i++) a[i] = cosf(a[i]); return a; }
INLINE vf npas_floor(vf a) { for (int i = 0; i < VL; i++) a[i] = floorf(a[i]); return a; }
INLINE vf npas_ceil(vf a) { for (int i = 0; i < VL; i++) a[i] = ceilf(a[i]); return a; }
INLINE vf npas_round(vf a) { for (int i = 0; i < VL; i++) a[i] = rintf(a[i]); return a; }
INLINE vf npas_acos(vf a) { for (int i = 0; i < VL; i++) a[i] = acosf(a[i]); return a; }
INLINE vf npas_acosh(vf a) { for (int i = 0; i < VL; i++) a[i] = acoshf(a[i]); return a; }
INLINE vf npas_asin(vf a) { for (int i = 0; i < VL; i++) a[i] = asinf(a[i]); return a; }
INLINE vf npas_asinh(vf a) { for (int i = 0; i < VL; i++) a[i] = asinhf(a[i]); return a; }
INLINE vf npas_atan(vf a) { for (int i = 0; i < VL; i++) a[i] = atanf(a[i]); return a; }
INLINE vf npas_atanh(vf a) { for (int i = 0; i < VL; i++) a[i] = atanhf(a[i]); return a; }
INLINE vf npas_cosh(vf a) { for (int i = 0; i < VL; i++) a[i] = coshf(a[i]); return a; }
INLINE vf npas_exp2(vf a) { for (int i = 0; i < VL; i++) a[i] = exp2f(a[i]); return a; }
INLINE vf npas_expm1(vf a) { for (int i = 0; i < VL; i++) a[i] = expm1f(a[i]); return a; }
INLINE vf npas_log10(vf a) { for (int i = 0; i < VL; i++) a[i] = log10f(a[i]); return a; }
INLINE vf npas_log2(vf a) { for (int i = 0; i < VL; i++) a[i] = log2f(a[i]); return a; }
INLINE vf npas_sinh(vf a) { for (int i = 0; i < VL; i++) a[i] = sinhf(a[i]); return a; }
INLINE vf npas_tan(vf a) { for (int i = 0; i < VL; i++) a[i] = tanf(a[i]); return a; }
INLINE vf npas_trunc(vf a) { for (int i = 0; i < VL; i++) a[i] = truncf(a[i]); return a; }
INLINE vf npas_frac(vf a) { return a - npas_trunc(a); }
INLINE vf npas_pow(vf a, float e) { for (int i = 0; i < VL; i++) a[i] = powf(a[i], e); return a; }
INLINE vf npas_power(vf a, vf b) { for (int i = 0; i < VL; i++) a[i] = powf(a[i], b[i]); return a; }
INLINE vf npas_atan2(vf a, vf b) { for (int i = 0; i < VL; i++) a[i] = atan2f(a[i], b[i]); return a; }
INLINE vf npas_fmod(vf a, vf b) { for (int i = 0; i < VL; i++) a[i] = fmodf(a[i], b[i]); return a; }
INLINE vf npas_remainder(vf a, vf b)
{
  const vf zero = npas_splat(0.0f), m = npas_fmod(a, b);
  return npas_select((m != zero) & ((m < zero) != (b < zero)), m + b, m);
}
INLINE vf npas_floor_div(vf a, vf b)
{
  const vf q = (a - npas_remainder(a, b)) / b, whole = npas_floor(q);
  return npas_select(b == npas_splat(0.0f), a / b, npas_select(q - whole > npas_splat(0.5f), whole + 1.0f, whole));
}
INLINE vf npas_erfc(vf a) { for (int i = 0; i < VL; i++) a[i] = erfcf(a[i]); return a; }
INLINE vf npas_log1p(vf a) { for (int i = 0; i < VL; i++) a[i] = log1pf(a[i]); return a; }
INLINE vf npas_softplus(vf a, float beta, float limit)
{
  const vf x = a * beta, y = (npas_relu(x) + npas_log1p(npas_exp(-npas_abs(x)))) / beta;
  return npas_select(x > npas_splat(limit), a, y);
}
INLINE vf npas_log_sigmoid(vf a) { return -npas_softplus(-a, 1.0f, 1e30f); }
INLINE vf npas_mish(vf a) { return a * npas_tanh(npas_softplus(a, 1.0f, 20.0f)); }
"""
"""Functions that take the mathematical library's, an element at a time."""

PARTIAL = frozenset(
    {
        *("div", "either", "floor_div", "fmod", "pow", "reciprocal", "remainder", "rsqrt", "sqrt"),
        *("acos", "acosh", "asin", "atanh", "log", "log10", "log1p", "log2"),
    }
)
"""Functions of one tensor or two that are not finite for all finite arguments: a kernel that applies one to whole
vectors makes lanes that are no channels zero behind it, since readers multiply these by zeros."""


def call(function: str, value: str) -> str:
    """C expression of a function, spelled as in `graph.Activation`, of the vector `value`."""
    name, _, parameters = function.partition("(")
    numbers = "".join(f", {number(float(text))}" for text in parameters.rstrip(")").split(", ") if text)
    return f"npas_{name}({value}{numbers})"


def number(value: float) -> str:
    """A constant in C."""
    if math.isinf(value):
        return "__builtin_inff()" if value > 0 else "-__builtin_inff()"
    if math.isnan(value):
        return '__builtin_nanf("")'
    return f"{value!r}f"


def identifier(function: str) -> str:
    """A function's spelling as a part of a C name."""
    return "".join(c if c.isalnum() else {"-": "m", ".": "p", ",": "_", "(": "_"}.get(c, "") for c in function)
