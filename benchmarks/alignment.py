"""What DPO, HyPO, CPL, CoPG and MPO do to a model that hallucinates: the shipped one, on Scenes.

    python benchmarks/alignment.py --work runs/alignment --output results/scenes-alignment

DPO and CPL learn from pairs of the start's own inventions and faithful captions, HyPO from the same
and a sample a picture, CoPG from the pairs' scores, CoPG online from four samples a picture of the
same pictures, and MPO from easy pairs, then from samples for the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hallucination import (
    LENGTH,
    Budget,
    held_out_pairs,
    kept,
    main,
    measure,
    options,
    training_pairs,
)
from peft import LoraConfig
from transformers import AutoProcessor

from contralign.align import (
    CoPGConfig,
    CoPGTrainer,
    CPLConfig,
    CPLTrainer,
    DPOConfig,
    DPOTrainer,
    FunctionReward,
    HyPOConfig,
    HyPOTrainer,
    MPOConfig,
    MPOTrainer,
)
from contralign.eval import LanguageModel
from contralign.eval.scenes import Optics, World, dataset, pairs, shipped

REWARD = FunctionReward("contralign.eval.scenes.recall_reward")
# TRL counts samples, 16 prompts' here. Difficult pairs are about a quarter of all: in four epochs
# they are sampled for as often as all are by CoPG.
STAGE2 = {
    "num_generations": 4,
    "per_device_train_batch_size": 64,
    "max_completion_length": LENGTH,
    "num_train_epochs": 4,
}
TRAINERS: Mapping[str, tuple[Any, Any, dict[str, Any]]] = {
    "dpo": (DPOTrainer, DPOConfig, {}),
    "hypo": (HyPOTrainer, HyPOConfig, {"lmbda": 0.1, "max_completion_length": LENGTH}),
    "cpl": (CPLTrainer, CPLConfig, {}),
    "copg": (CoPGTrainer, CoPGConfig, {}),
    "copg online": (CoPGTrainer, CoPGConfig, {"online": True, "max_completion_length": LENGTH}),
    "mpo": (MPOTrainer, MPOConfig, {"stage2": STAGE2}),
}


def learn(name: str, rows: Any, folder: Path, seed: int, budget: Budget) -> Any:
    """Train with LoRA from the start; returns the policy."""
    trainer, config, own = TRAINERS[name]
    judge = {"reward": REWARD} if name.startswith(("copg", "mpo")) else {}
    made = trainer(
        str(shipped()),
        config(**options(folder, seed, budget, **own)),
        train_dataset=rows,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"),
        **judge,
    )
    made.train()
    return made.model.eval()


def drift(
    policy: Any, held_out: Mapping[str, Any], folder: Path, budget: Budget
) -> dict[str, float]:
    """Samples' reward and KL, and by how much log-probs of held-out pairs moved, in nats."""
    common = partial(options, seed=0, budget=budget, reference="base")
    sampler = CoPGTrainer(
        policy,
        CoPGConfig(**common(folder / "samples", online=True, max_completion_length=LENGTH)),
        reward=REWARD,
        processing_class=held_out["processor"],
    )
    sampled = sampler.evaluate(held_out["pictures"])
    judge = DPOTrainer(
        policy, DPOConfig(**common(folder / "pairs")), processing_class=held_out["processor"]
    )
    held = judge.evaluate(held_out["pairs"])
    beta = judge.args.beta
    return {
        "reward of samples": sampled["eval_scores/mean"],
        "KL a token": sampled["eval_kl"],
        "log-prob of faithful captions": held["eval_rewards/chosen"] / beta,
        "log-prob of invented captions": held["eval_rewards/rejected"] / beta,
        "pairs in order": held["eval_rewards/accuracies"],
    }


def held_out_data(budget: Budget) -> dict[str, Any]:
    world = World()
    scenes = world.scenes("in-bias", budget.tested)
    return {
        "processor": AutoProcessor.from_pretrained(shipped()),
        "pairs": held_out_pairs(budget),
        "pictures": dataset(pairs(scenes, world), scenes, Optics()),
    }


def trained(
    name: str, rows: Any, held_out: Mapping[str, Any], folder: Path, seed: int, budget: Budget
) -> dict[str, Any]:
    policy = learn(name, rows, folder / "training", seed, budget)
    values = measure(LanguageModel(policy, held_out["processor"]), "greedy", folder, budget)
    return {"values": values, "moved": drift(policy, held_out, folder, budget)}


def start(held_out: Mapping[str, Any], folder: Path, budget: Budget) -> dict[str, Any]:
    model = LanguageModel.load(str(shipped()))
    values = measure(model, "greedy", folder / "start", budget)
    return {"values": values, "moved": drift(model.model, held_out, folder / "start", budget)}


def experiment(folder: Path, budget: Budget) -> Iterator[dict[str, Any]]:
    """Run everything; yields what is known after each seed."""
    held_out = held_out_data(budget)
    before = kept(folder / "start" / "found.json", partial(start, held_out, folder, budget))
    after: dict[str, list[Any]] = {name: [] for name in TRAINERS}
    moved: dict[str, list[Any]] = {name: [] for name in TRAINERS}
    counts = []
    for seed, rows in training_pairs(budget):
        counts.append(len(rows))
        for name in TRAINERS:
            place = folder / name.replace(" ", "-") / str(seed)
            make = partial(trained, name, rows, held_out, place, seed, budget)
            found = kept(place / "found.json", make)
            after[name].append(found["values"])
            moved[name].append(found["moved"])
        yield {
            "before": before["values"],
            "start": before["moved"],
            "after": after,
            "moved": moved,
            "pairs": counts,
            "held out": len(held_out["pairs"]),
        }


if __name__ == "__main__":
    main(__doc__, experiment)
