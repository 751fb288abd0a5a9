"""MPO's stages: DPO on easy pairs, then online RL that starts at, and is held to, their policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from align_runs import LORA, config, rows
from align_vlms import tiny_llava
from eval_doubles import tiny_llama, tiny_tokenizer
from mpo_runs import mpo, vowels
from peft import LoHaConfig, LoraConfig, PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM

from contralign.align import DPOTrainer, TrainingError
from contralign.align.adapters import base_tensors
from contralign.align.data import load
from contralign.align.mpo.checks import check_adapter, check_second, check_whole
from contralign.align.mpo.config import MPOConfig
from contralign.align.mpo.files import weights_digest
from contralign.align.mpo.prompts import fitting_prompts, unfitting
from contralign.align.mpo.stage2 import OnlineTrainer, check_same
from contralign.align.rewards import ColumnReward


def weights(folder: Path) -> dict[str, Tensor]:
    (file,) = folder.glob("*model.safetensors")
    return load_file(file)


def same(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[n], others[n]) for n in some)


def test_a_run_leaves_all_that_tells_of_it(tmp_path: Path) -> None:
    run = mpo(tmp_path / "out", gamma=0.0)
    run.train()
    run.save_model()
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {"scores.jsonl", "easy.jsonl", "difficult.jsonl", "split.json", "split.png"}
    assert names >= {"stage1", "stage2", "adapter_model.safetensors", "README.md", "curves.png"}
    told = json.loads((run.folder / "split.json").read_text())
    easy, difficult = (
        [json.loads(line) for line in (run.folder / name).read_text().splitlines()]
        for name in ("easy.jsonl", "difficult.jsonl")
    )
    assert (told["easy"], told["difficult"]) == (len(easy), len(difficult))
    assert all(row["score_chosen"] > row["score_rejected"] for row in easy)
    assert all(row["score_chosen"] <= row["score_rejected"] for row in difficult)
    assert [row["score_chosen"] for row in easy] == vowels([row["chosen"] for row in easy])
    assert run.online is not None
    lines = [line for line in run.online.state.log_history if "reward" in line]
    assert lines[0]["kl"] == 0.0
    assert lines[-1]["scores/mean"] == lines[-1]["reward"]
    card = (run.folder / "README.md").read_text()
    assert "trained with MPO by" in card
    assert f"{len(easy)} easy pairs for DPO" in card
    assert "contralign train mpo" in (run.folder / "train.yaml").read_text()
    assert "contralign train dpo" in (run.folder / "stage1" / "train.yaml").read_text()
    assert not (run.folder / "ref").exists()


def test_flipped_pairs_are_learned_the_other_way_round(tmp_path: Path) -> None:
    run = mpo(tmp_path, gamma=1.0, negative_gaps="flip")
    run._split()
    rows = load(str(tmp_path / "easy.jsonl"))
    assert all(row["score_chosen"] >= row["score_rejected"] + 1 for row in rows)
    assert rows["score_chosen"] == vowels(rows["chosen"])


@pytest.mark.parametrize("lora", [True, False])
def test_stage_1_is_dpo_on_the_easy_pairs(lora: bool, tmp_path: Path) -> None:
    run = mpo(tmp_path / "mpo", lora=lora, stage1={"beta": 0.3, "learning_rate": 2e-2})
    run.train()
    given = {"per_device_train_batch_size": 8, "max_length": 64, "beta": 0.3}
    alone = DPOTrainer(
        tiny_llama(),
        config(tmp_path / "dpo", **{**given, "learning_rate": 2e-2}),
        train_dataset=load(str(tmp_path / "mpo" / "easy.jsonl")),
        processing_class=tiny_tokenizer(),
        peft_config=LoraConfig(**LORA) if lora else None,
    )
    alone.train()
    alone.save_model()
    assert same(weights(tmp_path / "mpo" / "stage1"), weights(tmp_path / "dpo"))


def of_stage_1(folder: Path, lora: bool) -> Any:
    """The policy of stage 1, loaded without MPO."""
    if lora:
        return PeftModel.from_pretrained(tiny_llama(), folder).eval()
    return LlamaForCausalLM.from_pretrained(folder).eval()


def of_the_reference(online: OnlineTrainer, ids: Tensor) -> Tensor:
    """Logits of what stage 2 compares with."""
    model: Any = online.model if online.ref_model is None else online.ref_model
    model.eval()
    if online.ref_model is None:
        model.set_adapter("ref")
    return model(ids).logits


@pytest.mark.parametrize("lora", [True, False])
def test_stage_2_starts_at_and_is_held_to_the_policy_of_stage_1(lora: bool, tmp_path: Path) -> None:
    run = mpo(tmp_path, lora=lora, stage1={"learning_rate": 5e-2})
    run.train()
    run.save_model()
    assert run.online is not None
    kls = [line["kl"] for line in run.online.state.log_history if "kl" in line]
    assert kls[0] == 0 != kls[-1]
    assert not same(weights(tmp_path / "stage1"), weights(tmp_path))
    ids = torch.arange(3, 15)[None]
    with torch.no_grad():
        expected = of_stage_1(tmp_path / "stage1", lora)(ids).logits
        start = tiny_llama().eval()(ids).logits
        assert torch.equal(of_the_reference(run.online, ids), expected)
    assert (expected - start).abs().max() > 1e-2


def test_lora_leaves_the_base_weights_bit_by_bit(tmp_path: Path) -> None:
    model = tiny_llama()
    run = mpo(tmp_path, model=model)
    run.train()
    assert same(dict(base_tensors(run.model)), dict(tiny_llama().state_dict()))


@pytest.mark.parametrize("lora", [True, False])
def test_another_reference_is_noticed_before_the_first_update(
    lora: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where TRL makes the base the reference: of an adapter, or of the model that was named."""
    made = OnlineTrainer.__init__

    def spoiled(self: OnlineTrainer, policy: Any, *args: Any, **options: Any) -> None:
        made(self, policy, *args, **options)
        other = tiny_llama()
        if self.ref_model is not None:
            self.ref_model.load_state_dict(other.state_dict())
        for name, value in self.model.named_parameters():
            if ".ref." in name and "lora_B" in name:
                value.data.zero_()

    monkeypatch.setattr(OnlineTrainer, "__init__", spoiled)
    run = mpo(tmp_path, lora=lora, stage1={"learning_rate": 5e-2})
    with pytest.raises(TrainingError, match="the reference isn't the stage-1 policy"):
        run.train()
    assert run.online is not None
    assert run.online.state.global_step == 0


def test_the_kl_of_tokens_that_are_there_is_what_counts() -> None:
    policy, mask = torch.tensor([[-1.0, -2.0]]), torch.tensor([[1, 0]])
    check_same(policy, policy + torch.tensor([0.0, 5.0]), mask, half=False)
    with pytest.raises(TrainingError, match=r"by 0\.0005 nats"):
        check_same(policy, policy + 5e-4, mask, half=False)
    check_same(policy, policy + 5e-4, mask, half=True)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"reward": None}, "by a reward, and trains on samples that it scores, got none"),
    ({"reward": ColumnReward("score")}, "not the samples of stage 2, got reward_column 'score'"),
    ({"reward": lambda completions, objects: []}, "reads the column 'objects'"),
    ({"data": rows(24).to_iterable_dataset()}, "by the gaps of all pairs, got a stream"),
    ({"data": rows(24, weight=2.0)}, "can't weigh prompts, but the data has a weight column"),
    (
        {"stage2": {"disable_dropout": False}},
        "stage2: stage 2 starts with KL 0 .* disable_dropout: false",
    ),
    ({"stage2": {"cache_implementation": "foo"}}, "stage2: .*foo"),
    ({"stage2": {"use_vllm": "yes"}}, "stage2: use_vllm is true or false, got 'yes'"),
    ({"stage2": {"vllm_mode": "server"}}, "stage2: vllm_mode is of vLLM, .* Set use_vllm: true"),
    ({"stage2": {"reward_funcs": "a.b"}}, "stage2: reward_funcs isn't of one stage, got 'a.b'"),
    ({"stage2": {"use_liger_kernel": True}}, "stage2: use_liger_kernel needs liger-kernel"),
    ({"stage2": {"generation_kwargs": {"min_new_token": 1}}}, "Did you mean 'min_new_tokens'"),
    ({"gamma": 9.0}, "got 0 easy and 24 difficult.*scores are kept: resume_from_checkpoint true"),
    ({"gamma": 3.0, "max_length": 8}, "max-length|can't be trained on"),
    ({"stage2": {"max_completion_length": 64}}, "max_length holds a prompt and a sample, got 64"),
    ({"stage2": {"steps_per_generation": 99}}, "stage 2 samples for 198 prompts at once, got"),
]


@pytest.mark.parametrize(("given", "told"), REFUSED)
def test_before_anything_is_trained(given: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        mpo(tmp_path / "out", **given).train()
    assert not (tmp_path / "out" / "stage1").exists()


def test_columns_that_stage_2_cannot_pass_on_are_refused(tmp_path: Path) -> None:
    data = rows(24, chat_template_kwargs=json.dumps({"thinking": True}))
    with pytest.raises(ValueError, match="can't pass chat_template_kwargs of a row"):
        mpo(tmp_path, data=data).train()


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharded_weights_are_refused(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = mpo(tmp_path)
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ValueError, match=f"FSDP or DeepSpeed .{variable}"):
        check_whole(run.args)


def test_an_adapter_of_the_head_is_refused() -> None:
    check_adapter(LoraConfig(**LORA))
    with pytest.raises(ValueError, match="stage 2 reads lm_head without an adapter"):
        check_adapter(LoraConfig(**{**LORA, "target_modules": ["lm_head"]}))


def test_continuous_batching_of_pictures_is_refused_before_stage_1(tmp_path: Path) -> None:
    online = MPOConfig(
        str(tmp_path), use_cpu=True, stage2={"use_transformers_continuous_batching": True}
    ).second(tmp_path)
    check_second(online, tiny_tokenizer(), "model", None, False)
    with pytest.raises(ValueError, match=r"stage2: .* text only, but LlavaProcessor reads more"):
        check_second(online, tiny_llava()[1], "model", None, False)


def test_what_vllm_cannot_have_is_refused_before_stage_1(tmp_path: Path) -> None:
    online = MPOConfig(str(tmp_path), use_cpu=True, stage2={}).second(tmp_path)
    online.use_vllm = True
    check_second(online, tiny_tokenizer(), "model", LoraConfig(**LORA), False)
    for model, adapter, quantized, told in (
        (tiny_llama(), None, False, "made in memory"),
        ("model", LoHaConfig(), False, "with LoRA merged into them"),
        ("model", LoraConfig(**LORA), True, "with LoRA merged into them"),
    ):
        with pytest.raises(ValueError, match=rf"stage2: vLLM can't .*{told}"):
            check_second(online, tiny_tokenizer(), model, adapter, quantized)


def test_an_adapter_is_named_whatever_the_order_of_its_layers(tmp_path: Path) -> None:
    names = []
    for layers in (["q_proj", "v_proj"], ["v_proj", "q_proj"], ["q_proj"]):
        told = {"r": 4, "target_modules": layers}
        (tmp_path / "adapter_config.json").write_text(json.dumps(told))
        (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
        names.append(weights_digest(tmp_path))
    assert names[0] == names[1] != names[2]


def fitting(folder: Path, longest: int, on_problem: str = "drop") -> int:
    """How many of 8 prompts, of 3 to 6 tokens, stage 2 can sample for."""
    small = {"num_generations": 2, "per_device_train_batch_size": 2}
    whole = MPOConfig(
        str(folder),
        use_cpu=True,
        max_length=12,
        on_problem=on_problem,
        stage2={"max_completion_length": longest, **small},
    )
    return len(fitting_prompts(rows(8), tiny_tokenizer(), whole, whole.second(folder)))


def test_prompts_need_room_for_a_sample(tmp_path: Path) -> None:
    assert [fitting(tmp_path, longest) for longest in (5, 6, 8, 9)] == [8, 8, 4, 2]
    with pytest.raises(ValueError, match="no row to train on, of 8: prompt-too-long 8"):
        fitting(tmp_path, 11)
    with pytest.raises(ValueError, match=r"it has \d tokens, max_length is 12, a sample's 9"):
        fitting(tmp_path, 9, "error")


def test_the_card_tells_of_prompts_without_room() -> None:
    assert unfitting(0) == []
    assert unfitting(3) == [
        "stage 2 left out 3 of the difficult prompts: no room behind them for a sample"
    ]


def test_broken_json_is_refused_by_its_key(tmp_path: Path) -> None:
    told = r"stage2 maps keys to values, written as JSON, got '\{num_generations: 4': .*quotes"
    with pytest.raises(ValueError, match=told):
        MPOConfig(str(tmp_path), use_cpu=True, stage2="{num_generations: 4")
