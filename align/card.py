"""The model card: what was trained on what, how it went, and how to do it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .curves import eval_series, train_series
from .metrics import DRIFTS
from .record import versions

Z = (-1.96, 1.96)
RESULTS = (
    *("loss", "nll/chosen", "nll/rejected", "scores/mean"),
    *("rewards/accuracies", "rewards/margins", "rewards/correlation", *DRIFTS, "kl", "samples/kl"),
)


@dataclass(frozen=True)
class Paper:
    """Where a method was published.

    Attributes:
        method: Its acronym.
        title: Of the paper.
        authors: Of the paper.
        year: Of the paper.
        arxiv: Its id.
    """

    method: str
    title: str
    authors: str
    year: int
    arxiv: str


@dataclass(frozen=True)
class Card:
    """What a model card tells.

    Attributes:
        name: The model's.
        folder: Where it lies.
        base: Hub id or folder of what training started from.
        adapter: Whether the result is an adapter.
        paper: Of the method.
        settings: Keys and values that were set.
        data: One line for each data set.
        history: `trainer.state.log_history`.
        command: What was typed, if anything.
        notes: What was noticed during the run.
        weights: After which update they are those of the model.
        dataset: Hub id of the data, if it has one.
        use: How to use it, where it's no language model.
        sees: Whether it reads pictures.
    """

    name: str
    folder: str
    base: str
    adapter: bool
    paper: Paper
    settings: Mapping[str, Any]
    data: Sequence[str]
    history: Sequence[Mapping[str, Any]]
    command: Sequence[str] = ()
    notes: Sequence[str] = ()
    weights: str | None = None
    dataset: str | None = None
    use: str | None = None
    sees: bool = False


def card(told: Card) -> str:
    """Write README.md."""
    paper = told.paper
    kind = "A PEFT adapter for" if told.adapter else "A fine-tuned version of"
    kind = "Image projections for" if paper.method == "DCD" else kind
    parts = [
        f"---\n{yaml.safe_dump(_metadata(told), sort_keys=False)}---",
        f"# {told.name}",
        f"{kind} `{told.base}`, trained with {paper.method} by contralign."
        + (f" The weights are those {told.weights}." if told.weights else ""),
        *(f"> {note}" for note in told.notes),
        f"## Use\n\n{told.use}"
        if told.use
        else use(told.folder, base=told.base if told.adapter else None, sees=told.sees),
        "## Data\n\n" + "\n".join(f"- {line}" for line in told.data),
        "## Results\n\n" + _results(told.history),
        "## Training\n\n" + _training(told),
        f'## Method\n\n{paper.authors} {paper.year}, "{paper.title}", '
        f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv}).",
        "## Versions\n\n" + ", ".join(f"{name} {number}" for name, number in versions().items()),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(told: Card) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "library_name": "peft" if told.adapter else "transformers",
        "tags": ["contralign", told.paper.method.lower()],
    }
    # The hub refuses a base or data set that is no id of its own.
    if _is_hub_id(told.base):
        metadata["base_model"] = told.base
    if told.dataset and _is_hub_id(told.dataset):
        metadata["datasets"] = [told.dataset]
    return metadata


def use(folder: str, *, base: str | None = None, sees: bool = False) -> str:
    """Write how a language model is used.

    Args:
        folder: Where it, or its adapter, lies.
        base: What the adapter belongs on; None: it's a whole model.
        sees: Whether it reads pictures.
    """
    there = shlex.quote(folder)
    words = f"--model {there}" if base is None else f"--model {shlex.quote(base)} --adapter {there}"
    image = "--image FILE " if sees else ""
    return (
        f"## Use\n\n```python\n{_loading(folder, base, sees)}\n```\n\n"
        f"```bash\ncontralign generate {words} {image}--question '...'\n```"
    )


def _loading(folder: str, base: str | None, sees: bool) -> str:
    if sees and base is not None:  # PEFT has no class that finds the base of such an adapter
        return (
            "from peft import PeftModel\nfrom transformers import AutoModelForImageTextToText\n\n"
            f"base = AutoModelForImageTextToText.from_pretrained({json.dumps(base)})\n"
            f"model = PeftModel.from_pretrained(base, {json.dumps(folder)})"
        )
    of_text = "AutoModelForCausalLM" if base is None else "AutoPeftModelForCausalLM"
    loader = "AutoModelForImageTextToText" if sees else of_text
    library = "transformers" if base is None else "peft"
    place = json.dumps(folder)
    return f"from {library} import {loader}\n\nmodel = {loader}.from_pretrained({place})"


def _results(history: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| | first | last | 95 % interval of the last | best |", "|---|---:|---:|---:|---:|"]
    for name in RESULTS:
        trained = train_series(history, name)[1]
        lines += [_row(f"training: {name}", name, trained)] if trained else []
        errors = eval_series(history, f"{name}_se")
        for data, (_, values) in eval_series(history, name).items():
            _, error = errors.get(data, ([], []))
            label = f"{f'evaluation {data}'.strip()}: {name}"
            lines.append(_row(label, name, values, error[-1] if error else 0))
    text = "\n".join(lines) if len(lines) > 2 else "Nothing was logged."
    return f"{text}\n\n![curves](curves.png)" if len(lines) > 2 else text


def _row(label: str, name: str, values: Sequence[float], error: float = 0) -> str:
    """The interval is the mean's, normal: 1.96 standard errors to each side; none where it's 0."""
    ends = "" if not error else " to ".join(f"{values[-1] + z * error:.4g}" for z in Z)
    best = (min if name.startswith(("loss", "kl", "nll/")) else max)(values)
    shown = f"{best:.4g}" if name.startswith(("loss", "nll/", "rewards/", "scores/")) else ""
    return f"| {label} | {values[0]:.4g} | {values[-1]:.4g} | {ends} | {shown} |"


def _training(told: Card) -> str:
    command = f"```bash\n{shlex.join(told.command)}\n```\n\n" if told.command else ""
    return command + f"```yaml\n{yaml.safe_dump(dict(told.settings), sort_keys=False)}```"


def _is_hub_id(name: str) -> bool:
    here = name.startswith((".", "/", "~")) or Path(name).exists()
    return name.count("/") == 1 and not here
