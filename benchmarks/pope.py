"""What closed questions about pictures cost: ways to ask them against one `generate` a question.

    python benchmarks/pope.py      # LLaVA around SmolLM2-135M's shape, random weights, CPU

18 questions a picture, of which 10 differ, as POPE's three COCO files ask; 576 tokens a picture.
All ways are held to two labels and must give the same answers before a time is printed; the labels
are the two words of which random weights prefer now the one, now the other. The tower that sees is
a token one: a real one would make sharing a picture worth more. Times are process CPU time of one
thread, the best of all rounds.

- one at a time: `generate`, a question a call, as published scripts do
- batched: `generate`, all questions of a picture in one call
- deduplicated: one at a time, each different question once
- prefix cache: the picture and what else all questions begin with read once, first tokens only
- all three: what `contralign eval pope --reading labels` does
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from clock import write
from PIL import Image
from shapes import SHAPES
from tokenizers import Tokenizer, models, pre_tokenizers

from contralign.decoding import Plain, first_token, parse, surface_forms
from contralign.eval import Ask, LanguageModel
from contralign.eval.machine import machine, versions

WORDS = [f"n{number}" for number in range(100)]
BASE = "one at a time"
SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant . The assistant gives "
    "helpful , detailed , and polite answers to the human 's questions . "
)
QUESTION = "Is there {} in the image ? Answer the question using a single word or phrase ."
TEMPLATE = (
    SYSTEM
    + "USER: {% for part in messages[0].content %}{% if part.type == 'image' %}<image> "
    + "{% else %}{{ part.text }}{% endif %}{% endfor %} ASSISTANT:"
)
Way = Callable[[LanguageModel, Sequence[Ask]], list[str]]


def asks(pictures: int, questions: int, different: int) -> list[list[Ask]]:
    """Questions about random pictures, several times over."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 255, (pictures, 336, 336, 3), dtype=np.uint8)
    names = [f"a {'very ' * (number % 4)}n{number}" for number in range(different)]
    return [
        [
            Ask(
                QUESTION.format(names[number % different]),
                images=(Image.fromarray(picture),),
                choices=(WORDS[0], WORDS[1]),
                reading="labels",
                max_new_tokens=1,
            )
            for number in range(questions)
        ]
        for picture in pixels
    ]


def tokenizer() -> Any:
    """Whole words."""
    text = f"{TEMPLATE} {QUESTION} a very User: USER: ASSISTANT: Yes No <image>"
    words = dict.fromkeys(["<pad>", "<s>", "</s>", "<unk>", *text.split()])
    words |= dict.fromkeys(WORDS)
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
    )


def llava(shape: str, patches: int) -> LanguageModel:
    """LLaVA with a tower of one layer that makes `patches * patches` tokens of a picture."""
    words, size = tokenizer(), 14 * patches
    text = {"model_type": "llama", **SHAPES[shape], "max_position_embeddings": 4096}
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": size,
        "patch_size": 14,
    }
    config = hf.LlavaConfig(
        vision_config=vision,
        text_config={**text, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        image_token_index=words.image_token_id,
    )
    processor = hf.LlavaProcessor(
        image_processor=hf.CLIPImageProcessorPil(
            size={"shortest_edge": size}, crop_size={"height": size, "width": size}
        ),
        tokenizer=words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    torch.manual_seed(0)
    model = hf.LlavaForConditionalGeneration(config).float().eval()
    model.generation_config.pad_token_id = 0
    return LanguageModel(model, processor)


@torch.no_grad()
def with_labels(model: LanguageModel, pictures: Sequence[Sequence[Ask]]) -> list[list[Ask]]:
    """Choose the two words that divide the questions most evenly."""
    ids = [model.tokenizer.convert_tokens_to_ids(word) for word in WORDS]
    inputs, _ = model.encoded(pictures[0], parse("greedy"), [0] * len(pictures[0]))
    logits = first_token(model.model, inputs, Plain())[:, ids]

    def uneven(pair: tuple[int, int]) -> float:
        return abs((logits[:, pair[0]] > logits[:, pair[1]]).float().mean().item() - 0.5)

    first, second = min(combinations(range(len(ids)), 2), key=uneven)
    labels = (WORDS[first], WORDS[second])
    return [[replace(ask, choices=labels) for ask in asks] for asks in pictures]


@torch.no_grad()
def generated(model: LanguageModel, asks: Sequence[Ask]) -> list[str]:
    """One call of plain `generate`, held to the labels."""
    forms = surface_forms(model.tokenizer, asks[0].choices)
    allowed = [token for label in forms for token in label]
    inputs, _ = model.encoded(asks, parse("greedy"), [0] * len(asks))
    output = model.model.generate(
        **model.placed(inputs),
        max_new_tokens=1,
        do_sample=False,
        prefix_allowed_tokens_fn=lambda row, ids: allowed,
    )
    return [text.strip() for text in model.tokenizer.batch_decode(output[:, -1:])]


def one_at_a_time(model: LanguageModel, asks: Sequence[Ask]) -> list[str]:
    return [generated(model, [ask])[0] for ask in asks]


def deduplicated(way: Way) -> Way:
    """Ask each different question once."""

    def ask(model: LanguageModel, asks: Sequence[Ask]) -> list[str]:
        once = list({ask.prompt: ask for ask in asks}.values())
        said = dict(zip([ask.prompt for ask in once], way(model, once), strict=True))
        return [said[ask.prompt] for ask in asks]

    return ask


def prefix_cache(model: LanguageModel, asks: Sequence[Ask]) -> list[str]:
    return [answer.text for answer in model.answers(asks, parse("greedy"), [0] * len(asks))]


WAYS: dict[str, Way] = {
    BASE: one_at_a_time,
    "batched": generated,
    "deduplicated": deduplicated(one_at_a_time),
    "prefix cache": prefix_cache,
    "all three": deduplicated(prefix_cache),
}


def measured(
    model: LanguageModel, pictures: Sequence[Sequence[Ask]], rounds: int
) -> dict[str, float]:
    """Seconds of each way, for all pictures.

    Raises:
        SystemExit: A way gave other answers than the first.
    """
    prefix_cache(model, pictures[0][:2])  # compares the shared reading with the other, once
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    answers: dict[str, list[list[str]]] = {}
    for _ in range(rounds):
        for name, way in WAYS.items():
            begun = time.process_time()
            answers[name] = [way(model, asks) for asks in pictures]
            times[name].append(time.process_time() - begun)
            if answers[name] != answers[BASE]:
                raise SystemExit(f"{name} gave other answers than {BASE}: no times.")
    said = [text for picture in answers[BASE] for text in picture]
    counts = {text: said.count(text) for text in sorted({*said})}
    print(f"same answers: {counts}")
    return {name: min(taken) for name, taken in times.items()}


def table(seconds: dict[str, float]) -> str:
    """Lay the times out, with how many times faster than one at a time each is."""
    rows = (f"{n:16} {s:9.2f} s {seconds[BASE] / s:7.2f}x" for n, s in seconds.items())
    return "\n".join(rows)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--patches", type=int, default=24, help="squared: the tokens of a picture")
    parser.add_argument("--pictures", type=int, default=1)
    parser.add_argument("--questions", type=int, default=18)
    parser.add_argument("--different", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write all numbers")
    arguments = parser.parse_args(given)
    hf.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    model = llava(arguments.shape, arguments.patches)
    asked = asks(arguments.pictures, arguments.questions, arguments.different)
    seconds = measured(model, with_labels(model, asked), arguments.rounds)
    print(table(seconds), flush=True)
    if arguments.json:
        facts = {**machine(), "versions": versions(), "arguments": vars(arguments)}
        write(arguments.json, {"facts": facts, "seconds": json.loads(json.dumps(seconds))})


if __name__ == "__main__":
    main()
