"""Each refusal names the parameter, the value and the way out."""

from __future__ import annotations

import pytest

from contralign.decoding.checks import at_least, fraction, number, one_of, positive, whole


@pytest.mark.parametrize("value", [True, "0.5", None, float("nan"), float("inf"), -float("inf")])
def test_a_number_is_neither_bool_nor_text_nor_infinite(value: object) -> None:
    with pytest.raises(ValueError, match="alpha must be a finite number"):
        number("alpha", value)


def test_a_number_is_returned_as_it_is() -> None:
    assert number("alpha", 3) == 3
    assert number("alpha", -0.5) == -0.5


def test_the_lower_bound_is_allowed_and_what_is_below_is_not() -> None:
    at_least("alpha", 0, 0)
    with pytest.raises(ValueError, match=r"alpha must be at least 0, got -0.1. Pass 0 or more."):
        at_least("alpha", -0.1, 0)


@pytest.mark.parametrize("value", [0, 0.0, -2])
def test_a_temperature_is_above_zero(value: float) -> None:
    positive("temperature", 1e-3)
    with pytest.raises(ValueError, match=f"temperature must be above 0, got {value}"):
        positive("temperature", value)


@pytest.mark.parametrize("value", [0, -0.1, 1.0001, 2])
def test_a_cutoff_outside_zero_to_one_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=rf"cutoff must lie in \(0, 1\], got {value}"):
        fraction("cutoff", value)


def test_a_cutoff_of_one_is_allowed() -> None:
    fraction("cutoff", 1)


@pytest.mark.parametrize("value", [1.0, "1", True, None])
def test_a_whole_number_is_an_int(value: object) -> None:
    with pytest.raises(ValueError, match="top_k must be an integer"):
        whole("top_k", value, 1)


def test_a_whole_number_keeps_its_bound() -> None:
    whole("top_k", 1, 1)
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        whole("top_k", 0, 1)


@pytest.mark.parametrize("value", ["3", 2, None])
def test_a_choice_is_one_of_the_listed_words(value: object) -> None:
    one_of("base", "2", ("e", "2"))
    with pytest.raises(ValueError, match="base must be one of e, 2, got"):
        one_of("base", value, ("e", "2"))
