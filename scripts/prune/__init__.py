"""`npas prune`: a network of the user's own pruned by a plan or for a budget, trained, compiled, measured, exported."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

__all__ = ["run"]


def run(config: DictConfig) -> None:
    """Check everything that the configuration names, then run the stages that `config.run_dir` lacks.

    Raises:
        InvalidSetting, PlanUnreadable, ModelNotFound, NotAModule, DatasetNotFound, CheckpointMismatch, PruningError:
            the configuration names something unusable; nothing was written.
        BudgetTooSmall, BudgetMissed: no plan meets the budget.
    """
    from scripts.console import say
    from scripts.files import write_text
    from scripts.lock import held
    from scripts.log import log_to
    from scripts.prune.check import check, fingerprints
    from scripts.prune.stages import stages
    from scripts.run_directory import RunDirectory

    check(config)
    OmegaConf.update(config, "files", fingerprints(config), force_add=True)
    run_dir = Path(config.run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    with held(run_dir):
        log = log_to(run_dir / "log.jsonl")
        try:
            write_text(run_dir / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
            every = stages(config)
            RunDirectory(run_dir, say).perform(every, config, [stage.name for stage in every])
        finally:
            log.close()
