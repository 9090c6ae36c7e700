import math
from typing import Any

import pytest

from supernet import SupernetRecipe
from training.errors import InvalidRecipe


def test_rates_open_in_three_stages() -> None:
    recipe = SupernetRecipe(dense_share=0.4, mild_share=0.3, mild_rate=3)
    assert [recipe.max_rate(progress) for progress in (0, 0.39, 0.4, 0.69, 0.71, 0.99)] == [
        1,
        1,
        3,
        3,
        math.inf,
        math.inf,
    ]


def test_the_average_reaches_back_a_share_of_the_steps() -> None:
    assert SupernetRecipe(ema=0.02).ema_decay(5000) == pytest.approx(0.99)
    assert SupernetRecipe(ema=0.02).ema_decay(10) == SupernetRecipe(ema=0).ema_decay(5000) == 0


def test_students_count_by_their_mean_at_the_end_of_the_training() -> None:
    assert [SupernetRecipe(settle_share=0.25).settles(progress) for progress in (0, 0.74, 0.75, 0.99)] == [
        False,
        False,
        True,
        True,
    ]
    assert not SupernetRecipe(settle_share=0).settles(0.999)
    assert SupernetRecipe(settle_share=1).settles(0)


@pytest.mark.parametrize(
    "change",
    [
        {"clip": 0},
        {"ema": -0.1},
        {"ema": 1.1},
        {"random_members": -1},
        {"mask_period": 0},
        {"dense_share": 1.1},
        {"mild_share": 0.9},
        {"settle_share": -0.1},
        {"settle_share": 1.1},
        {"epochs": 0},
    ],
)
def test_values_outside_their_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecipe, match=next(iter(change))):
        SupernetRecipe(**change)
