"""A benchmark of a dozen sums, a model that needs no weights, and a tiny random Llama."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from contralign.decoding import Decoding
from contralign.eval.answers import Answer
from contralign.eval.ask import Ask, Row, Scored
from contralign.eval.statistics import Estimate, mean_estimate


@dataclass(frozen=True)
class Sums:
    """`n + 1 =` for n = 0 .. 9, and the first two once more."""

    name: ClassVar[str] = "sums"
    version: ClassVar[str] = "1"
    metric: ClassVar[str] = "right"

    carry: bool = True

    def load(self) -> list[Row]:
        numbers = [*range(10), 0, 1]
        return [{"id": f"row{i}", "n": n, "gold": [str(n + 1)]} for i, n in enumerate(numbers)]

    def ask(self, row: Row) -> Ask:
        n = row["n"]
        return Ask(f"{'long ' * n}{n} + 1 =", contrast=f"{n} =", max_new_tokens=4)

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        return {"right": float(answer in row["gold"]) if answer.isdigit() else None}

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        values = [one.values["right"] for one in scored]
        return {"right": mean_estimate([value for value in values if value is not None])}


class Adder:
    """Greedy adds and gets 7 wrong, other methods get 8 wrong, sampling says its seed."""

    def __init__(self, dtype: str = "none") -> None:
        self.dtype = dtype
        self.failing: set[str] = set()
        self.interrupted_at = -1
        self.batches: list[list[str]] = []
        self.noise: Sequence[int] | None = None

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"name": "adder", "dtype": self.dtype}

    def check(self, asks: Sequence[Ask], decoding: Decoding, execution: str) -> None:
        if execution == "impossible":
            raise ValueError("impossible execution")

    def answers(
        self,
        asks: Sequence[Ask],
        decoding: Decoding,
        seeds: Sequence[int],
        execution: str,
        noise_seeds: Sequence[int] | None = None,
    ) -> list[Answer]:
        self.noise = noise_seeds
        if len(self.batches) == self.interrupted_at:
            raise KeyboardInterrupt
        self.batches.append([ask.prompt for ask in asks])
        if broken := self.failing & set(self.batches[-1]):
            raise RuntimeError(f"cannot add {sorted(broken)}")
        return [self._said(ask, decoding, seed) for ask, seed in zip(asks, seeds, strict=True)]

    def _said(self, ask: Ask, decoding: Decoding, seed: int) -> Answer:
        if decoding.search == "sample":
            return Answer(str(seed % 12), 2)
        n = int(ask.prompt.split()[-4])
        return Answer("0" if n == (7 if decoding.name == "plain" else 8) else str(n + 1), 2)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<s>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def tiny_llama(**others: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "vocab_size": 30,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": 0.5,
        **others,
    }
    return LlamaForCausalLM(LlamaConfig(**given)).eval()
