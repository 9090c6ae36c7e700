"""Loading by name, and how training pictures are divided."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training import dataset_names, load_dataset
from training.datasets.source import stratified
from training.errors import InvalidSplit, UnknownDataset


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_the_division_is_complete_and_right_for_every_class(labels: list[int], share: float, seed: int) -> None:
    tensor = torch.tensor(labels)
    first, second = stratified(tensor, share, seed)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(len(labels)))
    for label in set(labels):
        assert (tensor[second] == label).sum() == int(share * labels.count(label) + 0.5)


def test_unknown_names_are_answered_with_the_known() -> None:
    assert set(dataset_names()) == {"digits", "fashion_mnist", "cifar10"}
    with pytest.raises(UnknownDataset, match=r"'mnist'.*cifar10, digits, fashion_mnist"):
        load_dataset("mnist")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_leaves_a_split_empty_is_refused(share: float, tmp_path: Path) -> None:
    with pytest.raises(InvalidSplit, match="between 0 and 1"):
        load_dataset("digits", tmp_path, validation=share)
