"""Attention where everything is masked, and with dropout."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compiler import compile_model
from compiler.errors import UnsupportedOperator

KNOWN = torch.ones(6, 6, dtype=torch.bool).tril(-1)
"""A mask of which the first row allows nothing."""


class Attention(nn.Module):
    """Of a sequence to itself, its mask made in one of several ways."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        masks = {
            "truths": KNOWN,
            "numbers": torch.zeros(6, 6).masked_fill(~KNOWN, -math.inf),
            "columns": KNOWN[:, :1],
            "truths of the input": x[:, :, :6] > x[:, :1, 6:7],
            "numbers of the input": torch.where(x[:, :, :6] > x[:, :1, 6:7], x[:, :, :6], -math.inf),
        }
        return F.scaled_dot_product_attention(x, x, x, masks[self.form])


@pytest.mark.parametrize("form", ["truths", "numbers", "columns", "truths of the input", "numbers of the input"])
def test_what_may_look_at_nothing_gives_zeros(form: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 19)
    x[:, 0, :6], x[:, 0, 6] = -1.0, 0.0
    model = Attention(form)
    expected = model(x)
    assert (expected[:, 0] == 0).all()
    assert (expected[:, 2:] != 0).any()
    assert float((compile_model(model, x)(x) - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


class Encoder(nn.Module):
    """Words of which 0 is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(self.words(tokens), src_key_padding_mask=tokens == 0)


def test_a_sample_of_nothing_but_padding_leaves_no_nan() -> None:
    torch.manual_seed(0)
    model = Encoder().eval()
    tokens = torch.tensor([[3, 1, 4, 0, 0], [0, 0, 0, 0, 0]])
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the single kernel for a layer may leave padding out
    try:
        with torch.no_grad():
            expected = model(tokens)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    assert torch.isfinite(expected).all()
    found = compile_model(model, tokens)(tokens)
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


def test_a_softmax_of_nothing_is_nan_as_torchs_is() -> None:
    x = torch.tensor([[[1.0, -math.inf], [-math.inf, -math.inf]]])
    torch.testing.assert_close(compile_model(nn.Softmax(2), x)(x), x.softmax(2), equal_nan=True)


class Dropping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)


def test_attention_that_drops_at_random_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedOperator, match="drops elements at random; pass dropout_p=0"):
        compile_model(Dropping(), torch.randn(1, 6, 8))
