"""The plan for a budget of `npas prune`, from predictions and measurements that are made up."""

from types import SimpleNamespace

import pandas as pd
import pytest
from omegaconf import OmegaConf

from pruning.errors import BudgetTooSmall
from scripts.errors import BudgetMissed
from scripts.prune import plan

FASTEST_MS = 0.95


@pytest.fixture
def world(monkeypatch):
    """A dense network of 2 ms, plans that are predicted to take what is asked for but no less than `FASTEST_MS`, and
    what they take when they are measured."""
    told = SimpleNamespace(measured_ms=1.08, targets=[])

    def allocate(variants, predictor, target_ms):
        told.targets.append(target_ms)
        if target_ms < FASTEST_MS:
            raise BudgetTooSmall(target_ms, FASTEST_MS)
        return SimpleNamespace(plan={"a": len(told.targets)}, predicted=SimpleNamespace(mean_ms=0.98), lost=1.0)

    compiled = SimpleNamespace(time=lambda seconds: SimpleNamespace(median_ms=2.0), run_once=lambda: None)
    monkeypatch.setattr(plan.Subject, "load", lambda config: None)
    monkeypatch.setattr(plan.inputs, "device", lambda config: None)
    monkeypatch.setattr(plan.LatencyPredictor, "load", lambda path: None)
    monkeypatch.setattr(plan.subjects, "variants", lambda *_: None)
    monkeypatch.setattr(plan.subjects, "importance", lambda *_: None)
    monkeypatch.setattr(plan, "compile_pruned", lambda *_: compiled)
    monkeypatch.setattr(plan, "allocate", allocate)
    monkeypatch.setattr(
        plan, "compare_runtimes", lambda *_, **__: pd.DataFrame({"measured_ms": [told.measured_ms, 2.0]})
    )
    return told


def config(budget):
    return OmegaConf.create({"budget": budget, "predictor": "there", "margin": 0.02})


def test_a_budget_that_only_the_measurement_misses_is_told_as_the_users(world, tmp_path):
    """The next target would be below what is possible, which is the predictor's business and not the user's."""
    with pytest.raises(BudgetMissed, match=r"1 plans met 0\.980 ms .*1\.000 ms less margin=0\.02.*took 1\.080 ms"):
        plan.allocate_budget(config("50%"), tmp_path)
    assert len(world.targets) == 2
    assert not list(tmp_path.iterdir())


def test_a_budget_that_no_plan_is_predicted_to_meet_is_refused_as_such(world, tmp_path):
    with pytest.raises(BudgetTooSmall):
        plan.allocate_budget(config("40%"), tmp_path)
    assert world.targets == [pytest.approx(0.8)]
