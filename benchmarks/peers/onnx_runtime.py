"""ONNX Runtime: all graph optimisations, bound inputs and outputs, computing on the calling thread."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnxruntime
from torch import Tensor, nn

from benchmarks.errors import PeerUnavailable
from benchmarks.peers.base import Peer, Session
from benchmarks.peers.onnx_file import write_onnx


class OnnxRuntime(Peer):
    name: ClassVar[str] = "onnxruntime"
    title: ClassVar[str] = "ONNX Runtime"

    def prepare(self, model: nn.Module, image: Tensor, folder: Path) -> Session:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        path = write_onnx(model, image, folder)
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            binding = session.io_binding()
            value = onnxruntime.OrtValue.ortvalue_from_numpy(image.numpy())
            binding.bind_ortvalue_input(session.get_inputs()[0].name, value)
            binding.bind_output(session.get_outputs()[0].name)
            session.run_with_iobinding(binding)
        except Exception as error:
            raise PeerUnavailable(f"ONNX Runtime does not run the network: {error}") from error

        def run() -> None:
            session.run_with_iobinding(binding)

        def output() -> npt.NDArray[np.float32]:
            run()
            return np.asarray(binding.copy_outputs_to_cpu()[0], np.float32)

        return Session(run, output)
