"""How alike two candidates are: Weisfeiler-Lehman histograms of the graph, and a position-aware distance.

K = sum_h w_h K_WL,h + w_P K_P, with weights that add up to 1 and a unit diagonal:

    K_WL,h(s, s') = <phi_h(s), phi_h(s')> / (|phi_h(s)| |phi_h(s')|)
    K_P(s, s')    = prod over S sites of exp(-(l1 [operator differs] + l2 [scheme differs] + l3 |ln r - ln r'|) / S)

phi_h is the histogram of node labels after h rounds of label <- (own label, sorted neighbour labels) (Shervashidze
et al. 2011; NAS-BOWL, arXiv 2006.07556). A graph kernel alone cannot tell a chain from its reverse; K_P can. Both
are positive semi-definite: inner products, and products of Laplacian kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import gpytorch
import numpy as np
import torch
from gpytorch.constraints import GreaterThan
from gpytorch.priors import LogNormalPrior, NormalPrior
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial.distance import cdist
from torch import Tensor

from search.encoding import Code
from supernet import ChoiceSpace

ROUNDS = 2
DECAYS = (3.0, 2.0, 1.0)
LEAST = 1e-4
"""Of a decay, and of the scale of the process."""


class Features:
    """Describes candidates for the kernel; what was computed for a code once is remembered."""

    def __init__(self, space: ChoiceSpace) -> None:
        self._space = space
        self._neighbours: list[list[int]] = [[] for _ in space.labels(space.smallest())]
        for a, b in space.edges:
            self._neighbours[a].append(b)
            self._neighbours[b].append(a)
        self._columns: dict[Any, int] = {}
        self._histograms: dict[Code, list[list[int]]] = {}
        choices = [space.choices(site) for site in range(len(space.site_names))]
        self._operators = _indicators([[c.operator for c in site] for site in choices])
        self._schemes = _indicators([[str(c.sparsity.scheme) for c in site] for site in choices])
        self._rates = [np.log([[c.sparsity.rate] for c in site]) for site in choices]

    def similarity(self, rows: Sequence[Code], columns: Sequence[Code]) -> NDArray[np.float64]:
        """K_WL,h for h = 0, 1, 2: array [rounds + 1, rows, columns]."""
        left = [self._histogram_matrix(rows, h) for h in range(ROUNDS + 1)]
        right = left if rows is columns else [self._histogram_matrix(columns, h) for h in range(ROUNDS + 1)]
        return np.stack([(a @ b.T).toarray() for a, b in zip(left, right, strict=True)])

    def differences(self, rows: Sequence[Code], columns: Sequence[Code]) -> NDArray[np.float64]:
        """Mean over the sites of operator, scheme and log-rate differences: array [3, rows, columns]."""
        sites = len(self._rates)
        equal = [_gather(table, rows) @ _gather(table, columns).T / sites for table in (self._operators, self._schemes)]
        rates = cdist(_gather(self._rates, rows), _gather(self._rates, columns), "cityblock") / sites
        return np.stack([1 - equal[0], 1 - equal[1], rates])

    def _histogram_matrix(self, codes: Sequence[Code], h: int) -> csr_array:
        """phi_h of every code, scaled to length 1."""
        columns = np.array([self._histogram(code)[h] for code in codes])
        rows = np.repeat(np.arange(len(codes)), columns.shape[1])
        counts = csr_array((np.ones(columns.size), (rows, columns.ravel())), shape=(len(codes), len(self._columns)))
        counts.sum_duplicates()
        lengths = np.sqrt(counts.multiply(counts).sum(axis=1))
        return csr_array(counts.multiply(1 / lengths[:, None]))

    def _histogram(self, code: Code) -> list[list[int]]:
        """For every round the column of each node's label; equal labels share a column."""
        if code not in self._histograms:
            labels: list[Any] = self._space.labels(self._space.decode(code))
            rounds = []
            for _ in range(ROUNDS + 1):
                columns = [self._columns.setdefault(label, len(self._columns)) for label in labels]
                rounds.append(columns)
                labels = [
                    (columns[node], *sorted(columns[other] for other in self._neighbours[node]))
                    for node in range(len(columns))
                ]
            self._histograms[code] = rounds
        return self._histograms[code]


def _indicators(values: Sequence[Sequence[str]]) -> list[NDArray[np.float64]]:
    """One-hot rows of each site's choices."""
    names = sorted({value for site in values for value in site})
    return [np.array([[float(value == name) for name in names] for value in site]) for site in values]


def _gather(tables: Sequence[NDArray[np.float64]], codes: Sequence[Code]) -> NDArray[np.float64]:
    """The rows that the codes choose at each site, side by side: array [codes, sites * width]."""
    indices = np.array(codes)
    return np.concatenate([table[indices[:, site]] for site, table in enumerate(tables)], axis=1)


class CandidateKernel(gpytorch.kernels.Kernel):  # type: ignore[misc]
    """K of this module for N candidates of a fixed list, which inputs [..., n, 1] name by index.

    Each can be compared with the first M of the list, and with itself: that is all that marginal posteriors take.

    Args:
        similarity: K_WL,h of the list with its first M: [rounds + 1, N, M].
        differences: mean operator, scheme and log-rate differences of the same: [3, N, M].
    """

    pairs: Tensor

    def __init__(self, similarity: Tensor, differences: Tensor) -> None:
        super().__init__()
        self._graphs, _, self._others = similarity.shape
        itself = torch.tensor([1.0] * self._graphs + [0.0] * len(differences))[:, None, None]
        pairs = torch.cat([similarity, differences])
        pairs = torch.cat([pairs, itself.to(pairs).expand(-1, pairs.shape[1], 1)], -1).permute(1, 2, 0).contiguous()
        self.register_buffer("pairs", pairs, persistent=False)
        self.register_parameter("logits", torch.nn.Parameter(pairs.new_zeros(self._graphs + 1)))
        self.register_parameter("raw_decays", torch.nn.Parameter(pairs.new_zeros(3)))
        self.register_constraint("raw_decays", GreaterThan(LEAST))
        self.initialize(raw_decays=self.raw_decays_constraint.inverse_transform(pairs.new_tensor(DECAYS)))
        self.register_prior("logits_prior", NormalPrior(0.0, 1.0), "logits")
        self.register_prior("decays_prior", LogNormalPrior(0.7, 1.0), lambda kernel: kernel.decays)

    @property
    def weights(self) -> Tensor:
        """w_0, ..., w_H, w_P; they add up to 1."""
        return torch.softmax(self.logits, -1)

    @property
    def decays(self) -> Tensor:
        """l1, l2, l3."""
        return cast(Tensor, self.raw_decays_constraint.transform(self.raw_decays))

    def forward(
        self, x1: Tensor, x2: Tensor, diag: bool = False, last_dim_is_batch: bool = False, **params: Any
    ) -> Tensor:
        rows, columns = x1[..., 0].long(), x2[..., 0].long().clamp(max=self._others)
        if not diag:
            rows, columns = rows[..., :, None], columns[..., None, :]
        pairs = self.pairs[rows, columns]
        similarity, differences = pairs[..., : self._graphs], pairs[..., self._graphs :]
        return similarity @ self.weights[:-1] + self.weights[-1] * torch.exp(-(differences @ self.decays))
