"""Train a model on preferences.

Options are TRL's keys, from a YAML file, from the command line, or both: the command line wins. It
scales out with `accelerate launch -m contralign train ...`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .options import quiet_unless_watched
from .parser import Parser, complain

if TYPE_CHECKING:
    from .train_options import Options

METHODS = {
    "dpo": "direct preference optimization: a chosen and a rejected answer to each prompt",
    "cpl": "contrastive preference learning: pairs, soft labels, or rankings",
    "copg": "contrastive policy gradient: answers with scores, or samples that a reward scores",
    "hypo": "hybrid preference optimization: DPO, and a KL on samples of the policy",
    "mpo": "mixed preference optimization: DPO on easy pairs, then online RL on difficult ones",
    "reward": "a reward model of pairs (Bradley-Terry), for data score, data pairs and rewards",
    "dcd": "decoupling contrastive decoding: image projections to decode with, from pairs",
}


class Words(Parser):
    """A parser that takes all words as they are, for another one that knows them."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        return argparse.Namespace(words=list(args or ())), []


def add_arguments(parser: Parser) -> None:
    """Add one command per method."""
    methods = parser.add_subparsers(
        metavar="METHOD", dest="method", required=True, parser_class=Words
    )
    for name, summary in METHODS.items():
        methods.add_parser(name, help=summary)


def run(args: argparse.Namespace) -> None:
    """Train, or say what can be set."""
    if {"--help", "-h"} & set(args.words):
        from .train_help import text

        print(text(args.method, everything="all" in args.words))
        return
    from datasets import disable_progress_bars

    from .train_options import read

    quiet_unless_watched()
    if not sys.stderr.isatty():
        disable_progress_bars()
    train(read(args.method, args.words), args.command)


def train(options: Options, command: Sequence[str]) -> None:
    """Train from options to the saved model."""
    from torch import OutOfMemoryError

    from contralign.align.copg_trainer import CoPGTrainer
    from contralign.align.cpl_trainer import CPLTrainer
    from contralign.align.dcd_trainer import DCDTrainer
    from contralign.align.dpo_trainer import DPOTrainer
    from contralign.align.hypo_trainer import HyPOTrainer
    from contralign.align.mpo import MPOTrainer
    from contralign.align.reward_trainer import RewardTrainer
    from contralign.align.stop import TrainingError

    from .train_options import load_data

    config, record = options.config, options.record(command)
    config.model_init_kwargs = options.loading()
    make: Any = {
        "dpo": DPOTrainer,
        "cpl": CPLTrainer,
        "copg": CoPGTrainer,
        "mpo": MPOTrainer,
        "dcd": DCDTrainer,
        "hypo": HyPOTrainer,
        "reward": RewardTrainer,
    }[options.method]
    reward = {} if options.reward is None else {"reward": options.reward}
    try:
        trainer = make(
            options.model.model_name_or_path,
            config,
            **load_data(options),
            peft_config=options.adapter,
            quantization_config=options.quantization,
            record=record,
            **reward,
        )
        trainer.train(options.resume)
        trainer.save_model()
    except (TrainingError, OutOfMemoryError) as error:
        sys.exit(complain(str(error), 1))
    if trainer.is_world_process_zero():
        print(f"Model, card and curves: {config.output_dir} ({trainer.weights_of()})")
    trainer.end()
