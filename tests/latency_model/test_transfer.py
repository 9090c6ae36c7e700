from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from latency_model.errors import InvalidMeasurement, TooFewMeasurements
from latency_model.runner import Floats
from latency_model.term_sum import Ints, TermSum
from latency_model.transfer import MIXTURE, OWN, SCALE, SPECS, Mode, choose, network_modes

GROUPS = np.repeat(np.arange(4), 10)
GENERATOR = np.random.default_rng(0)
COUNTS = (GENERATOR.random((900, 40)) < 0.3).astype(np.float64)
DEEP = np.tile(np.linspace(0.2, 2.0, 10), 4) * np.repeat([1.0, 2.0, 3.0, 0.5], 10)
FLAT = np.repeat([1.0, 1.2, 1.5, 1.0], 10)
SOURCES = [TermSum(DEEP, 1.0), TermSum(FLAT, 3.0)]
MODES = network_modes(COUNTS, GROUPS, SOURCES)


def measured(weights: Floats, overhead: float = 1.0, noise: float = 0.01) -> Floats:
    off = np.random.default_rng(1).standard_normal(len(COUNTS))
    result: Floats = (COUNTS @ weights + overhead) * np.exp(noise * off)
    return result


def sample(count: int, seed: int = 0) -> Ints:
    return np.random.default_rng(seed).choice(len(COUNTS), count, replace=False)


def test_without_a_measurement_the_sources_stand_for_the_new_device() -> None:
    choice = choose(MODES, sample(0), np.empty(0))
    assert choice.mode.name == SPECS
    assert choice.errors == {}
    expected = (SOURCES[0].predict(COUNTS[:5]) + SOURCES[1].predict(COUNTS[:5])) / 2
    np.testing.assert_allclose(choice.predict(np.arange(5)), expected)


def test_of_one_measurement_nothing_is_left_out_and_no_error_is_told() -> None:
    cases = sample(1)
    choice = choose(MODES, cases, measured(2 * DEEP)[cases])
    assert choice.mode.name == SPECS
    assert choice.errors == {}
    assert len(choice.left_out) == 0
    with pytest.raises(InvalidMeasurement):
        choose(MODES, cases, np.zeros(1))


def test_a_device_that_is_twice_as_slow_as_a_source_is_scaled() -> None:
    latency, cases = measured(2 * DEEP, 2.0, noise=0.0), sample(5)
    choice = choose(MODES, cases, latency[cases])
    assert choice.mode.name == SCALE
    np.testing.assert_allclose(choice.predict(np.arange(900)), latency)
    assert choice.errors[SCALE] < 1e-9 < choice.errors[SPECS]


def test_a_device_between_two_others_is_a_mixture_of_them() -> None:
    latency, cases = measured(0.5 * DEEP + 1.5 * FLAT), sample(20)
    choice = choose(MODES, cases, latency[cases])
    assert choice.mode.name == MIXTURE
    rest = np.setdiff1d(np.arange(900), cases)
    assert spearmanr(choice.predict(rest), latency[rest]).statistic > 0.97
    assert np.quantile(np.abs(choice.predict(rest) / latency[rest] - 1), 0.9) < 0.08
    alone = choose(network_modes(COUNTS, GROUPS, []), cases, latency[cases])
    error, error_alone = (np.sqrt(np.mean((found.predict(rest) / latency[rest] - 1) ** 2)) for found in (choice, alone))
    assert error < error_alone


def test_a_device_like_no_other_stands_on_its_own_when_there_are_enough_measurements() -> None:
    strange = np.random.default_rng(5).uniform(0, 3, 40)
    latency, cases = measured(strange, noise=0.003), sample(300)
    choice = choose(MODES, cases, latency[cases])
    assert choice.mode.name == OWN
    assert choice.errors[OWN] < min(choice.errors[name] for name in (SPECS, SCALE))
    assert choice.errors[OWN] == pytest.approx(0.003, abs=0.002)


def test_without_sources_there_is_only_the_device_itself() -> None:
    modes = network_modes(COUNTS, GROUPS, [])
    assert {mode.name for mode in modes} == {OWN}
    with pytest.raises(TooFewMeasurements, match="0 cases were measured; the least that any mode needs is 1"):
        choose(modes, sample(0), np.empty(0))


def test_no_mode_is_judged_by_a_case_that_it_was_fitted_to() -> None:
    """A mode that knows the answers of its cases by heart, and nothing else, loses to one that is 10 % off."""
    latency, cases = measured(DEEP), sample(40)

    def by_heart(given: Ints, times: Floats) -> object:
        known = dict(zip(given.tolist(), times.tolist(), strict=True))
        return lambda asked: np.array([known.get(case, 1e3) for case in asked.tolist()])

    modes = [Mode("heart", 0, by_heart), Mode("off", 0, lambda *_: lambda asked: 1.1 * latency[asked])]  # type: ignore[arg-type]
    choice = choose(modes, cases, latency[cases])
    assert choice.mode.name == "off"
    assert choice.errors["off"] == pytest.approx(np.log(1.1))


def test_same_seed_same_choice() -> None:
    latency, cases = measured(DEEP + FLAT), sample(30)
    first, again = (choose(MODES, cases, latency[cases], seed=3) for _ in range(2))
    assert first.errors == again.errors
    np.testing.assert_array_equal(first.predict(cases), again.predict(cases))


def test_impossible_latency_is_refused() -> None:
    with pytest.raises(InvalidMeasurement, match="positive and finite"):
        choose(MODES, sample(3), np.array([1.0, 0.0, 2.0]))
