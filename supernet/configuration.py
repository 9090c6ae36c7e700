"""A search space from a configuration: stages of equal sites between a stem and a head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pruning import PruningError, make_scheme
from supernet.chain import Frame
from supernet.errors import InvalidSpace
from supernet.operators import make_operator
from supernet.site import Site
from supernet.space import SearchSpace

_KEYS = ("name", "stem", "stages", "head", "operators", "schemes", "rates", "reference")
_STEM_KEYS = ("channels", "stride", "activation")
_STAGE_KEYS = ("sites", "channels", "stride", "shortcut", "activation")
_OPTIONAL_STAGE_KEYS = ("narrows",)
_HEAD_KEYS = ("channels", "activation")


def make_space(config: Mapping[str, Any], input_shape: Sequence[int], classes: int) -> SearchSpace:
    """The search space of a configuration such as `conf/space/tiny.yaml`.

    The first site of a stage has the stage's stride; with `shortcut` its later sites have shortcuts. With `narrows`
    the first site's pruned filters narrow the whole stage.

    Args:
        input_shape: (channels, height, width) of an image; height and width are equal.
        classes: number of outputs of the classifier.

    Raises:
        InvalidSpace: keys are missing or unknown, or values contradict each other.
        UnknownOperator: an operator is not registered.
        NoFeasibleOperator: no operator fits a site.
    """
    _check_keys("the space", config, _KEYS)
    stem, head = config["stem"], config["head"]
    _check_keys("the stem", stem, _STEM_KEYS)
    _check_keys("the head", head, _HEAD_KEYS)
    channels, height, width = input_shape
    if height != width:
        raise InvalidSpace(f"images are square, found {height}x{width}; pad or crop them in the dataset")
    frame = Frame(
        in_channels=channels,
        size=height,
        classes=classes,
        stem_channels=stem["channels"],
        stem_stride=stem["stride"],
        stem_activation=stem["activation"],
        head_channels=head["channels"],
        head_activation=head["activation"],
    )
    try:
        schemes = tuple(make_scheme(text) for text in config["schemes"])
    except PruningError as error:
        raise InvalidSpace(f"schemes of space {config['name']!r}: {error}") from error
    return SearchSpace(
        name=config["name"],
        frame=frame,
        sites=tuple(_sites(frame, config["stages"])),
        operators=tuple(make_operator(text) for text in config["operators"]),
        schemes=schemes,
        rates=tuple(float(rate) for rate in config["rates"]),
        reference=make_operator(config["reference"]),
    )


def _sites(frame: Frame, stages: Sequence[Mapping[str, Any]]) -> Iterator[Site]:
    channels, size = frame.stem_channels, (frame.size - 1) // frame.stem_stride + 1
    for stage, values in enumerate(stages):
        _check_keys(f"stage {stage}", values, _STAGE_KEYS, _OPTIONAL_STAGE_KEYS)
        for position in range(values["sites"]):
            site = Site(
                name=f"{stage}.{position}",
                stage=stage,
                in_channels=channels,
                out_channels=values["channels"],
                stride=values["stride"] if position == 0 else 1,
                size=size,
                shortcut=values["shortcut"] and position > 0,
                activation=values["activation"],
                narrows=position == 0 and values.get("narrows", False),
            )
            yield site
            channels, size = site.out_channels, site.output_size


def _check_keys(what: str, values: Mapping[str, Any], keys: Sequence[str], optional: Sequence[str] = ()) -> None:
    missing = [key for key in keys if key not in values]
    unknown = [str(key) for key in values if key not in (*keys, *optional)]
    if missing or unknown:
        raise InvalidSpace(
            f"{what} has the keys {', '.join((*keys, *optional))}; missing: {', '.join(missing) or 'none'}, "
            f"unknown: {', '.join(unknown) or 'none'}"
        )
