"""OpenVINO: latency mode, fp32 arithmetic, one thread."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from benchmarks.errors import PeerUnavailable
from benchmarks.peers.base import Peer, Session
from benchmarks.peers.onnx_file import write_onnx

SETTINGS = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",
    "INFERENCE_NUM_THREADS": "1",
    "NUM_STREAMS": "1",
    "ENABLE_CPU_PINNING": "NO",
}


class OpenVino(Peer):
    name: ClassVar[str] = "openvino"
    title: ClassVar[str] = "OpenVINO"

    def prepare(self, model: nn.Module, image: Tensor, folder: Path) -> Session:
        try:
            import openvino
        except ImportError as error:
            raise PeerUnavailable(f"openvino is not installed: {error}") from error
        path = write_onnx(model, image, folder)
        try:
            request = openvino.Core().compile_model(str(path), "CPU", SETTINGS).create_infer_request()
            request.set_input_tensor(openvino.Tensor(image.numpy()))
            request.infer()
        except RuntimeError as error:
            raise PeerUnavailable(f"OpenVINO does not run the network: {error}") from error

        def run() -> None:
            request.start_async()
            request.wait()

        def output() -> npt.NDArray[np.float32]:
            run()
            return np.array(request.get_output_tensor().data, np.float32)

        return Session(run, output)
