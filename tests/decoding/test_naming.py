"""One grammar: what it reads, what it writes and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from contralign.decoding import (
    CAD,
    CD,
    M3ID,
    METHODS,
    RITUAL,
    VCD,
    AdaCAD,
    Composed,
    Decoding,
    DoLa,
    Plain,
    parse,
    parse_list,
)
from contralign.decoding.naming import _read


@pytest.mark.parametrize(
    ("text", "method", "search"),
    [
        ("greedy", Plain(), "greedy"),
        ("sample", Plain(), "sample"),
        ("plain@beam12", Plain(), "beam12"),
        ("cad", CAD(), "greedy"),
        ("cad:alpha=1@sample", CAD(alpha=1.0), "sample"),
        ("adacad:floor=0.3;base=2", AdaCAD(floor=0.3, base="2"), "greedy"),
        ("dola:layers=low", DoLa(layers="low"), "greedy"),
        ("dola:layers=2,4,6;cutoff=none@beam5", DoLa(layers=(2, 4, 6), cutoff=None), "beam5"),
        ("dola:layers=2", DoLa(layers=(2,)), "greedy"),
        ("cd:amateur=org/model-1.5;top_k=50", CD(amateur="org/model-1.5", top_k=50), "greedy"),
        ("cd:amateur=none;top_k=none", CD(), "greedy"),
        ("cd:amateur=org/model@v2@sample", CD(amateur="org/model@v2"), "sample"),
        ("ritual+vcd@sample", Composed((RITUAL(), VCD())), "sample"),
        ("vcd+ritual@sample", Composed((RITUAL(), VCD())), "sample"),
        (
            "m3id:decay=.1;cutoff=.2+ritual:cutoff=.2@beam3",
            Composed((RITUAL(cutoff=0.2), M3ID(decay=0.1, cutoff=0.2))),
            "beam3",
        ),
    ],
)
def test_reads_the_grammar(text: str, method: Any, search: str) -> None:
    decoding = parse(text)
    assert (decoding.method, decoding.search) == (method, search)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("search", ["greedy", "sample", "beam3"])
def test_both_names_read_back_as_the_same(name: str, search: str) -> None:
    decoding = parse(f"{name}@{search}")
    assert parse(str(decoding)) == decoding
    assert parse(decoding.label) == decoding


def test_the_canonical_name_holds_every_parameter() -> None:
    assert str(parse("greedy")) == "plain@greedy"
    assert str(parse("cad")) == "cad:alpha=0.5@greedy"
    assert str(parse("dola:layers=2,4@beam5")) == "dola:layers=2,4;cutoff=0.1@beam5"
    assert str(parse("cd:amateur=base")) == (
        "cd:amateur=base;coef=1;amateur_temperature=1;cutoff=0.1;"
        "amateur_context=last_token;top_k=none@greedy"
    )


def test_equal_values_have_one_name() -> None:
    composed = parse("vcd:noise_step=500+ritual:kappa=2")
    assert composed.label == "ritual:kappa=2+vcd"
    assert str(composed) == (
        "ritual:kappa=2;cutoff=0.1;normalize=false+vcd:alpha=1;cutoff=0.1;noise_step=500@greedy"
    )
    assert parse(composed.label) == parse(str(composed)) == composed
    assert str(parse("cad:alpha=1")) == str(parse("cad:alpha=1.00")) == "cad:alpha=1@greedy"
    assert str(parse("adacad:base=2;floor=0.3")) == str(parse("adacad:floor=.3;base=2"))


def test_the_label_holds_what_differs_from_the_defaults() -> None:
    labels = ["greedy", "sample", "plain@beam5", "cad", "cad:alpha=1@sample", "dola:cutoff=none"]
    assert [parse(label).label for label in labels] == labels
    assert parse("cad:alpha=0.5@greedy").label == "cad"
    assert parse("plain@sample").label == "sample"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cad", {"do_sample": False, "num_beams": 1}),
        ("cad@beam4", {"do_sample": False, "num_beams": 4}),
        (
            "cad@sample",
            {"do_sample": True, "num_beams": 1, "temperature": 1.0, "top_k": 0, "top_p": 1.0},
        ),
    ],
)
def test_the_search_becomes_options_of_generate(text: str, expected: dict[str, Any]) -> None:
    assert parse(text).generate_kwargs() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cadd", r"called 'cadd'. Did you mean 'cad'\? There are: plain, cutoff-only, cad"),
        ("AdaCAD", "Did you mean 'adacad'"),
        ("gredy", "Did you mean 'greedy'"),
        ("", "called ''"),
        ("xyzzy", r"called 'xyzzy'\. There are"),
        ("cad:alpa=1", r"cad has no parameter 'alpa'. Did you mean 'alpha'\? There are: alpha."),
        ("plain:alpha=1", "plain has no parameter 'alpha'. There are: none."),
        ("cad:alpha=1;alpha=2", "given once, got cad:alpha twice"),
        ("cad:alpha", "key=value;key=value, got cad:alpha"),
        ("cad:alpha=", "key=value;key=value, got cad:alpha="),
        ("cad:", "key=value;key=value, got cad:"),
        ("cad:alpha=much", "cad:alpha takes float, got 'much'"),
        ("cad:alpha=none", "cad:alpha takes float, got 'none'"),
        ("cad:alpha=-1", "cad:alpha=-1: alpha must be at least 0"),
        ("cutoff-only:cutoff=1.5", "cutoff must lie in"),
        ("adacad:base=10", "adacad:base takes Literal"),
        ("dola:layers=middle", "dola:layers takes .*'high'.* got 'middle'"),
        ("dola:layers=2,x", "got '2,x'"),
        ("cd:top_k=2.5", r"cd:top_k takes int \| None, got '2.5'"),
        ("cad@beams", "search must be greedy, sample or beamN"),
        ("cad@beam1", "N of at least 2, got 'beam1'"),
        ("cad@beam0", "N of at least 2"),
        ("cad@sampel", "Did you mean 'sample'"),
        ("cad@", "got ''"),
        (
            "greedy@sample",
            "short for plain@greedy, got 'greedy@sample'. Write plain@sample.",
        ),
        ("greedy@foo", "search must be greedy, sample or beamN with N of at least 2, got 'foo'"),
        ("greedy@beam0", "N of at least 2, got 'beam0'"),
        ("cad+adacad", "no text method composes with another, got cad.adacad.* cad,adacad"),
        ("cad:alpha=1+adacad", "no text method composes"),
        ("cad+vcd", "no text method composes"),
        ("vcd+vcd", r"vcd\+vcd: a composition takes two or more different methods"),
        ("ritual:cutoff=0.2+vcd", r"ritual\+vcd: .* share one plausibility cutoff"),
    ],
)
def test_refuses_what_is_outside_the_grammar(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_a_list_keeps_the_commas_of_its_values() -> None:
    decodings = parse_list("greedy, cad:alpha=1,dola:layers=2,4,6@sample,cutoff-only")
    assert [decoding.label for decoding in decodings] == [
        "greedy",
        "cad:alpha=1",
        "dola:layers=2,4,6@sample",
        "cutoff-only",
    ]


def test_a_list_names_each_method_once() -> None:
    with pytest.raises(ValueError, match=r"got cad:alpha=0.5@greedy more than once"):
        parse_list("cad,greedy,cad:alpha=0.5")


def test_a_loaded_model_has_no_name_to_write() -> None:
    with pytest.raises(ValueError, match="amateur holds a object"):
        str(Decoding("cd", CD(amateur=object())))


def test_a_name_of_the_table_goes_with_its_own_method() -> None:
    with pytest.raises(ValueError, match="cad names CAD, got AdaCAD"):
        Decoding("cad", AdaCAD())
    assert str(Decoding("mine", AdaCAD())) == "mine:floor=0;base=e@greedy"


@dataclass(frozen=True)
class Switched(Plain):
    """A method of one's own, with a kind of parameter that no text method has."""

    fast: bool = False


def test_switches_are_written_and_read_as_true_and_false() -> None:
    assert str(Decoding("switched", Switched(fast=True))) == "switched:fast=true@greedy"
    assert _read("true", bool) is True
    assert _read("false", bool) is False
    with pytest.raises(ValueError, match="1"):
        _read("1", bool)
