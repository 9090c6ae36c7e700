"""`report.html`: one file, pictures inside, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import math
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import OmegaConf

from scripts.report import figures
from scripts.report.accuracy import HEADINGS, WORST_HEADINGS, cells, worst_cells
from scripts.report.contents import Contents
from scripts.report.sites import site_rows
from scripts.report.statements import next_steps, shortfalls, summary
from search.insight import Insight


def page(contents: Contents, run_dir: Path, insight: Insight) -> str:
    """The whole report as HTML."""
    others = [(other.sampler, other.seed, other.trials, other.run_dir) for other in contents.compared]
    searches = [(contents.sampler, contents.config.seed, contents.trials, run_dir), *others]
    environment = Environment(loader=PackageLoader("scripts.report", "."), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html").render(
        contents=contents,
        summary=summary(contents),
        shortfalls=shortfalls(contents),
        next_steps=next_steps(contents, run_dir),
        sites=site_rows(contents.best) if contents.best else [],
        searches=searches,
        common=min(len(trials) for _, _, trials, _ in searches),
        best_trial=contents.trials["accuracy"].max(),
        accuracy_headings=list(HEADINGS.values()),
        accuracy=cells(contents.accuracy),
        worst_headings=WORST_HEADINGS,
        worst=worst_cells(contents.judged),
        held_out=_held_out(contents),
        pareto=_picture(figures.pareto(contents)),
        progress=_picture(figures.progress(contents)),
        prediction=_picture(figures.prediction(contents)),
        kernel_prediction=_picture(figures.kernel_prediction(contents)),
        insight=insight,
        preferences=_preferences(insight),
        forecasts=_picture(figures.forecasts(insight.forecasts)) if insight.forecasts is not None else None,
        tournament=_picture(figures.tournament(contents.tournament.curves)) if contents.tournament else None,
        configuration=OmegaConf.to_yaml(contents.config),
        run_dir=run_dir,
    )


def _preferences(insight: Insight) -> list[dict[str, str]]:
    """The cells of the Q table's choices, a mapping a site."""
    if insight.preferences is None:
        return []
    return [
        {
            "site": row["site"],
            "choice": row["choice"].replace("|", " "),
            "value": _points(row["value"]),
            "runner_up": row["runner_up"] or "–",
            "lead": _points(row["value"] - row["runner_up_value"]),
        }
        for row in insight.preferences.to_dict("records")
    ]


def _points(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _picture(png: bytes) -> Markup:
    return Markup("data:image/png;base64,") + Markup(base64.b64encode(png).decode())


def _held_out(contents: Contents) -> dict[str, float]:
    """How whole networks that the predictor never saw were predicted, in percent."""
    unseen = contents.networks[contents.networks["held_out"].astype(bool)]
    error = (unseen["predicted_ms"] / unseen["measured_ms"] - 1).abs()
    inside = unseen["measured_ms"].between(unseen["lower_ms"], unseen["upper_ms"])
    return {
        "count": len(unseen),
        "within_5": 100 * float((error <= 0.05).mean()),
        "within_10": 100 * float((error <= 0.10).mean()),
        "inside": 100 * float(inside.mean()),
        "rank": float(unseen["predicted_ms"].corr(unseen["measured_ms"], method="spearman")),
    }
