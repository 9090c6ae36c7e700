"""What can go wrong around the stages: run directories, stage records, the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

_PACKAGES = ("pruning", "training", "compiler", "latency_model", "supernet", "search", "scripts")


def is_named(error: BaseException) -> bool:
    """Whether `error` is one of ours: its class or a base of it stands in an `errors` module of one of our packages."""
    return any(
        kind.__module__.split(".")[0] in _PACKAGES and kind.__module__.endswith(".errors")
        for kind in type(error).__mro__
    )


class ScriptError(RuntimeError):
    """Base of the errors of the command line and of the stages' book-keeping."""


class UnknownStage(ScriptError):
    """A stage that npas does not have."""

    def __init__(self, found: str, allowed: tuple[str, ...]) -> None:
        super().__init__(
            f"There is no stage {found!r}. Stages: {', '.join(allowed)}. Next: npas --help says what each does."
        )


class UnknownOption(ScriptError):
    """An option, beside the overrides, that a command does not have."""

    def __init__(self, found: Sequence[str], command: str, allowed: Sequence[str]) -> None:
        super().__init__(
            f"npas {command} has no option {', '.join(found)}. Allowed: {', '.join(allowed)}. Next: npas search takes "
            "all options of Hydra, for one configuration."
        )


class InvalidOverride(ScriptError):
    """Something behind the command that is no value of a setting."""

    def __init__(self, found: str, allowed: str, command: str) -> None:
        super().__init__(f"{found}. Allowed: {allowed}. Next: npas {command} --help shows all settings.")


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

    def __init__(self, tried: int, budget_ms: float, margin: float, nearest_ms: float) -> None:
        super().__init__(
            f"None of {tried} candidates met {_allowed(budget_ms, 'winners.margin', margin)} when measured; the one "
            f"that came nearest took {nearest_ms:.3f} ms. Next: a larger budget, more search.trials, or more "
            "profile.kernels for a better predictor."
        )


class NothingEvaluated(ScriptError):
    """A search of which every evaluation failed."""

    def __init__(self, study_file: Path, failures: Sequence[str]) -> None:
        last = f"; the last one because {failures[-1]}" if failures else ""
        super().__init__(
            f"None of {len(failures)} evaluations in {study_file} succeeded{last}. Next: see to the reason, then "
            "another run_dir, or a larger search.trials to go on with this search."
        )


class InvalidSetting(ScriptError):
    """A value of the configuration outside of what is allowed."""

    def __init__(self, key: str, found: object, allowed: str, command: str = "search") -> None:
        super().__init__(f"{key}={found!r} is not allowed. Allowed: {allowed}. Next: npas {command} {key}=...")


class ModelNotFound(ScriptError):
    """The user's function, or the file that it should be in, is not there."""

    def __init__(self, reference: object, reason: str) -> None:
        super().__init__(
            f"model={reference} cannot be loaded: {reason}. Allowed: model=path.py:function, a function without "
            "arguments that returns an nn.Module. Next: the same command with model=path.py:function."
        )


class DatasetNotFound(ScriptError):
    """The user's function for the data is not there, or gives something else."""

    def __init__(self, reference: object, reason: str) -> None:
        super().__init__(
            f"dataset={reference} cannot be loaded: {reason}. Allowed: dataset=path.py:function, a function without "
            "arguments that returns a training.Dataset. Next: npas prune dataset=path.py:function."
        )


class NotAModule(ScriptError):
    """The user's function returned something that is no network."""

    def __init__(self, reference: str, found: type) -> None:
        super().__init__(
            f"model={reference} returned {found.__name__}, not an nn.Module. Next: let the function return the network."
        )


class NotRunnable(ScriptError):
    """The user's network cannot be run on the inputs that the configuration describes, or gives no tensors."""

    def __init__(self, network: str, shapes: Sequence[Sequence[int]], reason: str) -> None:
        described = " and ".join(str(list(shape)) for shape in shapes)
        super().__init__(
            f"{network} cannot be compiled for inputs {described}: {reason}. Next: input=[...] of the shape that the "
            "network is made for, or a module whose forward returns a tensor or a tuple of tensors."
        )


class CheckpointMismatch(ScriptError):
    """A checkpoint does not hold the state of the network that it is loaded into."""

    def __init__(self, path: Path, problems: str) -> None:
        super().__init__(
            f"{path} is not a checkpoint of this network: {problems}. Next: the checkpoint of this very network, or "
            "the function that builds the network of this checkpoint."
        )


class OtherSupernet(ScriptError):
    """A run's supernet has other weights than the one that its settings describe in this version of npas."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"{path} is not the supernet of these settings, or was trained by another version of npas: {problem}. "
            "Next: another run_dir; or remove the file, and the same command trains a new one."
        )


class ResultDiffers(ScriptError):
    """A compiled network computes something else than torch."""

    def __init__(self, found: float, allowed: float) -> None:
        super().__init__(
            f"The compiled network differs from torch by {found:.1e} of the largest output; at most {allowed:.0e} is "
            "accepted, and nothing was written. Next: report it, with dump=true's files; or look for a layer whose "
            "outputs cancel out."
        )


class PlanUnreadable(ScriptError):
    """The plan of a pruning is neither a sparsity nor a file nor a mapping of them."""

    def __init__(self, found: object, reason: str) -> None:
        super().__init__(
            f"plan={found} cannot be read: {reason}. Allowed: a sparsity such as block_punched(16x1)@5 for every "
            "layer, a YAML file, or a mapping, of module names or patterns to sparsities ({layer1.*: filter@2}). "
            "Next: npas prune plan=..."
        )


class BudgetMissed(ScriptError):
    """Plans that are predicted to meet the budget do not when they are measured."""

    def __init__(self, budget_ms: float, margin: float, nearest_ms: float, tried: int) -> None:
        super().__init__(
            f"None of {tried} plans met {_allowed(budget_ms, 'margin', margin)} when measured; the one that came "
            f"nearest took {nearest_ms:.3f} ms. Next: a larger budget, higher menu.rates, or more profile.kernels for "
            "a better predictor."
        )


class InvalidSweep(ScriptError):
    """Several runs that are not several."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"This is no sweep: {reason}. Allowed: different values with commas between them, for one setting or more. "
            "Next: npas sweep budget=50%,25% seed=0,1; for a single run, npas search."
        )


class SweepUnfinished(ScriptError):
    """Some runs of a sweep failed; the others are finished."""

    def __init__(self, failed: Mapping[str, str], runs: int) -> None:
        reasons = "; ".join(f"{name} ({error})" for name, error in failed.items())
        super().__init__(
            f"{len(failed)} of {runs} runs failed: {reasons}. Next: the panel of each, above, says what to do; the "
            "same command runs them again and skips those that are finished."
        )


class NotComparable(ScriptError):
    """A run whose search cannot be shown beside that of another one."""

    def __init__(self, run_dir: Path, reason: str) -> None:
        super().__init__(
            f"compare: {run_dir} cannot be compared with this run: {reason}. Allowed: folders of other runs whose "
            "search is finished, with the same data, space, device, budget and evaluation of candidates; sampler, seed "
            "and trials may differ. Next: npas search search=random run_dir=runs/random, then compare=[runs/random]."
        )


def _allowed(budget_ms: float, key: str, margin: float) -> str:
    """What a network may take when it is measured."""
    return f"{budget_ms * (1 - margin):.3f} ms (the budget of {budget_ms:.3f} ms less {key}={margin:g})"
