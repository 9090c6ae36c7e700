from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from search.encoding import Code, Encoding
from search.kernel import ROUNDS, CandidateKernel, Features
from supernet import SearchSpace


def _codes(space: SearchSpace, count: int, seed: int = 0) -> list[Code]:
    encoding, rng = Encoding(space), np.random.default_rng(seed)
    return [encoding.draw(rng) for _ in range(count)]


def _kernel(space: SearchSpace, codes: list[Code]) -> CandidateKernel:
    features = Features(space)
    return CandidateKernel(
        torch.from_numpy(features.similarity(codes, codes)), torch.from_numpy(features.differences(codes, codes))
    ).double()


def _gram(kernel: CandidateKernel, count: int) -> torch.Tensor:
    index = torch.arange(count, dtype=torch.double)[:, None]
    return kernel(index).to_dense().detach()


@pytest.mark.parametrize("seed", range(5))
def test_gram_is_positive_semi_definite_with_unit_diagonal(tiny: SearchSpace, seed: int) -> None:
    codes = _codes(tiny, 40, seed)
    # Close relatives make it as ill-conditioned as a search does.
    encoding, rng = Encoding(tiny), np.random.default_rng(seed)
    codes += [encoding.mutate(code, rng, 1) for code in codes[:20]]
    kernel = _kernel(tiny, codes)
    torch.manual_seed(seed)
    kernel.initialize(logits=torch.randn(ROUNDS + 2).double(), raw_decays=torch.randn(3).double())
    gram = _gram(kernel, len(codes))
    assert torch.equal(gram, gram.T)
    assert torch.allclose(gram.diagonal(), torch.ones(len(codes)).double())
    assert torch.linalg.eigvalsh(gram).min() > -1e-9


def test_graph_part_equals_labels_refined_by_hand(tiny: SearchSpace) -> None:
    """Against a plain implementation with texts as labels."""
    codes = _codes(tiny, 6)
    neighbours = {site: [] for site in range(len(tiny.sites))}
    for a, b in tiny.edges:
        neighbours[a].append(b)
        neighbours[b].append(a)

    def histograms(code: Code) -> list[Counter[str]]:
        labels = tiny.labels(tiny.decode(code))
        rounds = [Counter(labels)]
        for _ in range(ROUNDS):
            labels = [f"({label}|{sorted(labels[o] for o in neighbours[i])})" for i, label in enumerate(labels)]
            rounds.append(Counter(labels))
        return rounds

    similarity = Features(tiny).similarity(codes, codes)
    for i, a in enumerate(map(histograms, codes)):
        for j, b in enumerate(map(histograms, codes)):
            for h in range(ROUNDS + 1):
                dot = sum(a[h][label] * b[h][label] for label in a[h])
                norms = np.sqrt(sum(n * n for n in a[h].values()) * sum(n * n for n in b[h].values()))
                assert similarity[h, i, j] == pytest.approx(dot / norms)


def test_position_part_equals_the_formula(tiny: SearchSpace) -> None:
    codes = _codes(tiny, 6)
    differences = Features(tiny).differences(codes, codes)
    for i, a in enumerate(map(tiny.decode, codes)):
        for j, b in enumerate(map(tiny.decode, codes)):
            pairs = list(zip(a.choices, b.choices, strict=True))
            wanted = [
                np.mean([x.operator != y.operator for x, y in pairs]),
                np.mean([x.sparsity.scheme != y.sparsity.scheme for x, y in pairs]),
                np.mean([abs(np.log(x.sparsity.rate / y.sparsity.rate)) for x, y in pairs]),
            ]
            assert differences[:, i, j] == pytest.approx(wanted)


def test_kernel_is_the_weighted_sum_of_its_parts(tiny: SearchSpace) -> None:
    codes = _codes(tiny, 8)
    features, kernel = Features(tiny), _kernel(tiny, codes)
    kernel.initialize(logits=torch.tensor([0.3, -0.2, 0.1, 0.5]).double())
    weights, decays = kernel.weights.detach().numpy(), kernel.decays.detach().numpy()
    assert weights.sum() == pytest.approx(1)
    assert decays == pytest.approx([3, 2, 1])
    graph = np.tensordot(weights[:-1], features.similarity(codes, codes), 1)
    position = np.exp(-np.tensordot(decays, features.differences(codes, codes), 1))
    assert _gram(kernel, 8).numpy() == pytest.approx(graph + weights[-1] * position)


def test_reversed_chain_is_the_same_graph_but_another_candidate(toy: SearchSpace) -> None:
    """One stage, so that the labels do not tell the sites apart: only the position-aware part can."""
    chain, reverse = (0, 2, 5), (5, 2, 0)
    features = Features(toy)
    assert features.similarity([chain], [reverse]).ravel() == pytest.approx(np.ones(ROUNDS + 1))
    assert _gram(_kernel(toy, [chain, reverse]), 2)[0, 1] < 0.99


def test_batched_inputs_give_the_same_entries(tiny: SearchSpace) -> None:
    codes = _codes(tiny, 7)
    kernel = _kernel(tiny, codes)
    gram = _gram(kernel, 7)
    columns = torch.arange(4, dtype=torch.double)[:, None].expand(3, 4, 1)
    rows = torch.arange(4, 7, dtype=torch.double)[:, None, None]
    assert torch.allclose(kernel(rows, columns).to_dense().detach()[:, 0], gram[4:, :4])
    assert torch.equal(kernel(rows, diag=True).detach().ravel(), gram.diagonal()[4:])


def test_no_step_of_an_optimizer_makes_a_decay_zero(tiny: SearchSpace) -> None:
    codes = [Encoding(tiny).code(tiny.smallest())]
    features = Features(tiny)
    kernel = CandidateKernel(
        torch.from_numpy(features.similarity(codes, codes)), torch.from_numpy(features.differences(codes, codes))
    )
    kernel.initialize(raw_decays=torch.full((3,), -1e4).double())
    assert (kernel.decays > 0).all()
