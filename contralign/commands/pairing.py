"""Answers to prompts -> rows of preference data, and a count of what wasn't made one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contralign.align.rewards import Question, Skipped, best_and_worst
from contralign.eval import Answer

Row = Mapping[str, Any]
# Columns of the prompts' file that the pairs' own take the place of.
REPLACED = (
    *("prompt", "chosen", "rejected", "completions", "completion", "provenance"),
    *("score_chosen", "score_rejected", "scores", "score"),
)
REASONS = {
    "failed": "no answer, an error",
    "empty": "an empty answer, or fewer than two that say something",
    "equal": "equal answers",
    "tie": "answers of one score",
}


@dataclass(frozen=True)
class Talk:
    """How a model is asked: as messages, or as text.

    Attributes:
        prompt: From what a row asks and its number of pictures to the column prompt.
        chat: Whether that is messages.
    """

    prompt: Callable[[str, int], Any]
    chat: bool

    def completion(self, text: str) -> Any:
        """The column of an answer."""
        return [{"role": "assistant", "content": text}] if self.chat else text


@dataclass
class Pairs:
    """Pairs, and why there aren't more.

    Attributes:
        rows: In TRL's format.
        skipped: Reason -> prompts.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return "\n".join([f"{len(self.rows)} pairs", *self.reasons])

    @property
    def reasons(self) -> list[str]:
        """Why there aren't more, a line each."""
        return [
            f"{count} prompts without one: {REASONS[reason]}"
            for reason, count in sorted(self.skipped.items())
        ]


def candidates(row: Row, prompt: Any, answers: Sequence[Answer], talk: Talk) -> Question | str:
    """What a reward is asked about the answers to one prompt, or why it isn't asked."""
    texts = [answer.text for answer in answers if answer.error is None and answer.text.strip()]
    if len(texts) < 2:
        return "failed" if all(answer.error for answer in answers) else "empty"
    if len(set(texts)) == 1:
        return "equal"
    columns = {name: value for name, value in row.items() if name not in REPLACED}
    return Question(prompt, [talk.completion(text) for text in texts], columns, "group")


def chosen_of(question: Question, scores: Sequence[float]) -> dict[str, Any] | str:
    """The best and the worst answer as a row, or why there is none."""
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in question.completions]
    choice = best_and_worst(texts, scores)
    if isinstance(choice, Skipped):
        return choice.reason
    return {
        **question.columns,
        "prompt": question.prompt,
        "chosen": question.completions[choice.best],
        "rejected": question.completions[choice.worst],
        "score_chosen": scores[choice.best],
        "score_rejected": scores[choice.worst],
    }


def held_against(row: Row, prompt: Any, chosen: Answer, rejected: Answer, talk: Talk) -> Any:
    """One method's answer against another's as a row, or why there is none."""
    if chosen.error or rejected.error:
        return "failed"
    if not (chosen.text.strip() and rejected.text.strip()):
        return "empty"
    if chosen.text == rejected.text:
        return "equal"
    return {
        **{name: value for name, value in row.items() if name not in REPLACED},
        "prompt": prompt,
        "chosen": talk.completion(chosen.text),
        "rejected": talk.completion(rejected.text),
    }
