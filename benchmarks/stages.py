"""What pruning one stage of a pretrained ResNet saves: python -m benchmarks.stages --weights 20=FILE 56=FILE

The sparsities of benchmarks/cifar.yaml were chosen by this table.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from torch import Tensor, nn

from benchmarks.command_line import common, timing_parser
from benchmarks.competitors import Competitor, ours, timed
from benchmarks.finetuning import IMAGE
from benchmarks.machine import machine_facts
from benchmarks.measure import STEADY_US, Budget, measure, one_core
from benchmarks.pretrained import load_pretrained, stages
from benchmarks.tables import write_table
from pruning import Sparsity, prune

SPARSITIES = (
    *(f"block_punched(16x1)@{rate}" for rate in (2, 3, 4, 6)),
    *(f"block_punched(8x1)@{rate}" for rate in (2, 3, 4, 6)),
    *(f"block_kernel(16x1)@{rate}" for rate in (2, 3, 4)),
    *(f"unstructured@{rate}" for rate in (3, 4, 5, 6, 8, 10)),
)
DENSE = "dense"


def measure_stages(depth: int, weights: Path, sparsities: tuple[str, ...], budget: Budget) -> pd.DataFrame:
    """A row a stage and sparsity, and the dense network's; all are timed in the same rounds."""
    made: dict[tuple[int, str], tuple[Competitor, float]] = {}
    made[0, DENSE] = ours(load_pretrained(depth, weights), IMAGE), 1.0
    for stage in (1, 2, 3):
        for text in sparsities:
            network = load_pretrained(depth, weights)
            names = stages(network)[stage - 1]
            before = _energy(network, names)
            prune(network, IMAGE, dict.fromkeys(names, Sparsity.parse(text)))
            made[stage, text] = ours(network, IMAGE), float(_energy(network, names) / before)
    times = measure({f"{stage} {text}": competitor.run for (stage, text), (competitor, _) in made.items()}, budget)
    table = pd.DataFrame(
        {"network": f"resnet{depth}", "stage": stage, "sparsity": text, "energy_kept": energy}
        | timed(competitor, times[f"{stage} {text}"])
        for (stage, text), (competitor, energy) in made.items()
    )
    table["saved_ms"] = table["measured_ms"].iloc[0] - table["measured_ms"]
    return table


def _energy(network: nn.Module, names: list[str]) -> Tensor:
    """Sum of squares of the layers' weights."""
    squares = [network.get_submodule(name).get_parameter("weight").detach().square().sum() for name in names]
    return sum(squares[1:], start=squares[0])


def main() -> None:
    made = timing_parser(__doc__)
    made.add_argument("--weights", nargs="+", required=True, metavar="DEPTH=FILE", help="published weights")
    arguments = made.parse_args()
    told = common(arguments)
    budget = replace(told.budget, sample_us=STEADY_US)
    tables = []
    with one_core():
        for entry in arguments.weights:
            depth, _, path = entry.partition("=")
            chosen = SPARSITIES[::4] if told.quick else SPARSITIES
            tables.append(measure_stages(int(depth), Path(path), chosen, budget))
            print(tables[-1].to_string(index=False))
        write_table(told.folder / "stages.csv", pd.concat(tables), machine_facts())


if __name__ == "__main__":
    main()
