"""Everything that can go wrong in this package, by name."""

from collections.abc import Iterable, Sequence
from pathlib import Path


class TrainingError(Exception):
    """Base of every error this package raises on purpose."""


class InvalidSplit(TrainingError, ValueError):
    """Pictures and labels that do not form a data split."""


class UnknownDataset(TrainingError, ValueError):
    """A dataset name that nothing is registered under."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no dataset is called {name!r}; known: {', '.join(sorted(known))}")


class DataNotFound(TrainingError, FileNotFoundError):
    """A dataset's files are neither on disk nor to be had from the network."""

    def __init__(self, dataset: str, looked_for: Sequence[Path], url: str, reason: str) -> None:
        places = "\n  ".join(str(path) for path in looked_for)
        super().__init__(
            f"{dataset} is not here, and {url} could not be downloaded ({reason}).\nLooked for:\n  {places}\n"
            f"Fetch the file on a machine that has a network and put it at one of these places."
        )
        self.looked_for = tuple(looked_for)


class DataCorrupt(TrainingError, ValueError):
    """A data file that is there but is not what its format or its checksum says."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}. Put a good copy there, or delete what is there and load the dataset again."
        )
        self.path = path


class UnknownAugmentation(TrainingError, ValueError):
    """An augmentation name that nothing is registered under."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no augmentation is called {name!r}; known: {', '.join(sorted(known))}")


class InvalidBatches(TrainingError, ValueError):
    """A way of cutting a split into batches that cannot be followed."""


class DataMismatch(TrainingError, ValueError):
    """A network and a dataset that do not belong together."""


class NothingToTrain(TrainingError, ValueError):
    """No parameter of the network asks for a gradient."""


class RecalibrationFailed(TrainingError, ValueError):
    """Batch norm statistics could not be measured; the model still has its old ones."""


class InvalidRecipe(TrainingError, ValueError):
    """A training recipe with a value outside its range, or unfit for the data."""


class TrainingDiverged(TrainingError, ArithmeticError):
    """The loss stopped being a finite number; the model is back to where training started."""


class CheckpointNotFound(TrainingError, FileNotFoundError):
    """There is no checkpoint at the path given."""


class CheckpointCorrupt(TrainingError, ValueError):
    """A checkpoint file that is truncated, damaged, or something else."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is not a complete checkpoint: {reason}. Delete it to start from the beginning.")
        self.path = path


class CheckpointMismatch(TrainingError, ValueError):
    """A sound checkpoint, but of another training."""

    def __init__(self, path: Path, what: str, found: object, expected: object) -> None:
        super().__init__(
            f"{path} belongs to another training: its {what} is {found}, here it is {expected}. "
            "Use the same settings to resume; to start anew, move it away or use another path."
        )


class NotStorable(TrainingError, TypeError):
    """A value that a checkpoint cannot hold."""
