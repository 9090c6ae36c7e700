"""The report's pictures, as PNG files in memory."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import norm

from scripts.metrics import Metrics
from scripts.report.contents import Contents
from search.insight import LEVEL

_OURS, _OTHER, _DENSE, _FAINT = "#0b6e4f", "#c8553d", "#222222", "#8d99ae"


def pareto(contents: Contents) -> bytes:
    """Test accuracy against measured latency: winners, the dense network, and ONNX Runtime on the same networks."""
    figure, axes = _canvas(8.0, 5.0)
    dense = contents.dense
    for limit in contents.limits_ms:
        axes.axvspan(0, limit, color=_OURS, alpha=0.06, lw=0)
        axes.axvline(limit, color=_OURS, lw=1, ls=":", label=f"budget {limit:.3f} ms")
    for winner in contents.winners:
        axes.plot(
            [winner.measured_ms, winner.onnxruntime_ms], [winner.test_accuracy] * 2, color=_FAINT, lw=0.8, zorder=1
        )
    front = {winner.name for winner in contents.pareto}
    groups = (
        ("Pareto set, by validation accuracy", _OURS, [w for w in contents.winners if w.name in front]),
        ("found, within budget", "#b9d8cc", [w for w in contents.winners if w.within_budget and w.name not in front]),
        ("found, over budget when measured", "white", [w for w in contents.winners if not w.within_budget]),
    )
    for height, (label, face, winners) in enumerate(groups):
        _points(axes, winners, face, label, zorder=3 + (len(groups) - height) / 10)
    axes.plot(dense.measured_ms, dense.test_accuracy, "*", ms=15, color=_DENSE, label="dense, compiled by npas")
    axes.plot(
        [w.onnxruntime_ms for w in contents.winners],
        [w.test_accuracy for w in contents.winners],
        "x",
        color=_OTHER,
        label="the same networks in ONNX Runtime",
    )
    axes.plot(dense.onnxruntime_ms, dense.test_accuracy, "s", color=_OTHER, label="dense in ONNX Runtime")
    axes.set_xlabel("measured latency, ms (batch 1, one thread)")
    axes.set_ylabel("test accuracy, %")
    axes.set_xlim(left=0)
    for names, at in joined_names(contents.winners, apart=axes.get_xlim()[1] / 40):
        axes.annotate(names, at, (5, 5), textcoords="offset points", fontsize=8)
    axes.legend(fontsize=8, loc="lower right")
    return _png(figure)


def joined_names(winners: Sequence[Metrics], apart: float) -> list[tuple[str, tuple[float, float]]]:
    """Names of winners and where they stand; those of one accuracy that lie at most `apart` ms a name behind share
    a place."""
    places: list[tuple[list[str], tuple[float, float]]] = []
    for winner in sorted(winners, key=lambda one: (one.test_accuracy, one.measured_ms)):
        at = (winner.measured_ms, winner.test_accuracy)
        if places and places[-1][1][1] == at[1] and at[0] - places[-1][1][0] <= apart * len(places[-1][0]):
            places[-1] = ([*places[-1][0], winner.name], at)
        else:
            places.append(([winner.name], at))
    return [(", ".join(names), at) for names, at in places]


def progress(contents: Contents) -> bytes:
    """Every evaluation of the search and the best so far, beside the best so far of the searches compared with it."""
    figure, axes = _canvas(8.0, 3.4)
    trials = contents.trials
    axes.plot(range(1, len(trials) + 1), trials["accuracy"], ".", color=_FAINT, label="one candidate")
    label = f"best so far, {contents.sampler} (this run)" if contents.compared else "best so far"
    _incumbents(axes, trials, color=_OURS, lw=1.8, label=label)
    for other in contents.compared:
        label = f"best so far, {other.sampler} ({other.run_dir.name})"
        _incumbents(axes, other.trials, lw=1.2, ls="--", label=label)
    axes.set_xlabel("evaluation")
    axes.set_ylabel("validation accuracy before\nfine-tuning, %")
    axes.legend(fontsize=8, loc="lower right")
    return _png(figure)


def forecasts(rows: pd.DataFrame) -> bytes:
    """What the surrogate said of evaluations before they were made, with its 90 % interval, and what was found."""
    figure, axes = _canvas(5.6, 5.0)
    width = norm.ppf(0.5 + LEVEL / 2) * rows["deviation"]
    axes.errorbar(
        rows["predicted"],
        rows["found"],
        xerr=width,
        fmt="o",
        ms=4,
        lw=0.6,
        color=_OURS,
        ecolor=_FAINT,
        label="a candidate",
    )
    values = rows[["predicted", "found"]].to_numpy(dtype=np.float64)
    ends = np.array([values.min() - 0.3, values.max() + 0.3])
    axes.plot(ends, ends, color=_DENSE, lw=0.8)
    axes.set_xlabel("forecast of the surrogate, in deviations of what was known")
    axes.set_ylabel("found, in the same deviations")
    return _png(figure)


def prediction(contents: Contents) -> bytes:
    """Measured against predicted latency of whole networks, with the predictor's interval."""
    figure, axes = _canvas(5.6, 5.0)
    networks = contents.networks
    for held_out, color, label in ((False, _FAINT, "fitted on"), (True, _OURS, "never seen by the predictor")):
        rows = networks[networks["held_out"] == held_out]
        axes.errorbar(
            rows["predicted_ms"],
            rows["measured_ms"],
            xerr=(rows["predicted_ms"] - rows["lower_ms"], rows["upper_ms"] - rows["predicted_ms"]),
            fmt="o",
            ms=4,
            lw=0.8,
            color=color,
            label=label,
        )
    chosen = [winner for winner in contents.winners if winner.predicted_ms is not None]
    axes.plot(
        [w.predicted_ms for w in chosen], [w.measured_ms for w in chosen], "D", ms=6, color=_OTHER, label="winners"
    )
    ends = np.array([0.0, 1.05 * max(networks["measured_ms"].max(), networks["predicted_ms"].max())])
    axes.plot(ends, ends, color=_DENSE, lw=0.8)
    axes.fill_between(ends, 0.9 * ends, 1.1 * ends, color=_DENSE, alpha=0.07, lw=0, label="within 10 %")
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_xlabel("predicted latency, ms")
    axes.set_ylabel("measured latency, ms")
    axes.legend(fontsize=8, loc="upper left")
    return _png(figure)


def tournament(curves: pd.DataFrame) -> bytes:
    """Validation accuracy after every epoch of the short runs, an algorithm a line."""
    figure, axes = _canvas(8.0, 3.4)
    for name, rows in curves.groupby("algorithm", sort=False):
        axes.plot(rows["epoch"], rows["accuracy"], "o-", ms=4, lw=1.5, label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch of the short run")
    axes.set_ylabel("validation accuracy\nif pruned now, %")
    axes.legend(fontsize=8, loc="lower right")
    return _png(figure)


def kernel_prediction(contents: Contents) -> bytes:
    """Measured against predicted time of the kernels that were held out, by operation."""
    figure, axes = _canvas(5.6, 5.0)
    for op, rows in contents.judged.groupby("op"):
        axes.plot(rows["predicted_us"], rows["median_us"], ".", ms=5, label=str(op))
    times = contents.judged[["predicted_us", "median_us"]].to_numpy(dtype=np.float64)
    ends = np.array([0.8 * times.min(), 1.25 * times.max()])
    axes.plot(ends, ends, color=_DENSE, lw=0.8)
    axes.fill_between(ends, 0.9 * ends, 1.1 * ends, color=_DENSE, alpha=0.07, lw=0, label="within 10 %")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_xlabel("predicted time, us")
    axes.set_ylabel("measured time, us")
    axes.legend(fontsize=8, loc="upper left")
    return _png(figure)


def _incumbents(axes: Axes, trials: pd.DataFrame, **style: Any) -> None:
    axes.step(range(1, len(trials) + 1), trials["accuracy"].cummax(), where="post", **style)


def _points(axes: Axes, winners: list[Metrics], face: str, label: str, zorder: float) -> None:
    if not winners:
        return
    axes.plot(
        [winner.measured_ms for winner in winners],
        [winner.test_accuracy for winner in winners],
        "o",
        ms=8,
        mec=_OURS,
        mfc=face,
        label=label,
        zorder=zorder,
    )


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    stream = BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()
