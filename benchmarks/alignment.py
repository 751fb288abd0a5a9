"""What DPO, CPL and CoPG do to a model that hallucinates: the shipped one, on pictures of Scenes.

Each seed has pictures, pairs and training of its own. The start answers each training picture once,
sampled; an answer that invents something is rejected against a faithful caption. DPO and CPL learn
from these pairs, CoPG from their scores, and CoPG online from four samples a picture of the same
pictures. All are measured on the same new pictures, the start too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import disable_progress_bars
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
)
from contralign.decoding import parse
from contralign.eval import BENCHMARKS, Ask, LanguageModel, paired, run
from contralign.eval.scenes import Optics, World, dataset, own_pairs, pairs, recall_reward, shipped
from contralign.eval.scenes.facts import DETAIL
from contralign.files import replace_text

REWARD = FunctionReward("contralign.eval.scenes.recall_reward")
TRAINERS: Mapping[str, tuple[Any, Any, dict[str, Any]]] = {
    "dpo": (DPOTrainer, DPOConfig, {}),
    "cpl": (CPLTrainer, CPLConfig, {}),
    "copg": (CoPGTrainer, CoPGConfig, {}),
    "copg online": (CoPGTrainer, CoPGConfig, {"online": True, "max_completion_length": 48}),
}
LENGTH = 48  # tokens of the longest caption
Values = dict[str, list[float]]


@dataclass(frozen=True)
class Budget:
    """How much is trained and measured; the same for all.

    Attributes:
        seeds: Runs of each method.
        pictures: To train on, a seed; those on which the start invents make pairs.
        rate: Learning rate at its peak.
        epochs: Over the pairs.
        batch: Pairs, or pictures, an update.
        tested: New pictures of each split to describe and, a fifth as many a task, to ask about.
    """

    seeds: int = 3
    pictures: int = 400
    rate: float = 5e-4
    epochs: int = 3
    batch: int = 16
    tested: int = 200


def options(folder: Path, seed: int, budget: Budget, **others: Any) -> dict[str, Any]:
    """Of every trainer."""
    return {
        "output_dir": str(folder),
        "seed": seed,
        "learning_rate": budget.rate,
        "num_train_epochs": budget.epochs,
        "per_device_train_batch_size": budget.batch,
        "per_device_eval_batch_size": 32,
        "logging_steps": 5,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **others,
    }


def captions(scenes: Sequence[Any], seed: int) -> list[str]:
    """What the start says of scenes, sampled."""
    model = LanguageModel.load(str(shipped()))
    said = []
    for at in range(0, len(scenes), 32):
        part = scenes[at : at + 32]
        asks = [describe(scene) for scene in part]
        seeds = [seed * 10**6 + at + number for number in range(len(part))]
        answers = model.answers(asks, parse("sample"), seeds)
        said += [answer.text for answer in answers]
    return said


def describe(scene: Any) -> Ask:
    return Ask(DETAIL, images=(Optics().picture(scene),), max_new_tokens=LENGTH)


def learn(name: str, rows: Any, folder: Path, seed: int, budget: Budget) -> Any:
    """Train with LoRA from the start; returns the policy."""
    trainer, config, own = TRAINERS[name]
    judge = {"reward": REWARD} if "copg" in name else {}
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
    made = trainer(
        str(shipped()),
        config(**options(folder, seed, budget, **own)),
        train_dataset=rows,
        peft_config=adapter,
        **judge,
    )
    made.train()
    return made.model.eval()


def measure(policy: Any, held_out: Mapping[str, Any], folder: Path, budget: Budget) -> Values:
    """Measure a policy: one value a picture, in the same order for all."""
    found: Values = {}
    model = LanguageModel(policy, held_out["processor"])
    tasks = {
        "chair": [("scenes-chair", {"split": split}) for split in ("in-bias", "counter-bias")],
        "closed": [("scenes-pope", {}), ("scenes-mme", {})],
    }
    for kind, several in tasks.items():
        for benchmark, given in several:
            count = budget.tested if kind == "chair" else budget.tested // 5 * 2
            asked = BENCHMARKS[benchmark](pictures=count, **given)
            place = folder / benchmark / given.get("split", "all")
            result = run(asked, model, [parse("greedy")], place, batch_size=32, progress=False)
            scored = result.outcomes[0].scored
            name = benchmark.removeprefix("scenes-").upper()
            found |= (
                by_caption(scored, given["split"]) if kind == "chair" else by_picture(scored, name)
            )
    return found


def by_caption(scored: Sequence[Any], split: str) -> Values:
    rewards = recall_reward([one.answer for one in scored], [one.row["gold"] for one in scored])
    values = {"reward": rewards}
    values["CHAIRs"] = [float(one.values["chairs"]) for one in scored]
    values["recall"] = [one.values["recalled"] / one.values["truth"] for one in scored]
    return {f"{name}, {split}": numbers for name, numbers in values.items()}


def by_picture(scored: Sequence[Any], benchmark: str) -> Values:
    """Accuracy of each picture's questions, by setting or task."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in scored:
        group = found.setdefault(one.row["category"], {})
        group.setdefault(one.row["image"], []).append(float(one.values["accuracy"] or 0))
    return {
        f"{benchmark} accuracy, {name}": [float(np.mean(answers)) for answers in group.values()]
        for name, group in found.items()
    }


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


def prepared(budget: Budget) -> Iterator[tuple[int, Any]]:
    """Each seed's pairs."""
    world, optics = World(), Optics()
    scenes = world.scenes("train", budget.seeds * budget.pictures)
    for seed in range(budget.seeds):
        own = scenes[seed * budget.pictures : (seed + 1) * budget.pictures]
        rows = own_pairs(own, captions(own, seed))
        yield seed, dataset(rows, own, optics)


def held_out_data(budget: Budget) -> dict[str, Any]:
    scenes = World().scenes("in-bias", budget.tested)
    rows = own_pairs(scenes, captions(scenes, 99))
    return {
        "processor": AutoProcessor.from_pretrained(shipped()),
        "pairs": dataset(rows, scenes, Optics()),
        "pictures": dataset(pairs(scenes, World()), scenes, Optics()),
    }


def experiment(folder: Path, budget: Budget) -> Iterator[dict[str, Any]]:
    """Run everything; yields what is known after each seed."""
    begin = time.process_time()
    held_out = held_out_data(budget)
    start = LanguageModel.load(str(shipped())).model
    before = measure(start, held_out, folder / "start", budget)
    tell("start", before, {})
    found: dict[str, Any] = {"before": before, "after": {}, "drift": {}, "pairs": []}
    for seed, rows in prepared(budget):
        found["pairs"].append(len(rows))
        for name in TRAINERS:
            place = folder / name.replace(" ", "-") / str(seed)
            policy = learn(name, rows, place / "training", seed, budget)
            after = measure(policy, held_out, place, budget)
            moved = drift(policy, held_out, place, budget)
            found["after"].setdefault(name, []).append(after)
            found["drift"].setdefault(name, []).append(moved)
            tell(f"{name} {seed}", after, moved)
        seconds = time.process_time() - begin
        yield {**found, "held out": len(held_out["pairs"]), "cpu seconds": seconds}


def tell(name: str, values: Values, moved: Mapping[str, float]) -> None:
    means = {key: float(np.mean(numbers)) for key, numbers in values.items()} | dict(moved)
    told = ", ".join(f"{key} {value:.3f}" for key, value in means.items())
    print(f"{name}: {told}; {time.process_time():.0f} s", flush=True)


def report(found: Mapping[str, Any]) -> str:
    """The tables, as Markdown."""
    names = list(found["after"])
    head = [f"| | start | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    lines = []
    for key, values in found["before"].items():
        cells = [compared([run[key] for run in found["after"][name]], values) for name in names]
        lines.append(f"| {key} | {np.mean(values):.3f} | {' | '.join(cells)} |")
    for key in found["drift"][names[0]][0]:
        cells = [spread([run[key] for run in found["drift"][name]]) for name in names]
        lines.append(f"| {key} | | {' | '.join(cells)} |")
    return "\n".join([*head, *lines]) + "\n"


def compared(after: Sequence[Sequence[float]], before: Sequence[float]) -> str:
    """Mean over seeds and pictures, the interval of its difference, and the seeds' means."""
    told = paired(np.mean(after, axis=0).tolist(), before)
    return f"{np.mean(after):.3f} ({told.low:+.3f} to {told.high:+.3f})<br>{seeds(after)}"


def spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}<br>{seeds([[value] for value in values])}"


def seeds(values: Sequence[Sequence[float]]) -> str:
    return ", ".join(f"{np.mean(one):.3f}" for one in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="new folder for runs and answers")
    parser.add_argument("--output", type=Path, required=True, help="folder of tables and numbers")
    for spec in fields(Budget):
        parser.add_argument(f"--{spec.name}", type=type(spec.default), default=spec.default)
    args = vars(parser.parse_args())
    work, output = args.pop("work"), args.pop("output")
    budget = Budget(**args)
    disable_progress_bars()
    torch.set_num_threads(1)
    used = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
    output.mkdir(parents=True, exist_ok=True)
    for found in experiment(work, budget):
        told = {**found, "budget": asdict(budget), "versions": used}
        replace_text(output / "numbers.json", json.dumps(told) + "\n")
        replace_text(output / "tables.md", report(told))


if __name__ == "__main__":
    main()
