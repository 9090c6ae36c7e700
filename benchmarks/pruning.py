"""What pruning costs: projections of one large weight, and algorithms in a training step: python -m benchmarks.pruning

Projections are of a float32 weight [512, 512, 3, 3], and [512, 4608] where a scheme is for linear layers. A training
step is ResNet-20's on 128 pictures of 32x32, forward, backward and optimizer, every layer under one plan; the same step
without an algorithm is timed in the same rounds. Both on one core.
"""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F

from benchmarks.command_line import common, timing_parser
from benchmarks.machine import machine_facts
from benchmarks.measure import Budget, Run, Times, measure, median, one_core, spread
from benchmarks.pretrained import stages
from benchmarks.tables import write_table
from benchmarks.zoo.cifar_resnet import CifarResNet
from pruning import Algorithm, Sparsity, algorithm_names, make_algorithm
from training.hooks import Hooks, NoHooks

SHAPE = (512, 512, 3, 3)
LINEAR_SHAPE = (512, 4608)
SPARSITIES = (
    "unstructured@4",
    "filter@4",
    "filter(8)@4",
    "channel@4",
    "block_punched(16x1)@4",
    "block_punched(16x4)@4",
    "block_kernel(16x1)@4",
    "block(4x4)@4",
    "block_row(16x64)@4",
    "block_column(16x64)@4",
    "block_row_column(16x64)@4",
    "column@4",
    "row_column@4",
    "pattern(4)@4",
    "pattern(4, share=16)@4",
    "derived_pattern(8)@4",
    "pcnn(2)@4.5",
    "nm(2:4)@2",
    "nm(2:4, share=16)@2",
    "transposable_nm(2:4)@2",
)
"""At least one of every scheme that removes something."""
PLAN = "block_punched(16x1)@4"
IMAGES = (128, 3, 32, 32)
PLAIN = "plain"
PRUNING, HOLDING = "pruning", "holding"


def measure_projections(texts: tuple[str, ...], budget: Budget) -> pd.DataFrame:
    """A row a sparsity: how long the mask of a large weight takes."""
    runs: dict[str, Run] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        sparsity = Sparsity.parse(text)
        shapes[text] = SHAPE if sparsity.scheme.supports(SHAPE) is None else LINEAR_SHAPE
        weight = torch.randn(shapes[text], generator=torch.Generator().manual_seed(0))
        runs[text] = partial(sparsity.scheme.mask, weight, sparsity.rate)
    rows = [
        {"sparsity": text, "shape": "x".join(map(str, shapes[text]))} | _row(found)
        for text, found in measure(runs, budget).items()
    ]
    return pd.DataFrame(rows)


def measure_algorithms(names: tuple[str, ...], budget: Budget) -> pd.DataFrame:
    """Two rows an algorithm, while it prunes and while its masks are held, and one of a step without any.

    `added` is the median over the rounds of what a step takes longer than the plain one of the same round.
    """
    steps: dict[tuple[str, str], Step] = {(PLAIN, ""): Step(None)}
    for name in names:
        steps |= {(name, PRUNING): Step(name), (name, HOLDING): Step(name)}
        steps[name, HOLDING].finish()
    times = measure({" ".join(key): step for key, step in steps.items()}, budget)
    plain = times[f"{PLAIN} "].cpu_us
    rows = []
    for (name, phase), found in zip(steps, times.values(), strict=True):
        rows.append({"algorithm": name, "phase": phase} | _row(found) | {"added": median(found.cpu_us / plain) - 1})
    return pd.DataFrame(rows)


def _row(times: Times) -> dict[str, float]:
    return {"measured_ms": median(times.cpu_us) / 1e3, "spread": spread(times.cpu_us), "rounds": len(times.cpu_us)}


class Step:
    """A training step of ResNet-20, called again and again.

    Args:
        algorithm: by name, with its defaults; None for none.
    """

    def __init__(self, algorithm: str | None) -> None:
        torch.manual_seed(0)
        self.model = CifarResNet(3).train()
        self.images, self.labels = torch.randn(IMAGES), torch.randint(10, IMAGES[:1])
        self.algorithm: Algorithm | None = None
        if algorithm is not None:
            plan = {name: Sparsity.parse(PLAN) for names in stages(self.model) for name in names}
            self.algorithm = make_algorithm(algorithm, self.model, plan, self.images[:1])
        self.hooks: Hooks = self.algorithm or NoHooks()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def finish(self) -> None:
        """From here on the masks are held."""
        assert self.algorithm is not None
        self.hooks.after_step()
        self()
        self.algorithm.finish()

    def __call__(self) -> None:
        loss = F.cross_entropy(self.model(self.images), self.labels) + self.hooks.penalty()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.hooks.after_step()


def main() -> None:
    made = timing_parser(__doc__)
    told = common(made.parse_args())
    with one_core():
        facts = machine_facts()
        projections = measure_projections(SPARSITIES[:3] if told.quick else SPARSITIES, told.budget)
        print(projections.to_string(index=False))
        write_table(told.folder / "projections.csv", projections, facts)
        names = ("magnitude",) if told.quick else algorithm_names()
        algorithms = measure_algorithms(names, told.budget)
        print(f"\n{algorithms.to_string(index=False)}")
        write_table(told.folder / "algorithms.csv", algorithms, facts | {"plan": PLAN})


if __name__ == "__main__":
    main()
