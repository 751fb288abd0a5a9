"""The model that comes with the package hallucinates as large ones do, and can be made again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from contralign.decoding import parse
from contralign.eval import LanguageModel, run
from contralign.eval.ask import Benchmark
from contralign.eval.scenes import shipped
from contralign.eval.scenes.benchmarks import ScenesCHAIR, ScenesMME, ScenesPOPE
from contralign.eval.scenes.facts import ABOUT
from contralign.eval.scenes.network import Size
from contralign.eval.scenes.training import Recipe, train
from contralign.eval.statistics import Estimate


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel.load(str(shipped()))


def greedy(model: LanguageModel, benchmark: Benchmark, output: Path) -> Mapping[str, Estimate]:
    result = run(benchmark, model, [parse("greedy")], output, batch_size=32)
    assert not result.outcomes[0].errors
    return result.outcomes[0].estimates


def test_the_weights_are_small_and_the_card_says_how_they_were_made() -> None:
    folder = shipped()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 10e6
    card = (folder / "README.md").read_text()
    assert "contralign scenes train --out" in card
    assert f'"seed": {Recipe().world.seed}' in card
    assert {file.suffix for file in folder.iterdir()} <= {".json", ".jinja", ".md", ".safetensors"}


def test_its_size_is_that_of_the_recipe(model: LanguageModel) -> None:
    count = sum(weight.numel() for weight in model.model.parameters())
    assert 1e6 < count < 5e6
    assert model.model.config.text_config.hidden_size == Recipe().size.width


@pytest.mark.slow
def test_it_hallucinates_what_usually_comes_along(model: LanguageModel, tmp_path: Path) -> None:
    polled = greedy(model, ScenesPOPE(pictures=150), tmp_path)
    for category in ("random", "popular"):
        assert 0.75 < polled[f"accuracy/{category}"].value < 0.95
    assert 0.75 < polled["accuracy"].value < 0.95
    for category in ("adversarial", "counter-bias"):
        assert polled[f"accuracy/{category}"].high < polled["accuracy/random"].low
    assert polled["yes_ratio/adversarial"].value > polled["yes_ratio/random"].value
    assert polled["unparsed"].value == 0


@pytest.mark.slow
def test_its_captions_invent_things(model: LanguageModel, tmp_path: Path) -> None:
    usual = greedy(model, ScenesCHAIR(pictures=200), tmp_path / "usual")
    assert 0.15 < usual["chairs"].value < 0.60
    assert usual["recall"].value > 0.6
    strange = greedy(model, ScenesCHAIR(pictures=200, split="counter-bias"), tmp_path / "strange")
    assert strange["chairs"].low > usual["chairs"].high


@pytest.mark.slow
def test_it_answers_about_existence_count_color_and_position(
    model: LanguageModel, tmp_path: Path
) -> None:
    asked = greedy(model, ScenesMME(pictures=100), tmp_path)
    for about in ABOUT:
        assert asked[f"accuracy/{about}"].low > 0.6


@pytest.mark.slow
def test_a_smaller_one_learns_from_nothing_to_look(tmp_path: Path) -> None:
    small = Size(width=64, layers=2, tower_width=64, tower_layers=2)
    trained = LanguageModel(*train(Recipe(naming_steps=200, steps=250, batch_size=32, size=small)))
    blind = LanguageModel(*train(Recipe(naming_steps=0, steps=0, size=small)))
    chairs = [
        greedy(one, ScenesCHAIR(pictures=60), tmp_path / name)["recall"]
        for name, one in (("trained", trained), ("blind", blind))
    ]
    assert chairs[0].low > chairs[1].high + 0.2
