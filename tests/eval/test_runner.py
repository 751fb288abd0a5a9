"""The runner: nothing lost, nothing asked twice, nothing mixed up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eval_doubles import Adder, Sums
from processes import environment, free_port

from contralign.decoding import parse, parse_list
from contralign.eval.runner import Outcome, RunResult, run


def start(
    output: Path, model: Adder | None = None, names: str = "greedy", **options: Any
) -> RunResult:
    model = model or Adder()
    return run(Sums(), model, parse_list(names), output, **{"batch_size": 4, **options})


def only(result: RunResult) -> Outcome:
    (outcome,) = result.outcomes
    return outcome


def records(output: Path, name: str = "greedy.jsonl") -> list[dict[str, Any]]:
    """The lines of an answers file without their times."""
    lines = [json.loads(line) for line in (output / "answers" / name).read_text().splitlines()]
    return [{key: line[key] for key in line if key != "seconds"} for line in lines]


def test_every_row_is_answered_and_scored(tmp_path: Path) -> None:
    outcome = only(start(tmp_path))
    assert [one.row["id"] for one in outcome.scored] == [f"row{i}" for i in range(12)]
    assert outcome.estimates["right"].value == 11 / 12
    assert (outcome.errors, outcome.unparsed, outcome.resumed) == ({}, 0, 0)
    # Ten different sums of two tokens each.
    assert (outcome.asked, outcome.tokens) == (10, 20)
    assert outcome.seconds > 0


def test_equal_asks_are_asked_once_unless_sampled(tmp_path: Path) -> None:
    model = Adder()
    result = start(tmp_path, model, "greedy,sample")
    assert [len(batch) for batch in model.batches] == [4, 4, 2, 4, 4, 4]
    greedy, sample = result.outcomes
    assert greedy.answers["row0"] == greedy.answers["row10"]
    assert sample.answers["row0"].text != sample.answers["row10"].text


def test_sampled_answers_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    one, five = (
        only(start(tmp_path / str(size), names="sample", batch_size=size)) for size in (1, 5)
    )
    assert one.scored == five.scored
    assert len({scored.answer for scored in one.scored}) > 1


def test_a_kill_loses_the_running_batch_alone_and_a_resume_completes_the_same_files(
    tmp_path: Path,
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed, first, second = Adder(), Adder(), Adder()
    start(whole, undisturbed, "greedy,sample")
    first.interrupted_at = 4
    with pytest.raises(KeyboardInterrupt):
        start(killed, first, "greedy,sample")
    assert len(records(killed)) + len(records(killed, "sample.jsonl")) == 10 + 4
    result = start(killed, second, "greedy,sample")
    assert first.batches + second.batches == undisturbed.batches
    assert [outcome.resumed for outcome in result.outcomes] == [10, 4]
    for name in ("greedy.jsonl", "sample.jsonl"):
        assert records(killed, name) == records(whole, name)
    assert (killed / "run.json").read_text() == (whole / "run.json").read_text()


def test_a_finished_run_asks_nothing_again(tmp_path: Path) -> None:
    before = only(start(tmp_path))
    model = Adder()
    after = only(start(tmp_path, model))
    assert model.batches == []
    assert (after.resumed, after.tokens, after.scored) == (10, before.tokens, before.scored)


def test_another_method_joins_a_run_without_asking_the_first_again(tmp_path: Path) -> None:
    start(tmp_path)
    model = Adder()
    result = start(tmp_path, model, "greedy,cutoff-only")
    assert [outcome.resumed for outcome in result.outcomes] == [10, 0]
    assert len(model.batches) == 3


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"batch_size": 5}, "batch_size was 4, is 5"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"limit": 3}, "limit was None, is 3"),
        ({"execution": "merged"}, "execution was 'auto', is 'merged'"),
        ({"model": Adder("bfloat16")}, "model.dtype was 'none', is 'bfloat16'"),
    ],
)
def test_other_settings_are_refused_and_leave_the_folder_alone(
    tmp_path: Path, options: dict[str, Any], name: str
) -> None:
    start(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    with pytest.raises(ValueError, match=name):
        start(tmp_path, **options)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == before


def test_a_half_written_line_is_computed_again(tmp_path: Path) -> None:
    start(tmp_path)
    path, whole = tmp_path / "answers" / "greedy.jsonl", records(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    model = Adder()
    assert only(start(tmp_path, model)).resumed == 9
    # The batch of the lost row runs as before, and the lost row alone is written.
    assert [len(batch) for batch in model.batches] == [2]
    assert records(tmp_path) == whole


def test_a_broken_line_elsewhere_is_an_error_that_names_it(tmp_path: Path) -> None:
    start(tmp_path)
    path = tmp_path / "answers" / "greedy.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], lines[3][:30], *lines[4:]]) + "\n")
    with pytest.raises(ValueError, match=r"greedy\.jsonl:4 "):
        start(tmp_path)


def test_a_failing_row_is_an_error_and_the_rest_of_its_batch_is_answered(tmp_path: Path) -> None:
    model = Adder()
    model.failing = {"0 + 1 ="}
    outcome = only(start(tmp_path, model))
    why = "RuntimeError: cannot add ['0 + 1 =']"
    assert outcome.errors == {"row0": why, "row10": why}
    assert len(outcome.scored) == outcome.estimates["right"].n == 10
    assert outcome.estimates["right"].value == 0.9
    failed = [record for record in records(tmp_path) if "error" in record]
    assert [record["id"] for record in failed] == ["row0"]
    assert "text" not in failed[0]


def test_a_second_start_retries_errors_in_their_batch(tmp_path: Path) -> None:
    broken, model = Adder(), Adder()
    broken.failing = {"0 + 1 ="}
    start(tmp_path, broken)
    outcome = only(start(tmp_path, model))
    assert [sorted(batch)[0] for batch in model.batches] == ["0 + 1 ="]
    assert outcome.errors == {}
    assert outcome.resumed == 9
    assert len(records(tmp_path)) == 11


def test_an_unparsed_answer_is_counted_and_has_no_value(tmp_path: Path) -> None:
    class Mumbling(Adder):
        def answers(self, *args: Any) -> list[Any]:
            return [type(answer)("well ...", 3) for answer in super().answers(*args)]

    outcome = only(start(tmp_path, Mumbling()))
    assert (outcome.unparsed, outcome.estimates["right"].n) == (12, 0)


def test_what_the_model_refuses_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = Adder()
    with pytest.raises(ValueError, match="impossible execution"):
        start(tmp_path / "run", model, execution="impossible")
    assert not (tmp_path / "run").exists()
    assert model.batches == []


@pytest.mark.parametrize(
    ("decodings", "options", "complaint"),
    [
        ([], {}, "at least one decoding"),
        (["greedy", "plain"], {}, "plain@greedy more than once"),
        (["greedy"], {"limit": 0}, "limit must be at least 1, got 0"),
        (["greedy"], {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (["greedy"], {"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_bad_arguments_are_refused(
    tmp_path: Path, decodings: list[str], options: dict[str, int], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        run(Sums(), Adder(), [parse(name) for name in decodings], tmp_path, **options)


AGAIN = """
import sys
from eval_doubles import Adder, Sums
from contralign.decoding import parse_list
from contralign.eval import run

run(Sums(), Adder(), parse_list("greedy"), sys.argv[1], batch_size=12)
"""


def test_a_folder_in_which_a_run_is_going_on_is_refused(tmp_path: Path) -> None:
    class Doubled(Adder):
        """Starts the same run once more while it answers."""

        def answers(self, *args: Any) -> list[Any]:
            command = [sys.executable, "-c", AGAIN, str(tmp_path)]
            second = subprocess.run(
                command, env=environment(tmp_path), capture_output=True, text=True, check=False
            )
            assert second.returncode == 1
            assert f"another run is going on in {tmp_path}. Wait" in second.stderr
            return super().answers(*args)

    outcome = only(start(tmp_path, Doubled(), batch_size=12))
    assert outcome.tokens == 20
    assert len(records(tmp_path)) == 10
    assert only(start(tmp_path, batch_size=12)).resumed == 10


def test_a_killed_run_leaves_its_folder_free(tmp_path: Path) -> None:
    killed = Adder()
    killed.interrupted_at = 1
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, killed)
    assert only(start(tmp_path)).resumed == 4


def test_limit_takes_the_first_rows(tmp_path: Path) -> None:
    assert list(only(start(tmp_path, limit=3)).answers) == ["row0", "row1", "row2"]


def test_nothing_is_shown_where_nobody_looks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(tmp_path)
    assert capsys.readouterr() == ("", "")


SCRIPT = """
import sys
from accelerate import PartialState
from eval_doubles import Adder, Sums
from contralign.decoding import parse_list
from contralign.eval.runner import run

PartialState(cpu=True)
result = run(Sums(), Adder(), parse_list("greedy,sample"), sys.argv[1], batch_size=4)
# In one piece: both processes write at once.
sys.stdout.write(f"{result.processes} {[len(one.scored) for one in result.outcomes]}\\n")
PartialState().destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_share_the_batches_and_one_goes_on_from_both(tmp_path: Path) -> None:
    output, script = tmp_path / "run", tmp_path / "script.py"
    script.write_text(SCRIPT)
    launcher = ["torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    command = [sys.executable, "-m", *launcher, str(script), str(output)]
    done = subprocess.run(
        command,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 [12, 12]") == 2
    shards = [records(output, f"sample.rank{rank}.jsonl") for rank in (0, 1)]
    assert [len(shard) for shard in shards] == [8, 4]
    model = Adder()
    alone = start(output, model, "greedy,sample")
    assert model.batches == []
    reference = start(tmp_path / "reference", names="greedy,sample")
    for one, other in zip(alone.outcomes, reference.outcomes, strict=True):
        assert one.scored == other.scored
