"""The facts that a table is written with."""

import numpy as np

from benchmarks.machine import PACKAGES, machine_facts, measure_peak


def test_the_peak_is_above_what_numpy_reaches_with_one_addition_at_a_time():
    assert np.isfinite(peak := measure_peak(seconds=0.02))
    assert peak > 1


def test_facts_name_processor_versions_and_date():
    facts = machine_facts()
    assert {"processor", "date", "peak_gflops", "compiler", *PACKAGES} <= set(facts)
    assert all(isinstance(value, str) and value for value in facts.values())
