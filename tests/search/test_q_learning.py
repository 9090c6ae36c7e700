from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from pruning import Sparsity
from search.encoding import Code, Encoding
from search.feasible import FeasibleSet
from search.history import Observation
from search.q_learning import Decisions, QLearning, QTable, State, Step
from supernet import Candidate, Choice, SearchSpace

Function = Callable[[Candidate], float]

SITE = [
    Choice("conv1x1"),
    Choice("conv3x3"),
    Choice("conv3x3", Sparsity("filter", 2)),
    Choice("conv3x3", Sparsity("filter", 5)),
]
COSTS = [[0.0, 3.0, 2.0, 1.0]] * 3
CODES = list(itertools.product(range(4), repeat=3))


def _cost(code: Code) -> float:
    return sum(COSTS[site][index] for site, index in enumerate(code))


WORTH = [[0.0, 3.5, 2.0, 3.0], [0.0, 2.0, 1.5, 0.5], [0.0, 6.0, 2.0, 1.0]]


def _reward(code: Code) -> float:
    """Most is to be had at the last site, for a price that the first two sites must leave."""
    return sum(WORTH[site][index] for site, index in enumerate(code))


@pytest.fixture
def chain() -> Decisions:
    return Decisions([SITE] * 3, COSTS, slack_ms=4.0)


@pytest.mark.parametrize("seed", range(5))
def test_solves_a_chain_of_three_sites_within_200_replays(seed: int) -> None:
    """One decision a site; who takes the best of the first site cannot pay for the best of the last."""
    choices = [Choice("conv1x1"), Choice("dw3x3_pw"), Choice("conv3x3")]
    chain = Decisions([choices] * 3, [[0.0, 1.0, 2.0]] * 3, slack_ms=3.0)
    worth = [[0.0, 3.0, 3.5], [0.0, 1.0, 2.0], [0.0, 2.0, 6.0]]
    rng = np.random.default_rng(seed)
    memory = [code for code in itertools.product(range(3), repeat=3) if sum(code) <= 3]
    table = QTable(chain, initial=0.0)
    for index in rng.integers(len(memory), size=200):
        table.update(chain.trajectory(memory[index]), sum(worth[site][i] for site, i in enumerate(memory[index])))
    assert table.propose(rng, epsilon=0.0) == (1, 0, 2)


@pytest.mark.parametrize("seed", range(5))
def test_agent_finds_nearly_the_best_in_200_episodes(chain: Decisions, seed: int) -> None:
    rng = np.random.default_rng(seed)
    agent = QLearning(chain, seed=seed, trials=200)
    history: list[Observation] = []
    for done in range(200):
        code = agent.table(history).propose(rng, agent.epsilon(done))
        history.append(Observation(code, _reward(code)))
    rewards = sorted((_reward(code) for code in CODES if _cost(code) <= 4.0), reverse=True)
    assert _reward(agent.table(history).propose(rng, epsilon=0.0)) >= rewards[2]


@pytest.mark.parametrize("slack", [0.0, 1.0, 4.0, 9.0])
def test_masked_actions_are_never_drawn_and_all_others_are(slack: float) -> None:
    rng = np.random.default_rng(0)
    table = QTable(Decisions([SITE] * 3, COSTS, slack), initial=0.0)
    drawn = {table.propose(rng, epsilon=1.0) for _ in range(3000)}
    assert drawn == {code for code in CODES if _cost(code) <= slack}


@pytest.mark.parametrize("reward", [6.0, -4.0])
def test_update_is_the_bellman_backup(chain: Decisions, reward: float) -> None:
    """By hand, for one trajectory: every decision moves a fifth of the way to the best value behind it, which may be
    that of an action never taken."""
    table = QTable(chain, initial=1.0)
    steps = chain.trajectory((2, 0, 0))
    assert [step.action for step in steps] == ["conv3x3", "filter", 2.0, "conv1x1", "conv1x1"]
    table.update(steps, reward)
    values = [table.value(step.state, step.action) for step in steps]
    expected = [0.2 * reward + 0.8]
    for _ in range(4):
        expected.insert(0, 0.2 * max(expected[0], 1.0) + 0.8)
    assert values == pytest.approx(expected)
    assert table.value(steps[-1].state, "conv3x3") == 1.0


def test_maximum_of_the_update_ignores_masked_actions() -> None:
    """After a dear first site only the cheaper rates of the second can be paid for; the tempting one is out."""
    decisions = Decisions([SITE] * 2, COSTS[:2], slack_ms=4.0)
    rich = decisions.trajectory((0, 1))
    poor = decisions.trajectory((1, 3))
    assert [step.allowed for step in rich if step.state[0] == 1] == [("conv1x1", "conv3x3"), ("dense", "filter")]
    assert [step.allowed for step in poor if step.state[0] == 1] == [("conv1x1", "conv3x3")]
    table, first, second = QTable(decisions, initial=0.0), State(0, 4, ()), State(1, 0, ())
    table.update([Step(second, ("conv1x1", "conv3x3", "tempting"), "tempting")], reward=100.0)
    table.update([Step(first, ("conv1x1", "conv3x3"), "conv3x3"), Step(second, ("conv1x1", "conv3x3"), "conv1x1")], 5.0)
    assert table.value(second, "tempting") == pytest.approx(20.0)
    assert table.value(first, "conv3x3") == pytest.approx(0.2 * 0.2 * 5.0)


def test_trajectory_over_the_additive_slack_keeps_its_own_actions(chain: Decisions) -> None:
    steps = chain.trajectory((1, 1, 1))
    assert all(step.action in step.allowed for step in steps)
    assert [step.state[0] for step in steps] == [0, 0, 1, 1, 2, 2]


def _history(space: SearchSpace, accuracy: Function, count: int) -> list[Observation]:
    encoding, rng = Encoding(space), np.random.default_rng(0)
    codes = [encoding.draw(rng) for _ in range(count)]
    return [Observation(code, accuracy(space.decode(code))) for code in codes]


def _agent(space: SearchSpace, latency: Function, seed: int = 0) -> QLearning:
    encoding = Encoding(space)
    feasible = FeasibleSet(encoding, latency, 10.0)
    return QLearning(Decisions(encoding.choices, feasible.extra_ms, feasible.slack_ms), seed=seed, trials=50)


def test_replaying_the_history_twice_gives_equal_values(
    tiny: SearchSpace, latency: Function, accuracy: Function
) -> None:
    history = _history(tiny, accuracy, 43)
    at_once = _agent(tiny, latency)
    piecewise = _agent(tiny, latency)
    for end in range(1, len(history) + 1):
        table = piecewise.table(history[:end])
    assert table.values
    assert table.values == at_once.table(history).values
    assert table.values == at_once.table(history).values
    assert table.values != _agent(tiny, latency, seed=1).table(history).values


def test_another_history_starts_over(tiny: SearchSpace, latency: Function, accuracy: Function) -> None:
    history = _history(tiny, accuracy, 40)
    agent = _agent(tiny, latency)
    agent.table(history)
    assert agent.table(history[:30]).values == _agent(tiny, latency).table(history[:30]).values
    assert agent.table(history[::-1]).values == _agent(tiny, latency).table(history[::-1]).values


def test_initial_value_is_the_lower_quartile_of_the_random_phase(
    tiny: SearchSpace, latency: Function, accuracy: Function
) -> None:
    history = _history(tiny, accuracy, 40)
    assert _agent(tiny, latency).table(history).initial == np.quantile([o.reward for o in history[:20]], 0.25)


def test_epsilon_follows_the_published_schedule(tiny: SearchSpace, latency: Function) -> None:
    encoding = Encoding(tiny)
    feasible = FeasibleSet(encoding, latency, 10.0)
    agent = QLearning(Decisions(encoding.choices, feasible.extra_ms, feasible.slack_ms), seed=0, trials=300)
    epsilons = [agent.epsilon(done) for done in range(301)]
    assert epsilons[:120] == [1.0] * 120
    assert epsilons[120:300] == [round(0.9 - 0.1 * step, 1) for step in range(9) for _ in range(20)]
    assert epsilons[300] == 0.1


def test_random_phase_can_be_shorter(tiny: SearchSpace, latency: Function) -> None:
    feasible = FeasibleSet(Encoding(tiny), latency, 2.0)
    decisions = Decisions(feasible.encoding.choices, feasible.extra_ms, feasible.slack_ms)
    agent = QLearning(decisions, seed=0, trials=100, random_phase=10)
    epsilons = [agent.epsilon(done) for done in range(101)]
    assert epsilons[:10] == [1.0] * 10
    assert epsilons[10:100] == [round(0.9 - 0.1 * step, 1) for step in range(9) for _ in range(10)]
    assert epsilons[100] == 0.1
