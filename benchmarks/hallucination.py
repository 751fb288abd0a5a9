"""What a method changes in a model that hallucinates: the shipped one, on pictures of Scenes.

Each seed has pictures and pairs of its own: the start answers each picture once, sampled, and an
answer that invents something is rejected against a faithful caption. All are measured on the same
new pictures, the start too. Values are kept a run, so that a second start goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars

from contralign.decoding import parse
from contralign.eval import BENCHMARKS, Ask, LanguageModel, paired, run
from contralign.eval.scenes import Optics, World, dataset, own_pairs, recall_reward, shipped
from contralign.eval.scenes.facts import DETAIL
from contralign.files import replace_text

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
        tested: New pictures of each split to describe and, two fifths as many a task, to ask about.
    """

    seeds: int = 3
    pictures: int = 2400
    rate: float = 5e-4
    epochs: int = 1
    batch: int = 16
    tested: int = 400


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


# Data


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


def training_pairs(budget: Budget) -> Iterator[tuple[int, Dataset]]:
    """Each seed's pairs."""
    scenes = World().scenes("train", budget.seeds * budget.pictures)
    for seed in range(budget.seeds):
        own = scenes[seed * budget.pictures : (seed + 1) * budget.pictures]
        yield seed, dataset(own_pairs(own, captions(own, seed)), own, Optics())


def held_out_pairs(budget: Budget) -> Dataset:
    scenes = World().scenes("in-bias", budget.tested)
    return dataset(own_pairs(scenes, captions(scenes, 99)), scenes, Optics())


# Measuring


def measure(
    model: LanguageModel, method: str, folder: Path, budget: Budget, seed: int = 0
) -> Values:
    """Measure a model with a method: one value a picture, in the same order for all."""
    found: Values = {}
    asked = [("scenes-chair", {"split": split}) for split in ("in-bias", "counter-bias")]
    for name, given in [*asked, ("scenes-pope", {}), ("scenes-mme", {})]:
        count = budget.tested if given else budget.tested // 5 * 2
        result = run(
            BENCHMARKS[name](pictures=count, **given),
            model,
            [parse(method)],
            folder / name / given.get("split", "all"),
            batch_size=32,
            seed=seed,
            progress=False,
        )
        scored = result.outcomes[0].scored
        task = name.removeprefix("scenes-").upper()
        found |= by_caption(scored, given["split"]) if given else by_picture(scored, task)
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
        f"{benchmark} accuracy, {name}": [
            round(float(np.mean(answers)), 4) for answers in group.values()
        ]
        for name, group in found.items()
    }


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Read what an earlier start found, or find it."""
    if file.exists():
        return dict(json.loads(file.read_text(encoding="utf-8")))
    # An interrupted run is made again, from nothing.
    shutil.rmtree(file.parent, ignore_errors=True)
    file.parent.mkdir(parents=True)
    found = make()
    replace_text(file, json.dumps(found))
    means = {key: np.mean(values) for key, values in found["values"].items()}
    told = ", ".join(f"{key} {value:.3f}" for key, value in (means | found["moved"]).items())
    print(f"{file.parent}: {told}; {time.process_time():.0f} s", flush=True)
    return found


# Telling


def report(found: Mapping[str, Any]) -> str:
    """The tables, as Markdown."""
    names = list(found["after"])
    head = [f"| | start | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    lines = []
    for key, values in found["before"].items():
        cells = [compared([run[key] for run in found["after"][name]], values) for name in names]
        lines.append(f"| {key} | {np.mean(values):.3f} | {' | '.join(cells)} |")
    told = [key for runs in found["moved"].values() for key in runs[0]]
    for key in dict.fromkeys(told):
        cells = [spread([run[key] for run in found["moved"][name] if key in run]) for name in names]
        start = found["start"].get(key)
        first = "" if start is None else f"{start:.3f}"
        lines.append(f"| {key} | {first} | {' | '.join(cells)} |")
    return "\n".join([*head, *lines]) + "\n"


def compared(after: Sequence[Sequence[float]], before: Sequence[float]) -> str:
    """Mean over seeds and pictures, the interval of its difference, and the seeds' means."""
    told = paired(np.mean(after, axis=0).tolist(), before)
    return f"{np.mean(after):.3f} ({told.low:+.3f} to {told.high:+.3f})<br>{seeds(after)}"


def spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f}<br>{seeds([[value] for value in values])}" if values else ""


def seeds(values: Sequence[Sequence[float]]) -> str:
    return ", ".join(f"{np.mean(one):.3f}" for one in values)


def main(
    description: str | None,
    experiment: Callable[[Path, Budget], Iterator[dict[str, Any]]],
) -> None:
    """Run an experiment from the command line; its tables are written anew after each seed."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, required=True, help="folder of runs and answers")
    parser.add_argument("--output", type=Path, required=True, help="folder of tables and numbers")
    for spec in fields(Budget):
        parser.add_argument(f"--{spec.name}", type=type(spec.default), default=spec.default)
    args = vars(parser.parse_args())
    work, output = args.pop("work"), args.pop("output")
    budget = Budget(**args)
    settings = json.dumps(asdict(budget))
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "budget.json").exists():
        replace_text(work / "budget.json", settings)
    if (work / "budget.json").read_text() != settings:
        parser.error(f"{work} holds runs of another budget. Choose another --work.")
    disable_progress_bars()
    torch.set_num_threads(1)
    used = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
    output.mkdir(parents=True, exist_ok=True)
    for found in experiment(work, budget):
        told = {**found, "budget": asdict(budget), "versions": used}
        replace_text(output / "numbers.json", json.dumps(told) + "\n")
        replace_text(output / "tables.md", report(told))
