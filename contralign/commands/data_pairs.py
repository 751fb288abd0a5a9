"""Make preference pairs of a model's own answers.

The best and the worst of n samples under a reward:
  contralign data pairs --prompts FILE --model M --n 8 --reward-funcs a.b --output pairs.jsonl
Or one method's answer against another's, with any decoding method of contralign:
  contralign data pairs --prompts FILE --model M --context-column context
    --chosen-method adacad --rejected-method greedy --output pairs.jsonl

Pairs are JSON lines in TRL's format with the other columns of FILE, scores if there is a reward,
and where they came from. The same command goes on where it was interrupted; all answers stay in
OUTPUT.run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_config,
    add_data,
    add_model,
    add_reward,
    add_seed,
    check_amateur,
    load_model,
    positive,
    quiet_unless_watched,
    reward,
)
from .parser import Parser

if TYPE_CHECKING:
    from contralign.align.rewards import Reward
    from contralign.decoding import Decoding
    from contralign.eval import LanguageModel, RunResult

    from .pairing import Pairs, Talk
    from .prompts import Prompts

SAMPLE = "sample"


def add_arguments(parser: Parser) -> None:
    """Add the prompts, the model, the two ways to choose, and a reward."""
    add_config(parser)
    parser.add_argument("--prompts", required=True, metavar="FILE", help="file, folder or hub id")
    add_data(parser)
    parser.add_argument("--output", type=Path, required=True, help="JSON lines to write")
    parser.add_argument("--limit", type=positive, help="the first prompts only")
    parser.add_argument("--context-column", metavar="NAME", help="stands before the prompt")
    parser.add_argument("--contrast-column", metavar="NAME", help="what prompts are held against")
    parser.add_argument("--dry-run", action="store_true", help="check, load no model")
    add_model(parser)
    group = parser.add_argument_group("pairs")
    group.add_argument("--n", type=positive, help="samples a prompt, of which two are taken")
    group.add_argument("--method", help=f"that draws them; default: {SAMPLE}")
    group.add_argument("--chosen-method", metavar="METHOD", help="see contralign methods")
    group.add_argument("--rejected-method", metavar="METHOD", help="the one held against it")
    group.add_argument("--max-new-tokens", type=positive, default=256, help="default: 256")
    group.add_argument("--batch-size", type=positive, default=8, help="answers; default: 8")
    add_seed(group)
    group.add_argument("--execution", default="auto", help="how branches run; default: auto")
    add_reward(parser, column=False)


def run(args: argparse.Namespace) -> None:
    """Check everything, let the model answer what is missing, choose, and write the file."""
    from accelerate import PartialState
    from datasets import disable_progress_bars

    from contralign.align.data.write import write_rows
    from contralign.eval import run as answer

    from .prompts import Prompts
    from .rows_file import check_output, columns, work_folder

    quiet_unless_watched()
    if not sys.stderr.isatty():
        disable_progress_bars()
    decodings = _decodings(args)
    check_amateur(*decodings)
    judge = _judge(args)
    check_output(args.output)
    names = ("split", "limit", "context_column", "contrast_column", "max_new_tokens")
    options = {name: getattr(args, name) for name in names}
    prompts = Prompts(args.prompts, config=args.name, samples=args.n or 1, **options)
    prompts.check(decodings)
    if judge is not None:
        judge.check(columns(prompts.rows))
    if args.dry_run:
        print(_plan(prompts, decodings))
        return
    model, folder = load_model(args), work_folder(args.output)
    run_options = {name: getattr(args, name) for name in ("batch_size", "seed", "execution")}
    result = answer(prompts, model, decodings, folder, **run_options)
    if PartialState().is_main_process:
        pairs = _pairs(prompts, result, talk(model), judge, folder)
        _check_any(pairs, result)
        write_rows(args.output, pairs.rows)
        print(f"{args.output}: {pairs}\n{_spent(result, args.max_new_tokens)}")


def talk(model: LanguageModel) -> Talk:
    """How a model is asked, so that training asks it in the same way."""
    from .pairing import Talk

    def prompt(text: str, images: int) -> Any:
        if not model.chat:
            return model.messages(text, images)
        system = [] if model.system is None else [{"role": "system", "content": model.system}]
        return [*system, {"role": "user", "content": text}]

    return Talk(prompt, model.chat)


def _decodings(args: argparse.Namespace) -> list[Decoding]:
    """The one method that draws samples, or the two that are held against each other."""
    from contralign.decoding import parse

    sides = [args.chosen_method, args.rejected_method]
    if (args.n is not None or args.method is not None) == any(sides) or sides.count(None) == 1:
        raise ValueError(
            "pairs are the best and worst of --n samples, or --chosen-method against "
            "--rejected-method. Give either."
        )
    if any(sides):
        chosen, rejected = (parse(name) for name in sides)
        if str(chosen) == str(rejected):
            raise ValueError(f"a method is held against another one, got {chosen.label} twice.")
        return [chosen, rejected]
    method = parse(args.method or SAMPLE)
    if method.search != "sample" or (args.n or 0) < 2:
        raise ValueError(
            f"a pair comes of at least two answers that were drawn, got --n {args.n} and "
            f"{method.label}. Add @sample, and --n 8."
        )
    return [method]


def _judge(args: argparse.Namespace) -> Reward | None:
    """The reward; samples are chosen by one, methods need none."""
    given = any(
        value is not None for name, value in vars(args).items() if name.startswith("reward_")
    )
    if args.n is not None and not given:
        raise ValueError(
            f"the best and the worst of --n {args.n} are those under a reward, got none. Name one: "
            "--reward-funcs or --reward-model-name-or-path."
        )
    return reward(args) if given else None


def _plan(prompts: Prompts, decodings: Sequence[Decoding]) -> str:
    asked = len(prompts.rows) * prompts.samples * len(decodings)
    ways = " and ".join(decoding.label for decoding in decodings)
    return f"{prompts.path}: {len(prompts.rows)} prompts, {asked} answers by {ways}; all is well."


def _pairs(
    prompts: Prompts, result: RunResult, talk: Talk, judge: Reward | None, folder: Path
) -> Pairs:
    """Make pairs of the answers, scored if there is a reward."""
    from .pairing import Pairs

    pairs = Pairs()
    source = _provenance(result, judge)
    make = _against if len(result.outcomes) == 2 else _best_and_worst
    for found in make(prompts, result, talk, judge, folder):
        if isinstance(found, str):
            pairs.skipped[found] += 1
        else:
            pairs.rows.append({**found, "provenance": source})
    return pairs


def _best_and_worst(
    prompts: Prompts, result: RunResult, talk: Talk, judge: Any, folder: Path
) -> list[dict[str, Any] | str]:
    from contralign.align.rewards import Question

    from .pairing import candidates, chosen_of
    from .prompts import item

    answers = result.outcomes[0].answers
    found = []
    for number, row in enumerate(prompts.rows):
        said = [answers[item(number, sample)] for sample in range(prompts.samples)]
        found.append(candidates(row, _prompt(prompts, number, talk), said, talk))
    questions = [one for one in found if isinstance(one, Question)]
    scores = iter(_scores(questions, judge, folder))
    return [one if isinstance(one, str) else chosen_of(one, next(scores)) for one in found]


def _against(
    prompts: Prompts, result: RunResult, talk: Talk, judge: Reward | None, folder: Path
) -> list[dict[str, Any] | str]:
    from contralign.align.rewards import question

    from .pairing import held_against
    from .prompts import item

    found = []
    for number, row in enumerate(prompts.rows):
        chosen, rejected = (outcome.answers[item(number, 0)] for outcome in result.outcomes)
        prompt = _prompt(prompts, number, talk)
        found.append(held_against(row, prompt, chosen, rejected, talk))
    if judge is None:
        return found
    questions = [question(one) for one in found if not isinstance(one, str)]
    scored = zip(questions, _scores(questions, judge, folder), strict=True)
    columns = iter([one.scored(scores) for one, scores in scored])
    return [one if isinstance(one, str) else {**one, **next(columns)} for one in found]


def _prompt(prompts: Prompts, number: int, talk: Talk) -> Any:
    return talk.prompt(prompts.prompts(number)[0], len(prompts.images(number)))


def _scores(questions: Sequence[Any], judge: Reward, folder: Path) -> list[Sequence[float]]:
    from contralign.align.rewards.scores import scores_of

    from .rows_file import digest

    asked = digest([one.prompt, list(one.completions), one.columns] for one in questions)
    settings = {"reward": dict(judge.fingerprint()), "answers": asked}
    return scores_of(questions, judge, folder / f"scores-{digest([settings])[:12]}", settings)


def _provenance(result: RunResult, judge: Reward | None) -> Mapping[str, Any]:
    settings, labels = result.settings, [str(one.decoding) for one in result.outcomes]
    model = {name: settings["model"][name] for name in ("name", "weights", "dtype")}
    return {
        "contralign": settings["contralign"],
        "model": model,
        "chosen": labels[0],
        "rejected": labels[-1],
        "samples": settings["benchmark"]["options"]["samples"],
        "seed": settings["seed"],
        "reward": None if judge is None else dict(judge.fingerprint()),
    }


def _check_any(pairs: Pairs, result: RunResult) -> None:
    if not pairs.rows:
        errors = [error for outcome in result.outcomes for error in outcome.errors.values()]
        first = f" The first error: {errors[0]}" if errors else ""
        raise ValueError(f"no pair came of the prompts: {'; '.join(pairs.reasons)}.{first}")


def _spent(result: RunResult, most: int) -> str:
    answers = [a for outcome in result.outcomes for a in outcome.answers.values() if not a.error]
    cut = sum(answer.tokens >= most for answer in answers)
    errors = {error for outcome in result.outcomes for error in outcome.errors.values()}
    lines = [f"{cut} of {len(answers)} answers took all of --max-new-tokens {most}"]
    return "\n".join([*lines, *(f"error: {error}" for error in sorted(errors)[:3])])
