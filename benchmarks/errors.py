"""What the benchmarks refuse, by name."""

from __future__ import annotations


class BenchmarkError(RuntimeError):
    """Base of all errors raised by the benchmarks."""


class UnknownName(BenchmarkError):
    """No network, layer, peer or scheme of that name exists."""


class PeerUnavailable(BenchmarkError):
    """A runtime is not installed, or cannot run the network; the message says which and why."""


class WrongResult(BenchmarkError):
    """A runtime computes something else than torch, so that its time says nothing."""


class ResultsMissing(BenchmarkError):
    """A table that is to be shown was not measured yet."""


class PretrainedUnusable(BenchmarkError):
    """A file of published weights is missing, damaged, or of another network."""


class AnotherRun(BenchmarkError):
    """A trained network on disk is of other settings than those of this run."""


class NoSupernet(BenchmarkError):
    """A run has no trained supernet: it is not finished, or its space is a network of the user's own."""
