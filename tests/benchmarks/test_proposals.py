"""The history that proposals are timed on."""

from benchmarks.proposals import BUDGET, latency_ms, made_up_history, measure_sampler, tiny_space


def test_made_up_evaluations_are_different_and_under_the_budget() -> None:
    tiny = tiny_space()
    budget_ms = BUDGET * latency_ms(tiny.largest())
    observations = made_up_history(tiny, budget_ms, 60)
    assert len({observation.code for observation in observations}) == 60
    assert all(latency_ms(tiny.decode(observation.code)) <= budget_ms for observation in observations)
    assert observations == made_up_history(tiny, budget_ms, 60)
    row = measure_sampler("evolution", tiny, observations, 49)
    assert 0 <= float(str(row["median_s"])) <= float(str(row["largest_s"]))
