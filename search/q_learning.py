"""Proposals by tabular Q-learning over the decisions that make up a candidate.

The factored form of NPAS's agent (Li et al. 2021, arXiv 2012.00596, after MetaQNN, arXiv 1611.02167): a candidate
is written site by site, and each site by three decisions: operator, scheme, rate. What the budget cannot pay for
any more is masked, in drawing and in the maximum of the update.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from search.encoding import Code
from search.history import Observation
from search.milestones import OFTEN, milestone
from supernet import Choice

SLACK_BUCKETS = 5
LEARNING_RATE = 0.2
SWEEPS = 5
RANDOM_SHARE = 0.4
INITIAL_QUANTILE = 0.25
TOLERANCE = 1e-9

Path = tuple[str | float, ...]
"""What has been decided at a site: (), (operator,), or (operator, scheme); with the rate it is complete."""


class State(NamedTuple):
    """Where a decision is taken: the site, the bucket of the slack that is left, what has been decided at the site."""

    site: int
    slack: int
    path: Path


class Step(NamedTuple):
    """One decision of a trajectory: where it was taken, what was allowed there, and what was taken."""

    state: State
    allowed: tuple[str | float, ...]
    action: str | float


class Decisions:
    """The decision process of a space under a budget.

    Args:
        choices: the choices of every site.
        extra_ms: what each choice costs over the cheapest one of its site, in milliseconds.
        slack_ms: how much the sum of these may be.
    """

    def __init__(
        self, choices: Sequence[Sequence[Choice]], extra_ms: Sequence[Sequence[float]], slack_ms: float
    ) -> None:
        self.slack_ms = slack_ms
        self._extra_ms = extra_ms
        self._paths: list[list[Path]] = [
            [(c.operator, str(c.sparsity.scheme), c.sparsity.rate) for c in site] for site in choices
        ]
        self._indices = [{path: index for index, path in enumerate(paths)} for paths in self._paths]
        self._actions = [_actions(paths, extras) for paths, extras in zip(self._paths, extra_ms, strict=True)]
        spans = [max(extras) for extras in extra_ms]
        self._span_ms = [sum(spans[site:]) for site in range(len(spans))]

    def follow(self, decide: Callable[[State, tuple[str | float, ...]], str | float]) -> Code:
        """The code that a policy `decide(state, allowed actions)` writes; never over the slack.

        Where only one action is allowed there is nothing to decide, and nothing to learn.
        """
        code: list[int] = []
        left = self.slack_ms
        for site, indices in enumerate(self._indices):
            path: Path = ()
            while path not in indices:
                allowed = self._allowed(site, left, path)
                action = allowed[0] if len(allowed) == 1 else decide(self._state(site, left, path), allowed)
                path = (*path, action)
            code.append(indices[path])
            left -= self._extra_ms[site][code[-1]]
        return tuple(code)

    def trajectory(self, code: Code) -> list[Step]:
        """The decisions that lead to `code`.

        A code that the additive costs put over the slack, although its true latency is admitted, keeps its own
        actions among the allowed ones.
        """
        steps: list[Step] = []
        left = self.slack_ms
        for site, index in enumerate(code):
            path = self._paths[site][index]
            for depth, action in enumerate(path):
                allowed = self._allowed(site, left, path[:depth])
                if action not in allowed:
                    allowed = (*allowed, action)
                if len(allowed) > 1:
                    steps.append(Step(self._state(site, left, path[:depth]), allowed, action))
            left -= self._extra_ms[site][index]
        return steps

    def _state(self, site: int, left: float, path: Path) -> State:
        share = left / self._span_ms[site] if self._span_ms[site] > 0 else 1.0
        return State(site, max(0, min(SLACK_BUCKETS - 1, int(share * SLACK_BUCKETS))), path)

    def _allowed(self, site: int, left: float, path: Path) -> tuple[str | float, ...]:
        costs, allowed = self._actions[site][path]
        return allowed[bisect_right(costs, max(left, costs[0]) + TOLERANCE) - 1]


class Affordable(NamedTuple):
    """The decisions after a partial path: the least that each can cost, in rising order, and what is allowed to whom
    can pay each of these costs."""

    costs: list[float]
    allowed: list[tuple[str | float, ...]]


def _actions(paths: Sequence[Path], extras: Sequence[float]) -> dict[Path, Affordable]:
    """For every partial path the possible next decisions."""
    table: dict[Path, dict[str | float, float]] = defaultdict(dict)
    for path, extra in zip(paths, extras, strict=True):
        for depth, action in enumerate(path):
            costs = table[path[:depth]]
            costs[action] = min(extra, costs.get(action, extra))
    return {path: _affordable(costs) for path, costs in table.items()}


def _affordable(costs: dict[str | float, float]) -> Affordable:
    levels = sorted(costs.values())
    return Affordable(levels, [tuple(a for a, cost in costs.items() if cost <= level) for level in levels])


class QTable:
    """Action values, learned from finished evaluations by replaying them.

    The reward comes with the last decision and gamma is 1; the initial value is the 25th percentile of the rewards
    of the random phase, so that only what did better than a poor random candidate looks attractive.
    """

    def __init__(self, decisions: Decisions, initial: float) -> None:
        self.decisions = decisions
        self.initial = initial
        self.values: dict[State, dict[str | float, float]] = {}

    def value(self, state: State, action: str | float) -> float:
        """Q(state, action)."""
        return self.values.get(state, {}).get(action, self.initial)

    def update(self, trajectory: Sequence[Step], reward: float) -> None:
        """Q <- (1 - lr) Q + lr max Q', from the last decision to the first."""
        target = reward
        for state, allowed, action in reversed(trajectory):
            row = self.values.setdefault(state, {})
            row[action] = (1 - LEARNING_RATE) * row.get(action, self.initial) + LEARNING_RATE * target
            target = max(row.get(other, self.initial) for other in allowed)

    def propose(self, rng: np.random.Generator, epsilon: float) -> Code:
        """A code, every decision random with probability `epsilon` and else of highest value; ties are random."""

        def decide(state: State, allowed: tuple[str | float, ...]) -> str | float:
            if rng.random() >= epsilon:
                values = [self.value(state, action) for action in allowed]
                best = max(values)
                allowed = tuple(action for action, value in zip(allowed, values, strict=True) if value == best)
            return allowed[int(rng.integers(len(allowed)))]

        return self.decisions.follow(decide)


class QLearning:
    """The Q table as a function of the history and a seed.

    From the end of the random phase on, all trajectories so far are replayed after every five observations (later less
    often), in five sweeps of random order. The last table is kept, and continued when the next history begins with the
    one it was made from; the result is the same as starting over.
    """

    def __init__(self, decisions: Decisions, *, seed: int, trials: int, random_phase: int | None = None) -> None:
        self.decisions = decisions
        self.seed = seed
        self.trials = trials
        self.random_phase = max(1, round(RANDOM_SHARE * trials) if random_phase is None else random_phase)
        self._forget()

    def epsilon(self, observations: int) -> float:
        """1 in the random phase, by default 40 % of the trials; then nine equal steps from 0.9 down to 0.1."""
        if observations < self.random_phase:
            return 1.0
        passed = 9 * (observations - self.random_phase) // max(1, self.trials - self.random_phase)
        return round(0.9 - 0.1 * min(8, passed), 1)

    def table(self, observations: Sequence[Observation]) -> QTable:
        """The table after the last replay; empty within the random phase."""
        replayable = tuple(observations[: milestone(len(observations), OFTEN)])
        if replayable[: len(self._replayed)] != self._replayed:
            self._forget()
        for end in range(max(self.random_phase, len(self._replayed) + 1), len(replayable) + 1):
            if milestone(end, OFTEN) == end:
                self._replay(replayable[:end])
        return self._table

    def _forget(self) -> None:
        self._replayed: tuple[Observation, ...] = ()
        self._trajectories: list[list[Step]] = []
        self._table = QTable(self.decisions, 0.0)

    def _replay(self, observations: tuple[Observation, ...]) -> None:
        if not self._replayed:
            rewards = [observation.reward for observation in observations[: self.random_phase]]
            self._table = QTable(self.decisions, float(np.quantile(rewards, INITIAL_QUANTILE)))
        known = len(self._trajectories)
        self._trajectories += [self.decisions.trajectory(observation.code) for observation in observations[known:]]
        rng = np.random.default_rng([self.seed, len(observations)])
        for _ in range(SWEEPS):
            for index in rng.permutation(len(observations)):
                self._table.update(self._trajectories[index], observations[index].reward)
        self._replayed = observations
