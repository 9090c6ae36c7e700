"""What a sampler has learned from a history: for people, who want to know whether to believe it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from search.encoding import Encoding
from search.history import Observation
from search.q_learning import QTable, State
from search.surrogate import Surrogate, fitted_observations, normalised

LEVEL = 0.9


@dataclass(frozen=True)
class Insight:
    """Either part is None where a sampler has no such model, or has not begun to learn.

    Attributes:
        preferences: what the Q table would choose, a row a site: `site`, `choice`, `value` (percent points), and
            `runner_up`, the operator that is next best there, with `runner_up_value`; empty and NaN where nothing else
            was affordable.
        forecasts: what the surrogate said of evaluations before they were made, a row each: `number` (of the
            evaluation), `predicted`, `deviation` and `found`, in deviations of the rewards so far.
    """

    preferences: pd.DataFrame | None = None
    forecasts: pd.DataFrame | None = None

    @property
    def coverage(self) -> float:
        """Share of evaluations within the central 90 % of what was forecast, in percent; NaN without forecasts."""
        if self.forecasts is None or self.forecasts.empty:
            return float("nan")
        width = norm.ppf((1 + LEVEL) / 2) * self.forecasts["deviation"]
        return 100 * float(((self.forecasts["found"] - self.forecasts["predicted"]).abs() <= width).mean())

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of forecasts and evaluations; NaN without forecasts."""
        if self.forecasts is None or self.forecasts.empty:
            return float("nan")
        return float(self.forecasts["predicted"].corr(self.forecasts["found"], method="spearman"))


def preferences(table: QTable, encoding: Encoding) -> pd.DataFrame | None:
    """`Insight.preferences` of a table; None while it is empty."""
    if not table.values:
        return None
    operators: dict[int, dict[str | float, float]] = {}

    def best(state: State, allowed: tuple[str | float, ...]) -> str | float:
        values = {action: table.value(state, action) for action in allowed}
        if not state.path:
            operators[state.site] = values
        return max(values, key=values.__getitem__)

    code = table.decisions.follow(best)
    choices = encoding.candidate(code).choices
    rows = []
    for site, (name, choice) in enumerate(zip(encoding.space.site_names, choices, strict=True)):
        values = operators.get(site, {})
        others = {action: value for action, value in values.items() if action != choice.operator}
        runner_up = max(others, key=others.__getitem__, default=None)
        rows.append(
            {
                "site": name,
                "choice": str(choice),
                "value": values.get(choice.operator, np.nan),
                "runner_up": "" if runner_up is None else str(runner_up),
                "runner_up_value": np.nan if runner_up is None else others[runner_up],
            }
        )
    return pd.DataFrame(rows)


def forecasts(surrogate: Surrogate, observations: tuple[Observation, ...], first: int) -> pd.DataFrame | None:
    """`Insight.forecasts` of the evaluations from number `first` on, each by a process that knew only those up to its
    last fit; None if there are none."""
    rows = []
    for number in range(first, len(observations)):
        known = observations[: fitted_observations(number)]
        mean, deviation = surrogate.forecast(known, [observations[number].code])
        found = normalised([observation.reward for observation in (*known, observations[number])])[-1]
        rows.append({"number": number, "predicted": mean[0], "deviation": deviation[0], "found": found})
    return pd.DataFrame(rows) if rows else None
