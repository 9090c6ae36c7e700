"""A network of the user's own in the role of a supernet: its weights, and those of the operators that may replace."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pruning import Member, Sparsity
from supernet.candidate import Candidate, Choice
from supernet.hardening import harden
from supernet.model_space import LayerSite, ModelSpace, WidthSite
from supernet.narrowing import Alive, cut, is_depthwise, silence, survivors
from supernet.replacement import make_replacement
from training import require_classifier

Chains = dict[str, tuple[str, ...]]


class OwnModel(nn.Module):
    """Holds a copy of the network, with hard activations in the place of soft ones (see `harden`).

    A candidate is cut from that copy, which is never changed by it.

    Args:
        model: images [N, C, H, W] -> logits [N, classes].
        config: of its `ModelSpace`.
        input_shape: (channels, height, width) of a picture.
        classes: of the dataset.

    Raises:
        CaptureFailed, InvalidSpace, NothingToSearch: see `ModelSpace`.
        DataMismatch: the model cannot be run on such pictures, or gives something else than a logit a class.
    """

    def __init__(self, model: nn.Module, config: Mapping[str, Any], input_shape: Sequence[int], classes: int) -> None:
        super().__init__()
        example = torch.zeros(1, *input_shape)
        require_classifier(model, input_shape, classes)
        self.network = copy.deepcopy(model)
        self.hardening = harden(self.network, example)
        self.space = ModelSpace(self.network, example, config)
        self.replacements = nn.ModuleDict(
            {
                str(index): nn.ModuleDict(
                    {text: make_replacement(site.layer, convs) for text, convs in site.replacements.items()}
                )
                for index, site in enumerate(self.space.sites)
                if isinstance(site, LayerSite) and isinstance(site.layer, nn.Conv2d) and site.replacements
            }
        )

    def forward(self, x: Tensor, candidate: Candidate) -> Tensor:
        """Images [N, C, H, W] -> logits [N, classes] of one candidate, whose channels are silenced, not removed.

        Raises:
            InvalidCandidate: the candidate is not of the space.
        """
        network, chains = self._assembled(candidate)
        alive = self._alive(candidate, chains, network)
        silence(network, alive)
        for path, sparsity in self._masked(candidate, chains, network).items():
            _mask(network.get_submodule(path).weight, sparsity, alive.get(path, Alive()))
        return network(x)  # type: ignore[no-any-return]

    def extract(self, candidate: Candidate, *, masked: bool = True) -> nn.Module:
        """See `supernet.extract`."""
        network, chains = self._assembled(candidate)
        cut(network, self._alive(candidate, chains, network))
        if masked:
            for path, sparsity in self._masked(candidate, chains, network).items():
                _mask(network.get_submodule(path).weight, sparsity, Alive())
        return network

    def plan(self, candidate: Candidate) -> dict[str, Sparsity]:
        """The sparsity of each layer of the extracted network that is masked, by module name."""
        network = self.extract(candidate, masked=False)
        chains = self._chains(candidate)
        plan = self._masked(candidate, chains, network)
        shapes = {path: tuple(network.get_submodule(path).get_parameter("weight").shape) for path in plan}
        return {
            path: sparsity
            for path, sparsity in plan.items()
            if sparsity.scheme.kept_groups(shapes[path], sparsity.rate) < sparsity.scheme.group_count(shapes[path])
        }

    def places(self, site: int) -> tuple[str, ...]:
        """The layer of the site, or the layers that read the channels whose width it is."""
        at = self.space.sites[site]
        return (at.name,) if isinstance(at, LayerSite) else tuple(member.module for member in _readers(at))

    def stand_ins(self, site: int, choice: Choice) -> tuple[nn.Module, ...]:
        """Copies of what stands in these places under a choice, in training mode; channels that go are not read."""
        at = self.space.sites[site]
        if isinstance(at, WidthSite):
            kept = self._kept(at, choice)
            return tuple(self._reading(member, kept) for member in _readers(at))
        if choice.operator == "keep":
            layer = copy.deepcopy(self.network.get_submodule(at.name))
            masked = [layer]
        else:
            family = self.replacements[str(site)]
            assert isinstance(family, nn.ModuleDict)
            layer = copy.deepcopy(family[choice.operator])
            masked = list(layer.children())
        if not choice.sparsity.dense:
            for module in masked:
                if not is_depthwise(module):
                    _mask(module.weight, choice.sparsity, Alive())
        return (layer.train(),)

    def _reading(self, member: Member, kept: Tensor) -> nn.Module:
        """A copy of a layer that reads only the channels that stay."""
        layer = copy.deepcopy(self.network.get_submodule(member.module))
        with torch.no_grad():
            layer.get_parameter("weight")[:, ~kept[member.units]] = 0
        return layer.train()

    def _kept(self, site: WidthSite, choice: Choice) -> Tensor:
        """Which channels of a width stay, bool [size], chosen by the weights of the whole network."""
        if choice.sparsity.dense:
            return torch.ones(site.group.size, dtype=torch.bool)
        scores = site.group.scores(self.network)
        return choice.sparsity.scheme.select(scores, (site.group.size, 1), choice.sparsity.rate)

    def _assembled(self, candidate: Candidate) -> tuple[nn.Module, Chains]:
        """A copy of the network with the candidate's operators, all channels and all weights."""
        self.space.validate(candidate)
        network = copy.deepcopy(self.network).train(self.training)
        chains = self._chains(candidate)
        for index, (site, choice) in enumerate(zip(self.space.sites, candidate.choices, strict=True)):
            if site.name in chains and isinstance(site, LayerSite):
                family = self.replacements[str(index)]
                assert isinstance(family, nn.ModuleDict)
                parent, _, name = site.name.rpartition(".")
                setattr(network.get_submodule(parent), name, copy.deepcopy(family[choice.operator]))
        return network, chains

    def _chains(self, candidate: Candidate) -> Chains:
        """Paths of the convolutions in the place of each layer that is replaced."""
        return {
            site.name: tuple(f"{site.name}.{i}" for i in range(len(site.replacements[choice.operator])))
            for site, choice in zip(self.space.sites, candidate.choices, strict=True)
            if isinstance(site, LayerSite) and choice.operator != "keep"
        }

    def _alive(self, candidate: Candidate, chains: Chains, network: nn.Module) -> dict[str, Alive]:
        """The widths, chosen by the weights of the whole network, whatever the other sites have."""
        decided = []
        for site, choice in zip(self.space.sites, candidate.choices, strict=True):
            if isinstance(site, WidthSite) and not choice.sparsity.dense:
                decided.append((site.group, self._kept(site, choice)))
        return survivors(decided, chains, network)

    def _masked(self, candidate: Candidate, chains: Chains, network: nn.Module) -> dict[str, Sparsity]:
        """Sparsity of each weight that has one, by module path."""
        found = {}
        for site, choice in zip(self.space.sites, candidate.choices, strict=True):
            if isinstance(site, LayerSite) and not choice.sparsity.dense:
                for path in chains.get(site.name, (site.name,)):
                    if not is_depthwise(network.get_submodule(path)):
                        found[path] = choice.sparsity
        return found


def _readers(site: WidthSite) -> list[Member]:
    return [member for member in site.group.members if (member.tensor, member.axis) == ("weight", 1)]


@torch.no_grad()
def _mask(weight: Any, sparsity: Sparsity, alive: Alive) -> None:
    """Masks, in place, what is alive of a weight; the rest becomes zero."""
    rows = torch.arange(weight.shape[0]) if alive.rows is None else alive.rows.nonzero()[:, 0]
    columns = torch.arange(weight.shape[1]) if alive.columns is None else alive.columns.nonzero()[:, 0]
    mask = torch.zeros_like(weight)
    mask[rows[:, None], columns] = sparsity.scheme.mask(weight[rows[:, None], columns], sparsity.rate).to(weight.dtype)
    weight.mul_(mask)
