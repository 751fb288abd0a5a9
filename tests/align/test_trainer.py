"""Training: what an update is the mean of, what a run depends on and what it doesn't."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import (
    LORA,
    PLAIN,
    agree,
    learned,
    logged,
    rows,
    trained,
    trainer,
)
from eval_doubles import tiny_llama, tiny_tokenizer
from peft import LoraConfig

from contralign.align.dpo_trainer import DPOTrainer
from contralign.align.reference_cache import CachedReference
from contralign.align.references import FrozenReference

EIGHT: dict[str, Any] = {"per_device_train_batch_size": 8}
# 21 rows: the last update of an epoch has 5, or 4 and 1. 7 held out: the last batch has 7, or 1.
SAME: dict[str, dict[str, Any]] = {
    "two times four rows": {"gradient_accumulation_steps": 2, "per_device_eval_batch_size": 3},
    "packed": {**EIGHT, "log_prob_path": "packed"},
    "prefix": {**EIGHT, "log_prob_path": "prefix"},
    "padded": {**EIGHT, "log_prob_path": "padded"},
    "padding on the left": {**EIGHT, "log_prob_path": "padded", "side": "left"},
    "checkpointing": {**EIGHT, "gradient_checkpointing": True},
    "a cached reference": {**EIGHT, "reference": "cached"},
    "a reference that is handed over": {**EIGHT, "reference": tiny_llama},
}


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONTRALIGN_CACHE", str(tmp_path / "cache"))


def course(folder: Path, lora: bool, side: str = "right", **options: Any) -> DPOTrainer:
    """Two epochs over 21 rows with an evaluation after each, from an adapter that says a lot."""
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = side
    given = {"train_dataset": rows(21), "eval_dataset": rows(7, seed=1), "reference": "base"}
    if callable(options.get("reference")):
        options["reference"] = options["reference"]()
    return trained(
        folder,
        lora=lora,
        peft_config=LoraConfig(**LORA, init_lora_weights=False) if lora else None,
        processing_class=tokenizer,
        **{
            **given,
            **PLAIN,
            "num_train_epochs": 2,
            "eval_strategy": "epoch",
            "eval_on_start": True,
            **options,
        },
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, DPOTrainer]:
    folder = tmp_path_factory.mktemp("expected")
    return {lora: course(folder, lora, **EIGHT) for lora in (True, False)}


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("name", SAME)
def test_a_run_does_not_depend_on_how_it_is_computed(
    tmp_path: Path, expected: dict[bool, DPOTrainer], name: str, lora: bool
) -> None:
    run = course(tmp_path, lora, **SAME[name])
    assert len(logged(run, "loss")) == 6
    assert (logged(run, "loss")[0] == pytest.approx(math.log(2))) is not lora
    agree(run, expected[lora])


def test_losses_are_means_over_examples_and_so_are_lines_of_the_log(tmp_path: Path) -> None:
    every = trained(tmp_path, **EIGHT, **PLAIN, train_dataset=rows(21))
    once = trained(tmp_path, **EIGHT, **PLAIN, train_dataset=rows(21), logging_steps=3)
    assert torch.equal(learned(every), learned(once))
    sizes = (8, 8, 5)
    for name in ("rewards/margins", "rewards/accuracies", "logps/chosen", "lengths/prompt"):
        means = zip(sizes, logged(every, name), strict=True)
        expected = sum(size * mean for size, mean in means) / 21
        assert logged(once, name) == [pytest.approx(expected, rel=1e-5)], name
    # Of losses transformers takes the mean over updates.
    assert logged(once, "loss") == [pytest.approx(sum(logged(every, "loss")) / 3)]


def test_tokens_are_counted_once_each(tmp_path: Path) -> None:
    data = rows(21)
    words = sum(len(f"{row['prompt']} {row['chosen']} {row['rejected']}".split()) for row in data)
    run = trained(tmp_path, train_dataset=data, eval_dataset=rows(7), eval_strategy="epoch")
    assert logged(run, "num_tokens")[-1] == words + 2 * 21  # EOS behind both answers
    inner = run.model.num_parameters(exclude_embeddings=True)
    assert run.state.total_flos == 6 * inner * (words + 2 * 21)


def test_sets_of_evaluation_are_measured_one_by_one(tmp_path: Path) -> None:
    sets = {"near": rows(5, seed=1), "far": rows(7, seed=2)}
    run = trainer(tmp_path, eval_dataset=sets)
    together = run.evaluate()
    for name, data in sets.items():
        alone = run.evaluate(data)
        assert together[f"eval_{name}_logps/chosen"] == alone["eval_logps/chosen"]
    assert together["eval_near_logps/chosen"] != together["eval_far_logps/chosen"]


def test_weights_multiply_the_gradients_of_their_examples(tmp_path: Path) -> None:
    data = rows(4)
    weighted = data.add_column("weight", [3.0, 0.0, 1.0, 1.0])
    repeated = data.select([0, 0, 0, 2, 3])
    options = {**PLAIN, **EIGHT, "max_steps": 1}
    run = trained(tmp_path, train_dataset=weighted, **{**options, "learning_rate": 0.04})
    other = trained(tmp_path, train_dataset=repeated, **{**options, "learning_rate": 0.05})
    # (3a + c + d) / 4 and (3a + c + d) / 5.
    assert torch.allclose(learned(run), learned(other), atol=1e-7)
    assert not torch.allclose(learned(run), learned(trainer(tmp_path)), atol=1e-4)
    assert logged(run, "loss") == [pytest.approx(5 / 4 * math.log(2))]
    assert run.evaluate(weighted)["eval_loss"] != pytest.approx(
        run.evaluate(data)["eval_loss"], abs=1e-3
    )


def test_a_margin_is_what_chosen_must_be_ahead(tmp_path: Path) -> None:
    run = trained(tmp_path, train_dataset=rows(8, margin=0.7), **PLAIN)
    # At the start both are even: -log sigmoid(-0.7).
    assert logged(run, "loss")[0] == pytest.approx(math.log1p(math.exp(0.7)))
    assert logged(run, "rewards/margins")[0] == 0


def test_adapters_start_from_the_seed(tmp_path: Path) -> None:
    model = tiny_llama()
    starts: list[torch.Tensor] = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(starts))
        starts.append(learned(trainer(tmp_path, model=copy.deepcopy(model), seed=seed)))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


@pytest.mark.parametrize("lora", [True, False])
def test_bfloat16_is_autocast_and_starts_with_equals(tmp_path: Path, lora: bool) -> None:
    options: dict[str, Any] = {**PLAIN, "train_dataset": rows(12), "lora": lora}
    run, exact = trained(tmp_path, bf16=True, **options), trained(tmp_path, **options)
    assert logged(run, "rewards/margins")[0] == 0
    assert logged(run, "loss") == pytest.approx(logged(exact, "loss"), abs=0.02)
    assert 1e-4 < abs(logged(run, "logps/chosen")[0] - logged(exact, "logps/chosen")[0]) < 0.5
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


def test_a_stream_is_trained_on_in_its_order(tmp_path: Path) -> None:
    options: dict[str, Any] = {**PLAIN, "max_steps": 3, "train_sampling_strategy": "sequential"}
    stream = trained(tmp_path, train_dataset=rows(12).to_iterable_dataset(), **options)
    data = trained(tmp_path, train_dataset=rows(12), **options)
    assert logged(stream, "loss") == pytest.approx(logged(data, "loss"))
    assert torch.allclose(learned(stream), learned(data), atol=1e-6)


def spoken(model: Any, prompt: str, completion: str) -> float:
    """The log-prob of a completion by the model's own forward."""
    tokenizer = tiny_tokenizer()
    ids = tokenizer(f"{prompt}{completion}</s>", return_tensors="pt").input_ids
    start = len(tokenizer(prompt).input_ids)
    with torch.no_grad():
        logps = model(input_ids=ids).logits.log_softmax(-1)
    return float(logps[0, start - 1 : -1].gather(-1, ids[0, start:, None]).sum())


def test_without_a_reference_log_probs_themselves_are_compared(tmp_path: Path) -> None:
    data = rows(10)
    run = trainer(tmp_path, reference="none", beta=0.3, eval_dataset=data)
    model = tiny_llama()
    chosen, rejected = (
        torch.tensor([spoken(model, row["prompt"], row[name]) for row in data])
        for name in ("chosen", "rejected")
    )
    found = run.evaluate()
    assert found["eval_logps/chosen"] == pytest.approx(chosen.mean().item())
    assert found["eval_rewards/margins"] == pytest.approx(0.3 * (chosen - rejected).mean().item())
    losses = torch.nn.functional.softplus(-0.3 * (chosen - rejected))
    assert found["eval_loss"] == pytest.approx(losses.mean().item())
    assert found["eval_loss_se"] == pytest.approx(losses.std().item() / 10**0.5)
    assert "eval_kl" not in found
    assert found["eval_logps/chosen_drift"] == 0
    run.train()
    assert run.evaluate()["eval_logps/chosen_drift"] == pytest.approx(
        run.evaluate()["eval_logps/chosen"] - found["eval_logps/chosen"]
    )


@pytest.mark.parametrize("lora", [True, False])
def test_a_cached_reference_is_there_for_runs_with_other_options(
    tmp_path: Path, lora: bool
) -> None:
    given: dict[str, Any] = {"lora": lora, "reference": "cached", "train_dataset": rows(10)}
    first = trained(tmp_path / "first", **given)
    second = trained(tmp_path / "second", learning_rate=1e-3, **given, seed=7, num_train_epochs=2)
    caches = [run.reference for run in (first, second)]
    assert all(isinstance(cache, CachedReference) for cache in caches)
    assert [cache.misses for cache in caches] == [20, 0]
    assert caches[1].hits >= 40
    assert len({cache.database for cache in caches}) == 1
    other = trained(tmp_path / "third", **{**given, "train_dataset": rows(3, seed=9)})
    assert other.reference.misses == 6


@pytest.mark.parametrize("lora", [True, False])
def test_a_reference_that_follows_is_the_policy_again_and_again(tmp_path: Path, lora: bool) -> None:
    follows = {"sync_ref_model": True, "ref_model_mixup_alpha": 1.0, "ref_model_sync_steps": 2}
    run = trained(tmp_path, lora=lora, train_dataset=rows(20), **follows)
    still = [margin == 0 for margin in logged(run, "rewards/margins")]
    assert still == [True, False, True, False, True]
    assert all(loss == pytest.approx(math.log(2)) for loss in logged(run, "loss")[::2])


def test_a_reference_follows_by_its_share(tmp_path: Path) -> None:
    follows = {"sync_ref_model": True, "ref_model_mixup_alpha": 0.25, "ref_model_sync_steps": 1}
    run = trained(tmp_path, lora=False, max_steps=1, **follows)
    assert isinstance(run.reference, FrozenReference)
    parameters = zip(
        run.reference.engine.model.parameters(),
        tiny_llama().parameters(),
        run.model.parameters(),
        strict=True,
    )
    for reference, start, policy in parameters:
        assert torch.allclose(reference, 0.75 * start + 0.25 * policy, atol=1e-6)


def test_training_goes_on_from_an_adapters_folder(tmp_path: Path, model_folder: Path) -> None:
    first = trained(tmp_path / "first", model=str(model_folder), eval_dataset=rows(7, seed=1))
    first.save_model()
    given: dict[str, Any] = {
        "model": tmp_path / "first",
        "lora": False,
        "eval_dataset": rows(7, seed=1),
    }
    with pytest.raises(ValueError, match="Set reference: adapter to compare with where training"):
        trainer(tmp_path / "second", **given)
    run = trainer(tmp_path / "second", reference="adapter", **given)
    assert torch.equal(learned(run), learned(first))
    before, after = run.evaluate(), first.evaluate()
    assert before["eval_logps/chosen"] == pytest.approx(after["eval_logps/chosen"])
    assert (before["eval_rewards/margins"], before["eval_kl"]) == (0, 0)
    run.train()
    assert logged(run, "rewards/margins")[0] == 0
    assert not torch.allclose(learned(run), learned(first), atol=1e-3)
    base = trainer(tmp_path / "third", reference="base", **given)
    assert base.evaluate()["eval_rewards/margins"] == pytest.approx(after["eval_rewards/margins"])
    assert after["eval_rewards/margins"] != 0
