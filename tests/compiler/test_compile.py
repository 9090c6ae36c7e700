"""A compiled network computes what torch computes."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compiler import KernelSpec, compile_model, compile_specs
from compiler.errors import InputMismatch, InvalidWeights, MixedSamples, UnsupportedOperator
from compiler.independence import require_independent_samples
from pruning import Sparsity, make_scheme

SCHEMES = [
    "dense",
    "filter",
    "channel",
    "unstructured",
    "block_punched(16x1)",
    "block_punched(32x1)",
    "block_punched(16x4)",
    "block_punched(8x4)",
    "block_kernel(16x1)",
    "block_kernel(32x1)",
]


def relative_error(given: Tensor, expected: Tensor) -> float:
    return float((given - expected).abs().max() / expected.abs().max().clamp(min=1e-12))


def randomise_batch_norms(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)


def check(model: nn.Module, x: Tensor, tolerance: float = 1e-4) -> None:
    compiled = compile_model(model, x[:1])
    with torch.no_grad():
        expected = model.eval()(x)
    assert relative_error(compiled(x), expected) <= tolerance


class Branches(nn.Module):
    """Every supported operator, with residuals before and after an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True))
        self.depthwise = nn.Sequential(nn.Conv2d(24, 24, 5, padding=2, groups=24), nn.Hardswish())
        self.point = nn.Sequential(nn.Conv2d(24, 24, 1), nn.BatchNorm2d(24))
        self.down = nn.Sequential(nn.BatchNorm2d(24), nn.Hardsigmoid(), nn.Conv2d(24, 40, 3, stride=2, padding=1))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 2, count_include_pad=False), nn.Dropout(0.3))
        self.relu6 = nn.ReLU6(inplace=True)
        self.flat = nn.Linear(40 * 4, 30)
        self.last = nn.Linear(30, 7)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        x = x + self.depthwise(x)
        x = self.relu6(self.point(x) + x)
        x = self.down(x)
        mean = x.mean((2, 3))
        return self.last(self.flat(torch.flatten(self.pool(x), 1)).relu()), mean


class SqueezeExcite(nn.Module):
    """MobileNetV3's block, and the padded shortcut of CIFAR ResNets."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(12, 40, 3, stride=2, padding=1), nn.Hardswish())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(40, 9, 1), nn.ReLU(), nn.Conv2d(9, 40, 1), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = nn.functional.relu(self.gate(y) * y)
        return y + nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 10, 18))


def test_squeeze_and_excitation_and_padded_shortcuts() -> None:
    torch.manual_seed(0)
    check(SqueezeExcite(), torch.randn(2, 12, 11, 14), tolerance=1e-5)


def test_every_operator_at_several_batch_sizes() -> None:
    torch.manual_seed(0)
    model = Branches().eval()
    randomise_batch_norms(model)
    compiled = compile_model(model, torch.randn(1, 3, 16, 16))
    for batch in (1, 4):
        x = torch.randn(batch, 3, 16, 16)
        with torch.no_grad():
            expected = model(x)
        for given_, wanted in zip(compiled(x), expected, strict=True):
            assert given_.shape == wanted.shape
            assert relative_error(given_, wanted) <= 1e-5


def test_numpy_in_numpy_out_and_the_same_bits_every_time() -> None:
    torch.manual_seed(0)
    compiled = compile_model(nn.Conv2d(5, 20, 3, padding=1), torch.randn(1, 5, 9, 9))
    x = torch.randn(2, 5, 9, 9)
    first, second = compiled(x), compiled(x.numpy())
    assert (first.numpy() == second).all()


@settings(max_examples=25, deadline=None)
@given(
    channels=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    kernel=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    size=st.tuples(st.integers(9, 17), st.integers(9, 17)),
    batch=st.integers(1, 9),
    scheme=st.sampled_from(SCHEMES),
    rate=st.sampled_from([2.0, 3.0, 10.0]),
    seed=st.integers(0, 99),
)
def test_convolutions_of_ragged_shapes(
    channels: tuple[int, int],
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    size: tuple[int, int],
    batch: int,
    scheme: str,
    rate: float,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layer = nn.Conv2d(*channels, kernel, stride, padding, dilation)
    assume(make_scheme(scheme).supports(layer.weight.shape) is None)
    if scheme != "dense":
        with torch.no_grad():
            layer.weight *= make_scheme(scheme).mask(layer.weight, rate)
    check(nn.Sequential(layer, nn.Hardswish()), torch.randn(batch, channels[0], *size))


@settings(max_examples=10, deadline=None)
@given(
    channels=st.integers(1, 70),
    kernel=st.sampled_from([3, 5, 7]),
    stride=st.integers(1, 3),
    size=st.tuples(st.integers(7, 19), st.integers(7, 19)),
)
def test_depthwise_convolutions(channels: int, kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(channels)
    layer = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels)
    check(nn.Sequential(layer, nn.ReLU()), torch.randn(2, channels, *size))


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_masks_from_empty_to_full(fill: float) -> None:
    layer = nn.Conv2d(20, 40, 3, padding=1)
    with torch.no_grad():
        layer.weight.fill_(fill)
    check(layer, torch.randn(1, 20, 8, 8))


@pytest.mark.parametrize("target", ["x86_sse", "x86_avx2", "x86_avx512"])
def test_every_vector_width_gives_torchs_result(target: str) -> None:
    from compiler import find_target, local_target

    if find_target(target).vector > local_target().vector:
        pytest.skip(f"this processor cannot run {target}")
    torch.manual_seed(0)
    model = Branches().eval()
    x = torch.randn(1, 3, 16, 16)
    compiled = compile_model(model, x, device=target)
    with torch.no_grad():
        assert relative_error(compiled(x)[0], model(x)[0]) <= 1e-5


def test_the_users_module_is_left_as_it_was() -> None:
    model = Branches().train()
    model.pool.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    compile_model(model, torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_zeros_are_skipped_and_the_table_says_so() -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    with torch.no_grad():
        layer.weight *= make_scheme("block_punched(16x1)").mask(layer.weight, 5)
    row = compile_model(layer, torch.randn(1, 64, 8, 8)).kernels.iloc[1]
    assert row["form"] == "sparse"
    assert row["scheme"] == "block_punched(16x1)"
    assert row["why"].startswith("skips zeros")


def test_unstructured_zeros_fall_back_to_dense_and_the_table_says_so() -> None:
    layer = nn.Conv2d(64, 64, 3, padding=1)
    with torch.no_grad():
        layer.weight *= make_scheme("unstructured").mask(layer.weight, 2)
    row = compile_model(layer, torch.randn(1, 64, 8, 8)).kernels.iloc[1]
    assert row["form"] == "dense"
    assert "unstructured" in row["why"]


def test_equal_specs_are_given_the_same_weights() -> None:
    spec, other = KernelSpec("conv", 16, 16, 8, 8, kernel=(5, 5)), KernelSpec("conv", 16, 16, 8, 8, kernel=(3, 3))
    once, thrice = (len(compile_specs(specs).program.constants) for specs in ([spec, other], [spec, other, spec, spec]))
    assert thrice - once < 4 * 16 * 16 * 5 * 5


def test_compile_specs_runs_just_these_kernels() -> None:
    conv = KernelSpec("conv", 32, 48, 8, 8, (3, 3), padding=(1, 1), epilogue=("add", "relu"))
    specs = [
        KernelSpec("pack", 1, 1, 32, 32),
        conv,
        conv.with_sparsity(Sparsity("block_punched(16x1)", 5)),
        KernelSpec("depthwise", 32, 32, 8, 8, (3, 3), (2, 2), (1, 1), groups=32),
        KernelSpec("global_pool", 48, 48, 8, 8),
        KernelSpec("linear", 48, 10, 1, 1),
        KernelSpec("unpack", 10, 10, 1, 1),
    ]
    table = compile_specs(specs).kernels
    asked = table[table.spec_index >= 0].sort_values("spec_index")
    assert [KernelSpec.from_dict(row) for _, row in asked.iterrows()] == specs


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.randn(1, 3, 8, 9), "3, 8, 8"),
        (torch.randn(3, 8, 8), "3, 8, 8"),
        (torch.randn(1, 3, 8, 8).double(), "float64"),
        ([1.0], "list"),
        (torch.randn(0, 3, 8, 8), "3, 8, 8"),
    ],
)
def test_wrong_inputs_are_refused_by_name(x: object, message: str) -> None:
    compiled = compile_model(nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8))
    with pytest.raises(InputMismatch, match=message):
        compiled(x)
    with pytest.raises(InputMismatch, match="2 inputs"):
        compiled(torch.randn(1, 3, 8, 8), torch.randn(1, 3, 8, 8))


def test_a_bound_run_keeps_its_network_alive() -> None:
    import gc

    run = compile_model(nn.Conv2d(3, 64, 3), torch.randn(1, 3, 32, 32)).run_once()
    arena, outputs = run.keep[0]._arena, run.keep[2]
    gc.collect()
    arena[:] = 255
    run()
    first = outputs[0].copy()
    gc.collect()
    run()
    assert (outputs[0] == first).all()


def test_nan_weights_are_refused() -> None:
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(InvalidWeights, match="weight holds 1 value"):
        compile_model(layer, torch.randn(1, 3, 8, 8))


def test_nan_in_the_input_reaches_the_output() -> None:
    compiled = compile_model(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6()), torch.randn(1, 3, 8, 8))
    x = torch.randn(1, 3, 8, 8)
    x[0, 0, 0, 0] = float("nan")
    assert torch.isnan(compiled(x)[0, :, 0, 0]).all()


class Sort(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sort(1).values


class Sorted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), Sort())

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Mixing(nn.Module):
    """The samples of a batch see one another."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.layer = nn.GRU(64, 5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        match self.form:
            case "mean of the batch":
                return x - x.mean(0, keepdim=True)
            case "transposed":
                return x.flatten(1).T
            case "squeezed":
                return x.mean((2, 3)).squeeze()
            case "last states":
                return self.layer(x.flatten(2))[1]
            case "all pairs":
                return (x.unsqueeze(1) - x).abs().mean((1, 3, 4))
            case "axis of a matrix":
                return (x.mean((1, 2)) @ x.flatten(1, 2).transpose(1, 2)).sum(1)
            case "their number":
                return x / x.shape[0]
            case _:
                return x.flatten(1) @ x.flatten(1).T


@pytest.mark.parametrize("form", ["mean of the batch", "transposed", "squeezed", "product", "last states"])
def test_networks_whose_samples_mix_are_refused_by_name(form: str) -> None:
    with pytest.raises(MixedSamples, match=r"one sample at a time.*Operators that could mix them"):
        compile_model(Mixing(form), torch.randn(1, 3, 8, 8))


@pytest.mark.parametrize("form", ["all pairs", "axis of a matrix", "their number"])
def test_samples_that_mix_unseen_are_refused_too(form: str) -> None:
    with pytest.raises(MixedSamples, match=r"depends on the other one.*x\.shape\[0\] used as a number"):
        compile_model(Mixing(form), torch.randn(1, 3, 8, 8))


class Single(nn.Module):
    """Runs on one sample only."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(3.0).reshape(x.shape)


def test_a_network_that_torch_runs_on_one_sample_only_is_compiled_for_it() -> None:
    x = torch.randn(1, 3)
    assert torch.equal(compile_model(Single(), x)(x), x + torch.arange(3.0))


class Rounding(nn.Module):
    """How it rounds depends on the size of the batch, what it would return without rounding does not."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1e5 * len(x) - 1e5 * len(x)


def test_samples_that_differ_by_rounding_do_not_mix() -> None:
    require_independent_samples(Rounding(), [torch.randn(1, 64)], [])


class Counting(nn.Module):
    """Changes its input and a buffer in place."""

    def __init__(self, *, mixing: bool) -> None:
        super().__init__()
        self.mixing = mixing
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x.relu_()
        return x.reshape(-1, 4).reshape(x.shape) if self.mixing else x + 1


@pytest.mark.parametrize("mixing", [False, True])
def test_what_changes_in_place_is_no_output_and_left_as_it_was(mixing: bool) -> None:
    model, x = Counting(mixing=mixing).eval(), torch.randn(2, 3, 4)
    before = x.clone()
    result = compile_model(model, x)(x)
    assert int(model.calls) == 0
    assert torch.equal(x, before)
    assert torch.equal(result, model(before))


class Remembering(nn.Module):
    """Subtracts the mean of all that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x
        return x - self.mean


def test_networks_that_remember_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperator, match="buffer mean changes with every run"):
        compile_model(Remembering(), torch.randn(1, 3))


class Packed(nn.Module):
    """Takes and returns dictionaries and lists."""

    def forward(self, given: dict[str, list[Tensor]]) -> dict[str, object]:
        first, second = given["pair"]
        return {"sum": first + second, "rest": (first.flatten(1), [second.reshape(-1, 4).reshape(second.shape)])}


def test_tensors_in_lists_and_dictionaries_are_taken_and_returned_one_by_one() -> None:
    first, second = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    total, flat, same = compile_model(Packed(), [{"pair": [first, second]}])(first, second)
    assert torch.equal(total, first + second)
    assert torch.equal(flat, first.flatten(1))
    assert torch.equal(same, second)


class WithAnchors(nn.Module):
    """Returns a tensor of one sample, however many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("anchors", torch.rand(1, 6))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x + 1, self.anchors


def test_a_constant_of_one_sample_is_not_passed_off_as_one_of_each() -> None:
    with pytest.raises(MixedSamples, match=r"output 1 has shape \(1, 6\)"):
        compile_model(WithAnchors(), torch.randn(2, 3))


class Chosen(nn.Module):
    """Takes the channels of a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([True, False, True]))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.mask].relu()


def test_shapes_that_depend_on_values_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperator, match="depends on values; where a mask"):
        compile_model(Chosen(), torch.randn(2, 3, 4))


def test_unsupported_operators_are_refused_with_node_module_and_list() -> None:
    with pytest.raises(UnsupportedOperator, match=r"sort.*inner\.1.*Supported: .*conv2d.*hardswish"):
        compile_model(Sorted(), torch.randn(1, 3, 8, 8))


def test_nan_on_random_inputs_does_not_pass_for_mixed_samples() -> None:
    class Logarithm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], -1).log()

    x = torch.rand(2, 3, 4) + 0.5
    compiled = compile_model(Logarithm(), x)
    assert torch.allclose(compiled(x), x.flatten(1).log(), atol=1e-6)


@pytest.mark.parametrize("number", [2**24 + 1, -(2**24) - 1, -(2**63)])
def test_whole_numbers_that_floats_cannot_hold_are_refused(number: int) -> None:
    compiled = compile_model(nn.Embedding(3, 4), torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(InputMismatch, match=f"holds {number};"):
        compiled(torch.tensor([[0, number]]))


def test_kernels_that_their_spec_does_not_describe_are_not_compiled_alone() -> None:
    with pytest.raises(UnsupportedOperator, match="gather kernels"):
        compile_specs([KernelSpec("gather", 4, 4, 3, 3)])
