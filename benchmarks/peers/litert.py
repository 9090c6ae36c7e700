"""LiteRT with its XNNPACK delegate, one thread; images are handed over with channels last, as it wants them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from benchmarks.errors import PeerUnavailable
from benchmarks.peers.base import Peer, Session, silent


class LiteRT(Peer):
    name: ClassVar[str] = "litert_xnnpack"
    title: ClassVar[str] = "LiteRT (XNNPACK)"

    def prepare(self, model: nn.Module, image: Tensor, folder: Path) -> Session:
        try:
            from ai_edge_litert.interpreter import Interpreter

            from benchmarks.peers.tflite_file import tflite_bytes
        except ImportError as error:
            raise PeerUnavailable(f"ai-edge-litert is not installed: {error}") from error
        content = tflite_bytes(model, image)
        try:
            with silent():
                interpreter = Interpreter(model_content=content, num_threads=1)
                interpreter.allocate_tensors()
                source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
                interpreter.set_tensor(source["index"], np.ascontiguousarray(image.permute(0, 2, 3, 1).numpy()))
                interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise PeerUnavailable(f"LiteRT does not run the network: {error}") from error
        if not any(step["op_name"] == "DELEGATE" for step in interpreter._get_ops_details()):
            raise PeerUnavailable("LiteRT did not hand the network to XNNPACK")

        def output() -> npt.NDArray[np.float32]:
            interpreter.invoke()
            result = np.array(interpreter.get_tensor(sink["index"]), np.float32)
            return result.transpose(0, 3, 1, 2) if result.ndim == 4 else result

        return Session(interpreter.invoke, output)
