"""Methods on pictures are token-identical, in float32, to an uncached, unpadded loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from vision_cases import METHODS, SAMPLE, Setting
from vision_table import FAMILIES, works

from contralign.decoding import score

# transformers 5.23's PaliGemma processor turns tensors to arrays the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def cases() -> list[Any]:
    """What the table says works; quick are one family, and one method of three branches."""
    return [
        pytest.param(
            *(name, method),
            marks=[] if name == "LLaVA-1.5" or method == "ritual+vcd" else pytest.mark.slow,
        )
        for name in FAMILIES
        for method in METHODS
        if works(method, name)
    ]


@pytest.mark.parametrize(("name", "method"), cases())
def test_every_way_in_equals_the_loop(name: str, method: str) -> None:
    case = Setting(name, method)
    tokens, scores = case.loop()
    assert case.view("merged") == tokens
    assert case.view("sequential") == tokens
    assert case.drop_in() == tokens
    logps, _ = score(case.model, case.inputs, tokens, case.method, case.branch)
    expected = scores.log_softmax(-1).gather(-1, torch.tensor(tokens)[..., None])[..., 0]
    torch.testing.assert_close(logps, expected, atol=1e-4, rtol=1e-4)
    drawn, _ = case.loop(seed=3)
    torch.manual_seed(3)
    assert case.view(**SAMPLE) == drawn
