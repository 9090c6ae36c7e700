"""What the search of a run has learned, made again from its evaluations: a sampler has no other state."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from scripts import inputs
from scripts.files import read_json
from search.calibration import latency_of_run
from search.distortion_file import DISTORTIONS, read_distortions
from search.history import History, Observation
from search.insight import Insight
from search.run import DENSE, fastest_ms
from search.samplers import sampler_for
from supernet import Candidate


def learned(config: DictConfig, run_dir: Path, trials: pd.DataFrame) -> Insight:
    """What the sampler of a finished search would say now; `trials` as in `Contents`.

    Raises:
        ArtifactCorrupt, CalibrationCorrupt, DistortionsCorrupt: a file of an earlier stage is damaged.
    """
    space = inputs.space(config, inputs.dataset(config))
    latency = latency_of_run(space, inputs.device(config).target, run_dir)
    file = run_dir / DISTORTIONS
    dense_ms = read_json(run_dir / DENSE)["measured_ms"]
    sampler = sampler_for(
        config.search.sampler,
        space,
        latency.upper_ms,
        inputs.budgets(config).resolve(dense_ms, lambda: fastest_ms(latency)),
        seed=config.seed,
        trials=config.search.trials,
        distortions=(lambda: read_distortions(file, space)) if file.exists() else None,
        **(inputs.mapping(config.search).get("options") or {}),
    )
    rows = zip(trials["candidate"], trials["accuracy"], strict=True)
    codes = ((sampler.encoding.code(Candidate.from_json(text)), float(accuracy)) for text, accuracy in rows)
    return sampler.insight(History(tuple(Observation(code, accuracy) for code, accuracy in codes)))
