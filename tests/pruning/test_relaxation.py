import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning.relaxation import soft_mask, thresholds


def soft(logits: Tensor, cells: Tensor, quotas: Tensor, temperature: float) -> Tensor:
    return soft_mask(logits, cells, thresholds(logits, cells, quotas, temperature), temperature)


def some(seed: int, sizes: list[int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    cells = cells[torch.randperm(len(cells), generator=generator)]
    quotas = torch.tensor([int(torch.randint(1, size + 1, (), generator=generator)) for size in sizes])
    return torch.randn(len(cells), generator=generator, dtype=dtype), cells, quotas


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.floats(-3, 1).map(lambda exponent: 10**exponent),
    st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_masks_sum_to_their_quota(seed: int, sizes: list[int], temperature: float, scale: float) -> None:
    logits, cells, quotas = some(seed, sizes, torch.float32)
    mask = soft(logits * scale, cells, quotas, temperature)
    sums = torch.zeros(len(sizes), dtype=torch.float64).index_add(0, cells, mask.double())
    torch.testing.assert_close(sums, quotas.double(), atol=1e-4, rtol=0)
    assert bool(((mask >= 0) & (mask <= 1)).all())


@pytest.mark.parametrize("temperature", [1.0, 0.03, 1e-3])
def test_large_layers_sum_to_their_quota(temperature: float) -> None:
    logits = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    mask = soft(logits, torch.zeros(100_000, dtype=torch.int64), torch.tensor([20_000]), temperature)
    assert float(mask.double().sum()) == pytest.approx(20_000, abs=0.01)


@pytest.mark.parametrize("temperature", [2.0, 0.5, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_those_of_finite_differences(temperature: float, seed: int) -> None:
    logits, cells, quotas = some(seed, [7, 4, 3])
    assert torch.autograd.gradcheck(
        lambda m: soft(m, cells, quotas, temperature), (logits.requires_grad_(),), eps=1e-5, atol=1e-5
    )


def test_cold_masks_are_the_largest() -> None:
    logits = torch.randn(12, generator=torch.Generator().manual_seed(0))
    cells = torch.zeros(12, dtype=torch.int64)
    mask = soft(logits, cells, torch.tensor([4]), 1e-3)
    assert set(mask.round().nonzero().flatten().tolist()) == set(logits.topk(4).indices.tolist())
    assert float(torch.minimum(mask, 1 - mask).max()) < 1e-3


def test_the_mask_is_the_smooth_maximiser() -> None:
    """f maximises <m, f> + temperature * (sum of binary entropies) over 0 <= f <= 1, sum f = K."""
    logits, cells, quotas = (
        torch.tensor([0.3, -0.4, 1.1], dtype=torch.float64),
        torch.zeros(3).long(),
        torch.tensor([2]),
    )

    def value(f: Tensor) -> float:
        return float((logits * f).sum() - 0.5 * (f * f.log() + (1 - f) * (1 - f).log()).sum())

    mask = soft(logits, cells, quotas, 0.5)
    for first, second in itertools.permutations(range(3), 2):
        moved = mask.clone()
        moved[first] += 1e-3
        moved[second] -= 1e-3
        assert value(moved) < value(mask)


def test_whole_cells_stay_and_have_no_gradient() -> None:
    logits = torch.randn(5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = soft(logits, torch.tensor([0, 0, 1, 1, 1]), torch.tensor([2, 1]), 0.5)
    assert mask[:2].tolist() == [1, 1]
    (gradient,) = torch.autograd.grad((mask * torch.arange(5.0)).sum(), logits)
    assert gradient[:2].tolist() == [0, 0]
    assert bool(gradient[2:].any())


def test_a_start_changes_nothing_but_the_way() -> None:
    logits, cells, quotas = some(3, [9, 5])
    found = thresholds(logits, cells, quotas, 0.2)
    again = thresholds(logits, cells, quotas, 0.2, torch.tensor([1e4, -1e4], dtype=torch.float64))
    torch.testing.assert_close(found, again, atol=1e-6, rtol=1e-6)
