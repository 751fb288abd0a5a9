"""Ask a model every row of a benchmark with every decoding, so that nothing is lost or mixed up.

The output folder belongs to one set of settings (`run.json`); each decoding appends its answers to
`answers/LABEL.jsonl`, or `answers/LABEL.rankK.jsonl` under several processes. A second start with
the same settings computes what is missing, in the batches of the first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from accelerate import PartialState
from tqdm import tqdm

from contralign.decoding import Decoding
from contralign.files import LineFile
from contralign.folder import check_folder, occupied, write_settings

from .answers import Answer, Record, answer_files, read_answers
from .arguments import Answerer, check_arguments, check_parts
from .ask import Benchmark, Scored
from .plan import Item, Plan, load_items, settings
from .statistics import Estimate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What came of one decoding.

    Attributes:
        decoding: The method and the search.
        answers: Row id -> its answer, errors included.
        scored: The rows that have an answer, in the benchmark's order.
        estimates: The benchmark's summary of `scored`.
        unparsed: How many of `scored` could not be read as an answer.
        off_label: How many of `asked` were closed and would have begun with none of their choices.
        asked: How many different asks there were; the rest are repetitions.
        resumed: How many of those an earlier session had answered.
        tokens: Generated for `asked`, over all sessions.
        seconds: Spent on `asked`, over all sessions, added up over processes.
    """

    decoding: Decoding
    answers: Mapping[str, Answer]
    scored: Sequence[Scored]
    estimates: Mapping[str, Estimate]
    unparsed: int
    off_label: int
    asked: int
    resumed: int
    tokens: int
    seconds: float

    @property
    def errors(self) -> dict[str, str]:
        """Row id -> why it has no answer."""
        return {
            row: answer.error for row, answer in self.answers.items() if answer.error is not None
        }


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        benchmark: What was asked.
        items: Its rows with their asks.
        settings: What every answer depends on, as in `run.json`.
        outcomes: One per decoding, in the order given.
        processes: How many shared the last session.
        left_out: Names of the answers of other methods in the same folder.
    """

    benchmark: Benchmark
    items: Sequence[Item]
    settings: Mapping[str, Any]
    outcomes: Sequence[Outcome]
    processes: int
    left_out: Sequence[str] = ()


def run(
    benchmark: Benchmark,
    model: Answerer,
    decodings: Sequence[Decoding],
    output: str | Path,
    *,
    limit: int | None = None,
    batch_size: int = 8,
    seed: int = 0,
    execution: str = "auto",
    progress: bool | None = None,
) -> RunResult:
    """Answer a benchmark with each decoding, or what is still missing of it.

    Under `accelerate launch` every process takes its share of the batches and returns the whole.

    Args:
        benchmark: What to ask.
        model: Who answers.
        decodings: How.
        output: The run's folder: new, empty, or of an earlier start of the same run.
        limit: Ask the first rows only.
        batch_size: Rows a batch; part of the settings, since rounding depends on it.
        seed: Of all sampling, at least 0.
        execution: See `contralign.decoding.wrap`.
        progress: Show a bar; None does on a terminal, after two seconds.

    Raises:
        ValueError: Bad arguments, data, or an output folder of another run; before any answer.
    """
    check_parts(benchmark, model, output)
    check_arguments(decodings, limit, batch_size, seed)
    options = {"batch_size": batch_size, "seed": seed, "execution": execution}
    plans = _plans(benchmark, model, decodings, limit, options)
    items, chosen, folder = plans[0].items, plans[0].settings, Path(output)
    check_folder(folder, chosen)
    state = PartialState()
    with occupied(folder) if state.is_main_process else nullcontext():
        found = [_stored(plan, folder) for plan in plans]
        # Nobody writes before everybody has looked.
        state.wait_for_everyone()
        if state.is_main_process:
            write_settings(folder, chosen)
        for plan, stored in zip(plans, found, strict=True):
            _answer_missing(plan, model, folder, stored, state, progress)
        state.wait_for_everyone()
        outcomes = [
            _outcome(plan, benchmark, _stored(plan, folder), stored)
            for plan, stored in zip(plans, found, strict=True)
        ]
        left_out = sorted(answer_files(folder).keys() - {plan.file_name for plan in plans})
    return RunResult(benchmark, items, chosen, outcomes, state.num_processes, left_out)


def _plans(
    benchmark: Benchmark,
    model: Answerer,
    decodings: Sequence[Decoding],
    limit: int | None,
    options: Mapping[str, Any],
) -> list[Plan]:
    items = load_items(benchmark, limit)
    for decoding in decodings:
        model.check([item.ask for item in items], decoding, options["execution"])
    chosen = settings(benchmark, model.fingerprint, limit=limit, **options)
    return [Plan(decoding, items, chosen) for decoding in decodings]


def _stored(plan: Plan, folder: Path) -> dict[str, Answer]:
    stored = read_answers(answer_files(folder).get(plan.file_name, []))
    return {key: stored[key] for key in plan.firsts if key in stored}


def _is_answered(key: str, stored: Mapping[str, Answer]) -> bool:
    return key in stored and stored[key].error is None


def _answer_missing(
    plan: Plan,
    model: Answerer,
    folder: Path,
    stored: Mapping[str, Answer],
    state: PartialState,
    progress: bool | None,
) -> None:
    missing = {key for key in plan.firsts if not _is_answered(key, stored)}
    batches = plan.batches[state.process_index :: state.num_processes]
    batches = [batch for batch in batches if not missing.isdisjoint(batch)]
    if not batches:
        return
    rank = f".rank{state.process_index}" if state.num_processes > 1 else ""
    bar = tqdm(
        desc=plan.decoding.label,
        total=sum(map(len, batches)),
        delay=2,
        disable=(None if progress is None else not progress) if state.is_main_process else True,
    )
    with LineFile(folder / "answers" / f"{plan.file_name}{rank}.jsonl") as file, bar:
        for batch in batches:
            said = _answers(plan, model, batch, missing)
            file.append(
                Record(key, plan.firsts[key].id, said[key]) for key in batch if key in missing
            )
            bar.update(len(batch))


def _answers(
    plan: Plan, model: Answerer, batch: Sequence[str], missing: set[str]
) -> dict[str, Answer]:
    """Answer a batch; if it fails, the missing rows of it one by one."""
    try:
        return _timed(plan, model, batch)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    # Outside the except block, which would keep the failed batch's memory alive.
    if len(batch) == 1:
        return {batch[0]: Answer("", 0, failure)}
    logger.warning("a batch of %d failed, its rows go alone: %s", len(batch), failure)
    alone: dict[str, Answer] = {}
    for key in batch:
        if key in missing:
            alone |= _answers(plan, model, [key], missing)
    return alone


def _timed(plan: Plan, model: Answerer, batch: Sequence[str]) -> dict[str, Answer]:
    start = perf_counter()
    answers = model.answers(
        [plan.firsts[key].ask for key in batch],
        plan.decoding,
        [plan.seed(key) for key in batch],
        plan.settings["execution"],
        [plan.noise_seed(key) for key in batch],
    )
    seconds = (perf_counter() - start) / len(batch)
    return {
        key: replace(answer, seconds=seconds) for key, answer in zip(batch, answers, strict=True)
    }


def _outcome(
    plan: Plan, benchmark: Benchmark, answers: Mapping[str, Answer], before: Mapping[str, Answer]
) -> Outcome:
    by_row = {item.id: answers[plan.keys[item.id]] for item in plan.items}
    scored = [
        Scored(item.row, answer.text, benchmark.score(item.row, answer.text))
        for item in plan.items
        if (answer := by_row[item.id]).error is None
    ]
    return Outcome(
        decoding=plan.decoding,
        answers=by_row,
        scored=scored,
        estimates=benchmark.summarise(scored),
        unparsed=sum(one.is_unparsed(benchmark.metric) for one in scored),
        off_label=sum(answer.off_label for answer in answers.values()),
        asked=len(plan.firsts),
        resumed=sum(_is_answered(key, before) for key in plan.firsts),
        tokens=sum(answer.tokens for answer in answers.values()),
        seconds=sum(answer.seconds for answer in answers.values()),
    )
