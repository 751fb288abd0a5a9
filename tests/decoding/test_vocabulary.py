"""Token ids that some branch lacks are forbidden and take no probability from the others."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from contralign.decoding import AdaCAD
from contralign.decoding.vocabulary import aligned, check_same_vocabulary


def test_the_ids_that_all_share_keep_their_logits():
    narrow, wide = torch.randn(2, 3), torch.randn(2, 5).to(torch.bfloat16)
    expert, contrast = aligned(narrow, [wide])
    assert torch.equal(expert, narrow)
    assert torch.equal(contrast, wide[:, :3].float())
    expert, contrast = aligned(wide, [narrow])
    assert expert[:, 3:].eq(-math.inf).all()
    assert contrast[:, 3:].eq(-math.inf).all()


def test_a_forbidden_tail_changes_no_divergence():
    narrow, wide = torch.randn(2, 3), torch.randn(2, 5)
    scores = AdaCAD().rule(*aligned(wide, [narrow]))
    assert torch.allclose(scores[:, :3], AdaCAD().rule(wide[:, :3], narrow))


def test_equal_sizes_with_other_tokens_are_refused(llama, tokenizer, tmp_path):
    models = []
    for name in ("expert", "amateur"):
        model = copy.deepcopy(llama)
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        model.name_or_path = str(tmp_path / name)
        models.append(model)
    check_same_vocabulary(*models)
    swapped = (tmp_path / "amateur" / "tokenizer.json").read_text()
    swapped = swapped.replace('"a":', '"tmp":').replace('"b":', '"a":').replace('"tmp":', '"b":')
    (tmp_path / "other").mkdir()
    models[1].save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").write_text(swapped)
    models[1].name_or_path = str(tmp_path / "other")
    with pytest.raises(ValueError, match="share one tokenizer, but their tokenizers differ"):
        check_same_vocabulary(*models)
