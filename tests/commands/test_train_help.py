"""What `contralign train dpo --help` says."""

from __future__ import annotations

import pytest

from contralign.cli import main
from contralign.commands.train_help import GROUPS, WIDTH, text
from contralign.commands.train_options import parser


def paragraph(key: str, found: str) -> str:
    """What is said of a key, on one line."""
    _, _, rest = found.partition(f"  --{key} ")
    return " ".join(rest.partition("\n  --")[0].partition("\n\n")[0].split())


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--config", "absent.yaml", "--help"]])
def test_the_keys_that_matter(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "dpo", *words]) == 0
    out, err = capsys.readouterr()
    assert out == f"{text('dpo', everything=False)}\n"
    assert out.startswith("usage: contralign train dpo --config FILE [--KEY VALUE ...]\n")
    assert err == ""
    assert max(map(len, out.splitlines())) <= WIDTH
    names = [name for group in GROUPS.values() for name in group]
    assert len(set(names)) == len(names)
    for name in names:
        assert len(paragraph(name, out)) > len("[false].")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("beta", "How strongly the policy is held to the reference; IPO's tau. [0.1]"),
        ("loss_type", "or hinge. [sigmoid]"),
        ("learning_rate", "5e-6 to 5e-5 LoRA. [1e-06]"),
        ("gradient_checkpointing", "on as in TRL. [true]"),
        ("lr_scheduler_type", "scheduler type to use. [linear]"),
        ("dataset_name", "folder or hub id; several: `datasets:`."),
        ("push_to_hub", "[false]"),
    ],
)
def test_a_key(key: str, told: str) -> None:
    assert paragraph(key, text("dpo", everything=False)).endswith(told)


def test_all_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "dpo", "--help", "all"]) == 0
    out = capsys.readouterr().out
    for action in parser("dpo")._actions:
        assert all(f"  {flag}" in out or f", {flag}" in out for flag in action.option_strings)
    words = " ".join(out.split())
    assert "What to do with a row that can't be trained on: stop, or go on without it." in words
    assert "Not supported: LD-DPO isn't here." in words
    assert "wandb, tensorboard, ... as in transformers." not in words  # theirs says more


def test_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    assert "dpo" in capsys.readouterr().out
