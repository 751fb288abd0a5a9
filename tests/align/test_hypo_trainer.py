"""HyPO's trainer: DPO where lambda is 0, and held to the reference where it isn't."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import HYPO, PLAIN, Untold, agree, learned, lines, logged, rows, trained, trainer
from transformers.utils import logging

from contralign.align import Batch
from contralign.align.hypo_trainer import with_samples

DRAWN: dict[str, Any] = {
    **HYPO,
    "max_completion_length": 5,
    "num_generations": 3,
    "per_device_train_batch_size": 8,
}
DPO: dict[str, Any] = {"make": Untold, "per_device_train_batch_size": 8}


@pytest.mark.parametrize("lora", [True, False])
def test_without_lambda_it_is_dpo(tmp_path: Path, lora: bool) -> None:
    given = {"train_dataset": rows(20), "eval_dataset": rows(6, seed=1), "lora": lora}
    given |= {"eval_strategy": "epoch", "num_train_epochs": 2}
    options = {**HYPO, "lmbda": 0.0}
    run = trained(tmp_path / "hypo", **{**DPO, **given, **options})
    dpo = trained(tmp_path / "dpo", **DPO, **given)
    assert torch.equal(learned(run), learned(dpo))
    assert lines(run) == lines(dpo)


def test_pair_and_samples_are_scored_in_one_row(tmp_path: Path) -> None:
    run = trainer(tmp_path, **DRAWN, train_dataset=rows(8), lmbda=0.3, temperature=0.7)
    inputs = run.data_collator([run.train_dataset[i] for i in range(8)])
    run._sample(inputs, "update 0")
    whole = with_samples(inputs["batch"], inputs["samples"], 1)
    assert (whole.k, whole.sampled) == (5, 3)
    assert [group[:2] for group in whole.completions] == inputs["batch"].completions
    found = run.engine(whole).logps
    assert run.engine.path == "packed"
    for row in range(8):
        for place, said in enumerate(whole.completions[row]):
            ids = torch.tensor([[*whole.prompts[row], *said]])
            logits = run.model(input_ids=ids).logits[0, -len(said) - 1 : -1]
            logps = (logits / (0.7 if place > 1 else 1)).log_softmax(-1)
            expected = logps.gather(1, torch.tensor(said)[:, None])[:, 0]
            assert torch.allclose(found[row, place, : len(said)], expected, atol=1e-4)


def test_the_first_update_is_dpos(tmp_path: Path) -> None:
    # Policy and reference are the same: the KL and its gradient are 0.
    given = {"train_dataset": rows(8), **PLAIN}
    run = trained(tmp_path / "hypo", **DRAWN, **given, lmbda=5.0)
    assert logged(run, "samples/kl") == [0]
    assert logged(run, "kl") == [0]
    assert torch.allclose(learned(run), learned(trained(tmp_path / "dpo", **DPO, **given)))


def test_lambda_holds_the_policy_to_the_reference(tmp_path: Path) -> None:
    def ended(folder: str, **options: Any) -> Any:
        given = {"num_train_epochs": 40, "learning_rate": 2e-2, "logging_steps": 10}
        return trained(tmp_path / folder, **DRAWN, **given, train_dataset=rows(8), **options)

    # So little of it that it's DPO, whose samples are measured.
    loose, held = ended("loose", lmbda=1e-9), ended("held", lmbda=0.5)
    assert logged(loose, "kl")[-1] > 5 * logged(held, "kl")[-1] > 0
    assert logged(loose, "samples/kl")[-1] > 5 * logged(held, "samples/kl")[-1]


@pytest.mark.parametrize("baseline", ["none", "leave_one_out"])
def test_a_run_does_not_depend_on_its_micro_batches(tmp_path: Path, baseline: str) -> None:
    given = {
        "train_dataset": rows(15),  # the last update has seven
        "eval_dataset": rows(5, seed=1),
        "eval_strategy": "epoch",
        "baseline": baseline,
        "lmbda": 0.2,
        "num_train_epochs": 2,
        **PLAIN,
        "learning_rate": 1e-2,
    }
    whole = trained(tmp_path, **{**DRAWN, **given})
    parts = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    other = {"per_device_eval_batch_size": 2, "gradient_checkpointing": True}
    agree(trained(tmp_path, **{**DRAWN, **given, **parts, **other}), whole)
    assert logged(whole, "samples/kl")[-1] != 0


def test_some_prompts_stand_for_all(tmp_path: Path) -> None:
    run = trainer(tmp_path, **DRAWN, train_dataset=rows(8), lmbda=0.4, online_prompts=2)
    with torch.no_grad():
        for p in (p for p in run.model.parameters() if p.requires_grad):
            p.normal_(std=0.3)
    run.model.eval()
    inputs = run.data_collator([run.train_dataset[i] for i in range(8)])
    run._sample(inputs, "update 0")
    assert len(inputs["samples"]) == len(inputs["told"]["completions/clipped"]) == 2
    pairs, samples = inputs["batch"], inputs["samples"]
    with torch.no_grad():
        found = run.compute_loss(run.model, inputs, num_items_in_batch=8)
        h = [run.engine(one).logps - run.reference(one) for one in (pairs, samples)]
        logps = run.engine(samples).logps.sum(-1)
    margins = 0.1 * (h[0].sum(-1)[:, 0] - h[0].sum(-1)[:, 1])
    offline = -torch.nn.functional.logsigmoid(margins).mean()
    online = (h[1].sum(-1) * logps).mean()
    assert found == pytest.approx(float(offline + 0.4 * online), rel=1e-4)


def test_a_run_is_resumed(tmp_path: Path) -> None:
    saved = {"save_strategy": "steps", "save_steps": 1, "num_train_epochs": 2, "lmbda": 0.3}
    given = {**DRAWN, **saved, "train_dataset": rows(16)}
    unbroken = trained(tmp_path, **given)
    run = trainer(tmp_path, **given)
    run.train(str(tmp_path / "checkpoint-3"))
    assert lines(run) == lines(unbroken)
    assert torch.equal(learned(run), learned(unbroken))


def test_evaluations_draw_the_same_noise(tmp_path: Path) -> None:
    run = trainer(tmp_path, **DRAWN, eval_dataset=rows(10, seed=1))
    first, second = run.evaluate(), run.evaluate()
    assert first["eval_samples/length"] == second["eval_samples/length"]
    assert first["eval_samples/kl"] == first["eval_kl"] == 0


def test_texts_without_an_end_are_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.get_logger("contralign"), "propagate", True)
    given = {**DRAWN, "max_completion_length": 1, "per_device_train_batch_size": 2}
    trained(tmp_path, **given, train_dataset=rows(14), num_train_epochs=2, seed=5)
    told = "no sample of the first 5 updates came to an end within max_completion_length 1"
    assert caplog.text.count(told) == 1


def test_a_prompt_leaves_room_for_samples(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prompt-too-long"):
        trainer(tmp_path, **DRAWN, max_length=7)


def test_samples_stand_behind_the_pair() -> None:
    pairs = Batch([[1], [2]], [[[3], [4]], [[5], [6]]], columns={"weight": torch.ones(2)})
    drawn = Batch([[1], [2]], [[[7]], [[8, 9]]], sampled=1)
    both = with_samples(pairs, drawn, 2.0)
    assert both.completions == [[[3], [4], [7]], [[5], [6], [8, 9]]]
    assert both.columns["online"].tolist() == [2.0, 2.0]
    assert both.drawn.sum() == 3
