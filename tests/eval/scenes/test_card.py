from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from contralign.eval.scenes.card import save
from contralign.eval.scenes.network import Size
from contralign.eval.scenes.pictures import Optics
from contralign.eval.scenes.training import Recipe, train
from contralign.eval.scenes.world import World

RECIPE = Recipe(
    naming_steps=0,
    steps=0,
    size=Size(width=16, layers=1, tower_width=16, tower_layers=1, heads=2),
    world=World(seed=7),
    optics=Optics(noise=5.0),
)


def test_a_saved_model_is_loaded_as_it_was_and_says_how_it_was_made(tmp_path: Path) -> None:
    model, processor = train(RECIPE)
    save(model, processor, RECIPE, tmp_path / "model", "contralign scenes train --seed 7")
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "model")
    assert type(loaded) is type(model)
    state = loaded.state_dict()
    assert all(torch.equal(state[name], weight) for name, weight in model.state_dict().items())
    reader = AutoProcessor.from_pretrained(tmp_path / "model")
    assert reader.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    card = (tmp_path / "model" / "README.md").read_text()
    for said in ("contralign scenes train --seed 7", "seed 7", f"torch {torch.__version__}"):
        assert said in card
    assert '"noise": 5.0' in card
