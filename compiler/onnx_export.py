"""`export_onnx`: one file, any batch size, checked in ONNX Runtime before anyone sees it."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import onnxscript.optimizer
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from compiler.errors import ExportFailed, InputMismatch
from compiler.structure import exact_structure

TOLERANCE = 1e-4
CHECKED_BATCHES = (1, 3)


@dataclass(frozen=True)
class OnnxReport:
    """What was written.

    Attributes:
        path: the file; there is no second one beside it.
        bytes: its size.
        parameters: numbers stored in it.
        opset: version of the ONNX operators used.
        batch_sizes: batch sizes at which it was compared with torch.
        max_error: largest difference from torch met there, relative to the largest output.
    """

    path: Path
    bytes: int
    parameters: int
    opset: int
    batch_sizes: tuple[int, ...]
    max_error: float


def export_onnx(
    model: nn.Module, example_inputs: Tensor | Sequence[Tensor], path: str | os.PathLike[str]
) -> OnnxReport:
    """Write `model` in evaluation mode as a single ONNX file with a dynamic batch dimension.

    Batch norm, masks and constants are folded, and nothing of the exporting machine (stack traces, paths) stays in the
    file. For every layer whose weight has zeros in a known structure, its `metadata_props` have an entry
    `npas.sparsity.<layer>`, as JSON: {"scheme": "block_punched(16x1)", "rate": 5.0}.
    It is moved to `path` only after ONNX Runtime has computed the same as torch at two batch sizes, so a failed export
    leaves an earlier file there as it was. The model is exported from a copy and not touched.

    Args:
        model: any module that `torch.export` can trace; its outputs are a tensor, or tensors in sequences and
            dictionaries, which become outputs in their order.
        example_inputs: one tensor [N, ...] or one for each argument of `forward`, batch first.
        path: file to write; missing folders are made.

    Raises:
        InputMismatch: if the inputs are not tensors of one batch size.
        ExportFailed: if the model cannot be traced with a dynamic batch, or ONNX Runtime refuses the file or computes
            something else.
    """
    path = Path(path)
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
    _require_batch(inputs)
    if path.is_dir():
        raise ExportFailed(f"{path} is a folder; give the name of the file to write, e.g. {path / 'model.onnx'}")
    model = copy.deepcopy(model).cpu().eval()
    inputs = tuple(tensor.detach().cpu() for tensor in inputs)

    expected = {size: _run(model, _resized(inputs, size)) for size in CHECKED_BATCHES}
    proto = _trace(model, inputs)
    onnx.helper.set_model_props(proto, _sparsities(model))
    path.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished(path) as unfinished:
        onnx.save(proto, unfinished)
        max_error = _check(unfinished, inputs, expected)
        os.replace(unfinished, path)
    return OnnxReport(
        path=path,
        bytes=path.stat().st_size,
        parameters=sum(int(np.prod(tensor.dims)) for tensor in proto.graph.initializer),
        opset=next(entry.version for entry in proto.opset_import if not entry.domain),
        batch_sizes=CHECKED_BATCHES,
        max_error=max_error,
    )


def _require_batch(inputs: tuple[Any, ...]) -> None:
    if not inputs or not all(isinstance(tensor, Tensor) and tensor.ndim > 0 for tensor in inputs):
        raise InputMismatch("export_onnx needs one tensor, or a sequence of tensors, with the batch as first dimension")
    if len({tensor.shape[0] for tensor in inputs}) > 1 or inputs[0].shape[0] == 0:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise InputMismatch(f"the inputs must share one batch size of at least 1 as first dimension; got {shapes}")


def _trace(model: nn.Module, inputs: tuple[Tensor, ...]) -> onnx.ModelProto:
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                model,
                _resized(inputs, 2),  # torch.export would take a batch of 1 for a constant
                dynamo=True,
                external_data=False,
                dynamic_shapes=_dynamic_shapes(model, len(inputs)),
                input_names=_argument_names(model, len(inputs)),
                optimize=True,
                verbose=False,
            )
    except Exception as error:
        reason = str(error.__cause__ or error).strip().splitlines()
        raise ExportFailed(
            f"{type(model).__name__} could not be traced with a dynamic batch: {reason[0] if reason else error!r}. "
            "Look for shapes or branches in forward() that depend on the batch size or on values."
        ) from error
    assert program is not None
    # Masks on weights, which the exporter leaves as operators, become zeros in them; no constant grows by that.
    largest = max((tensor.numel() for tensor in model.state_dict().values()), default=0)
    with _quiet():
        onnxscript.optimizer.optimize(program.model, input_size_limit=largest, output_size_limit=largest)
    proto: onnx.ModelProto = program.model_proto
    fixed = [entry.name for entry in proto.graph.input if not entry.type.tensor_type.shape.dim[0].dim_param]
    if fixed:
        raise ExportFailed(
            f"the batch size of input {fixed[0]!r} became a constant while {type(model).__name__} was traced. "
            "Look for shapes or branches in forward() that depend on the batch size."
        )
    _strip_metadata(proto)
    return proto


def _dynamic_shapes(model: nn.Module, count: int) -> tuple[Any, ...]:
    """The batch is the first axis of every input; those that `forward` takes as `*inputs` are a tuple of their own."""
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in range(count))
    kinds = [one.kind for one in inspect.signature(model.forward).parameters.values()]
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL) if inspect.Parameter.VAR_POSITIONAL in kinds else count
    return shapes if named >= count else (*shapes[:named], shapes[named:])


def _argument_names(model: nn.Module, count: int) -> list[str] | None:
    parameters = list(inspect.signature(model.forward).parameters.values())[:count]
    named = all(one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters) and len(parameters) == count
    return [one.name for one in parameters] if named else None


def _strip_metadata(proto: onnx.ModelProto) -> None:
    del proto.metadata_props[:]
    graph = proto.graph
    del graph.metadata_props[:]
    for item in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]


def _sparsities(model: nn.Module) -> dict[str, str]:
    """The structure of the zeros in each layer's weight, as metadata of the file."""
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
            weight = module.weight.detach().float().numpy()
            sparsity = exact_structure(weight.reshape(*weight.shape[:2], 1, -1) if weight.ndim < 4 else weight)
            if sparsity.rate > 1:
                described = {"scheme": str(sparsity.scheme), "rate": sparsity.rate}
                found[f"npas.sparsity.{name}"] = json.dumps(described)
    return found


def _resized(inputs: tuple[Tensor, ...], size: int) -> tuple[Tensor, ...]:
    """The inputs at another batch size: images repeated, and scaled so that no two are equal."""
    index = torch.arange(size)
    return tuple(
        tensor[index % tensor.shape[0]] * (0.9**index).to(tensor.dtype).view(-1, *[1] * (tensor.ndim - 1))
        if tensor.is_floating_point()
        else tensor[index % tensor.shape[0]]
        for tensor in inputs
    )


def _run(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    try:
        with torch.no_grad():
            outputs = model(*inputs)
    except Exception as error:
        raise ExportFailed(
            f"{type(model).__name__} itself does not run at batch size {inputs[0].shape[0]}: {error}"
        ) from error
    found = tuple(value for value in tree_leaves(outputs) if isinstance(value, Tensor))
    if not found:
        raise ExportFailed(f"{type(model).__name__} returns {type(outputs).__name__}, in which there are no tensors")
    return found


def _check(file: Path, inputs: tuple[Tensor, ...], expected: dict[int, tuple[Tensor, ...]]) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    errors = []
    try:
        onnx.checker.check_model(str(file), full_check=True)
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        names = [entry.name for entry in session.get_inputs()]
        for size, outputs in expected.items():
            batch = dict(zip(names, (tensor.numpy() for tensor in _resized(inputs, size)), strict=True))
            found = session.run(None, batch)
            errors += [_relative(a, b.numpy()) for a, b in zip(found, outputs, strict=True)]
    except Exception as error:
        raise ExportFailed(f"ONNX Runtime does not run the exported network: {error}") from error
    worst = max(errors)
    if worst > TOLERANCE:
        far = f"by {worst:.1e} of its largest output" if math.isfinite(worst) else "in what is infinite or not a number"
        raise ExportFailed(
            f"the exported network differs from torch {far} in ONNX Runtime at batch sizes {CHECKED_BATCHES}; at most "
            f"{TOLERANCE:.0e} is accepted and nothing was written"
        )
    return worst


def _relative(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """The largest difference, relative to the largest finite number expected; infinite if only one is no finite number.

    NaN is as good as NaN, and an infinity as itself.
    """
    if found.shape != expected.shape:
        raise ValueError(f"output has shape {found.shape} where torch gives {expected.shape}")
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    unlike = (found != expected) & ~(np.isnan(found) & np.isnan(expected))
    if not np.isfinite([found[unlike], expected[unlike]]).all():
        return math.inf
    scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
    difference = float(np.abs(found[unlike] - expected[unlike]).max(initial=0.0))
    return difference / scale if scale else difference


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that it does without, and on constants that it does not fold."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _unfinished(path: Path) -> Iterator[Path]:
    """A temporary file in the folder of `path`, removed if it is still there at the end."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".onnx", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
