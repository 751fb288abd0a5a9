"""CPL's options: values out of range, and what doesn't go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from align_runs import config

from contralign.align.cpl_config import CPLConfig
from contralign.align.losses import CPL


def test_the_loss_is_made_of_them(tmp_path: Path) -> None:
    options = config(
        tmp_path, CPLConfig, alpha=0.2, gamma=0.9, lmbda=0.5, kl=True, bc_coeff=0.3, average=True
    )
    assert options.loss() == CPL(0.2, 0.9, 0.5, True, 0.3, True)


@pytest.mark.parametrize(
    ("given", "reference"),
    [
        ({}, "none"),
        ({"kl": True}, None),
        ({"reference": "base"}, "base"),
        ({"precompute_ref_log_probs": True}, "cached"),
        ({"sync_ref_model": True}, None),
    ],
)
def test_only_kl_has_a_reference_by_default(
    tmp_path: Path, given: dict[str, Any], reference: str | None
) -> None:
    assert config(tmp_path, CPLConfig, **given).reference == reference


def test_lambda_is_of_pairs(tmp_path: Path) -> None:
    assert config(tmp_path, CPLConfig).needs.completions == "group"
    pairs = config(tmp_path, CPLConfig, lmbda=0.5).needs
    assert (pairs.completions, "label" in pairs.numbers) == ("pair", True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"alpha": 0.0}, "alpha must be above 0, got 0.0"),
        ({"gamma": 1.5}, r"gamma must lie in \(0, 1\], got 1.5"),
        ({"gamma": 0.0}, r"gamma must lie in \(0, 1\], got 0.0"),
        ({"lmbda": -0.5}, r"lmbda must lie in \(0, 1\], got -0.5"),
        ({"bc_coeff": -1.0}, "bc_coeff must be at least 0"),
        ({"bc_steps": -1}, "bc_steps must be at least 0"),
        ({"bc_steps": 4, "max_steps": 4}, "leaves updates for it, got 4 of 4"),
        ({"kl": True, "reference": "none"}, "kl compares with a reference, got reference: none"),
    ],
)
def test_refuses(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config(tmp_path, CPLConfig, **given)
