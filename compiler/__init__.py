"""The compiler: from a pruned network to native code specialised to its sparsity.

Names are imported on first use, so that `load_compiled` works in a process without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler.compile import SELF_CONTAINED, compile_graph, compile_model, compile_specs
    from compiler.compiled import CompiledModel, load_compiled
    from compiler.errors import CompilerError
    from compiler.kernels import Schedule
    from compiler.lowering import Lowering
    from compiler.onnx_export import OnnxReport, export_onnx
    from compiler.ordering import Call, sequence
    from compiler.plan import graph_calls
    from compiler.runtime import Timing, pinned
    from compiler.select import schedule
    from compiler.spec import KernelSpec
    from compiler.structure import structure_of
    from compiler.target import Target, find_target, local_target
    from compiler.toolchain import compiler_version, find_compiler

_HOMES = {
    "compile": ("SELF_CONTAINED", "compile_graph", "compile_model", "compile_specs"),
    "compiled": ("CompiledModel", "load_compiled"),
    "errors": ("CompilerError",),
    "kernels": ("Schedule",),
    "lowering": ("Lowering",),
    "onnx_export": ("OnnxReport", "export_onnx"),
    "runtime": ("Timing", "pinned"),
    "select": ("schedule",),
    "ordering": ("Call", "sequence"),
    "plan": ("graph_calls",),
    "spec": ("KernelSpec",),
    "structure": ("structure_of",),
    "target": ("Target", "find_target", "local_target"),
    "toolchain": ("compiler_version", "find_compiler"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "SELF_CONTAINED",
    "Call",
    "CompiledModel",
    "CompilerError",
    "KernelSpec",
    "Lowering",
    "OnnxReport",
    "Schedule",
    "Target",
    "Timing",
    "compile_graph",
    "compile_model",
    "compile_specs",
    "compiler_version",
    "export_onnx",
    "find_compiler",
    "find_target",
    "graph_calls",
    "load_compiled",
    "local_target",
    "pinned",
    "schedule",
    "sequence",
    "structure_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
