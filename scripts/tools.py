"""The commands beside the main job, each with a configuration of its own."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from omegaconf import DictConfig


@dataclass(frozen=True)
class Tool:
    """The command `name`: `run(config)` of the module `scripts.<name>`, configured by `conf/<name>.yaml`."""

    name: str
    about: str

    def run(self, config: DictConfig) -> None:
        """Run it; its module is imported now, since `npas --help` need not wait for torch."""
        importlib.import_module(f"scripts.{self.name}").run(config)


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "prune", "prune a network of your own, for a latency budget or by a plan, and train, compile and export it"
        ),
        Tool("compile", "compile a network of your own to native code, an ONNX file and a C project"),
    )
}
