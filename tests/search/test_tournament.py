"""Short runs of pruning algorithms: who goes on, who wins, what it costs, and that a stop changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from pruning import Algorithm, Sparsity, make_algorithm
from search import Bracket, Entrant, Tournament, TournamentResult, fit_pruned
from search.errors import InvalidTournament, NoAlgorithmFits
from search.tournament import RECALIBRATION_BATCHES
from training import Dataset, Recipe, Split, evaluate, load_dataset

EXAMPLE = torch.zeros(1, 1, 16, 16)
PLAN = {"3": Sparsity("block_punched(8x1)", 4), "8": Sparsity("unstructured", 4)}
RECIPE = Recipe(epochs=99, batch_size=32, lr=0.02, augment="shift")
ENTRANTS = (
    Entrant("magnitude"),
    Entrant("gradual", epochs=2, options={"begin": 0, "epochs": 2}),
    Entrant("admm", epochs=2, options={"rho": [0.1], "epochs": 2, "period": 1}),
    Entrant("lookahead"),
    Entrant("smart", epochs=1, options={"epochs": 1}),
)
BRACKET = Bracket(ENTRANTS, epochs=4)
Build = Callable[[Entrant], tuple[nn.Module, Algorithm]]


@pytest.fixture(scope="module")
def data() -> Dataset:
    """An eighth of the digits at half the size."""
    digits = load_dataset("digits")

    def part(split: Split) -> Split:
        return Split(split.images[::8, :, ::2, ::2].contiguous(), split.labels[::8])

    return Dataset("few digits", part(digits.train), part(digits.validation), part(digits.test), digits.classes)


def network() -> nn.Sequential:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        )


def build(entrant: Entrant) -> tuple[nn.Module, Algorithm]:
    model = network()
    return model, make_algorithm(entrant.algorithm, model, PLAN, EXAMPLE, **entrant.options)


class Scripted(Tournament):
    """The accuracies are given; everything else is real."""

    script: Mapping[str, list[float]]

    def _accuracy_if_finished(self, model: nn.Module, algorithm: Algorithm, *spare: Any) -> float:
        self.count = getattr(self, "count", {})
        epoch = self.count[algorithm.name] = self.count.get(algorithm.name, 0) + 1
        return self.script[algorithm.name][epoch - 1]


def scripted(script: Mapping[str, list[float]], data: Dataset, folder: Path, **changes: Any) -> TournamentResult:
    few = Dataset("few", Split(data.train.images[:32], data.train.labels[:32]), data.validation, data.test, 10)
    tournament = Scripted(build, replace(BRACKET, **changes), few, RECIPE, folder)
    tournament.script = script
    return tournament.run()


def outcomes(result: TournamentResult) -> list[tuple[str, int, str]]:
    return list(result.table[["algorithm", "epochs", "outcome"]].itertuples(index=False, name=None))


def test_halving_stops_the_weaker_and_counts_epochs_exactly(data: Dataset, tmp_path: Path) -> None:
    result = scripted(
        {
            "magnitude": [50, 60, 70, 80],  # the first runs to the end
            "gradual": [40],  # of two, the best one goes on
            "admm": [55, 58],  # best at the first rung, not at the second
            "lookahead": [52, 61, 62, 90],  # of four, the best two go on; best of three at the second rung
            "smart": [45],
        },
        data,
        tmp_path,
    )
    assert result.winner == "lookahead"
    assert outcomes(result) == [
        ("magnitude", 4, "finished"),
        ("gradual", 1, "stopped"),
        ("admm", 2, "stopped"),
        ("lookahead", 4, "won"),
        ("smart", 1, "stopped"),
    ]
    assert len(result.curves) == 12
    assert result.curves.query("algorithm == 'lookahead'")["accuracy"].tolist() == [52, 61, 62, 90]
    assert result.table["accuracy"].tolist() == [80, 40, 58, 90, 45]


def test_rungs_lie_where_the_bracket_says(data: Dataset, tmp_path: Path) -> None:
    script = {"magnitude": [9.0] * 6, "lookahead": [8, 8, 8, 8, 8, 8], "admm": [9, 9, 9, 9, 9, 8]}
    entrants = tuple(entrant for name in script for entrant in ENTRANTS if entrant.algorithm == name)
    result = scripted(script, data, tmp_path, entrants=entrants, epochs=6, first_rung=2, reduction=3)
    assert outcomes(result) == [("magnitude", 6, "won"), ("lookahead", 2, "stopped"), ("admm", 6, "finished")]


def test_a_good_last_epoch_does_not_help_who_was_stopped_and_ties_go_to_the_first(
    data: Dataset, tmp_path: Path
) -> None:
    script = {"magnitude": [50, 50, 50, 70], "lookahead": [60, 60, 60, 70], "admm": [10]}
    entrants = tuple(entrant for name in script for entrant in ENTRANTS if entrant.algorithm == name)
    assert scripted(script, data, tmp_path, entrants=entrants).winner == "magnitude"


def test_the_accuracy_is_that_of_the_network_finished_now(data: Dataset, tmp_path: Path) -> None:
    """A run of one epoch, finished by hand, scores what the tournament wrote after its first epoch."""
    entrant = Entrant("admm", epochs=1, options={"rho": [0.1], "epochs": 1, "period": 1})
    result = Tournament(build, Bracket((entrant,), epochs=1), data, RECIPE, tmp_path / "tournament").run()
    model, algorithm = build(entrant)
    recipe = replace(RECIPE, epochs=1, warmup_epochs=0.5)
    fit_pruned(model, data, recipe, algorithm, 1, tmp_path / "alone")
    for name, mask in algorithm.masks.items():
        assert int(mask.sum()) * 4 == mask.numel()
        assert not bool(model.get_submodule(name).weight[~mask].any())
    recalibrated(model, data)
    assert result.table["accuracy"].tolist() == [evaluate(model, data.validation).accuracy]


def recalibrated(model: nn.Module, data: Dataset) -> None:
    from itertools import islice

    from training import batches, recalibrate_batch_norm

    passes = batches(data.train, RECIPE.batch_size, generator=torch.Generator().manual_seed(0), augment="shift")
    recalibrate_batch_norm(model, (images for images, _ in islice(passes, RECALIBRATION_BATCHES)))


class Stopped(RuntimeError):
    """Stands for a kill."""


def held(data: Dataset, folder: Path, stop_after: int | None = None) -> tuple[TournamentResult, int]:
    """Result, and the epochs that were trained; with `stop_after` it raises `Stopped` instead of another one."""
    trained = 0

    def follow(name: str, epoch: int, accuracy: float) -> None:
        nonlocal trained
        trained += 1
        if trained == stop_after:
            raise Stopped

    result = Tournament(build, BRACKET, data, RECIPE, folder, teacher=network(), seed=1).run(follow)
    return result, trained


def test_a_stop_anywhere_changes_nothing(data: Dataset, tmp_path: Path) -> None:
    whole, epochs = held(data, tmp_path / "whole")
    assert whole.table["epochs"].sum() == epochs
    finished = whole.table[whole.table["outcome"].isin(["won", "finished"])]
    best = finished["accuracy"].max()
    assert whole.winner == finished.loc[finished["accuracy"] == best, "algorithm"].iloc[0]
    assert (finished["epochs"] == BRACKET.epochs).all()
    for stop_after in (1, 3, epochs - 1):
        folder = tmp_path / str(stop_after)
        with pytest.raises(Stopped):
            held(data, folder, stop_after)
        again, rest = held(data, folder)
        assert rest == epochs - stop_after
        assert again.winner == whole.winner
        pd.testing.assert_frame_equal(again.table, whole.table)
        pd.testing.assert_frame_equal(again.curves, whole.curves)


def test_scoring_leaves_the_run_as_it_was(data: Dataset, tmp_path: Path) -> None:
    entrant = ENTRANTS[-1]
    Tournament(build, Bracket((entrant,), epochs=2), data, RECIPE, tmp_path / "tournament").run()
    model, algorithm = build(entrant)
    fit_pruned(model, data, replace(RECIPE, epochs=2), algorithm, entrant.epochs, tmp_path / "alone")
    from training import load_checkpoint

    path = Path("masked.safetensors")
    there = load_checkpoint(tmp_path / "tournament" / entrant.algorithm / path)["model"]
    for name, tensor in load_checkpoint(tmp_path / "alone" / path)["model"].items():
        assert torch.equal(there[name], tensor), name


class Diverging(Algorithm):
    """Its penalty is not a number in the second epoch."""

    name = "admm"

    def penalty(self) -> Tensor:
        return torch.full((), torch.nan if self.epoch else 0.0)

    def after_epoch(self) -> dict[str, float]:
        self.epoch = 1
        return {}

    epoch = 0


def test_who_diverges_or_does_not_fit_is_out_by_name_and_stops_nobody(
    data: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def faulty(entrant: Entrant) -> tuple[nn.Module, Algorithm]:
        if entrant.algorithm != "admm":
            return build(entrant)
        model = network()
        return model, Diverging(make_algorithm("magnitude", model, PLAN, EXAMPLE).assignment)

    entrants = (
        Entrant("admm", epochs=3),
        Entrant("gradual", epochs=1, options={"begin": -1}),
        Entrant("magnitude"),
    )
    result = Tournament(faulty, Bracket(entrants, epochs=3), data, RECIPE, tmp_path).run()
    assert result.winner == "magnitude"
    assert outcomes(result) == [("admm", 1, "lost"), ("gradual", 0, "lost"), ("magnitude", 3, "won")]
    reasons = result.table.set_index("algorithm")["reason"]
    assert "TrainingDiverged" in reasons["admm"]
    assert "InvalidOption: begin -1" in reasons["gradual"]
    assert "admm is out of the tournament" in caplog.text


def test_when_none_fits_all_reasons_are_told(data: Dataset, tmp_path: Path) -> None:
    entrants = (Entrant("gradual", options={"begin": -1}), Entrant("smart", options={"unheard": 1}))
    with pytest.raises(NoAlgorithmFits, match=r"gradual: InvalidOption: begin -1.*smart: .*unheard"):
        Tournament(build, Bracket(entrants, epochs=2), data, RECIPE, tmp_path).run()


def test_a_fault_of_ours_is_nobodys_loss(data: Dataset, tmp_path: Path) -> None:
    def broken(entrant: Entrant) -> tuple[nn.Module, Algorithm]:
        raise KeyError(entrant.algorithm)

    with pytest.raises(KeyError, match="magnitude"):
        Tournament(broken, BRACKET, data, RECIPE, tmp_path).run()


def test_the_study_is_an_ordinary_one(data: Dataset, tmp_path: Path) -> None:
    scripted({name: [1.0] * 4 for name in ("magnitude", "lookahead")}, data, tmp_path, entrants=ENTRANTS[::3])
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [trial.user_attrs["algorithm"] for trial in study.trials] == ["magnitude", "lookahead"]
    assert study.trials[0].intermediate_values == dict.fromkeys(range(1, 5), 1.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"entrants": ()}, "entrants are none"),
        ({"entrants": (Entrant("magnitude"), Entrant("magnitude"))}, "none twice"),
        ({"entrants": (Entrant("majesty"),)}, "majesty.*magnitude"),
        ({"first_rung": 0}, "first_rung is 0"),
        ({"first_rung": 5}, "within the 4 epochs"),
        ({"reduction": 1}, "reduction 1"),
        ({"entrants": (Entrant("admm", epochs=5),)}, "admm has 5 pruning epochs"),
    ],
)
def test_impossible_brackets_are_refused(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidTournament, match=named):
        replace(BRACKET, **changes)
