"""PyTorch as it is: inference mode, batch norms not folded."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.peers.base import Peer, Session


class TorchEager(Peer):
    name: ClassVar[str] = "torch_eager"
    title: ClassVar[str] = "PyTorch eager"

    def prepare(self, model: nn.Module, image: Tensor, folder: Path) -> Session:
        @torch.inference_mode()
        def run() -> Tensor:
            y: Tensor = model(image)
            return y

        def output() -> npt.NDArray[np.float32]:
            return run().numpy()

        return Session(run, output)
