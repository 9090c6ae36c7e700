"""Every form of a movement of data, from and to every layout."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler import local_target
from compiler.compile import build
from compiler.graph import Gather, Graph, Node
from compiler.layout import BLOCKED, LAYOUTS
from compiler.plan import make_plan

FORMS = {"pairs", "box", "rows", "vectors", "merged"}
LANES = local_target().vector


def moved(index: np.ndarray, shapes: list[tuple[int, int, int]], fill: float, layouts: tuple[str, str]) -> set[str]:
    """Assert that a movement gives what numpy gives; the forms of its kernels."""
    inputs = {f"x{i}": shape for i, shape in enumerate(shapes)}
    node = Node("y", Gather("index", fill), tuple(inputs), index.shape)
    graph = Graph(inputs, (node,), ("y",), (index.shape,), {}, indices={"index": index.astype(np.int32)})
    compiled = build(make_plan(graph, local_target(), layouts={"y": layouts}))
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal((1, *shape), np.float32) for shape in shapes]
    flat = np.concatenate([*(array.reshape(-1) for array in arrays), [np.float32(fill)]])
    for _ in range(2):
        assert np.array_equal(compiled(*arrays)[0], flat[index])
    return {row["code"].split("_")[1] for row in compiled.listing.kernels if row["family"] == "gather"}


def counting(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape)


MAPS = {
    "shuffled channels": counting(2 * LANES, 3, 5)[np.random.default_rng(0).permutation(2 * LANES)],
    "whole blocks": counting(3 * LANES, 3, 5)[LANES:],
    "channels from the middle": counting(3 * LANES, 3, 5)[3 : LANES + 7],
    "strided pixels": counting(3 * LANES, 4, 6)[:, ::2, 1::2],
    "transposed": counting(5, 4, 6).transpose(2, 0, 1),
    "random": np.random.default_rng(0).integers(0, 60, (7, 3, 4)),
    "padded": np.pad(counting(5, 4, 6), ((1, 2), (0, 1), (2, 0)), constant_values=-1),
    "padded randomly": np.where(np.random.default_rng(0).random((9, 2, 3)) < 0.3, -1, counting(9, 2, 3)),
}
SHAPES = {
    "shuffled channels": (2 * LANES, 3, 5),
    "whole blocks": (3 * LANES, 3, 5),
    "channels from the middle": (3 * LANES, 3, 5),
    "strided pixels": (3 * LANES, 4, 6),
    "transposed": (5, 4, 6),
    "random": (5, 3, 4),
    "padded": (5, 4, 6),
    "padded randomly": (9, 2, 3),
}


@pytest.mark.parametrize("fill", [0.0, -2.5])
@pytest.mark.parametrize("reads", LAYOUTS)
@pytest.mark.parametrize("writes", LAYOUTS)
@pytest.mark.parametrize("name", MAPS)
def test_movements(name: str, reads: str, writes: str, fill: float) -> None:
    moved(MAPS[name], [SHAPES[name]], fill, (reads, writes))


def test_every_form_is_met() -> None:
    met = {
        form for name in MAPS for layout in LAYOUTS for form in moved(MAPS[name], [SHAPES[name]], 0.0, (layout, layout))
    }
    assert met == FORMS


def test_vectors_are_moved_only_between_whole_vectors() -> None:
    """Where a channel becomes a row, rows of the source start in the middle of a vector."""
    channels = 2 * LANES + 1
    index = counting(channels, 2, 5).transpose(1, 0, 2)
    assert moved(index, [(channels, 2, 5)], 0.0, (BLOCKED, BLOCKED)) == {"box"}


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 2 * LANES + 1), min_size=1, max_size=4),
    outputs=st.integers(1, 2 * LANES + 1),
    reads=st.sampled_from(LAYOUTS),
    writes=st.sampled_from(LAYOUTS),
    empty=st.booleans(),
    seed=st.integers(0, 9),
)
def test_channels_of_several_tensors(
    widths: list[int], outputs: int, reads: str, writes: str, empty: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    shapes = [(width, 2, 3) for width in widths]
    channels = generator.integers(-1 if empty else 0, sum(widths), outputs)
    index = np.where(channels[:, None, None] < 0, -1, 6 * channels[:, None, None] + counting(1, 2, 3))
    moved(index, shapes, 1.5 if empty else 0.0, (reads, writes))
