"""Everything the search refuses, by name."""

from __future__ import annotations


class SearchError(RuntimeError):
    """Base of all errors raised by the search."""


class BudgetError(SearchError, ValueError):
    """A latency budget is not a positive number of milliseconds or a percentage."""


class InfeasibleBudget(SearchError):
    """No candidate of the space is predicted to meet the budget."""


class InvalidLatency(SearchError):
    """The latency function returned something that is not a positive number of milliseconds."""


class FeasibleSetExhausted(SearchError):
    """Every candidate under the budget has been proposed already."""


class UnknownSampler(SearchError, ValueError):
    """No sampler of that name exists."""


class UnknownSamplerOption(SearchError, ValueError):
    """A sampler has no option of that name."""


class UnsupportedStudy(SearchError):
    """A sampler was given a study with several objectives."""


class StudyMismatch(SearchError):
    """A study on disk belongs to another search."""


class DistortionsCorrupt(SearchError):
    """A file with distortions cannot be used."""


class CalibrationCorrupt(SearchError):
    """A file with the factor of a predictor that is damaged."""


class PredictorOff(SearchError):
    """A latency predictor that is wrong by more than can be corrected."""

    def __init__(self, factor: float, networks: int) -> None:
        super().__init__(
            f"{networks} candidates take {factor:.2g} times what the latency predictor says at most: it is of another "
            "device, or the machine is not what it was when kernels were timed. Profile again, into another run_dir"
        )
        self.factor = factor


class StudyCorrupt(SearchError):
    """A study file cannot be read."""


class StudyElsewhere(SearchError):
    """A run directory has trials that the storage which is asked for does not have."""


class StudyBusy(SearchError):
    """Another live process is working on the same study file."""


class EvaluationFailed(SearchError):
    """One candidate could not be evaluated; the search records that and goes on."""


class SearchFailed(SearchError):
    """So many evaluations failed in a row that going on makes no sense."""


class NothingFound(SearchError):
    """A search has no finished trial, so that it has no best candidate."""


class InvalidTournament(SearchError, ValueError):
    """A tournament of pruning algorithms that cannot be held as it is described."""


class NoAlgorithmFits(SearchError):
    """Every pruning algorithm of a tournament lost; the message says why each did."""


class ClusterError(SearchError):
    """Base of what goes wrong with a cluster of machines."""


class InvalidCluster(ClusterError, ValueError):
    """A cluster is not described as one of the known kinds."""


class RayNotInstalled(ClusterError):
    """The cluster is one of Ray, which is not installed."""


class ClusterNotFound(ClusterError):
    """There is no cluster at the address."""


class ClusterRefused(ClusterError):
    """The cluster asks for a token that this process does not have."""


class HeadLost(ClusterError):
    """The head of the cluster is gone and does not come back."""


class ClusterMismatch(ClusterError):
    """A node has other versions than the process that searches."""


class ClusterLost(ClusterError):
    """No worker of the cluster is left, and none comes back."""


class TooManyWorkers(ClusterError, ValueError):
    """More evaluations at the same time than there are to be in all."""


class DeviceNodeMissing(ClusterError):
    """No node of the cluster owns the device that latencies are measured on."""


class StorageUnreachable(SearchError):
    """The database that a study lies in cannot be reached, or has been away for too long."""
