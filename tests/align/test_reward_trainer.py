"""Reward models, trained on tiny ones: TRL's loss on our rows, what is kept, what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import trl
from align_runs import LORA, rows
from eval_doubles import tiny_tokenizer
from peft import LoraConfig
from reward_models import saved
from transformers import PrinterCallback

from contralign.align import ModelReward, RewardConfig, RewardTrainer
from contralign.align.reward_data import RewardSets
from contralign.align.stop import TrainingError

SHORT: dict[str, Any] = {
    "use_cpu": True,
    "max_steps": 3,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
    "save_strategy": "no",
    "gradient_checkpointing": False,
    "per_device_train_batch_size": 4,
}


def config(folder: Path, **options: Any) -> RewardConfig:
    return RewardConfig(str(folder), **{**SHORT, **options})


def trainer(model: Path, folder: Path, **options: Any) -> RewardTrainer:
    """A trainer on 10 pairs; keywords of the config and of the trainer."""
    names = ("train_dataset", "eval_dataset", "peft_config", "processing_class")
    given = {name: options.pop(name) for name in names if name in options}
    data = {"train_dataset": rows(10), **given}
    run = RewardTrainer(str(model), config(folder, **options), **data)
    run.remove_callback(PrinterCallback)
    return run


def losses(run: Any) -> list[float]:
    return [line["loss"] for line in run.state.log_history if "loss" in line]


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_trls_own_trainer_finds_the_same_losses(model_folder: Path, tmp_path: Path) -> None:
    ours = trainer(model_folder, tmp_path / "ours", seed=3)
    ours.train()
    theirs = trl.RewardTrainer(
        str(model_folder),
        trl.RewardConfig(str(tmp_path / "theirs"), **SHORT, seed=3, bf16=False),
        train_dataset=rows(10),
    )
    theirs.remove_callback(PrinterCallback)
    theirs.train()
    assert losses(ours) == pytest.approx(losses(theirs), rel=1e-4)
    assert losses(ours)[-1] < losses(ours)[0]


@pytest.mark.parametrize("lora", [True, False])
def test_the_result_judges_as_it_was_evaluated(
    model_folder: Path, tmp_path: Path, lora: bool
) -> None:
    held_out = rows(10, seed=5)
    adapter = LoraConfig(**LORA) if lora else None
    run = trainer(model_folder, tmp_path, eval_dataset=held_out, peft_config=adapter)
    run.train()
    measured = run.evaluate()
    run.save_model()
    reward = ModelReward(str(tmp_path))
    prompts = held_out["prompt"]
    chosen, rejected = (torch.tensor(reward(prompts, held_out[s])) for s in ("chosen", "rejected"))
    margins = chosen - rejected
    assert measured["eval_rewards/margins"] == pytest.approx(margins.mean().item(), abs=1e-4)
    accuracy = (margins > 0).float()
    assert measured["eval_rewards/accuracies"] == pytest.approx(accuracy.mean().item())
    error = (accuracy.std() / 10**0.5).item()
    assert measured["eval_rewards/accuracies_se"] == pytest.approx(error, abs=1e-6)
    card = (tmp_path / "README.md").read_text()
    assert "trained with Bradley-Terry by contralign" in card
    assert "evaluation: rewards/accuracies" in card
    assert f'reward = ModelReward("{tmp_path}")' in card
    assert "# contralign train reward --config" in (tmp_path / "train.yaml").read_text()


def test_a_margin_moves_the_loss(model_folder: Path, tmp_path: Path) -> None:
    plain = trainer(model_folder, tmp_path / "a", max_steps=1)
    wide = trainer(model_folder, tmp_path / "b", max_steps=1, train_dataset=rows(10, margin=2.0))
    for run in (plain, wide):
        run.train()
    assert losses(wide)[0] > losses(plain)[0] + 0.5


def test_a_run_is_resumed(model_folder: Path, tmp_path: Path) -> None:
    options = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    whole = trainer(model_folder, tmp_path, **options)
    whole.train()
    assert (tmp_path / "checkpoint-2").is_dir()
    again = trainer(model_folder, tmp_path, **options)
    again.train(str(tmp_path / "checkpoint-2"))
    assert losses(again) == pytest.approx(losses(whole), rel=1e-5)


def test_rows_are_tokenised_as_trl_does_it() -> None:
    tokenizer = tiny_tokenizer()
    found = RewardSets(config(Path("out")), tokenizer).prepared(rows(3, margin=1.5), "training")
    for row, pair in zip(found, rows(3), strict=True):
        for side in ("chosen", "rejected"):
            text = pair["prompt"] + pair[side] + tokenizer.eos_token
            assert row[f"{side}_ids"] == tokenizer(text)["input_ids"]
        assert row["margin"] == 1.5


def test_long_pairs_are_an_error_or_left_out(caplog: pytest.LogCaptureFixture) -> None:
    sets = RewardSets(config(Path("out"), max_length=10), tiny_tokenizer())
    lengths = [
        max(len((r["prompt"] + r[s]).split()) + 1 for s in ("chosen", "rejected")) for r in rows(10)
    ]
    long = [i for i, length in enumerate(lengths) if length > 10]
    assert 0 < len(long) < 10
    with pytest.raises(ValueError, match=rf"{len(long)} of the 10 .* row {long[0]} with"):
        sets.prepared(rows(10), "training")
    dropping = RewardSets(config(Path("out"), max_length=10, on_problem="drop"), tiny_tokenizer())
    assert len(dropping.prepared(rows(10), "training")) == 10 - len(long)
    assert "and were left out" in caplog.text
    assert dropping.lines() == [
        f"training: {10 - len(long)} pairs, {len(long)} others left out as unusable or longer than "
        "max_length"
    ]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lambda: rows(4, weight=1.0), "has a column weight, but TRL's RewardTrainer weighs all"),
        (lambda: rows(4, images=None), "has a column images, but a reward model reads text alone"),
        (lambda: rows(4).to_iterable_dataset(), "got a stream. Leave out dataset_streaming"),
        (lambda: rows(4).remove_columns("chosen"), "4 of the 4 rows .* can't be trained on"),
    ],
)
def test_data_is_refused_before_the_model_is_loaded(
    model_folder: Path, tmp_path: Path, data: Any, told: str
) -> None:
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (hollow / name).write_bytes((model_folder / name).read_bytes())
    with pytest.raises(ValueError, match=told):
        trainer(hollow, tmp_path / "out", train_dataset=data())


def test_models_that_no_reward_model_is_made_of(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one logit, but .* with num_labels=3. Start from the"):
        trainer(saved(tmp_path / "several", labels=3), tmp_path / "out")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ValueError, match=r"is an adapter\. Merge it first"):
        trainer(adapter, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"eos_token": "</s>"}, "eos_token isn't supported, got '</s>': set it on the tokenizer"),
        ({"chat_template_path": "x"}, "chat_template_path isn't supported"),
        ({"load_best_model_at_end": True}, "load_best_model_at_end compares evaluations"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config(tmp_path, **options)


def test_a_loss_that_is_not_finite_stops(model_folder: Path, tmp_path: Path) -> None:
    run = trainer(model_folder, tmp_path, learning_rate=1e38, max_grad_norm=0.0)
    with pytest.raises(TrainingError, match=r"the loss is no longer finite after [12] updates"):
        run.train()
    (file,) = tmp_path.glob("stopped-at-step-*-process-0.json")
    kept = json.loads(file.read_text())["rows"]
    said = {
        (row["prompt"] + one["text"]).split("</s>")[0] for row in kept for one in row["completions"]
    }
    known = {row["prompt"] + row[side] for row in rows(10) for side in ("chosen", "rejected")}
    assert len(kept) == 4
    assert {text.replace(" ", "") for text in said} <= {text.replace(" ", "") for text in known}
    assert "nan" in {one["reward"] for row in kept for one in row["completions"]}


def test_the_users_adapter_config_stays_as_it_is(model_folder: Path, tmp_path: Path) -> None:
    adapter = LoraConfig(**LORA)
    before = copy.deepcopy(adapter.to_dict())
    run = trainer(model_folder, tmp_path, peft_config=adapter)
    assert adapter.to_dict()["task_type"] == before["task_type"]
    trained = [name for name, p in run.model.named_parameters() if p.requires_grad]
    assert any("score" in name for name in trained)
