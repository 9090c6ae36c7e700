"""Which pruning algorithm suits a candidate: short runs of several, by successive halving (NPAS, phase 3)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.pruners import SuccessiveHalvingPruner
from optuna.trial import TrialState
from torch import nn

from pruning import Algorithm, PruningError, algorithm_names
from search.errors import InvalidTournament, NoAlgorithmFits
from search.pruned_fit import MASKED, PRUNING, fit_pruned
from search.study import database
from training import Dataset, Recipe, evaluate, load_checkpoint, recalibrate_as_trained
from training.errors import RecalibrationFailed, TrainingDiverged

STUDY_NAME = "tournament"
RECALIBRATION_BATCHES = 16

_logger = logging.getLogger(__name__)

LOST = (PruningError, TrainingDiverged, RecalibrationFailed)
"""What makes an algorithm lose. Any other error is nobody's loss and stops the tournament."""


@dataclass(frozen=True)
class Entrant:
    """A pruning algorithm as it takes part.

    Args:
        algorithm: its registered name.
        epochs: of the short run, those before the masks are fixed.
        options: its options in a run this short.
    """

    algorithm: str
    epochs: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bracket:
    """Who takes part, and where they are compared.

    Args:
        entrants: in the order in which they run; equal accuracies go to the earlier one.
        epochs: of a short run.
        first_rung: epochs before the first comparison.
        reduction: of so many that reach a rung, about one goes on.

    Raises:
        InvalidTournament: no entrant, one twice or unknown, or rungs or pruning epochs outside of the short run.
    """

    entrants: tuple[Entrant, ...]
    epochs: int
    first_rung: int = 1
    reduction: int = 2

    def __post_init__(self) -> None:
        names = [entrant.algorithm for entrant in self.entrants]
        if not names or len(set(names)) < len(names) or not set(names) <= set(algorithm_names()):
            raise InvalidTournament(
                f"the entrants are {', '.join(names) or 'none'}. Give at least one, none twice, of "
                f"{', '.join(algorithm_names())}"
            )
        if not 1 <= self.first_rung <= self.epochs or self.reduction < 2:
            raise InvalidTournament(
                f"first_rung is {self.first_rung} and reduction {self.reduction}. The first rung lies within the "
                f"{self.epochs} epochs of a short run, the reduction is a whole number from 2"
            )
        for entrant in self.entrants:
            if not 0 <= entrant.epochs <= self.epochs:
                raise InvalidTournament(
                    f"{entrant.algorithm} has {entrant.epochs} pruning epochs. A short run has {self.epochs}; give it "
                    "as many or fewer"
                )


@dataclass(frozen=True)
class TournamentResult:
    """How a tournament ended.

    Args:
        winner: name of the algorithm.
        table: a row an entrant, in the order in which they ran: `algorithm`, `epochs` trained, `accuracy` (validation,
            percent points, after the last of them; NaN without one), `outcome` (`won`, `finished`, `stopped` at a rung,
            `lost`) and `reason`, why it lost.
        curves: a row an epoch: `algorithm`, `epoch`, `accuracy`.
    """

    winner: str
    table: pd.DataFrame
    curves: pd.DataFrame


class Tournament:
    """Entrants run one after another, all from the same weights with the same pictures.

    After every epoch the validation accuracy of the network as it would be *if the algorithm finished now*, batch norms
    measured anew, is reported to an Optuna study. After first_rung * reduction^k epochs its SuccessiveHalvingPruner
    lets an entrant go on if it is among the best 1 / reduction of those that came so far (Li et al., 1810.05934, but
    nobody waits): the first one runs to the end, every later one has to earn each rung.

    Args:
        build: makes the candidate's network with the weights that all start from, and the entrant's algorithm for it.
            What it raises of pruning's errors makes the entrant lose.
        bracket: who takes part, and where they are compared.
        data: trained on its training split, compared on its validation split.
        recipe: of a short run.
        folder: keeps checkpoints and `study.db`, which is made anew from them: a tournament that was stopped anywhere
            goes on after the last whole epoch and ends as it would have without.
        teacher: distilled from.
        seed: of the pictures' order and augmentation.
    """

    def __init__(
        self,
        build: Callable[[Entrant], tuple[nn.Module, Algorithm]],
        bracket: Bracket,
        data: Dataset,
        recipe: Recipe,
        folder: Path,
        *,
        teacher: nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        self.build = build
        self.bracket = bracket
        self.data = data
        self.recipe = replace(recipe, epochs=bracket.epochs, warmup_epochs=min(recipe.warmup_epochs, bracket.epochs))
        self.folder = folder
        self.teacher = teacher
        self.seed = seed

    def run(self, on_epoch: Callable[[str, int, float], None] | None = None) -> TournamentResult:
        """Let all entrants run.

        Args:
            on_epoch: is given algorithm, epoch (from 1) and accuracy after every epoch that is trained.

        Raises:
            NoAlgorithmFits: every entrant lost; says why each did.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob("study.db*"):
            stale.unlink()
        storage = database(self.folder / "study.db")
        pruner = SuccessiveHalvingPruner(self.bracket.first_rung, self.bracket.reduction)
        study = optuna.create_study(storage=storage, study_name=STUDY_NAME, direction="maximize", pruner=pruner)
        try:
            for entrant in self.bracket.entrants:
                self._compete(study, entrant, on_epoch)
            return _result(study.get_trials(deepcopy=False))
        finally:
            storage.engine.dispose()

    def _compete(
        self, study: optuna.Study, entrant: Entrant, on_epoch: Callable[[str, int, float], None] | None
    ) -> None:
        trial = study.ask()
        trial.set_user_attr("algorithm", entrant.algorithm)
        folder = self.folder / entrant.algorithm

        def compare(epoch: int, accuracy: float) -> None:
            trial.report(accuracy, epoch)
            if epoch < self.recipe.epochs and trial.should_prune():
                raise optuna.TrialPruned

        def follow(_: Mapping[str, float]) -> None:
            epoch, accuracy = len(scored.accuracies), scored.accuracies[-1]
            if on_epoch is not None:
                on_epoch(entrant.algorithm, epoch, accuracy)
            compare(epoch, accuracy)

        try:
            for number, accuracy in enumerate(_known(folder), 1):
                compare(number, accuracy)
            (network, algorithm), spare = self.build(entrant), self.build(entrant)
            scored = _Scored(algorithm, lambda: self._accuracy_if_finished(network, algorithm, *spare))
            fit_pruned(
                network,
                self.data,
                self.recipe,
                scored,
                entrant.epochs,
                folder,
                teacher=self.teacher,
                seed=self.seed,
                on_epoch=follow,
            )
            study.tell(trial, scored.accuracies[-1])
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except LOST as error:
            trial.set_user_attr("reason", f"{type(error).__name__}: {error}")
            study.tell(trial, state=TrialState.FAIL)
            _logger.warning("%s is out of the tournament: %s", entrant.algorithm, error)

    def _accuracy_if_finished(
        self, network: nn.Module, algorithm: Algorithm, spare: nn.Module, spare_algorithm: Algorithm
    ) -> float:
        """Tried on the spare pair: the run itself goes on as if nothing had happened."""
        spare.load_state_dict(network.state_dict())
        spare_algorithm.load_state_dict(algorithm.state_dict())
        spare_algorithm.finish()
        recalibrate_as_trained(spare, self.data, self.recipe, seed=self.seed, most=RECALIBRATION_BATCHES)
        return evaluate(spare, self.data.validation).accuracy


class _Scored:
    """An algorithm with the accuracies of all epochs so far, which go where its state goes."""

    def __init__(self, algorithm: Algorithm, score: Callable[[], float]) -> None:
        self.algorithm = algorithm
        self.score = score
        self.accuracies: list[float] = []
        self.penalty = algorithm.penalty
        self.after_step = algorithm.after_step
        self.finish = algorithm.finish

    def after_epoch(self) -> dict[str, float]:
        report = self.algorithm.after_epoch()
        self.accuracies.append(self.score())
        return report

    def state_dict(self) -> dict[str, Any]:
        return {"accuracies": list(self.accuracies), "algorithm": self.algorithm.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.algorithm.load_state_dict(state["algorithm"])
        self.accuracies = list(state["accuracies"])


def _known(folder: Path) -> list[float]:
    """Accuracies of the epochs that an interrupted run has behind it."""
    for checkpoint in (folder / MASKED, folder / PRUNING):
        if checkpoint.exists():
            accuracies: list[float] = load_checkpoint(checkpoint)["algorithm"]["accuracies"]
            return accuracies
    return []


def _result(trials: Sequence[optuna.trial.FrozenTrial]) -> TournamentResult:
    finished = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    if not finished:
        reasons = "; ".join(f"{trial.user_attrs['algorithm']}: {trial.user_attrs['reason']}" for trial in trials)
        raise NoAlgorithmFits(f"no algorithm of the tournament could prune this candidate. {reasons}")
    best = max(finished, key=lambda trial: (trial.intermediate_values[trial.last_step or 0], -trial.number))
    outcomes = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped", TrialState.FAIL: "lost"}
    rows = [
        {
            "algorithm": trial.user_attrs["algorithm"],
            "epochs": trial.last_step or 0,
            "accuracy": trial.intermediate_values.get(trial.last_step or 0),
            "outcome": "won" if trial is best else outcomes[trial.state],
            "reason": trial.user_attrs.get("reason", ""),
        }
        for trial in trials
    ]
    curves = [
        {"algorithm": trial.user_attrs["algorithm"], "epoch": epoch, "accuracy": accuracy}
        for trial in trials
        for epoch, accuracy in trial.intermediate_values.items()
    ]
    table = pd.DataFrame(rows).astype({"accuracy": float})
    return TournamentResult(best.user_attrs["algorithm"], table, pd.DataFrame(curves))
