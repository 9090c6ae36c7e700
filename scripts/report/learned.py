"""What the search of a run has learned, made again from its evaluations: a sampler has no other state."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from latency_model import LatencyPredictor
from scripts import inputs
from scripts.files import read_json
from search import timed_specs
from search.distortion_file import DISTORTIONS, read_distortions
from search.history import History, Observation
from search.insight import Insight
from search.run import DENSE, fastest_ms
from search.samplers import sampler_for
from supernet import Candidate


def learned(config: DictConfig, run_dir: Path, trials: pd.DataFrame) -> Insight:
    """What the sampler of a finished search would say now; `trials` as in `Contents`.

    Raises:
        ArtifactCorrupt, DistortionsCorrupt: a file of an earlier stage in the run directory is damaged.
    """
    space = inputs.space(config, inputs.dataset(config))
    predictor, target = LatencyPredictor.load(run_dir / "predictor"), inputs.device(config).target

    @cache
    def latency(candidate: Candidate) -> float:
        return predictor.predict_network(timed_specs(space, candidate, target)).upper_ms

    file = run_dir / DISTORTIONS
    dense_ms = read_json(run_dir / DENSE)["measured_ms"]
    sampler = sampler_for(
        config.search.sampler,
        space,
        latency,
        inputs.budgets(config).resolve(dense_ms, lambda: fastest_ms(space, latency)),
        seed=config.seed,
        trials=config.search.trials,
        distortions=(lambda: read_distortions(file, space)) if file.exists() else None,
        **(inputs.mapping(config.search).get("options") or {}),
    )
    rows = zip(trials["candidate"], trials["accuracy"], strict=True)
    codes = ((sampler.encoding.code(Candidate.from_json(text)), float(accuracy)) for text, accuracy in rows)
    return sampler.insight(History(tuple(Observation(code, accuracy) for code, accuracy in codes)))
