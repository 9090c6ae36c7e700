"""The weight-sharing network that holds every candidate of a space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning import Sparsity
from supernet.activations import ACTIVATIONS
from supernet.candidate import Candidate, Choice
from supernet.chain import Node
from supernet.errors import InvalidSpace
from supernet.initialisation import mixing_matrix, start_alike
from supernet.network import Block, Network, masked_layers
from supernet.operators import Conv, Operator
from supernet.selection import Selector
from supernet.shared_frame import SharedFrame
from supernet.site import Site
from supernet.space import SearchSpace
from training import load_checkpoint, save_checkpoint

FORMAT = "npas supernet 2"


class SuperNet(nn.Module):
    """One set of weights for each site and operator family; a candidate is a view of them, never a copy.

    Operators of one family use the first channels of the widest. Schemes and rates have no weights of their own: masks
    follow from the shared dense weights. Stem, head and classifier depend on the candidate's size. Removed channels are
    multiplied by zero behind the batch norm, which is what their physical removal in `extract` gives.

    Args:
        space: the candidates.
        seed: of the initial weights; torch's global random state is left as it was.
    """

    def __init__(self, space: SearchSpace, *, seed: int = 0) -> None:
        super().__init__()
        self.space = space
        frame = space.frame
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.frame = SharedFrame(frame, space.sites[-1].out_channels)
            self.sites = nn.ModuleList(_families(space.operators, site) for site in space.sites)

    def forward(self, x: Tensor, candidate: Candidate, *, selector: Selector | None = None) -> Tensor:
        """Images [N, C, H, W] -> logits [N, classes] of one candidate.

        Args:
            selector: made by `self.selector()`; one that is kept between calls remembers masks.

        Raises:
            InvalidCandidate: the candidate is not of the space.
        """
        chain = self.space.chain(candidate)
        selection = (selector or self.selector())(chain)
        frame = self.frame.at(self.space.relative_size(candidate))
        entry = x
        for node, mask in zip(chain.convolutions, selection.masks, strict=True):
            if node.conv == 0:
                entry = x
            x = self._convolve(x, node, mask, frame)
            if (alive := selection.channels[node.target]) is not None:
                x = x * alive.to(x.dtype).view(1, -1, 1, 1)
            if node.layer.residual:
                x = x + entry
            x = ACTIVATIONS[node.layer.activation]()(x)
        return F.linear(x.mean((2, 3)), frame["classifier.weight"], frame["classifier.bias"])

    def extract(self, candidate: Candidate, *, masked: bool = True) -> Network:
        """See `supernet.extract`."""
        chain = self.space.chain(candidate)
        selection = self.selector()(chain)
        state: dict[str, Tensor] = {}
        with torch.no_grad():
            frame = self.frame.at(self.space.relative_size(candidate))
            for node, mask in zip(chain.convolutions, selection.masks, strict=True):
                weight, bn = self._tensors(node, frame)
                rows = _survivors(selection.channels[node.target], node.layer.out_channels)
                columns = _survivors(selection.channels[node.source], weight.shape[1])
                if mask is not None and masked:
                    weight = weight * mask
                weight = weight[rows] if node.layer.kind == "depthwise" else weight[rows][:, columns]
                state[f"{node.layer.name}.weight"] = weight.clone()
                norm = f"{node.layer.block}.bn{node.conv + 1}"
                for key, tensor in bn.items():
                    state[f"{norm}.{key}"] = (tensor[rows] if tensor.ndim else tensor).clone()
            for key in ("classifier.weight", "classifier.bias"):
                state[key] = frame[key].clone()
        return Network.with_state(chain.layers, state).train(self.training)

    def places(self, site: int) -> tuple[str, ...]:
        """The block of the site; nothing where the largest candidate has none."""
        return (f"sites.{site}",) if self.space.reference.convs(self.space.sites[site]) else ()

    def stand_ins(self, site: int, choice: Choice) -> tuple[nn.Module, ...]:
        """A copy of the block under a choice, in training mode, with all its channels; those that go give zeros."""
        if not self.places(site):
            return ()
        choices = self.space.largest().choices
        chain = self.space.chain(Candidate((*choices[:site], choice, *choices[site + 1 :])))
        selection = self.selector()(chain)
        of_site = [i for i, node in enumerate(chain.convolutions) if node.layer.site == site]
        if not of_site:
            return (nn.Identity(),)
        state: dict[str, Tensor] = {}
        with torch.no_grad():
            for i in of_site:
                node, mask = chain.convolutions[i], selection.masks[i]
                weight, alive = self.weight(node), selection.channels[node.target]
                state[f"conv{node.conv + 1}.weight"] = (weight if mask is None else weight * mask).clone()
                for key, tensor in self._of_site(node)[1].state_dict().items():
                    width = node.layer.out_channels
                    value = (tensor[:width] if tensor.ndim else tensor).clone()
                    if alive is not None and key in ("weight", "bias"):
                        value[~alive] = 0
                    state[f"bn{node.conv + 1}.{key}"] = value
        with torch.device("meta"):
            block = Block([chain.convolutions[i].layer for i in of_site])
        block.load_state_dict(state, assign=True)
        return (block.train(),)

    def plan(self, candidate: Candidate) -> dict[str, Sparsity]:
        """The sparsity of each layer of the extracted network that is masked, by module name."""
        return masked_layers(self.space.layers(candidate))

    def _convolve(self, x: Tensor, node: Node, mask: Tensor | None, frame: Mapping[str, Tensor]) -> Tensor:
        layer = node.layer
        weight, bn = self._tensors(node, frame)
        x = F.conv2d(
            x,
            weight if mask is None else weight * mask,
            stride=layer.stride,
            padding=layer.kernel // 2,
            groups=layer.in_channels if layer.kind == "depthwise" else 1,
        )
        width = layer.out_channels
        return F.batch_norm(
            x,
            bn["running_mean"][:width],
            bn["running_var"][:width],
            bn["weight"][:width],
            bn["bias"][:width],
            training=self.training,
            momentum=0.1,
            eps=1e-5,
        )

    def save(self, path: Path | str) -> None:
        """Writes space and weights to one safetensors file, in one step."""
        save_checkpoint(path, {"format": FORMAT, "space": self.space.to_dict(), "state": self.state_dict()})

    @classmethod
    def load(cls, path: Path | str) -> SuperNet:
        """The supernet of a file that `save` wrote, on the CPU.

        Raises:
            CheckpointNotFound, CheckpointCorrupt: there is no such file, or it is damaged.
            InvalidSpace: the file is a checkpoint of something else.
        """
        content = load_checkpoint(path)
        if content.get("format") != FORMAT:
            raise InvalidSpace(
                f"{path} holds no supernet of format {FORMAT!r} but {content.get('format', 'something else')!r}; "
                "train the supernet anew, in another run directory"
            )
        supernet = cls(SearchSpace.from_dict(content["space"]))
        supernet.load_state_dict(content["state"])
        return supernet

    def selector(self) -> Selector:
        """Selects channels and masks by this network's weights."""
        return Selector(self.weight)

    def weight(self, node: Node) -> Tensor:
        """A site's shared dense weight, a view [out, in / groups, kernel, kernel] of the widest of its family."""
        rows, columns = node.layer.weight_shape[:2]
        return self._of_site(node)[0].weight[:rows, :columns]

    def _of_site(self, node: Node) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
        """The shared modules that a site's node is a view of."""
        assert node.operator is not None
        family = self.get_submodule(f"sites.{node.layer.site}.{node.operator.family}")
        conv, bn = family.get_submodule(f"conv{node.conv + 1}"), family.get_submodule(f"bn{node.conv + 1}")
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(bn, nn.BatchNorm2d)
        return conv, bn

    def _tensors(self, node: Node, frame: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Weight of any convolution, and parameters and buffers of the batch norm behind it, all its channels."""
        if node.layer.site is not None:
            bn = self._of_site(node)[1]
            return self.weight(node), dict(bn.named_parameters()) | dict(bn.named_buffers())
        block = node.layer.block
        norm = f"{block}.bn1."
        return frame[f"{block}.conv1.weight"], {
            key.removeprefix(norm): tensor for key, tensor in frame.items() if key.startswith(norm)
        }


def _survivors(alive: Tensor | None, width: int) -> Tensor | slice:
    return slice(width) if alive is None else alive.nonzero().squeeze(1)


def _families(operators: Iterable[Operator], site: Site) -> nn.ModuleDict:
    """The shared weights of a site: for each family those of its widest operator."""
    widest: dict[str, tuple[Conv, ...]] = {}
    for operator in operators:
        convs = operator.convs(site)
        if convs and operator.refuses(site) is None:
            widest[operator.family] = max(widest.get(operator.family, ()), convs, key=_width)
    mixing = mixing_matrix(site.out_channels, site.in_channels)
    return nn.ModuleDict({family: _shared(convs, mixing) for family, convs in widest.items()})


def _width(convs: Sequence[Conv]) -> int:
    return sum(conv.out_channels for conv in convs)


def _shared(shapes: Sequence[Conv], mixing: Tensor) -> nn.ModuleDict:
    convs = [
        nn.Conv2d(
            shape.in_channels,
            shape.out_channels,
            shape.kernel,
            groups=shape.in_channels if shape.kind == "depthwise" else 1,
            bias=False,
        )
        for shape in shapes
    ]
    start_alike(convs, mixing)
    modules: dict[str, nn.Module] = {}
    for i, conv in enumerate(convs, start=1):
        modules |= {f"conv{i}": conv, f"bn{i}": nn.BatchNorm2d(conv.out_channels)}
    return nn.ModuleDict(modules)
