import math
from collections.abc import Iterable

import pytest

from supernet.collapse import CollapseDetector

Step = tuple[float, float, float]


def first_signal(detector: CollapseDetector, steps: Iterable[Step]) -> tuple[int, str] | None:
    for number, (loss, largest, smallest) in enumerate(steps):
        signal = detector.step(number, loss=loss, largest=largest, smallest=smallest, gradient=1.0)
        if signal is not None:
            return number, signal
    return None


def detector() -> CollapseDetector:
    return CollapseDetector(steps=400, warmup=10, classes=10)


def test_a_sound_training_gives_no_signal() -> None:
    steps = [(2.3 * 0.99**i, 1 - 0.9 * 0.99**i, 1 - 0.9 * 0.995**i) for i in range(400)]
    assert first_signal(detector(), steps) is None


def test_a_short_jump_is_forgiven() -> None:
    steps = [(1.0, 0.9, 0.5)] * 100 + [(4.0, 0.9, 0.5)] * 10 + [(1.0, 0.9, 0.5)] * 200
    assert first_signal(detector(), steps) is None


@pytest.mark.parametrize(
    ("after", "words"),
    [
        ((3.0, 0.9, 0.5), "its lowest was"),
        ((1.0, 0.1, 0.5), "the largest member is right on"),
        ((1.0, 0.9, 0.1), "the smallest member is right on"),
    ],
)
def test_what_stays_wrong_is_named(after: Step, words: str) -> None:
    watch = detector()
    found = first_signal(watch, [(1.0, 0.9, 0.5)] * 100 + [after] * 300)
    assert found is not None
    assert words in found[1]
    assert 100 + watch.patience <= found[0] < 100 + 2 * watch.patience


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_what_is_not_finite_counts_at_once(loss: float) -> None:
    found = first_signal(detector(), [(loss, 0.1, 0.1)])
    assert found is not None
    assert str(loss) in found[1]


def test_the_warm_up_is_forgiven() -> None:
    watch = CollapseDetector(steps=400, warmup=100, classes=10)
    assert first_signal(watch, [(2.3, 0.1, 0.1)] * 100) is None
    assert not watch.alarmed


def test_state_reads_back() -> None:
    steps = [(1.0, 0.9, 0.5)] * 50 + [(3.0, 0.1, 0.1)] * 200
    whole = first_signal(detector(), steps)
    half, other = detector(), detector()
    assert first_signal(half, steps[:60]) is None
    assert half.alarmed
    other.load_state_dict(half.state_dict())
    rest = None
    for number, (loss, largest, smallest) in enumerate(steps[60:], start=60):
        signal = other.step(number, loss=loss, largest=largest, smallest=smallest, gradient=1.0)
        if signal is not None:
            rest = number, signal
            break
    assert rest == whole
