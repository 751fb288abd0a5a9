"""The model card: its head is YAML, its commands can be run, its intervals are by hand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from contralign.align.card import Card, card
from contralign.align.dpo_trainer import PAPER
from contralign.align.record import versions
from contralign.cli import build_parser

HISTORY: list[dict[str, Any]] = [
    {"data/training/rows": 10, "step": 0},
    {"loss": 0.7, "rewards/margins": 0.0, "kl": 0.1, "step": 1},
    {"eval_loss": 0.6, "eval_loss_se": 0.05, "eval_rewards/accuracies": 0.8, "step": 1},
    {"loss": 0.4, "rewards/margins": 2.0, "kl": 0.3, "logps/chosen_drift": -1.5, "step": 2},
    {"eval_loss": 0.5, "eval_loss_se": 0.1, "eval_rewards/accuracies": 0.7, "step": 2},
    {"loss": 0.5, "rewards/margins": 1.0, "kl": 0.2, "logps/chosen_drift": -2.5, "step": 3},
    {"train_runtime": 5.0, "train_loss": 0.5, "loss": 9.0, "step": 3},
]


def told(**options: Any) -> Card:
    given: dict[str, Any] = {
        "name": "my-run",
        "folder": "runs/my run",
        "base": "org/base",
        "adapter": True,
        "paper": PAPER,
        "settings": {"beta": 0.1, "loss_type": ["sigmoid"]},
        "data": ["training: 10 pairs", "evaluation: 4 pairs"],
        "history": HISTORY,
        **options,
    }
    return Card(**given)


def metadata(text: str) -> Any:
    before, head, _ = text.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(head)


def table(text: str) -> dict[str, list[str]]:
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows[2:]}


def block(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("adapter", "library"), [(True, "peft"), (False, "transformers")])
def test_its_head_tells_the_hub_what_it_is(adapter: bool, library: str) -> None:
    assert metadata(card(told(adapter=adapter, dataset="org/pairs"))) == {
        "library_name": library,
        "tags": ["contralign", "dpo"],
        "base_model": "org/base",
        "datasets": ["org/pairs"],
    }


@pytest.mark.parametrize(
    "name",
    ["./run", "../run", "/a/run", "~/run", "runs/here", "base", "a/b/c", "a model in memory"],
)
def test_what_is_no_id_of_the_hub_is_not_in_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/here").mkdir(parents=True)
    text = card(told(base=name, dataset=name))
    assert metadata(text).keys() == {"library_name", "tags"}
    assert f"`{name}`" in text


def test_no_data_set_is_named_where_none_is_known() -> None:
    assert "datasets" not in metadata(card(told()))


@pytest.mark.parametrize("base", ["org/base", "/my models/it's one"])
@pytest.mark.parametrize("adapter", [True, False])
def test_the_command_to_use_it_is_one_of_ours(base: str, adapter: bool) -> None:
    text = card(told(base=base, adapter=adapter))
    program, *words = shlex.split(block(text, "bash")[0])
    assert program == "contralign"
    args = build_parser().parse_args(words)
    assert args.model == (base if adapter else "runs/my run")
    assert args.adapter == ("runs/my run" if adapter else None)
    (code,) = block(text, "python")
    kind = "AutoPeftModelForCausalLM" if adapter else "AutoModelForCausalLM"
    library = "peft" if adapter else "transformers"
    assert code == f'from {library} import {kind}\n\nmodel = {kind}.from_pretrained("runs/my run")'
    assert ("A PEFT adapter for" in text) is adapter


def test_results_by_hand() -> None:
    """The interval reaches 1.96 * 0.1 to each side of 0.5; the best loss is the lowest."""
    assert table(card(told())) == {
        "training: loss": ["0.7", "0.5", "", "0.4"],
        "evaluation: loss": ["0.6", "0.5", "0.304 to 0.696", "0.5"],
        "evaluation: rewards/accuracies": ["0.8", "0.7", "", "0.8"],
        "training: rewards/margins": ["0", "1", "", "2"],
        "training: logps/chosen_drift": ["-1.5", "-2.5", "", ""],
        "training: kl": ["0.1", "0.2", "", ""],
    }


def test_says_whose_weights_they_are() -> None:
    text = card(told(weights="after update 2 of 3, the best evaluated by loss"))
    assert "by contralign. The weights are those after update 2 of 3, the best" in text
    assert "The weights" not in card(told())


def test_each_data_set_has_its_own_results() -> None:
    line = {"eval_a_loss": 1.0, "eval_a_loss_se": 0.5, "eval_b_loss": 2.0, "step": 1}
    line |= {"eval_b_loss_se": 0.0}  # all the same: no interval is so sure
    text = card(told(history=[line]))
    assert table(text) == {
        "evaluation a: loss": ["1", "1", "0.02 to 1.98", "1"],
        "evaluation b: loss": ["2", "2", "", "2"],
    }
    assert "![curves](curves.png)" in text


@pytest.mark.parametrize("history", [[], [{"data/training/rows": 10, "step": 0}]])
def test_says_so_when_nothing_was_logged(history: list[dict[str, Any]]) -> None:
    text = card(told(history=history))
    assert "## Results\n\nNothing was logged.\n\n##" in text
    assert "curves.png" not in text


def test_says_what_was_typed_and_what_was_set() -> None:
    command = ["contralign", "train", "dpo", "--run_name", "a b"]
    text = card(told(command=command))
    assert shlex.split(block(text, "bash")[1]) == command
    assert yaml.safe_load(block(text, "yaml")[0]) == {"beta": 0.1, "loss_type": ["sigmoid"]}
    assert len(block(card(told()), "bash")) == 1


def test_says_what_was_noticed_trained_on_and_published() -> None:
    text = card(told(notes=["likelihood displacement: ...", "another"]))
    assert "# my-run\n" in text
    assert "\n> likelihood displacement: ...\n\n> another\n" in text
    assert "## Data\n\n- training: 10 pairs\n- evaluation: 4 pairs\n" in text
    assert 'Rafailov et al. 2023, "Direct Preference' in text
    assert "[arXiv 2305.18290](https://arxiv.org/abs/2305.18290)" in text
    assert all(f"{name} {number}" in text for name, number in versions().items())


def test_a_model_with_eyes_is_loaded_and_asked_as_one() -> None:
    whole, adapter = (card(told(sees=True, adapter=one)) for one in (False, True))
    assert 'model = AutoModelForImageTextToText.from_pretrained("runs/my run")' in whole
    assert 'base = AutoModelForImageTextToText.from_pretrained("org/base")' in adapter
    assert 'model = PeftModel.from_pretrained(base, "runs/my run")' in adapter
    assert all("--image FILE --question" in text for text in (whole, adapter))
    assert "AutoModelForCausalLM" not in whole + adapter
