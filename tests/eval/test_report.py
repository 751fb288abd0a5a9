"""The report: every number traceable, what is missing said, nothing that JSON can't hold."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from eval_doubles import Adder, Sums

from contralign.decoding import parse_list
from contralign.eval.ask import Row, Scored
from contralign.eval.markdown import markdown
from contralign.eval.page import page
from contralign.eval.report import build_report, write_report
from contralign.eval.runner import RunResult, run
from contralign.eval.statistics import Estimate, mean_estimate


@dataclass(frozen=True)
class Faults(Sums):
    """What was wrong, under a name of which less is better."""

    metric: ClassVar[str] = "chairs"

    def score(self, row: Row, answer: str) -> dict[str, float | None]:
        return {"chairs": float(answer not in row["gold"])}

    def summarise(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        return {"chairs": mean_estimate([one.values["chairs"] or 0 for one in scored])}


def finished(output: Path, names: str = "greedy,cutoff-only", model: Any = None) -> RunResult:
    return run(Sums(), model or Adder(), parse_list(names), output, batch_size=4)


def built(output: Path, *args: Any) -> dict[str, Any]:
    return build_report(finished(output, *args), "contralign eval sums")


def test_a_method_stands_beside_greedy_on_the_same_rows(tmp_path: Path) -> None:
    greedy, cutoff = built(tmp_path)["methods"]
    assert greedy["label"] == "greedy"
    assert greedy["against_greedy"] is None
    # Greedy misses row7 alone, cutoff-only row8 alone.
    against = cutoff["against_greedy"]
    assert (against["wins"], against["losses"], against["n"]) == (1, 1, 12)
    assert (against["difference"], against["p"], against["p_holm"]) == (0, 1, 1)


def test_where_less_is_better_it_is_won_by_less(tmp_path: Path) -> None:
    decodings = parse_list("greedy,sample")
    results = [run(kind(), Adder(), decodings, tmp_path / kind.__name__) for kind in (Sums, Faults)]
    more, less = (build_report(result, "contralign eval") for result in results)
    against = [report["methods"][1]["against_greedy"] for report in (more, less)]
    assert against[0]["losses"] > against[0]["wins"]
    assert (against[1]["wins"], against[1]["losses"]) == (against[0]["wins"], against[0]["losses"])
    assert against[1]["difference"] == -against[0]["difference"] > 0
    assert (more["less_is_better"], less["less_is_better"]) == (False, True)
    assert "Less is better: a row is won where its chairs is below greedy's." in markdown(less)
    verdicts = [
        re.findall(r'<tr class="(right|wrong)"><td>greedy', page(each)) for each in (more, less)
    ]
    assert verdicts[0] == verdicts[1] != []


def test_p_values_are_adjusted_for_the_number_of_methods(tmp_path: Path) -> None:
    _, *methods = built(tmp_path, "greedy,sample,plain@beam2,cutoff-only")["methods"]
    p = {method["label"]: method["against_greedy"]["p"] for method in methods}
    smallest = min(p, key=p.__getitem__)
    adjusted = {method["label"]: method["against_greedy"]["p_holm"] for method in methods}
    assert p[smallest] < 0.3
    assert adjusted[smallest] == pytest.approx(3 * p[smallest])


def test_without_greedy_there_is_nothing_to_stand_beside(tmp_path: Path) -> None:
    report = built(tmp_path, "cutoff-only,sample")
    assert all(method["against_greedy"] is None for method in report["methods"])
    assert report["missing_baselines"] == ["greedy"]


def test_the_examples_are_the_rows_on_which_methods_differ(tmp_path: Path) -> None:
    disagreements = built(tmp_path)["disagreements"]
    assert disagreements["total"] == 2
    assert [example["id"] for example in disagreements["shown"]] == ["row7", "row8"]
    example = disagreements["shown"][0]
    assert example["gold"] == ["8"]
    assert [(one["label"], one["text"], one["value"]) for one in example["answers"]] == [
        ("greedy", "0", 0),
        ("cutoff-only", "8", 1),
    ]


class Many(Sums):
    """More disagreements than a report shows."""

    def load(self) -> list[Any]:
        return [{"id": str(i), "n": 7 + i % 2, "gold": [str(8 + i % 2)]} for i in range(70)]


def test_examples_are_limited_and_evenly_spaced(tmp_path: Path) -> None:
    result = run(Many(), Adder(), parse_list("greedy,cutoff-only"), tmp_path)
    disagreements = build_report(result, "")["disagreements"]
    assert disagreements["total"] == 70
    # 70 over a step of ceil(70 / 30) = 3.
    assert [example["id"] for example in disagreements["shown"]] == [
        str(i) for i in range(0, 70, 3)
    ]


def test_errors_and_unparsed_answers_are_kept_apart(tmp_path: Path) -> None:
    model = Adder()
    model.failing = {"0 + 1 ="}
    greedy, _ = built(tmp_path, "greedy,cutoff-only", model)["methods"]
    assert greedy["errors"].keys() == {"row0", "row10"}
    assert greedy["unparsed"] == 0
    assert greedy["estimates"]["right"]["n"] == 10


class Silent(Adder):
    def answers(self, *args: Any) -> list[Any]:
        return [type(answer)("", 1) for answer in super().answers(*args)]


def test_what_cannot_be_estimated_is_null_in_the_file(tmp_path: Path) -> None:
    write_report(finished(tmp_path, "greedy,cutoff-only", Silent()), tmp_path)
    greedy, cutoff = json.loads((tmp_path / "report.json").read_text())["methods"]
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    assert greedy["estimates"]["right"] == nothing
    assert greedy["unparsed"] == 12
    assert cutoff["against_greedy"] is None
    headline = (tmp_path / "report.md").read_text().partition("## All metrics")[0]
    assert [cell.strip() for cell in headline.splitlines()[7].split("|")[1:-1]] == [
        *("cutoff-only", "none", "0"),
        *[""] * 5,
    ]


def test_answers_of_methods_that_were_not_named_again_are_said_to_be_left_out(
    tmp_path: Path,
) -> None:
    assert built(tmp_path, "greedy,cad:alpha=1,sample")["left_out"] == []
    report = built(tmp_path, "greedy,cutoff-only")
    assert report["left_out"] == ["cad_alpha=1", "sample"]
    said = "are the answers in answers/cad_alpha=1.jsonl, answers/sample.jsonl. Name their methods"
    assert said in markdown(report)
    assert said in page(report)
    assert "Not in this report" not in markdown(built(tmp_path / "other"))


def test_a_report_makes_its_folder(tmp_path: Path) -> None:
    write_report(finished(tmp_path / "run"), tmp_path / "reports" / "new")
    assert (tmp_path / "reports" / "new" / "report.md").is_file()


def test_the_files_hold_what_reproduces_the_run(tmp_path: Path) -> None:
    report = write_report(finished(tmp_path), tmp_path, command="contralign eval sums --seed 0")
    assert json.loads((tmp_path / "report.json").read_text()) == report
    reproduce = report["reproduce"]
    assert reproduce["settings"] == json.loads((tmp_path / "run.json").read_text())
    assert reproduce["settings"]["seed"] == 0
    assert reproduce["versions"].keys() >= {"python", "torch", "transformers", "contralign"}
    assert reproduce["machine"]["cores"] >= 1
    for name in ("report.md", "report.html"):
        assert "contralign eval sums --seed 0" in (tmp_path / name).read_text()


def test_the_command_is_this_process_s_own_unless_told(tmp_path: Path) -> None:
    report = write_report(finished(tmp_path), tmp_path)
    assert "pytest" in report["reproduce"]["command"]


def test_a_report_leaves_a_folder_that_still_resumes(tmp_path: Path) -> None:
    first = write_report(finished(tmp_path), tmp_path)
    second = write_report(finished(tmp_path), tmp_path)
    assert [method["resumed"] for method in second["methods"]] == [10, 10]
    for before, after in zip(first["methods"], second["methods"], strict=True):
        assert {**before, "resumed": 10} == after
