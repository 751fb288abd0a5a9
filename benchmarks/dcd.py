"""What DCD's decoding costs beside plain generate's and VCD's, and what one look saves.

    python benchmarks/dcd.py      # LLaVA around SmolLM2-135M's shape, random weights, CPU

Before a time is printed, DCD's tokens must be those of two models that are read anew at every step,
and the tower must have looked once for both projections; for VCD it looks twice, at two pictures.
"two looks" is DCD as it would be if its branches shared nothing. Inputs are made beforehand.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from clock import measure, table, write
from contest import BASE, Case, Run
from shapes import PATCH, SHAPES, random_llava
from torch import Tensor

from contralign.decoding import DCD, VCD, generate
from contralign.decoding.eyes import eyes
from contralign.decoding.noise import shares
from contralign.decoding.projections import Base, Projections
from contralign.decoding.projectors import tensors
from contralign.eval.machine import machine, versions

Inputs = Mapping[str, Tensor]
LOOKS = {BASE: 1, "VCD": 2, "DCD neg-only": 1, "DCD pos+neg": 1, "DCD neg-only, two looks": 2}


@dataclass(frozen=True)
class TwoLooks(DCD):
    """DCD whose branches share nothing."""

    def expert(self, model: Any) -> Any:
        made = super().expert(model)
        eyes(made).readers = 1
        return made


def batch(model: Any, rows: int, words: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Random questions about a random picture each, and the same with noise on it."""
    generator = torch.Generator().manual_seed(0)
    config, size = model.config, model.config.vision_config.image_size
    patches = torch.full((rows, (size // PATCH) ** 2), config.image_token_id)
    text = torch.randint(5, config.image_token_id, (rows, words), generator=generator)
    ids = torch.cat([text[:, :1], patches, text[:, 1:]], dim=1)
    pixels = torch.randn(rows, 3, size, size, generator=generator)
    signal, noise = shares(500)
    noisy = signal * pixels + noise * torch.randn(pixels.shape, generator=generator)
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}
    return asked, {**asked, "pixel_values": noisy}


@torch.no_grad()
def projected(model: Any, folder: Path) -> tuple[DCD, DCD, list[Any]]:
    """Random projections as methods, and models that have them for their own."""
    own, models, values = tensors(model), [], []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        values.append(
            {n: x + x.std() * torch.randn(x.shape, generator=generator) for n, x in own.items()}
        )
        models.append(copy.deepcopy(model))
        models[-1].load_state_dict(values[-1], strict=False)
    for name, positive in (("neg", None), ("pos", values[1])):
        (folder / name).mkdir()
        Projections(Base.of(model), values[0], positive).save(folder / name)
    methods = [DCD.from_pretrained(folder / name) for name in ("neg", "pos")]
    return methods[0], methods[1], models


def contestants(inputs: Inputs, noisy: Inputs, methods: Sequence[Any]) -> dict[str, Run]:
    """Everybody, by what they are called."""
    negative, both = methods

    def ours(method: Any, branch: Inputs) -> Run:
        return lambda model, case, count: generate(model, inputs, method, branch, **options(count))

    return {
        BASE: lambda model, case, count: model.generate(**inputs, **options(count)),
        "VCD": ours(VCD(), noisy),
        "DCD neg-only": ours(negative, inputs),
        "DCD pos+neg": ours(both, inputs),
        "DCD neg-only, two looks": ours(TwoLooks(negative.path), inputs),
    }


def options(count: int) -> dict[str, Any]:
    return {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}


@torch.no_grad()
def naive(expert: Any, contrast: Any, inputs: Inputs, rule: DCD, count: int) -> Tensor:
    """Two models, each read anew at every step."""
    ids, place = inputs["input_ids"], expert.config.image_token_id
    for _ in range(count):
        given = {"input_ids": ids, "pixel_values": inputs["pixel_values"], "use_cache": False}
        logits = [m(**given).logits[:, -1].float() for m in (expert, contrast)]
        logits[0][:, place] = -torch.inf
        ids = torch.cat([ids, rule.rule(*logits).argmax(-1, keepdim=True)], dim=1)
    return ids


def check(model: Any, runs: Mapping[str, Run], naives: Mapping[str, Tensor], case: Case) -> None:
    """Let nobody through who says something else, or looks more often than said.

    Raises:
        SystemExit: Somebody does.
    """
    looks: list[int] = []
    eye = model.model.vision_tower.embeddings
    hook = eye.register_forward_hook(lambda *_: looks.append(1))
    for name, run in runs.items():
        looks.clear()
        said = run(model, case, naives_length(naives, case))
        if len(looks) != LOOKS[name]:
            raise SystemExit(f"{name} looked {len(looks)} times, not {LOOKS[name]}: no times.")
        if name in naives and not torch.equal(said, naives[name]):
            raise SystemExit(f"{name} says something else than two models: no times.")
        print(f"{name}: looked {len(looks)} times")
    hook.remove()


def naives_length(naives: Mapping[str, Tensor], case: Case) -> int:
    return next(iter(naives.values())).shape[1] - case.main


def parsed(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--words", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    return parser.parse_args(given)


def measured(model: Any, rows: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Let the contestants through the gate, then time them and print the table."""
    inputs, noisy = batch(model, rows, arguments.words)
    length, count = inputs["input_ids"].shape[1], arguments.tokens
    case = Case(rows, length, length)
    with TemporaryDirectory() as folder:
        negative, both, (hallucinating, faithful) = projected(model, Path(folder))
        runs = contestants(inputs, noisy, (negative, both))
        alone = naive(model, hallucinating, inputs, negative, count)
        naives = {
            "DCD neg-only": alone,
            "DCD pos+neg": naive(faithful, hallucinating, inputs, both, count),
            "DCD neg-only, two looks": alone,
        }
        check(model, runs, naives, case)
        results = measure(model, case, count, arguments.rounds, runs)
    print(f"\nbatch {rows}, prompts of {length} tokens (same tokens as two models)")
    print(table(results), flush=True)
    return {"batch": rows, "prompt": length, "looks": LOOKS, "contestants": results}


def main(given: Sequence[str] | None = None) -> None:
    """Measure every batch, and keep the numbers if asked to."""
    arguments = parsed(given)
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    model = random_llava(arguments.shape, torch.float32, torch.device("cpu"))
    rows = [measured(model, count, arguments) for count in arguments.batch]
    if arguments.json:
        facts = {**machine(), "versions": versions(), "arguments": vars(arguments)}
        write(arguments.json, {"facts": facts, "results": rows})


if __name__ == "__main__":
    main()
