"""The arguments that the measuring scripts share."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import QUICK, Budget
from benchmarks.peers import PEERS
from benchmarks.tables import QUICK_RESULTS, RESULTS

QUICK_PEERS = ["onnxruntime", "openvino", "ncnn"]


@dataclass(frozen=True)
class Common:
    """What every measuring script is told.

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
    """A parser with the shared arguments; a script adds what is its own."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--quick", action="store_true", help=f"few cases, short times; written to {QUICK_RESULTS}")
    made.add_argument("--peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}; default: all")
    made.add_argument("--seconds", type=float, help="to measure each network, all competitors together")
    made.add_argument("--out", type=Path, help=f"folder of the tables; default: {RESULTS}")
    return made


def common(arguments: argparse.Namespace) -> Common:
    """The shared arguments, defaults filled in."""
    quick: bool = arguments.quick
    usual = QUICK if quick else Budget()
    seconds: float = usual.seconds if arguments.seconds is None else arguments.seconds
    budget = Budget(seconds, usual.min_rounds, usual.warm_rounds, usual.sample_us)
    peers = arguments.peers if arguments.peers is not None else QUICK_PEERS if quick else list(PEERS)
    return Common(peers, budget, arguments.out or (QUICK_RESULTS if quick else RESULTS), quick)
