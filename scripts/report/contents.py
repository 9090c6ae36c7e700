"""What a report is made of, read from the files of a run directory and from nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, ListConfig, OmegaConf

from scripts.comparison import Compared, compared
from scripts.errors import RecordCorrupt
from scripts.files import read_json
from scripts.machine import describe_machine
from scripts.metrics import Metrics
from scripts.run_directory import Record
from scripts.stages import STAGES
from scripts.trials import finished_trials
from search import Budgets, pareto_front


@dataclass(frozen=True)
class Tournament:
    """How the pruning algorithm was chosen: `table` and `curves` as in `search.TournamentResult`."""

    winner: str
    candidate: tuple[str, ...]
    table: pd.DataFrame
    curves: pd.DataFrame

    @classmethod
    def read(cls, path: Path) -> Tournament | None:
        """None where there was none; `RecordCorrupt` for a damaged file."""
        if not path.exists():
            return None
        found = read_json(path)
        try:
            table, curves = pd.DataFrame(found["table"]), pd.DataFrame(found["curves"])
            return cls(found["winner"], tuple(found["candidate"]), table, curves)
        except (KeyError, TypeError) as error:
            raise RecordCorrupt(path, str(error)) from error


@dataclass(frozen=True)
class Contents:
    """One finished run.

    `trials`: number, accuracy (fast evaluation, validation data, percent), predicted_ms. `compared`: the searches of
    other runs. `networks`: predicted_ms,
    lower_ms, upper_ms, measured_ms, held_out. `accuracy`: the predictor's own table on held-out kernels; `judged`:
    each of them. `shortlist`: what was measured before the fine-tune, taken or not. `tournament`: None if the
    configuration chose the algorithm.
    """

    config: DictConfig
    dense: Metrics
    winners: tuple[Metrics, ...]
    trials: pd.DataFrame
    compared: tuple[Compared, ...]
    networks: pd.DataFrame
    accuracy: pd.DataFrame
    judged: pd.DataFrame
    shortlist: pd.DataFrame
    tournament: Tournament | None
    records: tuple[Record, ...]
    machine: dict[str, str]

    @classmethod
    def read(cls, run_dir: Path) -> Contents:
        """Raises `RecordCorrupt` for a damaged file, `NotComparable` for one of `compare` that is none."""
        checked: dict[str, Any] = read_json(run_dir / "predictor" / "accuracy.json")
        config = OmegaConf.load(run_dir / "config.yaml")
        assert isinstance(config, DictConfig)
        records = (Record.read(run_dir, stage.name) for stage in STAGES)
        numbered = sorted((run_dir / "winners").glob("*/metrics.json"), key=lambda path: int(path.parent.name))
        return cls(
            config=config,
            dense=Metrics.read(run_dir / "dense" / "metrics.json"),
            winners=tuple(Metrics.read(path) for path in numbered),
            trials=finished_trials(run_dir / "study.db"),
            compared=compared(config),
            networks=pd.DataFrame(checked["networks"]),
            accuracy=pd.DataFrame(checked["kernels"]),
            judged=pd.DataFrame(checked["judged"]),
            shortlist=pd.DataFrame(read_json(run_dir / "shortlist.json")),
            tournament=Tournament.read(run_dir / "winners" / "tournament" / "result.json"),
            records=tuple(record for record in records if record),
            machine=describe_machine(),
        )

    @property
    def budget(self) -> str:
        """The budget in the user's words, or all of them."""
        told = self.config.budget
        return ", ".join(map(str, told)) if isinstance(told, ListConfig) else str(told)

    @property
    def sampler(self) -> str:
        """Name of the sampler that proposed the candidates."""
        return str(self.config.search.sampler)

    @property
    def limits_ms(self) -> tuple[float, ...]:
        """The budgets against the dense network of the last measurement, the largest first."""
        return Budgets.parse(self.config.budget).measured(self.dense.measured_ms)

    def best_under(self, limit_ms: float) -> Metrics | None:
        """The winner of the highest validation accuracy that meets this limit by measurement."""
        return next((winner for winner in self.feasible if winner.measured_ms <= limit_ms), None)

    @cached_property
    def feasible(self) -> tuple[Metrics, ...]:
        """Winners that meet the budget by measurement, the most accurate on validation data first."""
        within = (winner for winner in self.winners if winner.within_budget)
        return tuple(sorted(within, key=lambda winner: (-winner.validation_accuracy, winner.measured_ms)))

    @cached_property
    def pareto(self) -> tuple[Metrics, ...]:
        """The feasible winners that no other one dominates in validation accuracy and measured latency."""
        if not self.feasible:
            return ()
        frame = pd.DataFrame(
            {
                "winner": range(len(self.feasible)),
                "accuracy": [winner.validation_accuracy for winner in self.feasible],
                "latency": [winner.measured_ms for winner in self.feasible],
            }
        )
        front = pareto_front(frame, maximise="accuracy", minimise="latency")
        return tuple(self.feasible[index] for index in sorted(front["winner"]))

    @property
    def best(self) -> Metrics | None:
        """The feasible winner of the highest validation accuracy; test data choose nothing."""
        return self.feasible[0] if self.feasible else None

    @property
    def fine_tuning_rank_correlation(self) -> float | None:
        """Spearman's rank correlation of the winners' accuracy before and after fine-tuning.

        None where either has fewer than three different values: any order of two is a correlation of one or minus one.
        """
        frame = pd.DataFrame([(winner.supernet_accuracy, winner.validation_accuracy) for winner in self.winners])
        if frame.empty or frame.nunique().min() < 3:
            return None
        return float(frame[0].rank().corr(frame[1].rank()))
