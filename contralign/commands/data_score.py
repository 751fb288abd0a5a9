"""Write a reward's scores next to the data.

All rows are kept, in their order, as JSON lines: pairs get the columns score_chosen and
score_rejected, rows with a list of completions the list scores, those with one completion score.
What was interrupted goes on with the same command; OUTPUT is whole or not there.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from .options import add_config, add_data, add_reward, quiet_unless_watched, reward
from .parser import Parser


def add_arguments(parser: Parser) -> None:
    """Add which data, which reward, and where the scores go."""
    add_config(parser)
    parser.add_argument("data", metavar="FILE", help="file, folder or hub id; see contralign train")
    add_data(parser)
    parser.add_argument("--output", type=Path, required=True, help="JSON lines to write")
    parser.add_argument(
        "--score-name", default="score", help="what the columns begin with; default: score"
    )
    add_reward(parser)


def run(args: argparse.Namespace) -> None:
    """Check everything, score what is missing, and write the file."""
    from accelerate import PartialState
    from datasets import disable_progress_bars

    import contralign
    from contralign.align.data.write import write_rows
    from contralign.align.rewards.questions import score_columns
    from contralign.align.rewards.scores import check_lengths, questions_of, scores_of

    from .rows_file import check_output, columns, digest, read_rows, work_folder

    quiet_unless_watched()
    if not sys.stderr.isatty():
        disable_progress_bars()
    if PartialState().num_processes > 1:
        raise ValueError("data is scored by one process. Start it without accelerate launch.")
    judge = reward(args)
    check_output(args.output)
    rows = read_rows(args.data, args.split, args.name)
    names = columns(rows)
    judge.check(names)
    questions = questions_of(rows)
    added = {name for one in questions for name in score_columns(one.layout, args.score_name)}
    if taken := sorted(added & set(names)):
        raise ValueError(
            f"{args.data} has the column {taken[0]} already. Name the scores otherwise: "
            "--score-name."
        )
    check_lengths(questions, judge)
    settings = {
        "contralign": contralign.__version__,
        "reward": dict(judge.fingerprint()),
        "data": digest(rows),
    }
    folder = work_folder(args.output)
    scores = scores_of(questions, judge, folder, settings)
    found = zip(rows, questions, scores, strict=True)
    write_rows(
        args.output, ({**row, **one.scored(some, args.score_name)} for row, one, some in found)
    )
    shutil.rmtree(folder)
    print(f"{args.output}: {len(rows)} rows with scores of {sum(map(len, scores))} completions")
