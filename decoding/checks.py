"""What the hyper-parameters of every method must satisfy, checked when the method is made."""

from __future__ import annotations

import math
from collections.abc import Collection


def number(name: str, value: object) -> float:
    """Refuse what is no finite number, a bool or a numeral in quotes included.

    Returns:
        The value.

    Raises:
        ValueError: With the parameter's name and the value received.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}. Pass an int or a float.")
    return value


def at_least(name: str, value: object, low: float) -> None:
    """Refuse a number below `low`.

    Raises:
        ValueError: With the parameter's name and the value received.
    """
    if number(name, value) < low:
        raise ValueError(f"{name} must be at least {low}, got {value!r}. Pass {low} or more.")


def positive(name: str, value: object) -> None:
    """Refuse zero and negative numbers.

    Raises:
        ValueError: With the parameter's name and the value received.
    """
    if number(name, value) <= 0:
        raise ValueError(f"{name} must be above 0, got {value!r}. Pass a positive number.")


def fraction(name: str, value: object) -> None:
    """Refuse a number outside (0, 1].

    Raises:
        ValueError: With the parameter's name and the value received.
    """
    if not 0 < number(name, value) <= 1:
        raise ValueError(
            f"{name} must lie in (0, 1], got {value!r}. It is a share of the best token's "
            "probability: 0.1 is usual."
        )


def whole(name: str, value: object, low: int) -> None:
    """Refuse what is no integer, and an integer below `low`.

    Raises:
        ValueError: With the parameter's name and the value received.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} must be an integer, got {value!r}. Pass an int.")
    at_least(name, value, low)


def one_of(name: str, value: object, choices: Collection[str]) -> None:
    """Refuse what is none of the choices.

    Raises:
        ValueError: With the parameter's name, the value received and the choices.
    """
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
