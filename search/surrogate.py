"""Which candidate to evaluate next: a Gaussian process over the history, and expected improvement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.models import SingleTaskGP
from botorch.optim.fit import fit_gpytorch_mll_scipy
from botorch.settings import validate_input_scaling
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import Kernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.means import ZeroMean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from numpy.typing import NDArray

from search.encoding import Code
from search.history import History, Observation
from search.kernel import LEAST, CandidateKernel, Features
from search.least_distortion import log_norms
from search.milestones import RARELY, milestone
from supernet import ChoiceSpace, Distortions

FIT_ITERATIONS = 25
MOST = 500
MOST_FITTED = 250
LEAST_NOISE = 1e-4
SPREAD = 1e-9
RESOLUTION = 1e-3


class Surrogate:
    """Gaussian process with the kernel of `search.kernel`.

    Where distortions are known, a kernel of the distance between the logarithms of their sums over the sites is added:
    candidates whose outputs are moved alike are expected to be alike, whatever it is that moves them.

    Where it knows nothing it expects the average of what it was told: a fitted mean comes to lie far below the good
    candidates that most of a history consists of, and keeps the search from leaving their surroundings.

    It is conditioned on at most 500 evaluations (see `telling`), so that a proposal late in a long search costs no more
    than one in the middle. Hyper-parameters maximise the marginal likelihood (with weak priors) of 250 of the first
    `fitted_observations`, and start from the same values every time. Everything is a function of the history.
    """

    def __init__(self, space: ChoiceSpace, distortions: Distortions | None = None) -> None:
        self._features = Features(space)
        self._distortions = distortions
        self._fitted: tuple[Observation, ...] = ()
        self._hyperparameters: dict[str, Any] = {}

    def log_expected_improvement(self, history: History, pool: Sequence[Code]) -> NDArray[np.float64]:
        """log EI of each code (Ament et al. 2023, arXiv 2310.20708) over the best posterior mean: array [pool].

        All evaluations teach the process; the best is that of the candidates under the budget. One that is being
        evaluated counts as if it had returned its posterior mean (the kriging believer of Ginsbourger et al. 2010), so
        that parallel proposals differ.
        """
        observations = telling(history.evaluated, MOST)
        observed = [observation.code for observation in observations]
        codes = [*observed, *history.pending, *pool]
        targets = torch.from_numpy(normalised([observation.reward for observation in observations]))
        admitted = {observation.code for observation in history.observations}.union(history.pending)
        rivals = [index for index, code in enumerate(codes[: len(observed) + len(history.pending)]) if code in admitted]
        with one_thread():
            covariance, inputs = self._covariance(codes, len(observed) + len(history.pending)), self._inputs(codes)
            hyperparameters = self._fit(history.evaluated)
            model = _model(covariance, inputs, targets, hyperparameters)
            if history.pending:
                believed = _mean(model, inputs[len(observed) : len(observed) + len(history.pending)])
                targets = torch.cat([targets, believed])
                model = _model(covariance, inputs, targets, hyperparameters)
            best = _mean(model, inputs[: len(targets)])[rivals].max()
            with torch.no_grad():
                scores = LogExpectedImprovement(model, best_f=best)(inputs[len(targets) :, None])
        return np.asarray(scores.numpy(), dtype=np.float64)

    def forecast(
        self, observations: tuple[Observation, ...], codes: Sequence[Code]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and deviation of what evaluations of `codes` would give, noise included, in units of `normalised`."""
        used = telling(observations, MOST)
        every = [*(observation.code for observation in used), *codes]
        targets = torch.from_numpy(normalised([observation.reward for observation in used]))
        with one_thread():
            inputs = self._inputs(every)
            model = _model(self._covariance(every, len(used)), inputs, targets, self._fit(observations))
            with torch.no_grad():
                posterior = model.posterior(inputs[len(used) :, None], observation_noise=True)
                return posterior.mean.numpy()[:, 0, 0], posterior.variance.sqrt().numpy()[:, 0, 0]

    def _covariance(self, codes: Sequence[Code], known: int) -> CandidateKernel:
        """The kernel of all codes with the first `known` of them."""
        return CandidateKernel(
            torch.from_numpy(self._features.similarity(codes, codes[:known])),
            torch.from_numpy(self._features.differences(codes, codes[:known])),
        )

    def _inputs(self, codes: Sequence[Code]) -> torch.Tensor:
        """A row a code: its number, and what it distorts, if that is known: [codes, 1 or 1 + powers]."""
        numbers = torch.arange(len(codes), dtype=torch.double)[:, None]
        if self._distortions is None:
            return numbers
        return torch.cat([numbers, torch.from_numpy(log_norms(self._distortions, codes))], dim=1)

    def _fit(self, observations: tuple[Observation, ...]) -> dict[str, Any]:
        used = telling(observations[: fitted_observations(len(observations))], MOST_FITTED)
        if used != self._fitted:
            targets = torch.from_numpy(normalised([observation.reward for observation in used]))
            codes = [observation.code for observation in used]
            model = _model(self._covariance(codes, len(codes)), self._inputs(codes), targets)
            model.train()
            likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
            fit_gpytorch_mll_scipy(likelihood, options={"maxiter": FIT_ITERATIONS})
            self._fitted, self._hyperparameters = used, model.state_dict()
        return self._hyperparameters


def fitted_observations(count: int) -> int:
    """How many of `count` observations hyper-parameters are fitted to: a new fit every 5, later less often."""
    return max(min(count, 5), milestone(count, RARELY))


def telling(observations: tuple[Observation, ...], most: int) -> tuple[Observation, ...]:
    """At most so many of them, in order: the best, then the latest, half of the number each."""
    if len(observations) <= most:
        return observations
    ranked = sorted(range(len(observations)), key=lambda index: -observations[index].reward)
    kept = set(ranked[: most // 2])
    latest = (index for index in reversed(range(len(observations))) if index not in kept)
    kept.update(islice(latest, most - len(kept)))
    return tuple(observations[index] for index in sorted(kept))


def normalised(rewards: Sequence[float]) -> NDArray[np.float64]:
    """Rewards with mean 0 and deviation 1, on a scale that is finest at the best; 0 without spread.

    -log(best - reward + d), d being a quarter of the better half's deviation: what is far behind the best differs less
    than what is next to it, and the smoothness of the process is that among good candidates.
    """
    values = np.asarray(rewards, dtype=np.float64)
    spread = float(np.ptp(values))
    if spread <= SPREAD * max(1.0, float(np.abs(values).max())):
        return np.zeros_like(values)
    better = values[values >= np.median(values)]
    targets = -np.log(values.max() - values + max(better.std() / 4, RESOLUTION * spread))
    return np.asarray((targets - targets.mean()) / targets.std())


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: more only get in each other's way on matrices this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _model(
    covariance: CandidateKernel,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    hyperparameters: dict[str, Any] | None = None,
) -> SingleTaskGP:
    """The process given the first of the inputs, as many as there are targets."""
    likelihood = GaussianLikelihood(
        noise_prior=LogNormalPrior(-4.0, 1.0),
        noise_constraint=GreaterThan(LEAST_NOISE, transform=None, initial_value=1e-2),
    )
    kernel: Kernel = _scaled(covariance)
    if inputs.shape[1] > 1:
        kernel += _scaled(
            RBFKernel(active_dims=tuple(range(1, inputs.shape[1])), lengthscale_prior=LogNormalPrior(0.0, 1.0))
        )
    with validate_input_scaling(False):
        model = SingleTaskGP(
            inputs[: len(targets)],
            targets[:, None],
            likelihood=likelihood,
            covar_module=kernel,
            mean_module=ZeroMean(),
            outcome_transform=None,
        )
    if hyperparameters is not None:
        model.load_state_dict(hyperparameters)
    return model.eval()


def _scaled(kernel: Kernel) -> ScaleKernel:
    return ScaleKernel(
        kernel,
        outputscale_prior=LogNormalPrior(0.0, 1.0),
        outputscale_constraint=GreaterThan(LEAST),  # a step of the optimizer may go far enough to make it 0
    )


def _mean(model: SingleTaskGP, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model.posterior(inputs).mean)[:, 0]
