"""Answer one question with any decoding method, printed as it comes.

Methods that hold the prompt against the same without its context need --context or --contrast,
those on pictures --image.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contralign.files import read_text

from .options import (
    add_config,
    add_model,
    add_seed,
    check_amateur,
    load_model,
    needs_contrast,
    positive,
    resolved,
)

if TYPE_CHECKING:
    from contralign.decoding import Decoding
    from contralign.eval import LanguageModel

    from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Add the options of one question."""
    add_config(parser)
    add_model(parser)
    group = parser.add_argument_group("question")
    group.add_argument("--question", required=True, help="what to ask")
    group.add_argument(
        "--image", metavar="FILE", action="append", default=[], help="what it is about; repeatable"
    )
    group.add_argument("--context", metavar="FILE", help="what to answer from; - is stdin")
    group.add_argument(
        "--contrast", help="the prompt to hold it against; default: the question without context"
    )
    group.add_argument("--method", default="greedy", help="see contralign methods; default: greedy")
    group.add_argument("--max-new-tokens", type=positive, default=256, help="default: 256")
    add_seed(group)


def run(args: argparse.Namespace) -> None:
    """Load the model and stream its answer to stdout."""
    import torch

    from contralign.decoding import parse

    decoding = parse(args.method)
    check_amateur(decoding)
    prompt, contrast = _prompts(args)
    _check_contrast(decoding, prompt, contrast, args.contrast)
    _check_images(decoding, args)
    model = load_model(args)
    torch.manual_seed(args.seed)
    answer(model, decoding, prompt, contrast, args.image, args.max_new_tokens)


def answer(
    model: LanguageModel,
    decoding: Decoding,
    prompt: str,
    contrast: str | None,
    images: list[str],
    max_new_tokens: int,
) -> None:
    """Print one answer: token by token, or at once from beam search, which has none before."""
    from transformers import TextStreamer

    from contralign.decoding import encode, generate

    messages = [model.messages(prompt, len(images))]
    held_against = None if contrast is None else [model.messages(contrast, len(images))]
    branch = decoding.method.branches(
        model.processor, messages, [images], contrast=held_against, model=model.model
    )
    inputs = model.placed(encode(model.processor, messages, [images]))
    options: dict[str, Any] = decoding.generate_kwargs()
    beams = options["num_beams"] > 1
    if not beams:
        options["streamer"] = TextStreamer(
            model.tokenizer, skip_prompt=True, skip_special_tokens=True
        )
    ids = generate(
        model.model, inputs, decoding.method, branch, max_new_tokens=max_new_tokens, **options
    )
    if beams:
        new = ids[0, inputs["input_ids"].shape[1] :]
        print(model.tokenizer.decode(new, skip_special_tokens=True))


def _prompts(args: argparse.Namespace) -> tuple[str, str | None]:
    """The prompt, and what it is held against."""
    for name in ("question", "contrast"):
        said = getattr(args, name)
        if said is not None and not _text(said, f"--{name}").strip():
            raise ValueError(f"--{name} says something, got {said!r}.")
    if args.context is None:
        return args.question, args.contrast
    if not args.context:
        raise ValueError("--context names a file, or is - for stdin, got ''. Name one.")
    context = (_stdin() if args.context == "-" else read_text(Path(args.context))).strip()
    if not context:
        raise ValueError(f"a context says something, got none from {args.context}. Leave it out.")
    return f"{context}\n\n{args.question}", args.contrast or args.question


def _stdin() -> str:
    try:
        return _text(sys.stdin.read(), "stdin")
    except UnicodeDecodeError as error:
        raise ValueError(f"stdin is no UTF-8 text: {error}. Recode it.") from error


def _text(said: str, where: str) -> str:
    """Refuse what Python has smuggled bytes into that are no text."""
    try:
        said.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{where} is no UTF-8 text: {said!r:.80}. Recode it.") from error
    return said


def _check_contrast(
    decoding: Decoding, prompt: str, contrast: str | None, given: str | None
) -> None:
    if not needs_contrast(decoding):
        if given is not None:
            raise ValueError(
                f"{decoding.label} holds the prompt against no other, got --contrast {given!r:.80}."
                " Leave it out, or take a method that does, such as cad."
            )
    elif contrast is None:
        raise ValueError(
            f"{decoding.name} holds the prompt against the same without its context, got neither "
            "--context nor --contrast. Pass --context FILE, or - to read it from stdin."
        )
    elif contrast == prompt:
        raise ValueError(
            f"{decoding.name} holds the prompt against another one, got --contrast {contrast!r:.80}"
            ", the prompt itself. Change it, or pass --context FILE."
        )


def _check_images(decoding: Decoding, args: argparse.Namespace) -> None:
    """Refuse pictures that are missing or can't be seen; reads the model's config alone."""
    from contralign.decoding import Pictured

    if not args.image:
        if isinstance(decoding.method, Pictured):
            raise ValueError(f"{decoding.name} is about pictures, got none. Pass --image FILE.")
        return
    if missing := [image for image in args.image if not Path(image).is_file()]:
        raise ValueError(f"--image takes a file, but there is none at {missing[0]}.")
    from contralign.eval.loading import check_names, has_eyes

    name = resolved(args.model)
    check_names(name, args.adapter, args.revision)
    if not has_eyes(name, args.revision):
        raise ValueError(
            f"{args.model} reads text alone, got --image {args.image[0]}. Leave it out, or name a "
            "model that reads images."
        )
