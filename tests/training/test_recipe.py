"""The learning rate's course, and values that make no sense."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import Recipe
from training.errors import InvalidRecipe, UnknownAugmentation


def test_warm_up_then_cosine() -> None:
    recipe = Recipe(epochs=10, lr=0.4, warmup_epochs=2)
    rates = [recipe.learning_rate(step, steps_per_epoch=5) for step in range(50)]
    assert rates[:10] == pytest.approx([0.04 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.4)
    assert rates[30] == pytest.approx(0.2)
    assert all(earlier > later > 0 for earlier, later in pairwise(rates[10:]))


@given(epochs=st.integers(1, 30), steps=st.integers(1, 50), share=st.floats(0, 1))
def test_the_rate_stays_between_zero_and_its_maximum(epochs: int, steps: int, share: float) -> None:
    recipe = Recipe(epochs=epochs, lr=0.1, warmup_epochs=share * epochs)
    rates = [recipe.learning_rate(step, steps) for step in range(epochs * steps)]
    assert all(0 < rate <= 0.1 + 1e-12 for rate in rates)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("warmup_epochs", 21),
        ("label_smoothing", 1.0),
        ("distill_weight", 1.1),
        ("temperature", 0.0),
    ],
)
def test_values_out_of_range_are_named(field: str, value: float) -> None:
    with pytest.raises(InvalidRecipe, match=f"{field} must be .*, not {value}"):
        Recipe(**{field: value})  # type: ignore[arg-type]


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(InvalidRecipe, match="precision must be one of auto, fp32, bf16, not fp8"):
        Recipe(precision="fp8")


def test_an_unknown_augmentation_is_refused() -> None:
    with pytest.raises(UnknownAugmentation):
        Recipe(augment="rotate")
