import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from supernet.initialisation import mixing_matrix, start_alike
from supernet.operators import make_operator
from supernet.site import Site


def output(operator: str, mixing: Tensor, images: Tensor) -> Tensor:
    """The operator on smooth images, batch norm and rectifier between its convolutions."""
    site = Site("0.0", 0, mixing.shape[1], mixing.shape[0], 1, images.shape[-1], False, "relu")
    convs = [
        nn.Conv2d(
            shape.in_channels,
            shape.out_channels,
            shape.kernel,
            padding=shape.kernel // 2,
            groups=shape.in_channels if shape.kind == "depthwise" else 1,
            bias=False,
        )
        for shape in make_operator(operator).convs(site)
    ]
    start_alike(convs, mixing)
    for i, conv in enumerate(convs):
        images = F.batch_norm(conv(images), None, None, training=True)
        images = F.relu(images) if i < len(convs) - 1 else images
    return images.flatten()


@pytest.mark.parametrize("operator", ["conv3x3", "dw3x3_pw", "pw_dw3x3_pw(3)", "pw_dw3x3_pw(6)"])
def test_all_operators_start_near_the_1x1_convolution(operator: str) -> None:
    """Independent weights would correlate by 0 on average, within 0.1 here."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mixing = mixing_matrix(12, 16)
        images = F.avg_pool2d(torch.randn(8, 16, 16, 16), 3, stride=1)
        correlation = torch.corrcoef(torch.stack([output("conv1x1", mixing, images), output(operator, mixing, images)]))
        unrelated = torch.corrcoef(
            torch.stack([output("conv1x1", mixing_matrix(12, 16), images), output(operator, mixing, images)])
        )
    assert correlation[0, 1] > 0.5
    assert unrelated[0, 1].abs() < 0.3
