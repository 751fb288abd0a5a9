"""Made-up preference pairs of given lengths, and the tokenizer or processor that reads them."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from shapes import PATCH, SHAPES, TOWERS
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import CLIPImageProcessorPil, LlavaProcessor, PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<eos>", "<image>")
SPREADS = {"prompt": 0.8, "answer": 0.7}  # of the lengths' logarithms
SHORTEST, LONGEST = 4, 4  # tokens, and times the median: real runs cut longer ones too
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Micro-batches of pairs.

    Attributes:
        pairs: In a micro-batch.
        prompt: Its median length in tokens, an image not counted.
        answer: The same of each answer.
        ragged: Whether lengths are log-normal, or else all equal.
        images: Whether an image stands at the front of each prompt.
        batches: Micro-batches, whose gradients add up.
    """

    pairs: int
    prompt: int
    answer: int
    ragged: bool = False
    images: bool = False
    batches: int = 1

    def lengths(self) -> list[list[tuple[int, ...]]]:
        """Tokens of prompt, chosen and rejected; as uneven whatever the medians are."""
        source = random.Random(0)
        kinds = ("prompt", "answer", "answer")
        return [
            [tuple(self._length(source, kind) for kind in kinds) for _ in range(self.pairs)]
            for _ in range(self.batches)
        ]

    def micro_batches(self, vocabulary: int) -> list[list[Row]]:
        """Draw the rows: the same for the same case."""
        source, words = random.Random(0), vocabulary - len(SPECIAL)
        return [[self._row(source, words, counts) for counts in rows] for rows in self.lengths()]

    def _row(self, source: random.Random, words: int, counts: tuple[int, ...]) -> Row:
        prompt, chosen, rejected = ([source.randrange(words) for _ in range(n)] for n in counts)
        chosen[-1] = rejected[-1] = words + SPECIAL.index("<eos>")
        if not self.images:
            names = {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
            return {**names, "completion_ids": [chosen, rejected]}
        return {
            "images": [picture(source.randrange(2**32))],
            "prompt": "<image> " + spelled(prompt, words),
            "chosen": " " + spelled(chosen, words),
            "rejected": " " + spelled(rejected, words),
        }

    def _length(self, source: random.Random, kind: str) -> int:
        middle: int = getattr(self, kind)
        if not self.ragged:
            return middle
        drawn = math.exp(source.gauss(0, SPREADS[kind]))
        return max(SHORTEST, int(middle * min(drawn, LONGEST)))


def spelled(ids: list[int], words: int) -> str:
    """The text that `words_tokenizer` reads as these ids."""
    return " ".join(f"w{i}" if i < words else SPECIAL[i - words] for i in ids)


def words_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A token a word, w0, w1, ...; the last ones are `SPECIAL`."""
    count = vocabulary - len(SPECIAL)
    names = [*(f"w{i}" for i in range(count)), *SPECIAL]
    model = models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken("<image>", normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<eos>",
        extra_special_tokens={"image_token": "<image>"},
    )


def llava_processor(shape: str) -> LlavaProcessor:
    """The processor of `shapes.random_llava`."""
    side = TOWERS[shape]["image_size"]
    pixels = CLIPImageProcessorPil(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    return LlavaProcessor(
        image_processor=pixels,
        tokenizer=words_tokenizer(SHAPES[shape]["vocab_size"]),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
