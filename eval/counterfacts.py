"""Counterfacts: does a model answer from its context, above all when the context contradicts it?

Facts and contexts were written for this project and come with it (`data/counterfacts.jsonl`,
Apache-2.0). Every fact stands in two contexts that differ in the answer alone: one agrees with the
world, one does not. Prompts follow AdaCAD (Wang et al. 2024, arXiv 2409.07394; code
HanNight/AdaCAD @d4519ec), down to the blanks around the question mark and at the ends of lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, ClassVar

from contralign.decoding.checks import one_of, whole

from .ask import Ask, Row, Scored
from .jsonl import digest, read_jsonl
from .qa import METRICS, TRUNCATIONS, contains, truncate
from .statistics import Estimate, mean_estimate
from .summary import summarize

_FACTS = files(__package__) / "data" / "counterfacts.jsonl"
_FIELDS = {
    "id": str,
    "relation": str,
    "question": str,
    "answer": list,
    "counter": list,
    "agree": str,
    "conflict": str,
}

CONTEXTS: Mapping[str, tuple[str, ...]] = {
    "both": ("agree", "conflict"),
    "agree": ("agree",),
    "conflict": ("conflict",),
}
PROMPTS: Mapping[str, tuple[str, str]] = {
    "adacad": (
        "{context} \nUsing only the references listed above, answer the following question: \n"
        "Question: {question} ?\nAnswer:",
        "Answer the following question: \nQuestion: {question} ?\nAnswer:",
    ),
    "bare": ("{context}\n\n{question}?", "{question}?"),
}
"""Name -> the prompt with context and the one without; `{question}` comes without its mark."""


@dataclass(frozen=True)
class Counterfacts:
    """Two rows a fact; a row's `gold` is what its context says, `other` what it does not.

    Metrics, all of the answer after `truncation`:

    - `faithful`: contains a gold and none of the other answers. A text that names both, as in
      "Lyon, although it is Paris", is neither faithful nor parametric.
    - `em`, `contains`, `f1`: against the golds, see `qa`.
    - `parametric`: on conflict rows only, contains the world's answer and not the context's.
    - `memorization`: in the summary only, parametric / (parametric + faithful) of the conflict
      rows: CK-PLUG's M_R (byronBBL/CK-PLUG @4af30ea), here of the answers that take one side. NaN
      when none does.

    An empty answer scores 0 everywhere: no answer is left unparsed. Totals mix both kinds of row,
    and their intervals take a fact's two rows as independent; look at `faithful/conflict` too.

    Attributes:
        contexts: "both", "agree" or "conflict".
        prompt: "adacad", or "bare": the context, an empty line and the question alone.
        truncation: A name in `qa.TRUNCATIONS`. The default takes the first line: base models go on
            with a question of their own on the next one, and a chat model that takes its answer
            back in a second sentence has not been faithful.
        max_new_tokens: AdaCAD's 32 for short answers.
    """

    name: ClassVar[str] = "counterfacts"
    metric: ClassVar[str] = "faithful"

    contexts: str = "both"
    prompt: str = "adacad"
    truncation: str = "line"
    max_new_tokens: int = 32

    def __post_init__(self) -> None:
        one_of("contexts", self.contexts, CONTEXTS)
        one_of("prompt", self.prompt, PROMPTS)
        one_of("truncation", self.truncation, TRUNCATIONS)
        whole("max_new_tokens", self.max_new_tokens, 1)

    @property
    def version(self) -> str:
        return f"1-{digest(_FACTS)}"

    def load(self) -> list[Row]:
        facts = read_jsonl(_FACTS, _FIELDS)
        return [_row(fact, kind) for fact in facts for kind in CONTEXTS[self.contexts]]

    def ask(self, row: Row) -> Ask:
        parts = {"context": row["context"], "question": row["question"].removesuffix("?")}
        prompt, contrast = (template.format(**parts) for template in PROMPTS[self.prompt])
        return Ask(prompt=prompt, contrast=contrast, max_new_tokens=self.max_new_tokens)

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        said = truncate(answer, self.truncation)
        gold, other = contains(said, row["gold"]), contains(said, row["other"])
        values: dict[str, float | None] = {"faithful": gold * (1 - other)}
        values |= {name: metric(said, row["gold"]) for name, metric in METRICS.items()}
        if row["kind"] == "conflict":
            values["parametric"] = other * (1 - gold)
        return values

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        summary = summarize(scored, ("faithful", *METRICS, "parametric"), group="kind")
        decided = [
            parametric
            for one in scored
            if (parametric := one.values.get("parametric")) is not None
            and (parametric or one.values["faithful"])
        ]
        return summary | {"memorization": mean_estimate(decided)}


def _row(fact: Mapping[str, Any], kind: str) -> Row:
    agrees = kind == "agree"
    return {
        "id": f"{fact['id']}/{kind}",
        "relation": fact["relation"],
        "kind": kind,
        "question": fact["question"],
        "context": fact[kind],
        "gold": fact["answer" if agrees else "counter"],
        "other": fact["counter" if agrees else "answer"],
    }
