"""In which order the candidates of a search are tried as winners."""

from __future__ import annotations

import math

import pandas as pd

from search import pareto_front

_BY_ACCURACY = 2


def preference(trials: pd.DataFrame) -> list[int]:
    """Rows of `trials` (columns `accuracy` and `predicted_ms`, one row a candidate), each once, the first to try first.

    The two most accurate lead. Then come the other members of the Pareto front, each as far as possible from those
    before it in the logarithm of the latency, so that few winners already span the front. The rest follow by accuracy.
    """
    ranked = trials.sort_values(["accuracy", "predicted_ms"], ascending=[False, True], kind="stable").index.tolist()
    chosen = ranked[:_BY_ACCURACY]
    front = pareto_front(trials, maximise="accuracy", minimise="predicted_ms").index
    latency = {row: math.log(trials.loc[row, "predicted_ms"]) for row in trials.index}
    waiting = [row for row in ranked if row in front and row not in chosen]
    while waiting:
        farthest = max(waiting, key=lambda row: min(abs(latency[row] - latency[other]) for other in chosen))
        waiting.remove(farthest)
        chosen.append(farthest)
    return chosen + [row for row in ranked if row not in chosen]
