"""Does DCD lower hallucination as DPO does, and keep what a model can? The shipped one, on Scenes.

    python benchmarks/decoupling.py --work runs/decoupling --output results/scenes-dcd

DPO trains adapters and DCD projections on the same pairs, the start's own inventions against
faithful captions. Under greedy decoding the cutoff alone changes nothing, so it stands beside
sampling. By how much held-out captions' log-probs moved is measured with `score`, through the
decoder: of DCD without its cutoff, for which some tokens can't be said at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hallucination import (
    Budget,
    Values,
    held_out_pairs,
    kept,
    main,
    measure,
    options,
    training_pairs,
)
from peft import LoraConfig
from transformers import AutoProcessor

from contralign.align import DCDConfig, DCDTrainer, DPOConfig, DPOTrainer
from contralign.decoding import DCD, Plain, encode, score
from contralign.eval import LanguageModel
from contralign.eval.scenes import shipped

UNTRAINED = ("sample", "cutoff-only@sample", "vcd")
Found = dict[str, Any]


def untrained(
    method: str, rows: Any, held_out: Mapping[str, Any], folder: Path, seed: int, budget: Budget
) -> Found:
    model = LanguageModel.load(str(shipped()))
    return {"values": measure(model, method, folder, budget, seed), "moved": {}}


def dpo(rows: Any, held_out: Mapping[str, Any], folder: Path, seed: int, budget: Budget) -> Found:
    trainer = DPOTrainer(
        str(shipped()),
        DPOConfig(**options(folder / "training", seed, budget)),
        train_dataset=rows,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
    )
    trainer.train()
    model = LanguageModel(trainer.model.eval(), held_out["processor"])
    return {
        "values": measure(model, "greedy", folder, budget),
        "moved": moved(said(model, Plain(), held_out), held_out),
    }


def dcd(
    variant: str, rows: Any, held_out: Mapping[str, Any], folder: Path, seed: int, budget: Budget
) -> Found:
    trainer = DCDTrainer(
        str(shipped()),
        DCDConfig(**options(folder / "training", seed, budget), variant=variant),
        train_dataset=rows,
    )
    trainer.train()
    trainer.save_model()
    method = DCD.from_pretrained(folder / "training")
    model = LanguageModel.load(str(shipped()))
    return {
        "values": measure(model, f"dcd:path={method.path}", folder, budget),
        "moved": moved(said(model, replace(method, cutoff=None), held_out), held_out),
    }


METHODS: Mapping[str, Callable[..., Found]] = {
    **{name: partial(untrained, name) for name in UNTRAINED},
    "dpo": dpo,
    "dcd, negative": partial(dcd, "neg_only"),
    "dcd, both": partial(dcd, "pos_neg"),
}


def said(model: LanguageModel, method: Any, held_out: Mapping[str, Any]) -> Values:
    """The log-prob of each held-out caption, in nats, as the method would have decoded it."""
    processor, found = held_out["processor"], {}
    for side in ("chosen", "rejected"):
        sums = []
        for row in held_out["pairs"]:
            text = {"type": "text", "text": row["prompt"][0]["content"]}
            prompts = [[{"role": "user", "content": [{"type": "image"}, text]}]]
            inputs = encode(processor, prompts, [row["images"]])
            answer = processor.tokenizer(
                row[side][0]["content"], add_special_tokens=False
            ).input_ids
            branch = method.branches(processor, prompts, [row["images"]])
            ended = [[*answer, processor.tokenizer.eos_token_id]]
            logps, _ = score(model.model, inputs, ended, method, branch or None)
            sums.append(float(logps.double().sum()))
        found[side] = sums
    return found


def moved(after: Values, held_out: Mapping[str, Any]) -> dict[str, float]:
    """Mean change from the start's, of all captions and of pairs' order."""
    before = held_out["said"]
    change = {
        side: torch.tensor(after[side]).double() - torch.tensor(before[side]).double()
        for side in after
    }
    return {
        "log-prob of faithful captions": float(change["chosen"].mean()),
        "log-prob of invented captions": float(change["rejected"].mean()),
        "pairs in order": float((change["chosen"] > change["rejected"]).double().mean()),
    }


def experiment(folder: Path, budget: Budget) -> Iterator[dict[str, Any]]:
    """Run everything; yields what is known after each seed."""
    start = LanguageModel.load(str(shipped()))
    held_out: dict[str, Any] = {
        "processor": AutoProcessor.from_pretrained(shipped()),
        "pairs": held_out_pairs(budget),
    }
    held_out["said"] = said(start, Plain(), held_out)
    before = kept(
        folder / "start" / "found.json",
        lambda: {"values": measure(start, "greedy", folder / "start", budget), "moved": {}},
    )
    found: dict[str, list[Found]] = {name: [] for name in METHODS}
    counts = []
    for seed, rows in training_pairs(budget):
        counts.append(len(rows))
        for name, make in METHODS.items():
            place = folder / name.replace(", ", "-") / str(seed)
            again = partial(make, rows, held_out, place, seed, budget)
            found[name].append(kept(place / "found.json", again))
        yield {
            "before": before["values"],
            "start": before["moved"],
            "after": {name: [one["values"] for one in runs] for name, runs in found.items()},
            "moved": {name: [one["moved"] for one in runs] for name, runs in found.items()},
            "pairs": counts,
            "held out": len(held_out["pairs"]),
        }


if __name__ == "__main__":
    main(__doc__, experiment)
