"""`profile`: time kernels inside small random networks and keep what was measured."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from compiler import KernelSpec
from latency_model.device import Device
from latency_model.environment import Environment
from latency_model.errors import MeasurementFailed
from latency_model.runner import Floats
from latency_model.store import QUIET, SPEC_COLUMNS, KernelStore, specs_of, with_drift

CONTROL = KernelSpec("conv", 16, 16, 8, 8, kernel=(5, 5), padding=(2, 2))
"""Timed in every network: when its time changes, the machine did."""
CONTROLS = 3
"""How often it runs in a row. The last run counts: it finds all it reads in the first cache, whatever its neighbours
left there, while the first one takes up to twice as long in a network of large kernels."""

NETWORKS = 2
"""Undisturbed networks in which each kernel is timed."""
ATTEMPTS = 5
"""Networks after which a kernel is left as it is, however disturbed the machine was."""
NETWORK_SIZE = 25
MOST_WEIGHTS = 8_000_000
"""In all kernels of a network. Those of many large kernels together would come from memory in every run, while networks
seldom hold so many that they do not stay in a cache."""
JITTER = 0.5
"""Deviation of the logarithm of a kernel's size by which it may come among larger or smaller ones."""
QUIET_SHARE = 0.25
"""Share of the runs, those with the fastest control kernel, that count."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProfileProgress:
    """How far a profile is.

    Attributes:
        networks, of_networks: small networks timed, and to be timed as far as is known: the second number grows when
            the machine was disturbed and kernels have to be timed again.
        kernels, of_kernels: kernels that need no further network, and kernels asked for.
        seconds: time spent.
        drift: time of the control kernel over the fastest in this environment, minus 1.
    """

    networks: int
    of_networks: int
    kernels: int
    of_kernels: int
    seconds: float
    drift: float


def profile(
    specs: Sequence[KernelSpec],
    device: Device,
    store: KernelStore,
    *,
    seconds: float = 0.4,
    limit_s: float = math.inf,
    seed: int = 0,
    progress: Callable[[ProfileProgress], None] | None = None,
) -> pd.DataFrame:
    """Time each kernel in two small networks among different neighbours of about its size, in random order.

    A kernel timed in a hot loop by itself looks up to 29 % faster than it is inside a network, and a small one among
    large ones up to twice as slow as among its like. Each network also holds the control kernel. Of the runs of a
    network the quarter with the fastest control kernel counts, and a kernel whose network ran while the control kernel
    was more than 5 % slower than at its best is timed again later, in up to five networks. Rows are appended to `store`
    after each network, and what it already holds for this environment is not timed again, so a profile that was stopped
    goes on where it was.

    Args:
        specs: the kernels; repetitions count once.
        device: where to time them.
        store: where to keep the times.
        seconds: time to run each network, its compilation not counted.
        limit_s: stop after this time; kernels that were not reached are reported to the log and missing in the result.
        seed: of the order, the neighbours and the random weights.
        progress: called after each network.

    Returns:
        the rows of `KernelStore.table` for the kernels in `specs`.

    Raises:
        MeasurementFailed: if a time is not positive and finite.
        CompilerMissing, CompilationFailed, CacheUnwritable: the C compiler cannot be used.
        StoreCorrupt: see `KernelStore.read`.
    """
    wanted = list(dict.fromkeys(specs))
    environment = device.environment()
    generator = np.random.default_rng(seed)
    begin, done = time.monotonic(), 0
    for attempt in range(ATTEMPTS):
        known = _Known.read(store, environment)
        networks = _networks([spec for spec in wanted if known.is_due(spec, attempt)], generator)
        to_come = max(0, NETWORKS - 1 - attempt) * _count(len(wanted))
        for index, members in enumerate(networks):
            if time.monotonic() - begin > limit_s:
                break
            store.append(_time_network(members, device, environment, seconds=seconds, seed=seed + done))
            done += 1
            if progress is not None:
                known = _Known.read(store, environment)
                progress(
                    ProfileProgress(
                        networks=done,
                        of_networks=done + len(networks) - index - 1 + to_come,
                        kernels=sum(not known.is_due(spec, ATTEMPTS - 1) for spec in wanted),
                        of_kernels=len(wanted),
                        seconds=time.monotonic() - begin,
                        drift=known.last_drift,
                    )
                )
    table = store.table(environment.fingerprint)
    asked = set(wanted)
    table = table[np.array([spec in asked for spec in specs_of(table)], dtype=bool)].reset_index(drop=True)
    if len(table) < len(wanted):
        logger.warning("%d of %d kernels were not timed within %g s", len(wanted) - len(table), len(wanted), limit_s)
    return table


@dataclass(frozen=True)
class _Known:
    """How often each kernel was timed in an environment, and how often undisturbed."""

    timed: Counter[KernelSpec]
    quiet: Counter[KernelSpec]
    last_drift: float

    @classmethod
    def read(cls, store: KernelStore, environment: Environment) -> _Known:
        rows = store.read()
        rows = with_drift(rows[rows["environment"] == environment.fingerprint])
        quiet = Counter(specs_of(rows[rows["drift"] <= QUIET]))
        return cls(Counter(specs_of(rows)), quiet, float(rows["drift"].iloc[-1]) if len(rows) else 0.0)

    def is_due(self, spec: KernelSpec, attempt: int) -> bool:
        """Whether the kernel is to be timed in the given round, counted from 0."""
        return self.timed[spec] <= attempt and self.quiet[spec] < min(attempt + 1, NETWORKS)


def _count(kernels: int) -> int:
    return math.ceil(kernels / NETWORK_SIZE)


def _networks(specs: Sequence[KernelSpec], generator: np.random.Generator) -> list[list[KernelSpec]]:
    """Networks of as many kernels, fewer where these are large, each of about the same size in random order.

    Whether a kernel finds its data in a cache depends on how much the kernels around it touch; those of a network are
    mostly of one size.
    """
    if not specs:
        return []
    sizes = np.log([_floats(spec) for spec in specs]) + JITTER * generator.standard_normal(len(specs))
    weights = np.array([_weights(spec) for spec in specs])
    alike = np.array_split(np.argsort(sizes), _count(len(specs)))
    parts = [part for group in alike for part in np.array_split(group, _parts(weights[group]))]
    order = generator.permutation(len(parts))
    return [[specs[index] for index in generator.permutation(parts[number])] for number in order]


def _parts(weights: Floats) -> int:
    """In how many networks kernels with so many weights fit."""
    return max(1, min(len(weights), math.ceil(float(weights.sum()) / MOST_WEIGHTS)))


def _floats(spec: KernelSpec) -> float:
    """What a kernel reads and writes."""
    activations = spec.in_channels * spec.height * spec.width + spec.out_channels * math.prod(spec.out_size)
    return activations + _weights(spec)


def _weights(spec: KernelSpec) -> float:
    return math.prod(spec.weight_shape) / spec.sparsity.rate


def _time_network(
    members: Sequence[KernelSpec], device: Device, environment: Environment, *, seconds: float, seed: int
) -> pd.DataFrame:
    middle = len(members) // 2
    clock = device.runner.clock_mhz()
    network = [*members[:middle], *[CONTROL] * CONTROLS, *members[middle:]]
    measured = device.runner.measure(network, device.target, seconds=seconds, seed=seed)
    times = measured.kernel_us
    _require_times(times, network)
    control = times[:, middle + CONTROLS - 1]
    times = times[control <= np.quantile(control, QUIET_SHARE)]
    _require_times(times, network)
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75], axis=0)
    rows = pd.DataFrame([spec.to_dict() for spec in network], columns=list(SPEC_COLUMNS)).assign(
        network=uuid.uuid4().hex,
        median_us=median,
        spread=(high - low) / median,
        runs=len(times),
        control_us=median[middle + CONTROLS - 1],
        network_wall_us=measured.wall_us,
        network_cpu_us=measured.cpu_us,
        clock_mhz=clock,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.fingerprint,
        **asdict(environment),
    )
    return rows.drop(index=range(middle, middle + CONTROLS))


def _require_times(times: Floats, network: Sequence[KernelSpec]) -> None:
    if times.ndim != 2 or times.shape[1] != len(network) or not len(times):
        raise MeasurementFailed(f"expected times of {len(network)} kernels in at least one run, got {times.shape}")
    wrong = ~((np.isfinite(times) & (times >= 0)).all(axis=0) & (np.median(times, axis=0) > 0))
    if wrong.any():
        spec = network[int(np.argmax(wrong))]
        raise MeasurementFailed(
            f"the times of {spec.op} {spec.in_channels} to {spec.out_channels} channels, {spec.height}x{spec.width}, "
            f"{spec.sparsity} are not positive and finite but {np.unique(times[:, int(np.argmax(wrong))])[:3]} us. "
            "Look at the clock of the device. What was measured before is kept: give the same command again to go on."
        )
