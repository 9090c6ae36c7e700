"""Spaces that the tests of this package share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from supernet import SearchSpace, make_space

_CONFIG = Path(__file__).parents[2] / "conf" / "space" / "tiny.yaml"


def _load() -> dict[str, Any]:
    config = OmegaConf.to_container(OmegaConf.load(_CONFIG))
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


@pytest.fixture
def tiny_config() -> dict[str, Any]:
    """The configuration that ships as `space=tiny`."""
    return _load()


@pytest.fixture(scope="session")
def tiny() -> SearchSpace:
    """The space that ships as `space=tiny`, for 32x32 grey images of ten classes."""
    return make_space(_load(), (1, 32, 32), 10)


@pytest.fixture(scope="session")
def small() -> SearchSpace:
    """Four narrow sites with every situation: free, shortcut, stride, in front of the head."""
    config = {
        "name": "small",
        "stem": {"channels": 8, "stride": 2, "activation": "hard_swish"},
        "stages": [
            {"sites": 1, "channels": 8, "stride": 1, "shortcut": False, "activation": "relu"},
            {"sites": 2, "channels": 16, "stride": 2, "shortcut": True, "activation": "hard_swish"},
            {"sites": 2, "channels": 24, "stride": 2, "shortcut": False, "activation": "relu"},
        ],
        "head": {"channels": 32, "activation": "hard_swish"},
        "operators": ["conv1x1", "conv3x3", "dw3x3_pw", "pw_dw3x3_pw(3)", "pw_dw3x3_pw(6)", "skip"],
        "schemes": ["filter(4)", "channel(4)", "filter", "channel", "block_punched(8x4)", "unstructured"],
        "rates": [1, 2, 3, 10],
        "reference": "conv3x3",
    }
    return make_space(config, (1, 32, 32), 10)
