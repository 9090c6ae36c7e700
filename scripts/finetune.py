"""Prune and fine-tune the best candidates that meet the budget when they are measured, and the dense network."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from scripts import inputs
from scripts.console import say
from scripts.errors import NoWinner
from scripts.files import read_json
from scripts.previous import move_away
from scripts.shortlist import Entry, Shortlist, preference
from scripts.trials import finished_trials
from scripts.tuner import Tuner
from search.run import DENSE
from supernet import Candidate


def run(config: DictConfig, run_dir: Path) -> None:
    """Write `dense/`, `winners/<n>/` and `shortlist.json`; what an interrupted run finished is kept.

    Candidates are compiled and measured beside the dense network *before* they are trained. One that misses the budget
    (the largest, if there are several) is noted in the shortlist, and the next one is tried.

    Raises:
        NothingEvaluated: the search has no finished evaluation.
        NoWinner: not one candidate meets the budget by measurement.
    """
    trials = finished_trials(run_dir / "study.db").set_index("number")
    tuner = Tuner(config, run_dir)
    shortlist = Shortlist(run_dir / "shortlist.json")
    _set_strays_aside(shortlist, run_dir)
    wanted = config.winners
    for taken in shortlist.taken:
        _tune(tuner, taken, shortlist, run_dir / "winners")
    limits_ms = inputs.budgets(config).measured(read_json(run_dir / DENSE)["measured_ms"])
    for number in preference(trials, limits_ms):
        if shortlist.complete(
            at_least=wanted.at_least, at_most=wanted.at_most, pareto=wanted.pareto, budgets=len(limits_ms)
        ):
            return
        trial = {str(name): value for name, value in trials.loc[number].items()}
        entry = shortlist.find(str(trial["candidate"]))
        if entry is None:
            entry = _measured(tuner, trial, config)
            shortlist.add(entry)
            verdict = "taken" if entry.within_budget else "left out"
            say(f"candidate {number}: {entry.measured_ms:.3f} ms measured, budget {entry.budget_ms:.3f} ms, {verdict}")
        if entry.within_budget and entry.winner is None:
            _tune(tuner, entry, shortlist, run_dir / "winners")
    if not shortlist.taken:
        nearest = min(shortlist.entries, key=lambda entry: entry.measured_ms / entry.budget_ms)
        raise NoWinner(len(shortlist.entries), nearest.budget_ms, wanted.margin, nearest.measured_ms)
    say(f"no candidate is left: of {len(trials)} tried, {len(shortlist.taken)} meet the budget by measurement")


def finished_networks(run_dir: Path) -> list[Path]:
    """Folders of the dense network and of the fine-tuned winners, in this order."""
    winners = (path.parent for path in (run_dir / "winners").glob("*/candidate.json"))
    return [run_dir / "dense", *sorted(winners, key=lambda folder: int(folder.name))]


def _measured(tuner: Tuner, trial: Mapping[str, Any], config: DictConfig) -> Entry:
    measured_ms, dense_ms = tuner.measure(Candidate.from_json(trial["candidate"]))
    limits_ms = inputs.budgets(config).measured(dense_ms)
    met = [limit for limit in limits_ms if measured_ms <= limit * (1 - config.winners.margin)]
    return Entry(
        candidate=trial["candidate"],
        supernet_accuracy=trial["accuracy"],
        predicted_ms=trial["predicted_ms"],
        measured_ms=measured_ms,
        dense_ms=dense_ms,
        budget_ms=min(met, default=max(limits_ms)),
        budget=max(0, len(met) - 1),
        within_budget=bool(met),
    )


def _set_strays_aside(shortlist: Shortlist, run_dir: Path) -> None:
    """Move away networks that the shortlist does not tell of, as it was lost: others get their numbers now."""
    within = [entry for entry in shortlist.entries if entry.within_budget]
    known = {str(entry.winner or len(shortlist.taken) + 1): json.loads(entry.candidate) for entry in within}
    for folder in sorted((run_dir / "winners").glob("[0-9]*")):
        file, candidate = folder / "candidate.json", known.get(folder.name)
        if candidate is None or (file.exists() and read_json(file)["candidate"] != candidate):
            say(f"{folder}: not of this shortlist, moved to {move_away(run_dir, 'strays', [folder])}")


def _tune(tuner: Tuner, entry: Entry, shortlist: Shortlist, winners: Path) -> None:
    """Train the entry's network unless its folder is there already, also if it was there once and is lost."""
    number = entry.winner or len(shortlist.taken) + 1
    folder = winners / str(number)
    if not (folder / "candidate.json").exists():
        tuner.prune(Candidate.from_json(entry.candidate), folder, entry.supernet_accuracy)
    shortlist.take(entry, number, read_json(folder / "candidate.json")["validation_accuracy"])


if __name__ == "__main__":
    from scripts.cli import main

    main(["finetune", *sys.argv[1:]])
