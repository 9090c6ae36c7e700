"""PyTorch's compiler with frozen weights: convolutions by oneDNN in its own layouts, the rest as generated C++."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.errors import PeerUnavailable
from benchmarks.peers.base import Peer, Session


class Inductor(Peer):
    name: ClassVar[str] = "torch_inductor"
    title: ClassVar[str] = "PyTorch inductor"

    def prepare(self, model: nn.Module, image: Tensor, folder: Path) -> Session:
        torch._dynamo.reset()
        compiled = torch.compile(model, options={"freezing": True, "cpp.threads": 1})

        @torch.no_grad()
        def run() -> Tensor:
            y: Tensor = compiled(image)
            return y

        def output() -> npt.NDArray[np.float32]:
            return run().numpy()

        try:
            run()
        except Exception as error:
            raise PeerUnavailable(f"inductor does not compile the network: {error}") from error
        return Session(run, output)
