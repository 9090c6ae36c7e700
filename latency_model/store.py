"""Measured kernels on disk: a folder of parquet files to which whole files are only ever added."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet

from compiler import KernelSpec
from latency_model.environment import Environment
from latency_model.errors import StoreCorrupt, StoreMixed

_TEXT, _INT, _FLOAT = pyarrow.string(), pyarrow.int64(), pyarrow.float64()

SPEC_COLUMNS = tuple(KernelSpec("conv", 1, 1, 1, 1).to_dict())
_SPEC_TYPES = {
    str: _TEXT,
    int: _INT,
    float: _FLOAT,
}
SCHEMA = pyarrow.schema(
    [(name, _SPEC_TYPES[type(value)]) for name, value in KernelSpec("conv", 1, 1, 1, 1).to_dict().items()]
    + [
        ("network", _TEXT),  # the small network in which the kernel was timed
        ("median_us", _FLOAT),
        ("spread", _FLOAT),  # interquartile range over median, within the network
        ("runs", _INT),
        ("control_us", _FLOAT),  # the control kernel in the same runs
        ("network_wall_us", _FLOAT),  # the whole network: wall time, and CPU time of its thread
        ("network_cpu_us", _FLOAT),
        ("clock_mhz", _FLOAT),
        ("date", _TEXT),
        ("environment", _TEXT),  # fingerprint of the next six
        *((name, _TEXT) for name in ("device", "target", "cpu", "compiler", "flags", "npas")),
    ]
)
"""Columns of the raw rows: one for each kernel in each network in which it was timed."""

_DEVICE = ("device", "target", "cpu")
"""What two environments of one device have in common."""

_IDENTITY = [*SPEC_COLUMNS, "network", *SCHEMA.names[SCHEMA.names.index("environment") :]]
"""What two rows of one timing have in common: the kernel, the small network, and all of the environment."""

QUIET = 0.05
"""Drift up to which the machine is taken to have been undisturbed."""

_PART = "part-*.parquet"


class KernelStore:
    """Times of kernels, appended a network at a time.

    A part is written under another name and moved into place when it is complete: whoever is killed while writing
    loses that part and nothing else.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def append(self, rows: pd.DataFrame) -> Path:
        """Add rows with exactly the columns of `SCHEMA` as one new file, and return its path."""
        table = pyarrow.Table.from_pandas(rows, schema=SCHEMA, preserve_index=False)
        self.path.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.parquet"
        part, unfinished = self.path / f"part-{name}", self.path / f".unfinished-{name}"
        with unfinished.open("wb") as file:
            pyarrow.parquet.write_table(table, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, part)
        return part

    def read(self) -> pd.DataFrame:
        """All rows in the order in which they were appended; empty if nothing was.

        No timing is among them twice: rows of one kernel in one network are different timings if anything of the
        environment differs.

        Raises:
            StoreCorrupt: naming the file that cannot be read or holds other columns.
        """
        parts = [self._read_part(part) for part in sorted(self.path.glob(_PART))]
        frame: pd.DataFrame = pyarrow.concat_tables([SCHEMA.empty_table(), *parts]).to_pandas()
        return frame.drop_duplicates(_IDENTITY, ignore_index=True)

    def merge(self, other: KernelStore) -> int:
        """Take over the files of another store, of another process or machine; return how many were new.

        Raises:
            StoreCorrupt: if a file of the other store cannot be read; nothing is taken over then.
        """
        new = [part for part in sorted(other.path.glob(_PART)) if not (self.path / part.name).exists()]
        for part in new:
            self._read_part(part)
        self.path.mkdir(parents=True, exist_ok=True)
        for part in new:
            unfinished = self.path / f".unfinished-{part.name}"
            shutil.copyfile(part, unfinished)
            os.replace(unfinished, self.path / part.name)
        return len(new)

    def table_of(self, environment: Environment) -> pd.DataFrame:
        """The rows of `table` for an environment, and kernels that were timed on the same device only in another one.

        Those were built by another compiler or another version of npas: better than nothing, and marked in the column
        `older`.

        Raises:
            StoreCorrupt: see `read`.
        """
        rows = self.read()
        now = rows["environment"] == environment.fingerprint
        here = (rows[list(_DEVICE)] == [getattr(environment, name) for name in _DEVICE]).all(axis=1)
        own = summarise(rows[now]).assign(older=False)
        others = summarise(rows[here & ~now]).assign(older=True)
        both = pd.concat([own, others[::-1]], ignore_index=True) if len(others) else own
        return both.drop_duplicates(list(SPEC_COLUMNS), ignore_index=True)

    def table(self, environment: str | None = None) -> pd.DataFrame:
        """One row a kernel: what is known from all networks in which it was timed.

        Args:
            environment: fingerprint of the environment to read; may be left out while the store holds only one.

        Returns:
            the columns of a spec, `environment`, and
            `median_us`, median over networks, each divided by the drift of its control kernel;
            `noise`, standard error of its logarithm from the disagreement between networks, NaN with one network;
            `drift`, how much slower than at its best the machine was when the kernel was timed: networks timed while it
            was more than 5 % slower count only for kernels that no other holds;
            `spread`, median relative interquartile range within a network;
            `networks` and `runs`, how often it was timed.

        Raises:
            StoreCorrupt: see `read`.
            StoreMixed: if several environments are stored and none is named.
        """
        rows = self.read()
        present = rows.drop_duplicates("environment")
        if environment is None and len(present) > 1:
            listed = "; ".join(
                f"{row.environment}: {row.device}, {row.cpu}, {row.compiler}, npas {row.npas}"
                for row in present.itertuples()
            )
            raise StoreMixed(f"{self.path} holds times of {len(present)} environments; name one of them: {listed}")
        if environment is not None:
            rows = rows[rows["environment"] == environment]
        return summarise(rows)

    def _read_part(self, part: Path) -> pyarrow.Table:
        advice = "delete this file to go on without its kernels; they are timed again by the next profile"
        try:
            table = pyarrow.parquet.read_table(part)
        except (pyarrow.ArrowException, OSError) as error:
            raise StoreCorrupt(f"{part} is not a complete parquet file ({error}); {advice}") from error
        if not table.schema.equals(SCHEMA):
            different = sorted(set(table.schema.names) ^ set(SCHEMA.names)) or "types"
            raise StoreCorrupt(f"{part} was written with other columns (differing: {different}); {advice}")
        return table


def with_drift(rows: pd.DataFrame) -> pd.DataFrame:
    """Raw rows with the column `drift`: time of the control kernel over the fastest in its environment, minus 1."""
    fastest = rows.groupby("environment")["control_us"].transform("min")
    return rows.assign(drift=rows["control_us"] / fastest - 1)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Merge the raw rows of each kernel; see `KernelStore.table`."""
    rows = with_drift(rows)
    kernel = [*SPEC_COLUMNS, "environment"]
    least = rows.groupby(kernel)["drift"].transform("min")
    rows = rows[rows["drift"] <= np.maximum(least, QUIET)]
    rows = rows.assign(log_us=np.log(rows["median_us"] / (1 + rows["drift"])))
    merged = (
        rows.groupby(kernel, sort=False)
        .agg(
            log_us=("log_us", "median"),
            noise=("log_us", "std"),
            drift=("drift", "max"),
            spread=("spread", "median"),
            networks=("network", "count"),
            runs=("runs", "sum"),
        )
        .reset_index()
    )
    merged["noise"] /= np.sqrt(merged["networks"])
    merged["median_us"] = np.exp(merged.pop("log_us"))
    return merged


def specs_of(table: pd.DataFrame) -> list[KernelSpec]:
    """The kernels that the rows of a table describe."""
    return [_spec(tuple(row)) for row in table[list(SPEC_COLUMNS)].itertuples(index=False)]


@lru_cache(maxsize=1 << 16)
def _spec(values: tuple[Any, ...]) -> KernelSpec:
    return KernelSpec.from_dict(dict(zip(SPEC_COLUMNS, values, strict=True)))
