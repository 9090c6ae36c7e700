"""Does the cheap score order candidates as the full fine-tune does? python -m benchmarks.rank_correlation RUN_DIR

RUN_DIR is that of `npas supernet ...`, whose supernet and settings are used. Every candidate is fine-tuned by the same
schedule (`training.finetune`, or --epochs of it), its masks held, and scored by `fast_evaluate` at several costs. Rows
are written as they come, and what is there is not done again, so that the study may be stopped anywhere; a fine-tune
goes on after its last whole epoch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from scipy.stats import kendalltau, spearmanr
from torch import nn

from benchmarks.machine import machine_facts
from benchmarks.tables import RESULTS, write_table
from pruning import make_algorithm
from scripts import inputs
from scripts import supernet as supernet_stage
from supernet import Candidate, ChoiceSpace, EvaluationRecipe, OwnModel, SuperNet, fast_evaluate
from training import Dataset, Recipe, evaluate, fit, recalibrate_as_trained

STEPS = (0, 10, 20, 30, 60)
CANDIDATES = 24
RESAMPLES = 2000
BAR = 0.8


def spread_candidates(space: ChoiceSpace, count: int, seed: int = 0) -> list[Candidate]:
    """Distinct candidates over the whole range of rates: the highest allowed rate rises from one to the next and over.

    Uniform ones of many sites are all alike in their mean rate, so that there would be nothing to order.
    """
    rng = np.random.default_rng(seed)
    sites = [space.choices(site) for site in range(len(space.site_names))]
    caps = sorted({choice.sparsity.rate for choices in sites for choice in choices})
    found: dict[Candidate, None] = {}
    turn = 0
    while len(found) < count and turn < 100 * count:
        cap = caps[turn % len(caps)]
        allowed = [[choice for choice in choices if choice.sparsity.rate <= cap] for choices in sites]
        found[Candidate(tuple(choices[int(rng.integers(len(choices)))] for choices in allowed))] = None
        turn += 1
    return list(found)


def fully_trained(
    shared: SuperNet | OwnModel, candidate: Candidate, data: Dataset, recipe: Recipe, seed: int, checkpoint: Path
) -> float:
    """Validation accuracy in percent points after the whole schedule under the candidate's masks."""
    network: nn.Module = shared.extract(candidate, masked=False)
    algorithm = make_algorithm("magnitude", network, shared.plan(candidate), torch.zeros(1, *data.input_shape))
    algorithm.finish()
    fit(network, data, recipe, algorithm=algorithm, seed=seed, checkpoint=checkpoint)
    recalibrate_as_trained(network, data, recipe, seed=seed)
    checkpoint.unlink()
    return evaluate(network, data.validation).accuracy


def correlations(table: pd.DataFrame, steps: Sequence[int], seed: int = 0) -> pd.DataFrame:
    """A row a cost: `steps`, `spearman` with its 95 % bootstrap interval, `kendall`, and median `seconds`.

    Args:
        table: a row a candidate with `full`, and `fast_<k>` and `seconds_<k>` for every k of `steps`.
    """
    rows = []
    full = table["full"].to_numpy(float)
    for k in steps:
        fast = table[f"fast_{k}"].to_numpy(float)
        low, high = _interval(fast, full, seed)
        rows.append(
            {
                "steps": k,
                "spearman": _spearman(fast, full),
                "low": low,
                "high": high,
                "kendall": float(kendalltau(fast, full).statistic),
                "seconds": table[f"seconds_{k}"].median(),
                "candidates": len(table),
            }
        )
    return pd.DataFrame(rows)


def cheapest(found: pd.DataFrame) -> int | None:
    """The fewest steps that reach the bar, None if none do."""
    good = found[found["spearman"] >= BAR]
    return None if good.empty else int(good["steps"].min())


def _interval(fast: NDArray[np.float64], full: NDArray[np.float64], seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(full), size=(RESAMPLES, len(full)))
    values = [_spearman(fast[draw], full[draw]) for draw in draws if np.ptp(fast[draw]) > 0 and np.ptp(full[draw]) > 0]
    low, high = np.quantile(values, [0.025, 0.975]) if values else (np.nan, np.nan)
    return float(low), float(high)


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(spearmanr(a, b).statistic)


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run_dir", type=Path)
    made.add_argument("--candidates", type=int, default=CANDIDATES)
    made.add_argument("--epochs", type=int, help="of each full fine-tune; default: those of training.finetune")
    made.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="of training before a fast score")
    made.add_argument("--pictures", type=int, default=2000, help="of the validation split, for a fast score")
    made.add_argument("--out", type=Path, default=RESULTS)
    arguments = made.parse_args()
    config = OmegaConf.load(arguments.run_dir / "config.yaml")
    assert isinstance(config, DictConfig)
    torch.set_num_threads(config.threads)
    data, recipe = inputs.dataset(config), inputs.finetune_recipe(config)
    epochs = arguments.epochs or recipe.epochs
    recipe = replace(recipe, epochs=epochs, warmup_epochs=min(recipe.warmup_epochs, epochs))
    shared = supernet_stage.load(config, arguments.run_dir)
    augment = inputs.supernet_recipe(config).augment
    path = arguments.run_dir / "rank_correlation.csv"
    known = pd.read_csv(path).set_index("candidate").to_dict("index") if path.exists() else {}
    for number, candidate in enumerate(spread_candidates(shared.space, arguments.candidates, config.seed), start=1):
        row = known.setdefault(candidate.to_json(), {})
        for k in arguments.steps:
            if f"fast_{k}" not in row:
                start = time.perf_counter()
                cost = EvaluationRecipe(augment=augment, pictures=arguments.pictures, steps=k)
                metrics = fast_evaluate(shared, candidate, data, cost, seed=config.seed)
                row |= {f"fast_{k}": metrics.accuracy, f"seconds_{k}": time.perf_counter() - start}
        if row.get("epochs") != epochs:
            unfinished = arguments.run_dir / f"rank_correlation.{number}.unfinished.safetensors"
            row |= {"full": fully_trained(shared, candidate, data, recipe, config.seed, unfinished), "epochs": epochs}
        table = pd.DataFrame.from_dict(known, orient="index").rename_axis("candidate").reset_index()
        table.to_csv(path, index=False)
        scores = ", ".join(f"{k} steps {row[f'fast_{k}']:.1f}" for k in arguments.steps)
        print(f"{number} of {arguments.candidates}: {scores}, full {row['full']:.1f}", flush=True)
    done = table[table["epochs"] == epochs]
    found = correlations(done, arguments.steps)
    print(found.round(3).to_string(index=False))
    best = cheapest(found)
    print(f"no cost reaches {BAR}" if best is None else f"{BAR} is reached with search.steps={best}")
    write_table(arguments.out / "rank_correlation.csv", found.assign(epochs=epochs), machine_facts())


if __name__ == "__main__":
    main()
