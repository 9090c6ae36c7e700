from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from search.encoding import Code, Encoding
from search.history import History, Observation
from search.kernel import LEAST
from search.surrogate import Surrogate, fitted_observations, normalised, one_thread, telling
from supernet import Candidate, SearchSpace

Function = Callable[[Candidate], float]


def _history(space: SearchSpace, accuracy: Function, count: int, seed: int = 0) -> History:
    encoding, rng = Encoding(space), np.random.default_rng(seed)
    codes = list(dict.fromkeys(encoding.draw(rng) for _ in range(count)))
    return History(tuple(Observation(code, accuracy(space.decode(code))) for code in codes))


def _pool(space: SearchSpace, history: History, count: int) -> list[Code]:
    encoding, rng = Encoding(space), np.random.default_rng(99)
    return [code for code in (encoding.draw(rng) for _ in range(count)) if code not in history.seen]


def _by_hand(surrogate: Surrogate, history: History, pool: list[Code]) -> np.ndarray:
    """Closed-form posterior with numpy, then EI = (mu - f) Phi(z) + sigma phi(z)."""
    raw = {key: value.double().numpy() for key, value in surrogate._hyperparameters.items()}
    scale = LEAST + np.logaddexp(0, raw["covar_module.raw_outputscale"])
    logits = raw["covar_module.base_kernel.logits"]
    weights = np.exp(logits) / np.exp(logits).sum()
    decays = LEAST + np.logaddexp(0, raw["covar_module.base_kernel.raw_decays"])
    noise = raw["likelihood.noise_covar.raw_noise"].item()

    def k(rows: list[Code], columns: list[Code]) -> np.ndarray:
        graph = np.tensordot(weights[:-1], surrogate._features.similarity(rows, columns), 1)
        position = np.exp(-np.tensordot(decays, surrogate._features.differences(rows, columns), 1))
        return scale * (graph + weights[-1] * position)

    def posterior(train: list[Code], y: np.ndarray, test: list[Code]) -> tuple[np.ndarray, np.ndarray]:
        inverse = np.linalg.inv(k(train, train) + noise * np.eye(len(train)))
        cross = k(test, train)
        mean = cross @ inverse @ y
        return mean, scale - np.einsum("ij,jk,ik->i", cross, inverse, cross)

    train = [observation.code for observation in history.observations]
    y = normalised([observation.reward for observation in history.observations])
    if history.pending:
        believed, _ = posterior(train, y, list(history.pending))
        train, y = [*train, *history.pending], np.concatenate([y, believed])
    best = posterior(train, y, train)[0].max()
    mean, variance = posterior(train, y, pool)
    sigma = np.sqrt(variance)
    z = (mean - best) / sigma
    return (mean - best) * norm.cdf(z) + sigma * norm.pdf(z)


@pytest.mark.parametrize("pending", [0, 3])
def test_expected_improvement_matches_the_closed_form(tiny: SearchSpace, accuracy: Function, pending: int) -> None:
    history = _history(tiny, accuracy, 15)
    history = History(history.observations, tuple(_pool(tiny, history, pending)))
    pool = _pool(tiny, history, 40)[pending:]
    surrogate = Surrogate(tiny)
    scores = surrogate.log_expected_improvement(history, pool)
    assert np.exp(scores) == pytest.approx(_by_hand(surrogate, history, pool), rel=1e-4, abs=1e-9)


def test_candidate_being_evaluated_is_worth_less(tiny: SearchSpace, accuracy: Function) -> None:
    history = _history(tiny, accuracy, 20)
    pool = _pool(tiny, history, 40)
    surrogate = Surrogate(tiny)
    scores = surrogate.log_expected_improvement(history, pool)
    chosen = int(np.argmax(scores))
    believed = surrogate.log_expected_improvement(History(history.observations, (pool[chosen],)), pool)
    assert believed[chosen] < scores[chosen] - 1


def test_unseen_candidates_that_it_prefers_are_good(tiny: SearchSpace, accuracy: Function) -> None:
    history = _history(tiny, accuracy, 60)
    pool = _pool(tiny, history, 100)
    scores = Surrogate(tiny).log_expected_improvement(history, pool)
    truth = np.array([accuracy(tiny.decode(code)) for code in pool])
    preferred = np.argsort(-scores)[:10]
    assert truth[preferred].mean() > truth.mean() + truth.std() / 2


def test_scores_are_a_function_of_the_history(tiny: SearchSpace, accuracy: Function) -> None:
    history = _history(tiny, accuracy, 23)
    pool = _pool(tiny, history, 20)
    piecewise = Surrogate(tiny)
    for end in (5, 9, 12, 20, 22, 23):
        torch.manual_seed(end)
        scores = piecewise.log_expected_improvement(History(history.observations[:end]), pool)
    assert np.array_equal(scores, Surrogate(tiny).log_expected_improvement(history, pool))


@pytest.mark.parametrize("rewards", [[90.0] * 6, [90.0], [90.0, 90.0 + 1e-12, 90.0]])
def test_rewards_without_any_spread_are_no_trouble(tiny: SearchSpace, accuracy: Function, rewards: list[float]) -> None:
    observations = _history(tiny, accuracy, len(rewards)).observations
    history = History(tuple(Observation(o.code, reward) for o, reward in zip(observations, rewards, strict=True)))
    scores = Surrogate(tiny).log_expected_improvement(history, _pool(tiny, history, 10))
    assert np.isfinite(scores).all()


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=40))
def test_normalised_rewards_keep_their_order(rewards: list[float]) -> None:
    values = normalised(rewards)
    assert np.isfinite(values).all()
    for a, b, x, y in zip(rewards, rewards[1:], values, values[1:], strict=False):
        assert (a - b) * (x - y) >= 0
    if np.ptp(values) > 0:
        assert values.mean() == pytest.approx(0, abs=1e-9)
        assert values.std() == pytest.approx(1)


def test_differences_count_more_the_better_the_candidates_are() -> None:
    rewards = [10.0, 50.0, 90.0, 91.0, 92.0, 93.0, 93.5, 94.0]
    values = normalised(rewards)
    assert (np.diff(np.diff(values) / np.diff(rewards)) > 0).all()
    assert values.min() > -2.5


def test_scale_and_offset_of_the_rewards_do_not_matter() -> None:
    rewards = np.array([10.0, 90.0, 91.0, 92.0, 93.0, 94.0])
    assert normalised(list(0.01 * rewards - 7)) == pytest.approx(normalised(list(rewards)), rel=1e-6)


def test_fits_become_rarer_as_the_history_grows() -> None:
    counts = (1, 4, 5, 9, 10, 49, 50, 59, 60, 99, 100, 119, 120, 2099)
    assert [fitted_observations(count) for count in counts] == [1, 4, 5, 5, 10, 45, 50, 50, 60, 90, 100, 100, 120, 2000]


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(2, 30))
def test_the_best_and_the_latest_are_kept_in_order(rewards: list[int], most: int) -> None:
    observations = tuple(Observation((index,), float(reward)) for index, reward in enumerate(rewards))
    kept = telling(observations, most)
    assert len(kept) == min(most, len(observations))
    assert list(kept) == [observation for observation in observations if observation in kept]
    dropped = [observation for observation in observations if observation not in kept]
    best = sorted(kept, key=lambda observation: -observation.reward)[: most // 2]
    assert all(bad.reward <= good.reward for bad in dropped for good in best)
    assert all(early.code < late.code for early in dropped for late in kept if late not in best)


def test_number_of_threads_is_given_back() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
