"""DCD's training: two projections that have nothing to do with each other, and nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import PLAIN, lines, same_lines
from align_vlms import picture, tiny_llava, tiny_qwen25vl
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from transformers import PrinterCallback
from vision_reference import prompt
from vlms import FAMILIES, family

from contralign.align.data import PairCollator
from contralign.align.dcd_config import DCDConfig
from contralign.align.dcd_trainer import DCDTrainer
from contralign.decoding import DCD, encode, generate
from contralign.decoding.projections import Projections, load
from contralign.decoding.projectors import tensors

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SIZES = ((56, 40), (90, 60), (40, 84))
LORA = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")


def pairs(count: int, processor: Any = None) -> Dataset:
    """About pictures, no two of one length; raw text where the family has no template."""
    rows = []
    for i in range(count):
        text = ("What is it?", "What do you see here?", "Name it!")[i % 3]
        row: dict[str, Any] = {"images": [picture(i, *SIZES[i % 3])]}
        said = {"chosen": "noise" + "!" * (i % 4), "rejected": "a cat" + "." * (i % 3)}
        if processor is None or processor.chat_template:
            row["prompt"] = [{"role": "user", "content": text}]
            row |= {k: [{"role": "assistant", "content": x}] for k, x in said.items()}
        else:
            row |= {"prompt": prompt(processor, (text, row["images"])), **said}
        rows.append(row)
    return Dataset.from_list(rows)


def run(folder: Path, model: Any = None, processor: Any = None, **options: Any) -> DCDTrainer:
    given: dict[str, Any] = {
        "use_cpu": True,
        "per_device_train_batch_size": 2,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "gradient_checkpointing": False,
    }
    others = {
        name: options.pop(name) for name in ("peft_config", "train_dataset") if name in options
    }
    if model is None:
        model, processor = tiny_llava()
    made = DCDTrainer(
        model,
        DCDConfig(str(folder), **{**given, **options}),
        **{"train_dataset": pairs(4), **others},
        eval_dataset=pairs(3) if "eval_strategy" in options else None,
        processing_class=processor,
    )
    made.remove_callback(PrinterCallback)
    made.create_model_card = lambda *_, **__: None
    return made


def trained(folder: Path, **options: Any) -> Projections:
    made = run(folder, **options)
    made.train()
    made.save_model()
    return load(folder)


@pytest.mark.parametrize("lora", [False, True])
def test_both_in_one_run_are_what_they_are_alone_and_the_base_stays(
    tmp_path: Path, lora: bool
) -> None:
    model, processor = tiny_qwen25vl()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    options: dict[str, Any] = {"peft_config": LORA if lora else None, "max_grad_norm": 0.1}
    both = trained(tmp_path / "both", model=model, processor=processor, **options)
    alone = trained(
        tmp_path / "alone", model=model, processor=processor, variant="neg_only", **options
    )
    assert (both.variant, alone.variant) == ("pos_neg", "neg_only")
    assert both.told["steps"] == 2
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert before.keys() == after.keys()
    for name, value in tensors(model).items():
        torch.testing.assert_close(both.negative[name], alone.negative[name], atol=1e-6, rtol=1e-5)
        changed = name.endswith("mlp.0.weight") or (not lora and name.endswith("mlp.0.bias"))
        if changed:
            assert (both.negative[name] - value).abs().max() > 1e-4
            assert (both.negative[name] - both.positive[name]).abs().max() > 1e-4
        assert both.negative[name].dtype == torch.float32


def naive(model: Any, processor: Any, data: Dataset, side: str) -> Tensor:
    """The mean over rows of the mean negative log-prob of a token, each row read alone."""
    means = []
    at = ("chosen", "rejected").index(side)
    for row in data:
        batch = PairCollator(processor, None)([row])["batch"]
        answer, images = batch.completions[0][at], dict(batch.images[0])
        ids = torch.tensor([[*batch.prompts[0], *answer]])
        for name in ("mm_token_type_ids", "token_type_ids"):
            if name in images:
                zeros = torch.zeros(len(answer), dtype=torch.long)
                images[name] = torch.cat([images[name], zeros])[None]
        logits = model(input_ids=ids, **images, use_cache=False).logits[0, -len(answer) - 1 : -1]
        means.append(-logits.log_softmax(-1)[range(len(answer)), answer].mean())
    return torch.stack(means).mean()


@pytest.mark.parametrize("name", FAMILIES)
def test_an_update_is_that_of_two_models(name: str, tmp_path: Path) -> None:
    """One step of plain descent, on every family, against the model's own forward."""
    shared, processor = family(name)
    # A trainer sets the model's special tokens.
    model, data = copy.deepcopy(shared), pairs(2, processor)
    found = trained(
        tmp_path,
        model=model,
        processor=processor,
        train_dataset=data,
        max_steps=1,
        lr_scheduler_type="constant",
        **PLAIN,
    )
    for side, values in (("chosen", found.positive), ("rejected", found.negative)):
        assert values is not None
        own = {n: p for n, p in model.named_parameters() if n in values}
        for parameter in own.values():
            parameter.requires_grad_(True)
        steps = torch.autograd.grad(naive(model, processor, data, side), list(own.values()))
        for (path, parameter), step in zip(own.items(), steps, strict=True):
            expected = parameter.detach() - 0.05 * step
            torch.testing.assert_close(values[path], expected, atol=1e-5, rtol=1e-4)
        for parameter in own.values():
            parameter.requires_grad_(False)


@pytest.mark.parametrize("variant", ["neg_only", "pos_neg"])
def test_the_tower_looks_once_at_each_picture(tmp_path: Path, variant: str) -> None:
    model, processor = tiny_llava()
    made, looks = run(tmp_path, model, processor, variant=variant), []
    made.engine._checked, made.engine.path = True, "packed"
    eye = model.model.vision_tower.embeddings
    eye.register_forward_hook(lambda _, __, output: looks.append(len(output)))
    made.train()
    assert looks == [2, 2]


def test_evaluation_reads_every_answer_through_both(tmp_path: Path) -> None:
    made = run(tmp_path, eval_strategy="steps", eval_steps=2, eval_on_start=True)
    made.train()
    first, last = (line for line in made.state.log_history if "eval_loss" in line)
    assert first["eval_loss"] == pytest.approx(
        first["eval_nll/chosen"] + first["eval_nll/rejected"]
    )
    assert first["eval_rewards/margins"] == first["eval_logps/chosen_drift"] == 0
    assert last["eval_loss"] < first["eval_loss"]
    assert last["eval_rewards/margins"] == pytest.approx(
        last["eval_rewards/chosen"] - last["eval_rewards/rejected"], rel=1e-4
    )
    assert last["eval_rewards/accuracies"] == 1
    assert last["eval_logps/chosen_drift"] > 0
    for name in ("rewards/accuracies", "nll/rejected"):
        assert name in made.args.measured
        assert f"eval_{name}" in last


def test_a_run_goes_on_where_it_was(tmp_path: Path) -> None:
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}
    whole = run(tmp_path / "whole", **options, peft_config=LORA)
    whole.train()
    resumed = run(tmp_path / "whole", **options, peft_config=LORA)
    resumed.train(str(tmp_path / "whole" / "checkpoint-1"))
    same_lines(lines(resumed, 1), lines(whole, 1))
    assert load(tmp_path / "whole" / "checkpoint-2").told["steps"] == 2
    other = run(tmp_path / "other", **options, variant="neg_only", peft_config=LORA)
    with pytest.raises(ValueError, match=r"settings\.variant was 'pos_neg', is 'neg_only'"):
        other.train(str(tmp_path / "whole" / "checkpoint-1"))


def test_half_precision_is_trained_in_full(tmp_path: Path) -> None:
    model, processor = tiny_llava()
    found = trained(tmp_path, model=model.bfloat16(), processor=processor, learning_rate=1e-5)
    own = tensors(model)
    assert {value.dtype for value in found.negative.values()} == {torch.float32}
    shift = max((found.negative[name] - own[name].float()).abs().max() for name in own)
    assert 0 < shift < 1e-3


def test_what_was_trained_decodes(tmp_path: Path) -> None:
    model, processor = tiny_llava()
    trained(tmp_path, model=model, processor=processor, max_steps=8)
    assert sorted(path.name for path in tmp_path.glob("*.*s*")) == [
        "config.json",
        "projections.safetensors",
    ]
    messages, images = [prompt(processor, ("What is it?", [picture()]))], [[picture()]]
    inputs = encode(processor, messages, images)
    method = DCD.from_pretrained(tmp_path)
    ids = generate(model, inputs, method, inputs, max_new_tokens=5, do_sample=False)
    plain = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert not torch.equal(ids, plain)


def test_bad_input_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    text = pairs(2).remove_columns("images")
    blind = Dataset.from_list([*pairs(2), {**pairs(3)[2], "images": []}])
    silent = Dataset.from_list(
        [{**pairs(1)[0], "rejected": [{"role": "assistant", "content": ""}]}]
    )
    for data, match in (
        (text, "the rows of train_dataset have prompt, chosen, rejected"),
        (blind, "1 rows of train_dataset have none, the first is row 2"),
        (silent, "empty-completion"),
        (pairs(2).add_column("margin", [1.0, 2.0]), "a margin is between two answers"),
    ):
        with pytest.raises(ValueError, match=match):
            run(tmp_path, "no/model", tiny_llava()[1], train_dataset=data)
    for options, match in (
        ({"reference": "base"}, "DCD has no reference, got reference: base"),
        ({"eval_samples": 2, "eval_strategy": "epoch"}, "eval_samples are of models"),
    ):
        with pytest.raises(ValueError, match=match):
            DCDConfig(str(tmp_path), use_cpu=True, report_to="none", **options)
    nothing = LoraConfig(target_modules=["q_proj"])
    with pytest.raises(ValueError, match=r"match no layer of the projector, got .*q_proj"):
        run(tmp_path, peft_config=nothing)


def test_the_config_says_where_it_came_from(tmp_path: Path) -> None:
    trained(tmp_path, variant="neg_only")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["variant"] == "neg_only"
    assert config["steps"] == 2
    assert (
        config["data"]
        == "training: 4 pairs, 0 of them cut to max_length, 0 others left out as unusable"
    )
