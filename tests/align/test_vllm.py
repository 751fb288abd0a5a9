"""vLLM is given the policy's weights and draws; TRL's engine is real, vLLM a stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from align_models import MODELS, made, ragged
from align_policies import moved, policy
from align_runs import HYPO, UntoldHyPO, learned, logged, rows, trained, trainer
from align_vlms import tiny_llava
from eval_doubles import tiny_llama, tiny_tokenizer
from peft import LoHaConfig, PromptTuningConfig, get_peft_model
from trl.generation import vllm_generation
from vllm_double import LLM, vllm

from contralign.align import CoPGConfig, HyPOConfig
from contralign.align.support import refuse_generator
from contralign.align.vllm import check_weights, merged_weights

assert vllm


DRAWN: dict[str, Any] = {
    **HYPO,
    "lmbda": 0.3,
    "max_completion_length": 5,
    "num_generations": 2,
    "use_vllm": True,
    "temperature": 0.8,
}


@pytest.fixture
def folder(tmp_path: Path) -> str:
    tiny_llama().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@torch.no_grad()
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dora": True},
        {"target_modules": ["lm_head", "embed_tokens", "q_proj"], "use_rslora": True},
        {"modules_to_save": ["lm_head"], "target_modules": ["q_proj"]},
    ],
    ids=["lora", "dora", "ends", "saved"],
)
def test_the_weights_are_what_the_policy_computes_with(options: dict[str, Any]) -> None:
    model = policy(**options).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bare = made(MODELS["llama"]).eval()
    weights = dict(merged_weights(model))
    assert weights.keys() == {name for name, _ in bare.named_parameters()}
    bare.load_state_dict({name: value.clone() for name, value in weights.items()})
    ids = torch.tensor([list(ragged().prompts[0])])
    assert torch.allclose(bare(ids).logits, model(ids).logits, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_without_an_adapter_they_are_the_models_own() -> None:
    model = made(MODELS["llama"])
    own = {name: value.data_ptr() for name, value in model.named_parameters()}
    assert {name: value.data_ptr() for name, value in merged_weights(model)} == own


def test_it_draws_from_the_policy_of_each_update(
    tmp_path: Path, folder: str, vllm: type[LLM]
) -> None:
    """Two micro-batches an update: weights once, then 2 x 2 samples for each of them."""
    given = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_length": 24}
    seen: list[dict[str, torch.Tensor]] = []

    class Watched(UntoldHyPO):
        def _sample(self, inputs: dict[str, Any], moment: str) -> None:
            super()._sample(inputs, moment)
            policy = {name: x.clone() for name, x in merged_weights(self.model)}
            own = dict(vllm.made[0].model.named_parameters())
            assert all(torch.allclose(own[name], x) for name, x in policy.items())
            drawn = [said for said in vllm.made[0].calls if said != "load"][-4:]
            assert list(inputs["samples"].flat) == drawn
            seen.append(policy)

    options = {**DRAWN, "make": Watched, "model": folder, "train_dataset": rows(8), **given}
    run = trained(tmp_path / "run", **options)
    (engine,) = vllm.made
    assert [call == "load" for call in engine.calls] == ([True] + [False] * 8) * 2
    assert engine.given["max_model_len"] == 24
    assert engine.given["max_num_seqs"] == 4
    assert logged(run, "samples/kl")[0] == 0
    assert len(seen) == 4
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(seen[0][name], seen[1][name])
    assert not torch.equal(seen[1][name], seen[2][name])


def test_it_lags_as_asked_and_evaluations_see_the_policy(
    tmp_path: Path, folder: str, vllm: type[LLM]
) -> None:
    given = {"refresh_every": 2, "eval_dataset": rows(2), "eval_strategy": "steps", "eval_steps": 4}
    options = {**DRAWN, "model": folder, "train_dataset": rows(16), **given}
    run = trained(tmp_path / "run", **options)
    assert logged(run, "samples/lag") == [0, 1, 0, 1]
    # At updates 0 and 2, and for the evaluation after update 4.
    assert vllm.made[0].calls.count("load") == 3
    own = dict(vllm.made[0].model.named_parameters())
    assert all(torch.allclose(own[name], x) for name, x in merged_weights(run.model))


def test_asleep_it_gets_its_weights_anew(tmp_path: Path, folder: str, vllm: type[LLM]) -> None:
    options = {**DRAWN, "model": folder, "train_dataset": rows(8), "vllm_enable_sleep_mode": True}
    run = trained(tmp_path / "run", **options)
    assert vllm.made[0].calls[:4] == ["sleep", "wake", "load", "wake"]
    assert learned(run).isfinite().all()


def test_samples_end_at_the_policys_stops(tmp_path: Path, folder: str, vllm: type[LLM]) -> None:
    run = trainer(tmp_path / "run", **DRAWN, model=folder, train_dataset=rows(8))
    inputs = run.data_collator([run.train_dataset[i] for i in range(8)])
    run._sample(inputs, "update 0")
    stop = run.processing_class.eos_token_id
    for said in inputs["samples"].flat:
        assert len(said) == 5 or said[-1] == stop
        assert stop not in said[:-1]


def test_refuses_what_it_would_read_wrongly(folder: str) -> None:
    with pytest.raises(ValueError, match=r"made in memory\. Set use_vllm: false"):
        check_weights(made(MODELS["llama"]))
    model = made(MODELS["llama"])
    model.name_or_path = folder
    check_weights(model)
    adapted = get_peft_model(model, LoHaConfig(r=2, target_modules=["v_proj"]))
    moved(adapted)
    with pytest.raises(ValueError, match="which these layers can't be: loha Linear"):
        check_weights(adapted)
    tied = policy(target_modules=["embed_tokens"])
    inner = tied.get_base_model()
    inner.name_or_path = folder
    check_weights(tied)
    inner.config.tie_word_embeddings = True
    with pytest.raises(ValueError, match="ties head and embedding"):
        check_weights(tied)


def test_refuses_other_weights_than_in_files(folder: str) -> None:
    model = made(MODELS["mixtral"])
    model.name_or_path = folder
    with pytest.raises(ValueError, match="MixtralForCausalLM has other weights than in its files"):
        check_weights(model)
    prompted = PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    with pytest.raises(ValueError, match="PROMPT_TUNING adapter works in PEFT's wrapper"):
        check_weights(get_peft_model(made(MODELS["llama"]), prompted))


def test_evaluations_see_the_best_model(tmp_path: Path, folder: str, vllm: type[LLM]) -> None:
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "eval_steps": 1}
    steps = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", **best}
    data = {"train_dataset": rows(16), "eval_dataset": rows(4), "learning_rate": 0.5}
    run = trained(tmp_path / "run", **{**DRAWN, "model": folder, **steps, **data})
    assert run.state.best_global_step < run.state.global_step
    run.evaluate()
    own = dict(vllm.made[0].model.named_parameters())
    assert all(torch.allclose(own[name], x) for name, x in merged_weights(run.model))


def test_options_reach_the_engine(tmp_path: Path, folder: str, vllm: type[LLM]) -> None:
    seen: list[bool] = []

    class Watched(LLM):
        def generate(self, *given: Any, **named: Any) -> Any:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().generate(*given, **named)

    vllm_generation.LLM = Watched
    options = {**DRAWN, "model": folder, "train_dataset": rows(4), "bf16": True}
    run = trainer(tmp_path / "run", **options, max_length=2000, trust_remote_code=True)
    inputs = run.data_collator([run.train_dataset[i] for i in range(4)])
    run._sample(inputs, "update 0")
    assert seen == [False]
    (engine,) = vllm.made
    assert engine.given["max_model_len"] == run.model.config.max_position_embeddings < 2000
    assert engine.given["trust_remote_code"] is True


def test_a_failed_update_leaves_no_lag(tmp_path: Path, folder: str, vllm: type[LLM]) -> None:
    class Failing(UntoldHyPO):
        def _sample(self, inputs: dict[str, Any], moment: str) -> None:
            if moment == "update 1":
                raise KeyError(moment)
            super()._sample(inputs, moment)

    options = {**DRAWN, "make": Failing, "model": folder, "refresh_every": 2}
    run = trainer(tmp_path / "run", **options, train_dataset=rows(8))
    with pytest.raises(KeyError):
        run.train()
    assert run._lag == 0


def test_refuses_pictures() -> None:
    with pytest.raises(ValueError, match=r"vLLM can't .*: Llava.* more than text.*use_vllm: fal"):
        refuse_generator(tiny_llava()[0], "vLLM", "use_vllm")


def test_its_options_are_refused_without_it(tmp_path: Path) -> None:
    told = "vllm_mode is of vLLM, got 'server' with use_vllm: false"
    with pytest.raises(ValueError, match=told):
        HyPOConfig(str(tmp_path), use_cpu=True, vllm_mode="server")


@pytest.mark.parametrize("kind", [HyPOConfig, CoPGConfig])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"vllm_mode": "near"}, "vllm_mode is colocate or server, got 'near'"),
        ({"vllm_gpu_memory_utilization": 1.5}, r"share in \(0, 1\], got 1\.5"),
        ({"vllm_tensor_parallel_size": 0}, "vllm_tensor_parallel_size must be at least 1, got 0"),
        ({"vllm_server_timeout": 0.0}, "vllm_server_timeout"),
        ({"use_transformers_continuous_batching": True}, "one generator draws samples"),
    ],
)
def test_refuses_options(
    tmp_path: Path, vllm: type[LLM], kind: Any, given: dict[str, Any], told: str
) -> None:
    online = {"online": True} if kind is CoPGConfig else {}
    with pytest.raises(ValueError, match=told):
        kind(str(tmp_path), use_cpu=True, use_vllm=True, **online, **given)
