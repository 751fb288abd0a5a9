"""One run with a real vLLM, which takes over its process: what it drew, and how likely that was.

`python vllm_run.py FOLDER OPTIONS`: a tiny Llama learns with HyPO for two updates, and then draws
as it does for an evaluation. FOLDER/drawn.json gets nats of each token.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import vllm_wire
from align_runs import HYPO, LORA, rows, trained
from eval_doubles import tiny_llama, tiny_tokenizer
from peft import LoraConfig
from torch import Tensor
from transformers import LlamaForCausalLM
from trl.generation.vllm_client import VLLMClient

from contralign.align import vllm_options

TEMPERATURE = 0.5
TRAINED = {"per_device_train_batch_size": 4, "train_dataset": rows(8), "learning_rate": 0.05}
DRAWN = {"lmbda": 0.1, "max_completion_length": 5, "num_generations": 2, "temperature": TEMPERATURE}


def save_model(folder: Path) -> str:
    """A Llama with heads as vLLM wants them and spiky guesses, in a folder."""
    wide = {"hidden_size": 64, "intermediate_size": 64, "max_position_embeddings": 64}
    tiny_llama(**wide, initializer_range=0.15).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@torch.no_grad()
def logits(model: Any, prompt: list[int], said: list[int]) -> Tensor:
    """Of every token in the place of each that was said, [L, V]."""
    found: Tensor = model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
    return found


def of_said(logps: Tensor, said: list[int]) -> Tensor:
    """Nats of the tokens that were said, [L]."""
    return logps.gather(-1, torch.tensor([said]).mT)[:, 0]


def surprise(logits: Tensor, said: list[int]) -> list[float]:
    """How much likelier each token is than one of this policy is in the mean, in nats."""
    logps = logits.log_softmax(-1)
    return (of_said(logps, said) - (logps.exp() * logps).sum(-1)).tolist()


def drawn(run: Any, times: int) -> list[tuple[list[int], list[int]]]:
    """Prompts and samples of them, by the trainer's own way."""
    inputs = run.data_collator([run.train_dataset[i] for i in range(4)])
    pairs = []
    for _ in range(times):
        run._sample(inputs, "evaluation")
        prompts = [list(prompt) for prompt in inputs["batch"].prompts for _ in range(2)]
        pairs += list(zip(prompts, inputs["samples"].flat, strict=True))
    return pairs


def told(engine: Any, prompt: list[int], said: list[int]) -> list[float]:
    """What vLLM says of the tokens, which it is given as a prompt."""
    from vllm import SamplingParams

    ids = [*prompt, *said]
    if engine.mode == "server":
        client = engine.vllm_client
        asked = {"model": client.model, "prompt": ids, "max_tokens": 1, "prompt_logprobs": 0}
        (choice,) = client._post(f"{client.base_url}/v1/completions", json=asked)["choices"]
        steps = choice["prompt_logprobs"][len(prompt) :]
        return [step[str(token)]["logprob"] for token, step in zip(said, steps, strict=True)]
    params = SamplingParams(max_tokens=1, prompt_logprobs=0)
    (answer,) = engine.llm.generate([{"prompt_token_ids": ids}], params, use_tqdm=False)
    steps = answer.prompt_logprobs[len(prompt) :]
    return [step[token].logprob for token, step in zip(said, steps, strict=True)]


def patch_training() -> None:
    """Let training on a CPU reach a server, which TRL and we refuse without NCCL."""
    connect = VLLMClient.init_communicator
    VLLMClient.init_communicator = lambda client, device: connect(client, torch.device("cuda"))
    vllm_options.has_cuda = lambda: True


def measured(folder: Path, options: dict[str, Any]) -> dict[str, list[float]]:
    """Train and draw; options of the trainer, and of its adapter under "adapter"."""
    if "vllm_mode" in options:
        vllm_wire.patch()
        patch_training()
    adapter = LoraConfig(**LORA, **options.pop("adapter", {}))
    given = {**HYPO, **TRAINED, **DRAWN, "model": save_model(folder / "model"), "use_vllm": True}
    run = trained(folder / "run", **{**given, "peft_config": adapter, **options})
    model = run.accelerator.unwrap_model(run.model).eval()
    base = LlamaForCausalLM.from_pretrained(folder / "model")
    found: dict[str, list[float]] = defaultdict(list)
    for prompt, said in drawn(run, 30):
        after = logits(model, prompt, said)
        before = logits(base, prompt, said)
        found["drawn"] += surprise(after / TEMPERATURE, said)
        found["hot"] += surprise(after, said)
        found["old"] += surprise(before / TEMPERATURE, said)
        found["policy"] += of_said(after.log_softmax(-1), said).tolist()
        found["base"] += of_said(before.log_softmax(-1), said).tolist()
        found["vllm"] += told(run._vllm._engine, prompt, said)
    return found


if __name__ == "__main__":
    here = Path(sys.argv[1])
    (here / "drawn.json").write_text(json.dumps(measured(here, json.loads(sys.argv[2]))))
