"""Recurrent layers: the state's share of all gates is one matrix-vector product a step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compiler.graph import GATES, Array, Recurrent
from compiler.kernels.base import (
    Code,
    Family,
    Operands,
    Schedule,
    activation_bytes,
    pack_sections,
    prelude,
    register,
    signature,
)
from compiler.spec import KernelSpec
from compiler.target import Target

DIMS = (
    *("steps", "hidden", "blocks", "gate", "x0", "xplane", "y0", "yplane"),
    *("w_at", "b_at", "state_at", "cell_at"),
)

_STEPS = {
    "rnn_tanh": "const vf h = npas_tanh(X(0) + G(0));",
    "rnn_relu": "const vf h = npas_relu(X(0) + G(0));",
    "gru": (
        "const vf u = npas_sigmoid(X(0) + G(0)), z = npas_sigmoid(X(1) + G(1)), n = npas_tanh(X(2) + u * G(2));"
        " const vf h = n + z * (old - n);"
    ),
    "lstm": (
        "const vf i = npas_sigmoid(X(0) + G(0)), f = npas_sigmoid(X(1) + G(1)), g = npas_tanh(X(2) + G(2));"
        " cell[b] = f * cell[b] + i * g; const vf h = npas_sigmoid(X(3) + G(3)) * npas_tanh(cell[b]);"
    ),
}
"""A block of the new state, from what its gates X receive from the input and G from the state before."""


class Cell(Family):
    """Steps along the columns of a blocked tensor. Lanes that are no state stay zero."""

    def candidates(self, spec: KernelSpec, target: Target) -> Iterator[Schedule]:
        gates = GATES[spec.op]
        macs = spec.width * gates * spec.out_channels**2
        yield Schedule("recurrent", vectors=8, cycles=0.8 * macs / target.vector, bytes=activation_bytes(spec))

    def code(self, spec: KernelSpec, schedule: Schedule, use: Operands, target: Target) -> Code:
        gates, group = GATES[spec.op], schedule.vectors
        name = f"recurrent_{spec.op}"
        last = "for (long b = 0; b < blocks; b++) *(vf *)(yp + b * yplane + steps * VL) = cell[b];"
        source = f"""
#define X(k) (*(const vf *)(xp + ((k) * gate + b) * xplane))
#define G(k) sums[(k) * blocks + b]
{signature(name)}
{{
{prelude(DIMS)}  (void)r; (void)gate;
  const vf *weights = (const vf *)(c + w_at), *bias = (const vf *)(c + b_at);
  vf *sums = (vf *)s, *state = sums + {gates} * blocks, *cell = state + blocks;
  const float *h = (const float *)state;
  const long rows = {gates} * blocks;
  float *yp = y + y0;
  memcpy(state, c + state_at, sizeof(vf) * blocks);
  memcpy(cell, c + cell_at, sizeof(vf) * blocks);
  for (long t = 0; t < steps; t++, yp += VL) {{
    const float *xp = x + x0 + t * VL;
    long g = 0;
    for (; g + {group} <= rows; g += {group}) {{
{_products(group)}    }}
    for (; g < rows; g++) {{
{_products(1)}    }}
    for (long b = 0; b < blocks; b++) {{
      const vf old = state[b];
      (void)old;
      {_STEPS[spec.op]}
      state[b] = h;
      *(vf *)(yp + b * yplane) = h;
    }}
  }}
{"  yp = y + y0;" if spec.op == "lstm" else ""}
  {last if spec.op == "lstm" else ""}
}}
#undef X
#undef G
"""
        return Code(name, source)

    def data(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> tuple[list[int], bytes]:
        x, y, op = use.x, use.y, use.op
        assert isinstance(op, Recurrent)
        weight, bias, state, cell = use.arrays
        gates, lanes, blocks = GATES[spec.op], y.lanes, y.blocks
        padded = np.zeros((gates, blocks * lanes, op.hidden), np.float32)
        padded[:, : op.hidden] = weight
        by_vector = padded.reshape(gates * blocks, lanes, op.hidden).transpose(0, 2, 1)
        offsets = np.zeros((gates, blocks * lanes), np.float32)
        offsets[:, : op.hidden] = bias
        sections, blob = pack_sections(
            _grouped(by_vector, schedule.vectors), offsets, *(_padded(part, blocks * lanes) for part in (state, cell))
        )
        places = (x.offset(0, 0, 0), x.plane, y.offset(0, 0, 0), y.plane)
        return [x.width, op.hidden, blocks, op.padded // lanes, *places, *sections], blob

    def scratch(self, spec: KernelSpec, schedule: Schedule, use: Operands) -> int:
        return 4 * (GATES[spec.op] + 2) * use.y.blocks * use.y.lanes


def _grouped(vectors: Array, group: int) -> Array:
    """Weights [vectors, hidden, lanes] in the order in which they are read: `group` vectors side by side."""
    whole = len(vectors) // group * group
    parts = [vectors[first : first + group].transpose(1, 0, 2).reshape(-1) for first in range(0, whole, group)]
    return np.concatenate([*parts, vectors[whole:].reshape(-1)])


def _padded(values: Array, size: int) -> Array:
    result = np.zeros(size, np.float32)
    result[: values.size] = values.reshape(-1)
    return result


def _products(group: int) -> str:
    lines = [f"vf a{v} = bias[g + {v}];" for v in range(group)]
    lines += ["const vf *w = weights + g * hidden;", "for (long k = 0; k < hidden; k++) {", "  const float e = h[k];"]
    lines += [f"  a{v} += w[k * {group} + {v}] * e;" for v in range(group)]
    lines += ["}", *(f"sums[g + {v}] = a{v};" for v in range(group))]
    return "".join(f"      {line}\n" for line in lines)


register("recurrent", Cell(), *_STEPS)
