"""Published tables become counts of terms; a device that is a sum of them is predicted."""

import itertools

import numpy as np
import pandas as pd
import pytest

from benchmarks.errors import ResultsMissing
from benchmarks.public_tables import BLOCKS, EDGES, _needed, evaluate, fbnet, nasbench201, reaches


def paths(codes):
    """All paths of edges from the input to the output of a cell, by trying."""
    edges = [edge for edge, code in enumerate(codes) if code]
    found = []
    for length in (1, 2, 3):
        for path in itertools.permutations(edges, length):
            nodes = [0, *(EDGES[edge][1] for edge in path)]
            if nodes[-1] == 3 and all(EDGES[edge][0] == node for edge, node in zip(path, nodes, strict=False)):
                found.append(path)
    return found


def test_what_the_output_depends_on_is_found_for_every_cell():
    for codes in itertools.product((0, 3), repeat=6):
        code = np.array(codes)
        assert reaches(code) == bool(paths(codes))
        on_paths = {edge for path in paths(codes) for edge in path}
        kept = set(np.flatnonzero(_needed(code)))
        assert on_paths <= kept
        assert all(codes[edge] for edge in kept)


def test_cells_whose_output_is_constant_are_left_out(tmp_path):
    codes = list(itertools.product((0, 1, 3), repeat=6))
    table = pd.DataFrame(codes, columns=[f"op{edge}" for edge in range(6)]).assign(lat_a=1.0, name="x")
    table.to_csv(tmp_path / "cells.csv", index=False)
    read = nasbench201(tmp_path / "cells.csv")
    assert len(read.latencies) == sum(reaches(np.array(code)) for code in codes)
    assert list(read.latencies) == ["a"]
    (executed, _), (needed, _) = read.views
    assert (executed.sum(axis=1) == len(EDGES)).all(), "an edge that is no edge is multiplied by zero"
    assert (needed.sum(axis=1) <= executed[:, 1:].sum(axis=1)).all()


def test_a_device_that_is_a_sum_over_blocks_is_predicted(tmp_path):
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 9, (400, BLOCKS))
    cost = generator.uniform(0.5, 1.5, (9, 1)) * np.linspace(1, 2, BLOCKS)
    latency = 5 + cost[codes, np.arange(BLOCKS)].sum(axis=1)
    table = pd.DataFrame(codes, columns=[f"b{block}" for block in range(BLOCKS)])
    table.assign(lat_a=latency, lat_b=2 * latency).to_csv(tmp_path / "nets.csv", index=False)
    found = evaluate(fbnet(tmp_path / "nets.csv"), samples=(12,), seeds=1).set_index(["device", "sources"])
    assert set(found["mode"].xs("others", level="sources")) == {"scale"}
    assert (found["spearman"].xs("others", level="sources") > 0.99).all()
    assert (found["rmspe"].xs("alone", level="sources") > found["rmspe"].xs("others", level="sources")).all()


def test_missing_table_is_told(tmp_path):
    with pytest.raises(ResultsMissing, match="no table"):
        fbnet(tmp_path / "none.csv")
