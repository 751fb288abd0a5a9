"""Options that several commands share, and options made from the fields of a dataclass."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from contralign.align.rewards import Reward
    from contralign.decoding import Decoding
    from contralign.eval import LanguageModel

    from .parser import Parser

Made = TypeVar("Made")

DTYPES = ("auto", "float32", "bfloat16", "float16")
SHIPPED = "scenes"
"""What the model in the package is called; a folder of that name is ./scenes."""


def add_config(parser: Parser) -> None:
    """Add the option that `Parser` expands."""
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file of these options; the command line wins"
    )


def add_model(parser: Parser, *, required: bool = True) -> None:
    """Add what `load_model` reads."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        required=required,
        help=f"hub id, folder, or {SHIPPED}: the small one in the package",
    )
    group.add_argument("--adapter", help="PEFT adapter to put on top, hub id or folder")
    group.add_argument("--revision", help="branch, tag or commit on the hub")
    group.add_argument("--dtype", choices=DTYPES, default="auto", help="default: as it was saved")
    group.add_argument("--device", help="cpu, cuda, cuda:1, or auto to spread it over all")
    group.add_argument(
        "--chat",
        action=argparse.BooleanOptionalAction,
        help="ask through the chat template; default: if there is one",
    )
    group.add_argument("--system", help="what the system turn says")


def add_seed(group: argparse._ArgumentGroup) -> None:
    """Add the seed."""
    group.add_argument("--seed", type=natural, default=0, help="of all that is drawn; default: 0")


def check_amateur(*decodings: Decoding) -> None:
    """Refuse a method without the amateur that it needs, before any model is loaded.

    Raises:
        ValueError: Says how to name one.
    """
    for decoding in decodings:
        if getattr(decoding.method, "amateur", "named") is None:
            raise ValueError(
                f"{decoding.name} holds the model against an amateur, got none. Name a smaller "
                f"model of its family, a hub id or a folder, as in {decoding.name}:amateur=NAME; "
                "or base, for the model without its --adapter."
            )


def load_model(args: argparse.Namespace) -> LanguageModel:
    """Load the model that the options name.

    Raises:
        ValueError: A path that is no folder, or options that the model can't follow.
    """
    name = resolved(args.model)
    from contralign.eval import LanguageModel

    quiet_unless_watched()
    return LanguageModel.load(
        name,
        dtype=args.dtype,
        device=args.device,
        revision=args.revision,
        adapter=args.adapter,
        chat={None: "auto", True: "on", False: "off"}[args.chat],
        system=args.system,
    )


def add_data(parser: Parser) -> None:
    """Add which part of some data; the data itself is a word of its own."""
    parser.add_argument("--split", default="train", help="as in train[:100]; default: train")
    parser.add_argument("--name", help="configuration of a data set on the hub")


def add_reward(parser: Parser, *, column: bool = True) -> None:
    """Add what `reward` reads: TRL's keys, and ours where the completions are in the data."""
    kinds = "a model, a function or a column" if column else "a model or a function"
    group = parser.add_argument_group(f"reward: {kinds}")
    group.add_argument(
        "--reward-model-name-or-path",
        metavar="MODEL",
        help="hub id or folder of a sequence classifier with one logit, or of its adapter",
    )
    group.add_argument(
        "--reward-funcs",
        metavar="PATH",
        help="dotted path of a function with the signature of TRL's rewards",
    )
    if column:
        group.add_argument(
            "--reward-column",
            metavar="NAME",
            help="numbers in the data: NAME, NAME_chosen and NAME_rejected, or the list NAMEs",
        )
    group.add_argument("--reward-dtype", choices=DTYPES, help="of the model; default: auto")
    group.add_argument("--reward-device", help="of the model, such as cuda:1")
    group.add_argument("--reward-batch-size", type=positive, help="completions; default: 8")
    group.add_argument(
        "--reward-max-length", type=positive, help="tokens; default: what the model can read"
    )
    group.add_argument(
        "--reward-on-long",
        choices=("error", "cut"),
        help="longer ones are an error, the default, or lose their end and are counted",
    )


def reward(args: argparse.Namespace) -> Reward:
    """Make the reward that the options name.

    Raises:
        ValueError: Not exactly one is named.
    """
    from contralign.align.rewards import make_reward

    return make_reward(
        reward_model_name_or_path=args.reward_model_name_or_path,
        reward_funcs=args.reward_funcs,
        reward_column=getattr(args, "reward_column", None),
        dtype=args.reward_dtype,
        device=args.reward_device,
        batch_size=args.reward_batch_size,
        max_length=args.reward_max_length,
        on_long=args.reward_on_long,
    )


def needs_contrast(decoding: Decoding) -> bool:
    """Whether a method holds the prompt against another one, which somebody must give."""
    from contralign.decoding import Pictured, Promptless

    return not isinstance(decoding.method, Pictured | Promptless)


def resolved(model: str, option: str = "--model") -> str:
    """Find a model by what the user calls it.

    Args:
        model: A hub id, a folder, or `SHIPPED`.
        option: Where it was given, for errors.

    Returns:
        What `from_pretrained` takes.

    Raises:
        ValueError: A path that is no folder.
    """
    if model == SHIPPED:
        from contralign.eval.scenes import shipped

        return str(shipped())
    place = Path(model).expanduser()
    if (model.startswith((".", "/", "~")) or place.exists()) and not place.is_dir():
        raise ValueError(f"{option} takes a hub id or a folder, got {model}, which is neither.")
    return str(place)


def quiet_unless_watched() -> None:
    """Show no progress bar of transformers where stderr is no terminal."""
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()


def positive(text: str) -> int:
    """Read a number of at least 1.

    Raises:
        ArgumentTypeError: It is none.
    """
    return _whole(text, 1)


def natural(text: str) -> int:
    """Read a number of at least 0 that PyTorch's generators take.

    Raises:
        ArgumentTypeError: It is none.
    """
    number = _whole(text, 0)
    if number >= 2**63:
        raise argparse.ArgumentTypeError(f"takes a number below 2 ** 63, got {text}.")
    return number


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"takes a number of at least {least}, got {text!r}.")
    return int(text)


def add_fields(parser: Parser, owner: type, title: str | None = None) -> None:
    """Add an option for each field of a dataclass, explained by the class's docstring.

    A field whose default is made by a factory is a dataclass with fields of its own: add those.
    """
    group = parser.add_argument_group(title or f"options of {parser.prog.split()[-1]}")
    texts, hints = attributes(owner), get_type_hints(owner)
    for field in fields(owner):
        if field.default is MISSING:
            continue
        group.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=field.default,
            help=f"{texts[field.name]} Default: {field.default}.".replace("%", "%%"),
            **_reading(hints[field.name]),
        )


def made(owner: Callable[..., Made], args: argparse.Namespace) -> Made:
    """Make the dataclass whose fields `add_fields` added; the others keep their defaults."""
    names = [name for name in inspect.signature(owner).parameters if hasattr(args, name)]
    return owner(**{name: getattr(args, name) for name in names})


def attributes(owner: type) -> dict[str, str]:
    """Read the `Attributes:` section of a docstring.

    Returns:
        Attribute -> its text, on one line.
    """
    _, _, section = inspect.cleandoc(owner.__doc__ or "").partition("Attributes:\n")
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _reading(hint: Any) -> dict[str, Any]:
    """How argparse reads a type: the first of a union."""
    kind = next((kind for kind in get_args(hint) if kind is not NoneType), hint)
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    return {"type": kind}
