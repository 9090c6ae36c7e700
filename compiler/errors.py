"""Everything the compiler refuses, by name."""

from __future__ import annotations


class CompilerError(RuntimeError):
    """Base of all errors raised by the compiler."""


class UnsupportedOperator(CompilerError):
    """The network holds an operator, or a form of one, for which no kernel exists."""


class MixedSamples(CompilerError):
    """The result of one sample depends on the others of its batch, so that samples cannot be run one by one."""


class CaptureFailed(CompilerError):
    """`torch.export` could not trace the network."""


class InvalidWeights(CompilerError):
    """A weight is not finite."""


class InputMismatch(CompilerError):
    """A compiled network was called with inputs of another number, shape or type."""


class UnknownTarget(CompilerError):
    """No compilation target of that name exists."""


class CannotRunHere(CompilerError):
    """A network compiled for another processor or system was to run in this process."""


class UnsupportedThreads(CompilerError):
    """A number of threads was asked for that generated code cannot use."""


class ThreadsUnavailable(CompilerError):
    """The system refused to start the threads of a compiled network."""


class CompilerMissing(CompilerError):
    """No C compiler could be found."""


class CompilationFailed(CompilerError):
    """The C compiler refused the generated code."""


class CacheUnwritable(CompilerError):
    """The directory of compiled kernels cannot be written."""


class ArtifactCorrupt(CompilerError):
    """A saved network is incomplete or was altered."""


class DirectoryUnwritable(CompilerError):
    """A compiled network could not be written."""


class ExportFailed(CompilerError):
    """A network could not be written as ONNX, or the written file computes something else."""
