"""The arguments that several measuring scripts have."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure import QUICK, Budget
from benchmarks.peers import PEERS
from benchmarks.tables import QUICK_RESULTS, RESULTS

QUICK_PEERS = ["onnxruntime", "openvino", "ncnn"]


@dataclass(frozen=True)
class Common:
    """What measuring scripts are told.

    Attributes:
        peers: names of the peers to measure.
        budget: time for one network, or for one layer under one sparsity.
        folder: where the table goes.
        quick: whether only a small selection is measured, to see that all works.
    """

    peers: list[str]
    budget: Budget
    folder: Path
    quick: bool


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with what all scripts are told; a script adds what is its own."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--out", type=Path, help=f"folder of the tables; default: {RESULTS}")
    return made


def brief_parser(description: str | None) -> argparse.ArgumentParser:
    """Of a script that can be tried on little."""
    made = parser(description)
    made.add_argument("--quick", action="store_true", help=f"few cases, short times; written to {QUICK_RESULTS}")
    return made


def timing_parser(description: str | None) -> argparse.ArgumentParser:
    """Of a script that times networks or layers."""
    made = brief_parser(description)
    made.add_argument("--seconds", type=float, help="to measure each network, all competitors together")
    return made


def peers_parser(description: str | None) -> argparse.ArgumentParser:
    """Of a script that times other runtimes too."""
    made = timing_parser(description)
    made.add_argument("--peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}; default: all")
    return made


def common(arguments: argparse.Namespace) -> Common:
    """What was told, defaults filled in; also for arguments that the script's parser does not have."""
    told = vars(arguments)
    quick, seconds, peers = told.get("quick", False), told.get("seconds"), told.get("peers")
    usual = QUICK if quick else Budget()
    budget = usual if seconds is None else replace(usual, seconds=seconds)
    if peers is None:
        peers = QUICK_PEERS if quick else list(PEERS)
    return Common(peers, budget, arguments.out or (QUICK_RESULTS if quick else RESULTS), quick)
