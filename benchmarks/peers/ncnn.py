"""ncnn: converted by pnnx, fp32 storage and arithmetic, packed layouts, Winograd and GEMM convolutions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.errors import PeerUnavailable
from benchmarks.peers.base import Peer, Session, silent
from benchmarks.zoo.cifar_resnet import OptionA


class PooledShortcut(nn.Module):
    """`OptionA` without the strided slice, which ncnn has not: a pooling over one pixel picks the same ones."""

    def __init__(self, shortcut: OptionA) -> None:
        super().__init__()
        self.widths = (0, 0, 0, 0, shortcut.before, shortcut.behind)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(F.max_pool2d(x, 1, 2), self.widths)


def with_pooled_shortcuts(model: nn.Module) -> nn.Module:
    """A copy of `model` that ncnn can run."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, OptionA):
                setattr(module, name, PooledShortcut(child))
    return model


class Named(nn.Module):
    """`model` as a submodule: pnnx writes Python source, where layers cannot be called 0, 1, 2."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model(x)
        return y


class Ncnn(Peer):
    name: ClassVar[str] = "ncnn"
    title: ClassVar[str] = "ncnn"
    winograd: ClassVar[bool] = True

    def prepare(self, model: nn.Module, image: Tensor, folder: Path) -> Session:
        try:
            import ncnn
            import pnnx
        except ImportError as error:
            raise PeerUnavailable(f"ncnn or pnnx is not installed: {error}") from error
        with silent():
            pnnx.export(Named(with_pooled_shortcuts(model)), str(folder / "model.pt"), (image,), fp16=False)
        net = ncnn.Net()
        net.opt.num_threads = 1
        net.opt.openmp_blocktime = 0
        net.opt.use_vulkan_compute = False
        net.opt.use_packing_layout = True
        net.opt.use_winograd_convolution = True
        net.opt.use_sgemm_convolution = True
        for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
            setattr(net.opt, f"use_{half}", False)
        with silent():
            failed = net.load_param(str(folder / "model.ncnn.param")) or net.load_model(str(folder / "model.ncnn.bin"))
        if failed:
            raise PeerUnavailable(f"ncnn cannot load what pnnx wrote for the network (code {failed})")
        (source,), (sink,) = net.input_names(), net.output_names()
        pixels = ncnn.Mat(image[0].numpy())

        def extract() -> tuple[int, object]:
            extractor = net.create_extractor()
            extractor.input(source, pixels)
            code, result = extractor.extract(sink)
            return code, result

        def output() -> npt.NDArray[np.float32]:
            return np.array(extract()[1], np.float32)[np.newaxis]

        if code := extract()[0]:
            raise PeerUnavailable(f"ncnn does not run the network (code {code})")
        return Session(extract, output)
