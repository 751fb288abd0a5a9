"""Lines of the log: what was measured since the last one, how fast, and how a run is resumed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from pair_batches import logps, pairs
from torch import Tensor

from contralign.align import journal as module
from contralign.align.engine import TokenLogps
from contralign.align.journal import Journal
from contralign.align.metrics import ESTIMATED

# A prompt has two tokens: 5 and 6 with their answers.
LENGTHS = [(2, 1), (1, 3)]
BATCH = pairs(LENGTHS)
LOSSES = torch.tensor([1.0, 4.0])


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def alone(totals: Tensor) -> Tensor:
    return totals


def add(journal: Journal, count: int = 2, shift: float = 0.0, **options: Any) -> None:
    said = logps(LENGTHS, seed=0).float()
    scored = TokenLogps(said + shift * BATCH.mask, entropy=torch.ones_like(said))
    given = {"training": True, **options}
    journal.add(BATCH, scored, None, {"loss": LOSSES}, count, **given)


def line(journal: Journal, updates: int = 1, **logs: float) -> dict[str, float]:
    return journal.training_line(alone, logs, updates)[0]


def test_a_line_says_what_was_added_since_the_one_before() -> None:
    journal = Journal(exact_drift=True)
    add(journal)
    add(journal, count=1)
    measured = line(journal)
    assert measured["loss"] == pytest.approx((1 + 4 + 1) / 3)
    assert measured["lengths/rejected"] == pytest.approx((1 + 3 + 1) / 3)
    assert measured["entropy"] == 1
    assert measured["num_tokens"] == 11 + 5
    add(journal, count=1)
    measured = line(journal)
    assert measured["loss"] == 1
    assert measured["num_tokens"] == 11 + 5 + 5


def test_evaluation_is_apart_from_training_and_has_errors() -> None:
    journal = Journal(exact_drift=True)
    add(journal, count=1)
    for _ in range(4):
        add(journal, training=False)
    few = journal.evaluation_line(alone, "eval")
    assert (few["loss"], "loss_se" in few) == (2.5, False)
    for _ in range(5):
        add(journal, training=False)
    evaluated = journal.evaluation_line(alone, "eval")
    assert evaluated["loss"] == 2.5
    assert evaluated["loss_se"] == pytest.approx(1.5 * math.sqrt(10 / 9) / math.sqrt(10))
    errors = {name.removesuffix("_se") for name in evaluated if name.endswith("_se")}
    assert errors == {name for name in ESTIMATED if name in evaluated}
    measured = line(journal)
    assert measured["loss"] == 1
    assert measured["num_tokens"] == 5
    assert not [name for name in measured if name.endswith("_se")]
    assert journal.evaluation_line(alone, "eval") == {}


def test_tokens_of_all_processes_count_once_each() -> None:
    journal = Journal(exact_drift=True)
    add(journal)
    journal.count(lambda mine: mine * 3)
    assert journal.seen == 33
    add(journal)
    measured, _ = journal.training_line(lambda mine: mine * 3, {}, 1)
    assert measured["num_tokens"] == 66
    assert journal.seen == 66


def test_tokens_per_second_are_those_of_training(clock: Clock) -> None:
    journal = Journal(exact_drift=True)
    add(journal)
    clock.now += 2
    with journal.pause():
        clock.now += 50
    journal.count(alone)
    assert line(journal)["tokens_per_second"] == 5.5
    add(journal)
    clock.now += 4
    assert line(journal)["tokens_per_second"] == round(11 / 4, 1)


def test_a_pause_that_breaks_off_is_a_pause(clock: Clock) -> None:
    journal = Journal(exact_drift=True)
    add(journal)
    clock.now += 1
    with suppress(OSError), journal.pause():
        clock.now += 10
        raise OSError("full")
    assert line(journal)["tokens_per_second"] == 11


def test_time_before_training_begins_does_not_count(clock: Clock) -> None:
    journal = Journal(exact_drift=True)
    with journal.pause():
        clock.now += 70
    journal.restart_clock()
    add(journal)
    clock.now += 1
    assert line(journal)["tokens_per_second"] == 11


def test_drift_counts_from_the_first_line_and_each_evaluation_set_has_its_own() -> None:
    journal = Journal(exact_drift=False)
    drifts = []
    for shift in (0.0, -1.0):
        add(journal, shift=shift)
        drifts.append(line(journal)["logps/rejected_drift"])
    for name in ("eval_a", "eval_b", "eval_a"):
        add(journal, shift=2.0 if len(drifts) == 4 else 0.0, training=False)
        drifts.append(journal.evaluation_line(alone, name)["logps/rejected_drift"])
    # The rejected answers have two tokens in the mean.
    assert drifts == pytest.approx([0, -2, 0, 0, 4], abs=1e-5)


def test_what_the_line_holds_already_is_watched_too() -> None:
    journal = Journal(exact_drift=True)
    add(journal)
    still = {"rewards/margins": 0.0, "rewards/chosen": 0.0, "learning_rate": 1e-3}
    measured, warnings = journal.training_line(alone, still, 10)
    assert warnings == [journal.watch.told["standstill"]]
    assert measured.keys().isdisjoint(still)


def course(resumed_after: int | None) -> Iterator[tuple[float, float, int]]:
    """Lines of a run whose log-probs sink; it may be killed and resumed once."""
    journal = Journal(exact_drift=False)
    still = {"rewards/margins": 0.0, "rewards/chosen": 0.0, "learning_rate": 1e-3}
    for number in range(5):
        if number == resumed_after:
            state = json.loads(json.dumps(journal.state()))
            journal = Journal(exact_drift=False)
            journal.load(state)
            assert journal.state() == state
        add(journal, shift=-2.0 * number)
        measured, warnings = journal.training_line(alone, still, 4)
        yield measured["logps/chosen_drift"], measured["num_tokens"], len(warnings)


@pytest.mark.parametrize("resumed_after", [1, 2, 3, 4])
def test_a_resumed_run_goes_on_as_an_unbroken_one(resumed_after: int) -> None:
    unbroken = list(course(None))
    assert [warned for _, _, warned in unbroken] == [0, 0, 2, 0, 0]
    assert list(course(resumed_after)) == unbroken
