"""What a main job found, to keep: python -m benchmarks.main_job RUN_DIR

RUN_DIR is that of a finished `npas search`. A row a network in `NAME.csv`, NAME being the folder's, with how long each
stage took and how much was trained and searched in its head; configuration and report lie beside it, in `NAME/`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf

from benchmarks.command_line import common, parser
from benchmarks.errors import ResultsMissing
from benchmarks.machine import machine_facts
from benchmarks.tables import write_table
from scripts.files import read_json

COLUMNS = (
    *("name", "test_accuracy", "validation_accuracy", "supernet_accuracy", "measured_ms", "measured_spread"),
    *("predicted_ms", "budget_ms", "onnxruntime_ms", "parameters", "onnx_bytes", "epochs", "within_budget"),
)
SETTINGS = ("budget", "seed", "threads", "search", "training", "pruning")
KEPT = ("config.yaml", "report.html", "pareto.png")


def networks(run_dir: Path) -> pd.DataFrame:
    """A row for the dense network and one for each winner, the most accurate of these first.

    Raises:
        ResultsMissing: if the job is not finished.
    """
    if not (run_dir / "report.html").is_file():
        raise ResultsMissing(f"{run_dir} has no report.html; finish the main job there first, with npas search")
    paths = [run_dir / "dense" / "metrics.json", *(run_dir / "winners").glob("*/metrics.json")]
    rows = pd.DataFrame([{name: read_json(path)[name] for name in COLUMNS} for path in paths])
    return pd.concat([rows[:1], rows[1:].sort_values("test_accuracy", ascending=False)], ignore_index=True)


def facts(run_dir: Path) -> dict[str, str]:
    """Settings that say what was run, and the seconds that each stage took."""
    config = OmegaConf.load(run_dir / "config.yaml")
    told = {key: str(OmegaConf.select(config, key)) for key in SETTINGS}
    records = [read_json(path) for path in (run_dir / "stages").glob("*.json")]
    stages = {f"seconds of {record['stage']}": f"{record['seconds']:.0f}" for record in records}
    return told | dict(sorted(stages.items()))


def main() -> None:
    made = parser(__doc__)
    made.add_argument("run_dir", type=Path, help="folder of a finished npas search")
    made.add_argument("--name", help="of the results; default: the folder's")
    arguments = made.parse_args()
    run_dir: Path = arguments.run_dir
    name, folder = arguments.name or run_dir.name, common(arguments).folder
    table = networks(run_dir)
    write_table(folder / f"{name}.csv", table, machine_facts() | facts(run_dir))
    (folder / name).mkdir(exist_ok=True)
    for file in KEPT:
        shutil.copyfile(run_dir / file, folder / name / file)
    print(table.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
