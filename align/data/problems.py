"""What can be wrong with a row: each problem's name, how bad it is, and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """One kind of problem.

    Attributes:
        name: As reports call it.
        severity: error: the row can't be trained on; warning: it can, but look at it.
        explanation: What it means, and the way out.
    """

    name: str
    severity: Literal["error", "warning"]
    explanation: str


class RowError(ValueError):
    """A row can't be trained on.

    Args:
        problem: A name of `PROBLEMS`.
        found: What was found in the row.
    """

    def __init__(self, problem: str, found: str) -> None:
        super().__init__(f"{problem}: {found}. {PROBLEMS[problem].explanation}")
        self.problem = problem
        self.found = found


PROBLEMS: Mapping[str, Problem] = {
    problem.name: problem
    for problem in (
        Problem(
            "unknown-format",
            "error",
            "A row has prompt, chosen and rejected (or the last two, each with the prompt in "
            "front), as text or as messages; or ShareGPT's conversations, chosen and rejected; for "
            "CPL and CoPG also prompt and a list completions. Rename or convert the columns, or "
            "name the method with --method.",
        ),
        Problem(
            "wrong-type",
            "error",
            "Text is a string, a message has a role and a content, and chosen and rejected are of "
            "one kind. Convert the values.",
        ),
        Problem(
            "missing-prompt",
            "error",
            "There is nothing that both completions answer: the prompt is empty, or chosen and "
            "rejected share no beginning. Add a prompt.",
        ),
        Problem(
            "missing-completion",
            "error",
            "A pair has both chosen and rejected, a group some. Add what is missing, or remove the "
            "row.",
        ),
        Problem(
            "empty-completion",
            "error",
            "A completion says something. Remove the row, or write what should have been said.",
        ),
        Problem(
            "identical",
            "error",
            "Completions are the same tokens, so nothing is preferred. Remove the row; if they "
            "differ further on, raise max_length.",
        ),
        Problem(
            "wrong-turn",
            "error",
            "A completion begins with the assistant's turn. Where it repeats the prompt, leave "
            "out the column prompt or the repetition.",
        ),
        Problem(
            "bad-number",
            "error",
            "A weight is a finite number of at least 0, a margin, a score or a baseline a finite "
            "number, a label lies in [0, 1]. A label is of pairs, a baseline of one completion. "
            "Correct the value, or leave out the column for all rows.",
        ),
        Problem(
            "one-completion",
            "error",
            "One completion has nothing to be compared with. Add others of the prompt; or, for "
            "CoPG, a column baseline: an estimate of the prompt's mean score.",
        ),
        Problem(
            "missing-score",
            "error",
            "Each completion has a score: score_chosen and score_rejected of a pair, a list scores "
            "as long as completions of a group. Score the data, or train with a reward.",
        ),
        Problem(
            "tied-scores",
            "error",
            "A ranking has no ties. Break them, remove the row, or make it a pair with label 0.5.",
        ),
        Problem(
            "unequal-groups",
            "error",
            "All prompts have the same number of completions. Leave some out, or train on each "
            "size by itself.",
        ),
        Problem(
            "chat-template",
            "error",
            "The model's chat template refuses these messages. Change them to what it allows "
            "(often: an optional system turn, then user and assistant in turns).",
        ),
        Problem(
            "prompt-too-long",
            "error",
            "The prompt fills max_length, so no token of a completion is left. Raise max_length, "
            "shorten the prompt or remove the row.",
        ),
        Problem(
            "image-count",
            "error",
            "A prompt has a placeholder for each image of the row and completions have none. Add "
            "or remove placeholders; with none at all, images go in front of the first question.",
        ),
        Problem(
            "unreadable-image",
            "error",
            "An image is a still one of 8 bits a channel: a PIL image, its bytes or the path of a "
            "file. Repair or convert it, or remove the row.",
        ),
        Problem(
            "boundary",
            "warning",
            "The tokens of prompt and completion together don't begin with those of the prompt "
            "alone: the completion starts where they part, so the model trains on a prompt that "
            "it won't see later. End the prompt on a token's end, or mend the chat template.",
        ),
        Problem(
            "double-bos",
            "warning",
            "The text begins with the BOS that the tokenizer puts in front, which made two: one "
            "is left out. Remove it from the text.",
        ),
        Problem(
            "missing-eos",
            "warning",
            "A completion has no EOS or other special token at its end, so the model isn't taught "
            "to stop. Mend the chat template, or the tokenizer's eos_token.",
        ),
        Problem(
            "truncated",
            "warning",
            "A completion is cut to fit max_length. Raise max_length to train on all of it.",
        ),
    )
}
