"""Which choices a site may have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pruning import Scheme, Sparsity
from supernet.candidate import Choice
from supernet.operators import Operator
from supernet.site import Site


def refuses(sites: Sequence[Site], index: int, operator: Operator, scheme: Scheme) -> str | None:
    """None, or the reason in words why the operator cannot have the scheme at `sites[index]`.

    Depthwise convolutions stay dense. Filters of a site's output, and channels of its input, can only go where no
    shortcut needs them, or where the site that the shortcuts start from narrows all that they carry.
    """
    site = sites[index]
    if (reason := operator.refuses(site)) is not None:
        return reason
    if not operator.convs(site):
        return f"{operator} has no weights to prune"
    shapes = _pruned_shapes(operator, site, scheme)
    if not shapes:
        return f"{scheme} is not offered on {operator}"
    narrows_output = scheme.removes_filters and operator.filter_conv(site) == len(operator.convs(site)) - 1
    if narrows_output and not _may_narrow(sites, index + 1):
        return "a shortcut needs all channels of the site's output"
    if scheme.removes_channels and not _may_narrow(sites, index):
        return "a shortcut needs all channels of the site's input"
    return next((reason for reason in map(scheme.supports, shapes) if reason is not None), None)


def legal_choices(
    sites: Sequence[Site],
    index: int,
    operators: Iterable[Operator],
    schemes: Sequence[Scheme],
    rates: Iterable[float],
) -> Iterator[Choice]:
    """The canonical choices of `sites[index]`; of rates that keep equally many groups, the lowest."""
    site = sites[index]
    menu = set(rates)
    for operator in operators:
        if operator.refuses(site) is not None:
            continue
        yield Choice(str(operator))
        for scheme in schemes:
            if refuses(sites, index, operator, scheme) is not None:
                continue
            shapes = _pruned_shapes(operator, site, scheme)
            seen = {tuple(scheme.group_count(shape) for shape in shapes)}
            for rate in scheme.rates(menu):
                counts = tuple(scheme.kept_groups(shape, rate) for shape in shapes)
                if counts not in seen:
                    seen.add(counts)
                    yield Choice(str(operator), Sparsity(scheme, rate))


def _pruned_shapes(operator: Operator, site: Site, scheme: Scheme) -> list[tuple[int, ...]]:
    """Weights whose groups the scheme removes at the site's rate; the widths of others follow."""
    convs = operator.convs(site)
    if scheme.removes_filters or scheme.removes_channels:
        index = operator.filter_conv(site) if scheme.removes_filters else operator.channel_conv(site)
        return [] if index is None else [convs[index].weight_shape]
    return [conv.weight_shape for conv in convs if conv.kind == "conv"]


def _may_narrow(sites: Sequence[Site], index: int) -> bool:
    """Whether the site in front of `sites[index]` decides alone which channels there are between the two."""
    before, behind = sites[max(0, index - 1) : index], sites[index : index + 1]
    if any(site.shortcut for site in before):
        return False
    return not any(site.shortcut for site in behind) or any(site.narrows for site in before)
