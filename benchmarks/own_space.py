"""Samplers beside one another on a space of our own, judged by fast evaluation: python -m benchmarks.own_space RUN_DIR

RUN_DIR is that of a finished `npas search`, whose supernet, latency predictor, dense latency and settings are used. All
methods of a seed see the same validation pictures and the same recalibration, so that they are compared in pairs. A
search that was stopped goes on; `own_space.csv` has a row a budget, method and checkpoint, and says against each
baseline how often npas found more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from rich.progress import track

from benchmarks.command_line import common, parser
from benchmarks.machine import machine_facts
from benchmarks.tables import write_table
from scripts import inputs
from scripts import supernet as supernet_stage
from search import prepare_search
from supernet import OwnModel, SuperNet

UNIFORM = "npas, uniform start"
METHODS = (
    "npas",
    UNIFORM,
    "bo_only",
    "q_only",
    "evolution",
    "local_search",
    "tpe",
    "knapsack",
    "rules",
    "random",
)
CHECKPOINTS = (25, 50, 100)
OURS = "npas"
OPTIONS = {UNIFORM: {"sampler": OURS, "options": {"distortions": None}}}
"""Settings of methods that are no sampler of their own: what choices do to the outputs stays unknown."""


def found(progress: pd.Series[float], checkpoints: Sequence[int] = CHECKPOINTS) -> dict[int, float]:
    """Best accuracy after so many evaluations; that of the last one where the space ran out before."""
    return {count: float(progress.iloc[min(count, len(progress)) - 1]) for count in checkpoints}


def paired(table: pd.DataFrame) -> pd.DataFrame:
    """A row a budget, evaluations and method: mean accuracy, and by how much npas found more on the same seeds.

    Args:
        table: `budget`, `evaluations`, `method`, `seed`, `accuracy` [percent points].

    Returns:
        `accuracy`; `behind`, the mean of npas's minus its own, and `behind_error`, its standard error; seeds on which
        npas found `more`, the `same` or `less`.
    """
    keys = ["budget", "evaluations", "seed"]
    ours = table[table["method"] == OURS].set_index(keys)["accuracy"]
    both = table.join(ours.rename("ours"), on=keys)
    both["behind"] = both["ours"] - both["accuracy"]
    signs = {"more": both["behind"] > 0, "same": both["behind"] == 0, "less": both["behind"] < 0}
    groups = both.assign(**signs).groupby(["budget", "evaluations", "method"], sort=False)
    parts = [groups["accuracy"].mean(), groups["behind"].mean(), groups["behind"].sem().rename("behind_error")]
    return pd.concat([*parts, groups[list(signs)].sum(), groups.size().rename("seeds")], axis=1).reset_index()


def searched(
    config: dict[str, Any], supernet: SuperNet | OwnModel, remember: Callable[..., Any], study: Path
) -> dict[int, float]:
    """Best accuracy under the budget at the checkpoints; `remember` wraps the evaluation of candidates."""
    search = prepare_search({**config, "storage": str(study)}, supernet=supernet)
    search.evaluator = remember(search.evaluator, config["seed"])
    progress = search.run().progress
    return found(progress[search.budgets_ms[0]])


def main() -> None:
    made = parser(__doc__)
    made.add_argument("run_dir", type=Path)
    made.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    made.add_argument("--budgets", nargs="+", default=["50%"], help="as in `npas search budget=...`, one at a time")
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--pictures", type=int, help="of the validation split that judge a candidate; default: the run's")
    made.add_argument("--steps", type=int, help="of training before a candidate is judged; default: the run's")
    arguments = made.parse_args()
    told = common(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = OmegaConf.load(arguments.run_dir / "config.yaml")
    assert isinstance(config, DictConfig)
    torch.set_num_threads(config.threads)
    supernet = supernet_stage.load(config, arguments.run_dir)
    plain = inputs.mapping(config) | {"run_dir": str(arguments.run_dir), "cluster": {"driver": "local"}}
    folder = arguments.run_dir / "own_space"
    folder.mkdir(exist_ok=True)
    known: dict[int, Callable[..., float]] = {}

    def remember(evaluator: Callable[..., float], seed: int) -> Callable[..., float]:
        return known.setdefault(seed, cache(evaluator))

    rows: list[dict[str, object]] = []
    runs = [
        (seed, budget, name)
        for seed in range(arguments.seeds)
        for budget in arguments.budgets
        for name in arguments.methods
    ]
    for seed, budget, method in track(runs, "searches"):
        settings = {**plain["search"], "sampler": method, "trials": max(CHECKPOINTS), "options": None}
        settings |= OPTIONS.get(method, {})
        told_otherwise = {"pictures": arguments.pictures, "steps": arguments.steps}
        settings |= {name: value for name, value in told_otherwise.items() if value is not None}
        job = {**plain, "search": settings, "budget": budget, "seed": seed}
        best = searched(job, supernet, remember, folder / f"{method}-{budget}-{seed}.db")
        facts = {"budget": budget, "method": method, "seed": seed}
        rows += [{**facts, "evaluations": count, "accuracy": accuracy} for count, accuracy in best.items()]
        table = pd.DataFrame(rows)
        table.to_csv(folder / "runs.csv", index=False)
    result = paired(table)
    print(result.round(3).to_string(index=False))
    space = {
        "data": config.data.name,
        "space": config.space.name,
        "supernet_epochs": str(config.training.supernet.epochs),
        "steps": str(settings["steps"]),
    }
    write_table(told.folder / "own_space.csv", result, {**machine_facts(), **space})


if __name__ == "__main__":
    main()
