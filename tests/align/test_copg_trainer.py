"""CoPG's trainer: its optimum on a tiny model, rewards, and samples of its own."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import COPG, PLAIN, agree, learned, lines, logged, rows, trained, trainer
from datasets import Dataset
from reward_models import saved

from contralign.align import (
    ColumnReward,
    CPLConfig,
    CPLTrainer,
    DPOConfig,
    DPOTrainer,
    FunctionReward,
    ModelReward,
    TrainingError,
)
from contralign.align.copg_trainer import sampled
from contralign.align.rewards import Question

SCORES = [1.0, 0.3, -0.5, 0.0, 0.8]
SAID = [" a", " b c", " d", " e f g", " h"]
ONLINE: dict[str, Any] = {
    **COPG,
    "online": True,
    "num_generations": 3,
    "max_completion_length": 5,
    "per_device_train_batch_size": 8,
}


RECALL = FunctionReward("contralign.eval.scenes.recall_reward")


def vowels(prompts: Sequence[str], completions: Sequence[str], **_: Any) -> list[float]:
    """How many tokens of a completion are vowels."""
    return [float(sum(word in "aeiou" for word in said.split())) for said in completions]


def test_it_ends_where_implicit_rewards_are_the_scores(tmp_path: Path) -> None:
    data = Dataset.from_list([{"prompt": "x y", "completions": SAID, "scores": SCORES}])
    options = {"lora": False, "beta": 0.5, "max_steps": 60, "lr_scheduler_type": "cosine"}
    run = trained(tmp_path, **COPG, train_dataset=data, **options)
    variance = torch.tensor(SCORES).var().item()
    assert logged(run, "loss")[0] == pytest.approx(5 / (2 * 0.5) * variance)
    assert logged(run, "loss")[-1] < 1e-3 * logged(run, "loss")[0]
    # The share of each is its share before times exp(R / beta).
    batch = run.data_collator([run.train_dataset[0]])["batch"]
    with torch.no_grad():
        now = run.engine(batch).logps.sum(-1)[0]
        before = run.reference(batch).sum(-1)[0]
    best = torch.log_softmax(before + torch.tensor(sorted(SCORES, reverse=True)) / 0.5, 0)
    assert torch.allclose(torch.log_softmax(now, 0), best, atol=0.05)
    assert logged(run, "rewards/correlation")[-1] > 0.999
    assert logged(run, "rewards/accuracies")[-1] == 1


def test_a_reward_is_the_same_as_columns_of_its_scores(tmp_path: Path) -> None:
    data = rows(10)
    scores = {name: vowels(data["prompt"], data[name]) for name in ("chosen", "rejected")}
    scored = data
    for name, values in scores.items():
        scored = scored.add_column(f"score_{name}", values)
    held_out = rows(4, seed=1)
    run = trained(tmp_path, **COPG, **PLAIN, train_dataset=data, reward=vowels)
    agree(run, trained(tmp_path, **COPG, **PLAIN, train_dataset=scored))
    both = [*vowels([], held_out["chosen"]), *vowels([], held_out["rejected"])]
    assert run.evaluate(held_out)["eval_scores/mean"] == pytest.approx(sum(both) / 8)


def test_a_reward_model_is_kept_for_samples_alone(tmp_path: Path) -> None:
    judge, data = ModelReward(str(saved(tmp_path / "judge"))), rows(8, score_chosen=1.0)
    scored = trainer(tmp_path, **COPG, train_dataset=data, reward=judge)
    assert "_classifier" not in vars(judge)
    told = f"training: 8 rows, .*; scored by {judge.model} in place of its score_chosen; made in"
    assert re.match(told, scored.sets.lines({"training": "x"})[0])
    scored.evaluate(rows(4))
    assert "_classifier" not in vars(judge)
    trained(tmp_path, **ONLINE, train_dataset=rows(8), reward=judge, max_steps=1)
    assert "_classifier" in vars(judge)


@pytest.mark.parametrize(("make", "kind"), [(DPOTrainer, DPOConfig), (CPLTrainer, CPLConfig)])
def test_a_reward_without_a_reader_is_refused(tmp_path: Path, make: Any, kind: Any) -> None:
    with pytest.raises(ValueError, match=r"a reward is for a method that reads .*, got vowels"):
        trainer(tmp_path, make=make, kind=kind, reward=vowels)


def test_one_completion_with_a_baseline_is_trained_on(tmp_path: Path) -> None:
    data = Dataset.from_list(
        [{"prompt": "x", "completion": " a", "score": 1.0, "baseline": 0.2}] * 4
    )
    run = trained(tmp_path, **COPG, train_dataset=data, beta=0.5, num_train_epochs=3)
    assert logged(run, "loss")[0] == pytest.approx(0.8**2)
    assert logged(run, "rewards/mean")[-1] > 0
    assert logged(run, "logps/chosen_drift")[-1] > 0


def test_equal_scores_are_nothing_to_learn_from(tmp_path: Path) -> None:
    data = rows(4, score_chosen=1.0, score_rejected=1.0)
    with pytest.raises(RuntimeError, match=r"gradient is exactly 0.*scores that are"):
        trained(tmp_path, **COPG, train_dataset=data)


def test_samples_are_drawn_scored_and_learned_from(tmp_path: Path) -> None:
    run = trainer(tmp_path, **ONLINE, train_dataset=rows(8), reward=vowels)
    inputs = run.data_collator([run.train_dataset[i] for i in range(8)])
    drawn = run._sampling()(run.model, inputs["batch"], "update 0")
    said = [[run.processing_class.decode(ids) for ids in group] for group in drawn.completions]
    scores = torch.tensor([vowels([], group) for group in said])
    run.train()
    assert logged(run, "scores/mean")[0] == pytest.approx(scores.mean().item())
    variances = scores.var(-1).mean().item()
    assert logged(run, "loss")[0] == pytest.approx(3 / (2 * 0.06) * variances)
    stopped = [ids[-1] == run.processing_class.eos_token_id for ids in drawn.flat]
    assert logged(run, "completions/clipped")[0] == pytest.approx(1 - sum(stopped) / len(stopped))
    assert logged(run, "kl")[0] == 0


def test_online_scores_rise(tmp_path: Path) -> None:
    options = {"num_train_epochs": 25, "learning_rate": 2e-2, "logging_steps": 5}
    run = trained(tmp_path, **ONLINE, train_dataset=rows(8), reward=vowels, **options)
    assert logged(run, "scores/mean")[-1] > logged(run, "scores/mean")[0] + 0.5
    assert logged(run, "kl")[-1] > 0


@pytest.mark.parametrize("lora", [True, False])
def test_an_online_run_does_not_depend_on_its_micro_batches(tmp_path: Path, lora: bool) -> None:
    given = {
        "train_dataset": rows(15),  # the last update has seven
        "eval_dataset": rows(5, seed=1),
        "eval_strategy": "epoch",
        "reward": vowels,
        "lora": lora,
        **PLAIN,
        "learning_rate": 1e-3,
    }
    whole = trained(tmp_path, **{**ONLINE, **given})
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    other = {"per_device_eval_batch_size": 2, "gradient_checkpointing": True}
    agree(trained(tmp_path, **{**ONLINE, **given, **parts, **other}), whole)
    assert len(logged(whole, "loss")) == 2


def test_an_online_run_is_resumed(tmp_path: Path) -> None:
    saved = {"save_strategy": "steps", "save_steps": 1, "num_train_epochs": 2, "reward": vowels}
    given = {**ONLINE, **saved, "train_dataset": rows(16)}
    unbroken = trained(tmp_path, **given)
    run = trainer(tmp_path, **given)
    run.train(str(tmp_path / "checkpoint-3"))
    assert lines(run) == lines(unbroken)
    assert torch.equal(learned(run), learned(unbroken))


@pytest.mark.parametrize("lora", [True, False])
def test_a_lagging_run_is_told_and_resumed_between_two_refreshes(
    tmp_path: Path, lora: bool
) -> None:
    saved = {"save_strategy": "steps", "save_steps": 1, "num_train_epochs": 3, "lora": lora}
    given = {**ONLINE, **saved, "train_dataset": rows(16), "reward": vowels, "refresh_every": 4}
    unbroken = trained(tmp_path, **given)
    assert logged(unbroken, "samples/lag") == [0, 1, 2, 3, 0, 1]
    run = trainer(tmp_path, **given)
    run.train(str(tmp_path / "checkpoint-3"))
    assert lines(run) == lines(unbroken)
    assert torch.equal(learned(run), learned(unbroken))
    fresh = trained(tmp_path / "fresh", **{**given, "refresh_every": 1})
    assert logged(fresh, "scores/mean")[0] == logged(run, "scores/mean")[0]
    assert logged(fresh, "scores/mean")[1:] != logged(run, "scores/mean")[1:]
    assert "samples/lag" not in lines(fresh)[0]


def test_a_lag_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(tmp_path, **ONLINE, train_dataset=rows(24), reward=vowels, refresh_every=2)
    assert caplog.text.count("samples are of a policy up to 1 updates old") == 1


def test_evaluations_draw_the_same_noise(tmp_path: Path) -> None:
    run = trainer(tmp_path, **ONLINE, eval_dataset=rows(10, seed=1), reward=vowels)
    first, second = run.evaluate(), run.evaluate()
    assert first["eval_scores/mean"] == second["eval_scores/mean"]
    assert first["eval_kl"] == 0
    assert math.isfinite(first["eval_scores/mean_se"])


def test_samples_are_scored_at_their_temperature(tmp_path: Path) -> None:
    run = trainer(tmp_path, **ONLINE, temperature=0.5, reward=vowels)
    assert (run.engine.temperature, run._sampling().temperature) == (0.5, 0.5)


def test_a_reward_reads_the_datas_columns(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def remember(**given: Any) -> list[float]:
        seen.append(given)
        return [float(len(said)) for said in given["completions"]]

    data = rows(8, topic="z").add_column("number", list(range(8)))
    trained(tmp_path, **ONLINE, train_dataset=data, reward=remember, max_steps=1)
    assert seen[0].keys() == {"prompts", "completions", "topic", "number"}
    assert sorted(seen[0]["number"]) == [i for i in range(8) for _ in range(3)]
    for prompt, number in zip(seen[0]["prompts"], seen[0]["number"], strict=True):
        assert prompt == data[number]["prompt"]


def test_online_needs_a_reward(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="online samples need a reward, got none"):
        trainer(tmp_path, **ONLINE)


def test_a_column_scores_no_samples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not samples, got reward_column 'score' with online"):
        trainer(tmp_path, **ONLINE, reward=ColumnReward("score"))


def test_a_column_that_a_reward_reads_is_asked_for_first(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="recall_reward reads the column 'objects'"):
        trainer(tmp_path, **ONLINE, train_dataset=rows(8), reward=RECALL)


def test_a_sample_without_a_reward_stops_the_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, **ONLINE, train_dataset=rows(8), reward=lambda **_: [math.nan] * 24)
    with pytest.raises(TrainingError, match=r"update 0, a sample for '.*must be a finite number"):
        run.train()


def test_an_online_run_is_resumed_with_its_own_reward(tmp_path: Path) -> None:
    saved = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2}
    given = {**ONLINE, **saved, "train_dataset": rows(16)}
    trained(tmp_path, **given, reward=vowels)
    run = trainer(tmp_path, **given, reward=lambda **_: [1.0])
    with pytest.raises(ValueError, match=r"other settings: reward\.function was .*vowels"):
        run.train(str(tmp_path / "checkpoint-1"))


def test_samples_are_messages_where_the_prompt_is() -> None:
    assert sampled({"prompt": "a", "n": 1}, ["b"]) == Question("a", ["b"], {"n": 1}, "group")
    talk = [{"role": "user", "content": "a"}]
    asked = sampled({"prompt": talk, "hint": "x"}, ["b", "c"])
    said = [[{"role": "assistant", "content": text}] for text in "bc"]
    assert asked == Question(talk, said, {"hint": "x"}, "group")


def test_a_prompt_leaves_room_for_samples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prompt-too-long"):
        trainer(tmp_path, **ONLINE, max_length=10, reward=vowels)


def test_the_card_says_who_scores_samples(tmp_path: Path) -> None:
    run = trainer(tmp_path, **ONLINE, train_dataset=rows(8), reward=vowels)
    assert run.sets.lines()[0].startswith("training: 8 prompts, ")
    assert run.sets.lines()[0].endswith("samples are scored by vowels")
