"""What can go wrong around the stages: run directories, stage records, the command line."""

from __future__ import annotations

from pathlib import Path


class ScriptError(RuntimeError):
    """Base of the errors of the command line and of the stages' book-keeping."""


class UnknownStage(ScriptError):
    """A stage that npas does not have."""

    def __init__(self, found: str, allowed: tuple[str, ...]) -> None:
        super().__init__(
            f"There is no stage {found!r}. Stages: {', '.join(allowed)}. Next: npas --help says what each does."
        )


class RecordCorrupt(ScriptError):
    """A JSON file that a stage wrote and that does not hold what it should."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} is not what npas wrote: {reason}. Next: move it away; its stage then runs again.")


class RunDirectoryBusy(ScriptError):
    """Another npas process works in the same run directory."""

    def __init__(self, run_dir: Path, holder: str) -> None:
        super().__init__(
            f"{run_dir} is in use by process {holder or 'unknown'}. Next: wait for it, or give this "
            "run another directory: run_dir=runs/another."
        )


class NoWinner(ScriptError):
    """No candidate of the search is within the budget when it is measured."""

    def __init__(self, tried: int, budget_ms: float, fastest_ms: float) -> None:
        super().__init__(
            f"None of {tried} candidates met {budget_ms:.3f} ms when measured; the fastest took {fastest_ms:.3f} ms. "
            "Next: a larger budget, more search.trials, or more profile.kernels for a better predictor."
        )


class InvalidSetting(ScriptError):
    """A value of the configuration outside of what is allowed."""

    def __init__(self, key: str, found: object, allowed: str) -> None:
        super().__init__(f"{key}={found!r} is not allowed. Allowed: {allowed}. Next: npas search {key}=...")
