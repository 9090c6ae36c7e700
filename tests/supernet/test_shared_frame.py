import torch

from supernet import Candidate, Choice, SearchSpace, SuperNet, extract
from supernet.shared_frame import SharedFrame


def shaken(space: SearchSpace) -> SharedFrame:
    """A frame whose two sets have nothing in common."""
    frame = SharedFrame(space.frame, space.sites[-1].out_channels)
    with torch.no_grad():
        for weight in frame.parameters():
            weight.normal_()
    return frame


def test_both_sets_start_alike(small: SearchSpace) -> None:
    frame = SharedFrame(small.frame, small.sites[-1].out_channels)
    assert frame.at(0).keys() == frame.at(1).keys()
    assert all(torch.equal(tensor, frame.at(1)[name]) for name, tensor in frame.at(0).items())


def test_weights_lie_between_the_two_sets_in_proportion(small: SearchSpace) -> None:
    frame = shaken(small)
    smallest, largest = dict(frame.smallest.named_parameters()), dict(frame.largest.named_parameters())
    assert not any(torch.equal(weight, largest[name]) for name, weight in smallest.items())
    for size in (0.0, 0.3, 1.0):
        tensors = frame.at(size)
        for name, weight in smallest.items():
            torch.testing.assert_close(tensors[name], (1 - size) * weight + size * largest[name])


def test_a_gradient_reaches_each_set_by_its_share(small: SearchSpace) -> None:
    frame = shaken(small)
    frame.at(0.25)["stem.conv1.weight"].sum().backward()
    shares = [dict(ends.named_parameters())["stem.conv1.weight"].grad for ends in (frame.smallest, frame.largest)]
    for gradient, share in zip(shares, (0.75, 0.25), strict=True):
        assert gradient is not None
        torch.testing.assert_close(gradient, torch.full_like(gradient, share))


def test_the_ends_leave_the_set_of_the_other_end_alone(small: SearchSpace) -> None:
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for candidate, touched in ((small.smallest(), "smallest"), (small.largest(), "largest")):
        supernet = SuperNet(small)
        supernet(images, candidate).square().sum().backward()
        reached = {
            name.split(".")[1]
            for name, weight in supernet.frame.named_parameters(prefix="frame")
            if weight.grad is not None
        }
        assert reached == {touched}


def test_a_network_that_is_cut_out_has_the_weights_of_its_size(small: SearchSpace) -> None:
    supernet = SuperNet(small)
    supernet.frame.load_state_dict(shaken(small).state_dict())
    candidate = Candidate((Choice("conv1x1"), *small.largest().choices[1:]))
    size = small.relative_size(candidate)
    assert 0 < size < 1
    state = extract(supernet, candidate).state_dict()
    for name, tensor in supernet.frame.at(size).items():
        assert torch.equal(state[name], tensor)
