"""The data sets of a run, checked and tokenised before anything expensive is done."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from datasets import Dataset, IterableDataset
from transformers import ProcessorMixin

from .config import PreferenceConfig
from .data import PairCollator, Report, prepare
from .rewards import ModelReward, Reward, called
from .rewards.questions import given
from .scoring import replaced, with_scores

logger = logging.getLogger(__name__)

Data: TypeAlias = Dataset | IterableDataset
EvalData: TypeAlias = Data | Mapping[str, Data]


@dataclass
class Sets:
    """Prepares data sets and remembers what was found in them.

    Attributes:
        config: The options.
        processor: The model's tokenizer or processor.
        reward: Scores the data's completions if their scores are read, or samples.
        reports: What was found, by the data set's name.
        scored: Who scored it or its samples, if it was a reward, by the same name.
    """

    config: PreferenceConfig
    processor: Any
    reward: Reward | None = None
    reports: dict[str, Report] = field(default_factory=dict)
    scored: dict[str, str] = field(default_factory=dict)

    @property
    def tokenizer(self) -> Any:
        """The processor's, or the processor itself."""
        return getattr(self.processor, "tokenizer", self.processor)

    def all_prepared(self, training: EvalData | None, held_out: EvalData | None) -> tuple[Any, Any]:
        """Prepare what a run trains and is evaluated on; see `prepared`."""
        found = self.prepared(training, "training"), self.prepared(held_out, "evaluation")
        self.release()
        return found

    def prepared(self, dataset: EvalData | str | None, name: str) -> Any:
        """Check and tokenise a data set, or several by name; what is ready stays as it is.

        Transformers asks for one of several by its name, which stays too.

        Raises:
            ValueError: Rows that can't be trained on.
        """
        if dataset is None or isinstance(dataset, str):
            return dataset
        if isinstance(dataset, Mapping):
            return {key: self.prepared(one, f"{name} {key}") for key, one in dataset.items()}
        if "completion_ids" in (dataset.column_names or ()):
            return dataset
        dataset = self._scored(dataset, name)
        with self.config.main_process_first(desc=name):
            rows, self.reports[name] = prepare(
                dataset,
                self.processor,
                self.config.max_length,
                self.config.on_problem,
                name=f"the {name} data",
                num_proc=self.config.dataset_num_proc,
                needs=self.config.needs,
            )
        return rows

    def _scored(self, dataset: Data, name: str) -> Data:
        if self.reward is None:
            return dataset
        scored = self.config.needs.scores
        columns = list(dataset.column_names or ())
        if dataset.column_names is not None:
            self.reward.check(columns if scored else given(columns))
        if not scored:
            self.scored[name] = f"samples are scored by {called(self.reward)}"
            return dataset
        self.scored[name] = f"scored by {called(self.reward)}"
        if old := replaced(columns, self.reward):
            self.scored[name] += f" in place of its {' and '.join(old)}"
            logger.warning("the %s data is %s", name, self.scored[name])
        return with_scores(dataset, self.reward, f"the {name} data")

    def release(self) -> None:
        """Let go of a reward model's weights, unless samples are still to be scored."""
        if isinstance(self.reward, ModelReward) and self.config.needs.scores:
            self.reward.release()

    def collator(self) -> PairCollator:
        """What joins rows; those with images, and prompts to sample for, are encoded there."""
        sampled = self.config.needs.completions == "none"
        late = sampled or isinstance(self.processor, ProcessorMixin)
        processor = self.processor if late else None
        return PairCollator(processor, self.config.max_length, self.config.needs)

    def numbers(self) -> dict[str, int]:
        """What was found, as numbers for the log."""
        return {
            f"data/{name}/{key}".replace(" ", "_"): value
            for name, report in self.reports.items()
            for key, value in (
                ("rows", report.rows - report.dropped),
                ("dropped", report.dropped),
                ("truncated", report.truncated),
            )
        }

    def lines(self, made: Mapping[str, str] | None = None) -> list[str]:
        """What was found, as lines for the model card.

        Args:
            made: What names the rows of data sets that no file holds, by the set's name.
        """
        kind = {"pair": "pairs", "group": "rows", "none": "prompts"}[self.config.needs.completions]
        return [
            f"{name}: {report.rows - report.dropped} {kind}, {report.truncated} of them cut to "
            f"max_length, {report.dropped} others left out as unusable"
            f"{'; ' * (name in self.scored)}{self.scored.get(name, '')}{in_memory(name, made)}"
            for name, report in self.reports.items()
        ]


def in_memory(name: str, made: Mapping[str, str] | None) -> str:
    """What the card adds of a data set that no file holds."""
    return f"; made in memory, fingerprint {made[name]}" if made and name in made else ""
