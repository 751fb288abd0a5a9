"""The batch of every family, and what each method on pictures reads and does with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from align_vlms import picture
from projected import placed, through
from torch import Tensor
from vision_reference import Inputs, decoded, kept, noised, prompt, shown, transformed, unseen
from vlms import family

from contralign.decoding import ICD, encode, generate, parse, processor
from contralign.decoding.ritual_plus import _ASKED, _LISTED, choice

STEPS = 6
GREEDY: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": False}
SAMPLE: dict[str, Any] = {"max_new_tokens": STEPS, "do_sample": True, "top_k": 0}
SEEDS = [5, 2**62]

# A row of two pictures and a row of one, of unequal sizes and prompts.
QUESTIONS = [
    ("What is this?", [picture(0), picture(1, 40, 80)]),
    ("Why is it there?", [picture(2, 90, 30)]),
]


def m3id(step: int, expert: Tensor, unseen: Tensor, decay: float = 0.2) -> Tensor:
    g = math.exp(-decay * step)
    return expert + (1 - g) / g * (expert - unseen)


# What each method is: the branches of a question, and the formula of its scores.
Build = Callable[[Any, Any, Any, int], list[Inputs]]
METHODS: dict[str, tuple[Build, Callable[..., Tensor]]] = {
    "vcd": (
        lambda m, p, q, seed: [noised(p, q, seed, 500)],
        lambda t, x, noise: kept(x, 2 * x - noise),
    ),
    "vcd:alpha=0.5;cutoff=0.2;noise_step=999": (
        lambda m, p, q, seed: [noised(p, q, seed, 999)],
        lambda t, x, noise: kept(x, 1.5 * x - 0.5 * noise, 0.2),
    ),
    "vdd": (
        lambda m, p, q, seed: [unseen(p, q)],
        lambda t, x, none: kept(x, 2 * x - none),
    ),
    "vdd:counterfactual=unk": (
        lambda m, p, q, seed: [unseen(p, q, mark=True)],
        lambda t, x, unk: kept(x, 2 * x - unk),
    ),
    "vdd:counterfactual=both": (
        lambda m, p, q, seed: [unseen(p, q), unseen(p, q, mark=True)],
        lambda t, x, none, unk: kept(x, 2 * x - (none + unk) / 2),
    ),
    "m3id:decay=0.2": (
        lambda m, p, q, seed: [unseen(p, q)],
        lambda t, x, none: kept(x, m3id(t, x, none)),
    ),
    "icd": (
        lambda m, p, q, seed: [shown(p, q, ICD().instruction)],
        lambda t, x, confused: kept(x, 2 * x - confused),
    ),
    "ritual": (
        lambda m, p, q, seed: [transformed(p, q, seed)],
        lambda t, x, again: kept(x, x + 3 * again),
    ),
    "ritual-plus": (
        lambda m, p, q, seed: [transformed(p, q, seed, choice(reply(m, p, q)))],
        lambda t, x, again: kept(x, x + 3 * again),
    ),
    "ritual+vcd": (
        lambda m, p, q, seed: [transformed(p, q, seed), noised(p, q, seed, 500)],
        lambda t, x, again, noise: kept(x, 2 * x + 3 * again - noise),
    ),
    "dcd:path=neg_only": (
        lambda m, p, q, seed: [through(m, "negative", shown(p, q))],
        lambda t, x, negative: kept(x, 2 * x - negative),
    ),
    "dcd:path=pos_neg;alpha=0.5;cutoff=none": (
        lambda m, p, q, seed: [through(m, "negative", shown(p, q))],
        lambda t, x, negative: 1.5 * x - 0.5 * negative,
    ),
    "ritual+dcd:path=pos_neg": (
        lambda m, p, q, seed: [
            through(m, "positive", transformed(p, q, seed)),
            through(m, "negative", shown(p, q)),
        ],
        lambda t, x, again, negative: kept(x, 2 * x + 3 * again - negative),
    ),
    "ritual:kappa=2;normalize=true+m3id:decay=0.2": (
        lambda m, p, q, seed: [transformed(p, q, seed), unseen(p, q)],
        lambda t, x, again, none: kept(x, (x + 2 * again) / 3 + m3id(t, x, none) - x),
    ),
}


def reply(model: Any, reader: Any, question: Any) -> str:
    """What the model says, greedily, when it is asked which transformation would help."""
    text, images = question
    asking = (_ASKED.format(question=text, listed=_LISTED), images)
    (tokens,), _ = decoded(model, [[shown(reader, asking)]], silenced(model, lambda t, x: x), 16)
    ends = [i for i, token in enumerate(tokens) if token == reader.tokenizer.eos_token_id]
    return reader.tokenizer.decode(tokens[: min(ends, default=16)], skip_special_tokens=True)


def asked(name: str) -> list[Any]:
    return [(q, images[:1] if name == "InstructBLIP" else images) for q, images in QUESTIONS]


def silenced(model: Any, rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The rule of an expert that never writes the place of a picture or a video."""
    ids = [model.config.image_token_id, getattr(model.config, "video_token_id", None)]
    places = [x for x in ids if x is not None]

    def apply(step: int, expert: Tensor, *contrasts: Tensor) -> Tensor:
        mute = expert.clone()
        mute[places] = expert.min() - 1e4
        scores = rule(step, mute, *contrasts)
        scores[places] = -math.inf
        return scores

    return apply


class Setting:
    """A family's batch, and what a method's reference reads for each of its rows."""

    def __init__(self, name: str, method: str) -> None:
        self.model, self.processor = family(name)
        self.method = parse(placed(method, self.model)).method
        build, rule = METHODS[method]
        self.rule = silenced(self.model, rule)
        rows = asked(name)
        read = [
            [self.main(method, row), *build(self.model, self.processor, row, seed)]
            for row, seed in zip(rows, SEEDS, strict=True)
        ]
        self.branches = [list(branch) for branch in zip(*read, strict=True)]
        self.messages = [prompt(self.processor, row) for row in rows]
        self.images = [images for _, images in rows]
        self.inputs = encode(self.processor, self.messages, self.images)
        self.branch = self.method.branches(
            self.processor, self.messages, self.images, seeds=SEEDS, model=self.model
        )

    def main(self, method: str, row: Any) -> Inputs:
        inputs = shown(self.processor, row)
        return through(self.model, "positive", inputs) if "pos_neg" in method else inputs

    def loop(self, seed: int | None = None) -> tuple[list[list[int]], Tensor]:
        return decoded(self.model, self.branches, self.rule, STEPS, seed)

    def view(self, execution: str = "auto", **options: Any) -> list[list[int]]:
        ids = generate(
            self.model, self.inputs, self.method, self.branch, execution, **{**GREEDY, **options}
        )
        return self.new(ids)

    def drop_in(self, **options: Any) -> list[list[int]]:
        added = processor(self.model, self.inputs, self.method, self.branch)
        ids = self.model.generate(**self.inputs, **{**GREEDY, **options}, logits_processor=[added])
        return self.new(ids)

    def new(self, ids: Tensor) -> list[list[int]]:
        return ids[:, self.inputs["input_ids"].shape[1] :].tolist()
