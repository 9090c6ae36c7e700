"""`report.html`: one file, pictures inside, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from omegaconf import OmegaConf

from scripts.report import figures
from scripts.report.accuracy import HEADINGS, WORST_HEADINGS, cells, worst_cells
from scripts.report.contents import Contents
from scripts.report.sites import site_rows
from scripts.report.statements import next_steps, shortfalls, summary


def page(contents: Contents, run_dir: Path) -> str:
    """The whole report as HTML."""
    environment = Environment(loader=PackageLoader("scripts.report", "."), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html").render(
        contents=contents,
        summary=summary(contents),
        shortfalls=shortfalls(contents),
        next_steps=next_steps(contents, run_dir),
        sites=site_rows(contents.best) if contents.best else [],
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
        tournament=_picture(figures.tournament(contents.tournament.curves)) if contents.tournament else None,
        configuration=OmegaConf.to_yaml(contents.config),
        run_dir=run_dir,
    )


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
