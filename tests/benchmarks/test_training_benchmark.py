"""The training benchmark at a tiny shape: what it writes and counts, and that its gate holds."""

from __future__ import annotations

import importlib
import io
import json
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODULES = ("cases", "completions", "gradients", "memory", "preferences", "training")
MODULES += ("training_contest",)
TINY = ["--shape", "tiny", "--pairs", "2", "--ratios", "4:1", "--length", "25", "--rounds", "1"]
TINY += ["--spreads", "equal"]
CPU = torch.device("cpu")

# TRL calls what transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in MODULES})


@pytest.fixture
def workbench(bench, tmp_path):
    return bench.training.Workbench("tiny", CPU, torch.float32, tmp_path)


@pytest.fixture(scope="module")
def run(bench, tmp_path_factory):
    """What a run writes, and what it prints."""
    path = tmp_path_factory.mktemp("run") / "training.json"
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        printed = io.StringIO()
        patch.setattr("sys.stdout", printed)
        bench.training.main([*TINY, "--groups", "3", "--json", str(path)])
    report = json.loads(path.read_text())
    pairs, groups = (
        [one for one in report["sections"] if one["section"] == kind]
        for kind in bench.training.SECTIONS
    )
    return SimpleNamespace(
        facts=report["facts"], pairs=pairs, groups=groups, printed=printed.getvalue()
    )


def test_times_counts_and_errors_are_written_with_the_machine(run):
    assert {"cpu", "versions"} <= run.facts.keys()
    assert run.facts["command"].startswith("python benchmarks/training.py --shape tiny ")
    assert [row["images"] for row in run.pairs] == [False, True]
    for row in run.pairs:
        for one in row["contestants"].values():
            assert one["loss_error"] <= 1e-5
            assert one["gradient_error"] <= 1e-4
            assert one["tokens_per_second"] == pytest.approx(row["real_tokens"] / one["seconds"])
            assert one["times"]["TRL, defaults"] > 0
            assert len(one["rounds"]) == 1
        assert row["contestants"]["TRL, best settings"]["times"]["TRL, best settings"] == 1
    (group,) = run.groups
    assert group["contestants"]["a sequence each"]["times"] == {"a sequence each": 1}
    assert "ours, cached reference" in run.printed
    assert "3 completions of 5 tokens, one prompt of 20" in run.printed


def test_tokens_and_images_are_those_that_each_forwards(run):
    """Two pairs of 20 and 5 tokens; an image is four more. Policy, reference, recomputation."""
    text, vision = run.pairs
    padded, packed = 2 * 2 * 25, 2 * (20 + 2 * 4)
    found = {name: (x["tokens"], x["images"]) for name, x in text["contestants"].items()}
    assert found == {
        "TRL, defaults": (3 * padded, 0),
        "TRL, best settings": (2 * padded, 0),
        "TRL, best, precomputed": (padded, 0),
        "ours, defaults": (3 * packed, 0),
        "ours, no checkpointing": (2 * packed, 0),
        "ours, cached reference": (packed, 0),
    }
    assert text["real_tokens"] == padded
    padded, packed = padded + 2 * 2 * 4, packed + 2 * 4
    found = {name: (x["tokens"], x["images"]) for name, x in vision["contestants"].items()}
    assert found == {
        "TRL, defaults": (3 * padded, 8),
        "TRL, best settings": (2 * padded, 8),
        "ours, defaults": (3 * packed, 4),
        "ours, no checkpointing": (2 * packed, 4),
        "ours, cached reference": (packed, 2),
    }


@pytest.mark.parametrize("wrong", ["loss", "gradient"])
def test_another_loss_or_gradient_is_refused_before_a_time_is_printed(
    wrong, bench, capsys, monkeypatch
):
    """A thousandth more of either; the right one of the other."""
    entries = bench.training.contestants

    def with_a_wrong_one(both, rows):
        found = entries(both, rows)

        def step():
            loss = found["ours, no checkpointing"].step()
            if wrong == "loss":
                return 1.001 * loss
            for parameter in both.model.parameters():
                if parameter.grad is not None:
                    parameter.grad *= 1.001
            return loss

        return {**found, "a wrong one": bench.gradients.Contestant(step)}

    monkeypatch.setattr(bench.training, "contestants", with_a_wrong_one)
    with pytest.raises(SystemExit, match="a wrong one doesn't compute what the naive loop does"):
        bench.training.main([*TINY, "--kinds", "text"])
    assert " ms " not in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["pairs", "completions"])
def test_half_precision_is_refused_where_two_layers_of_float32_differ(
    wrong, bench, workbench, monkeypatch
):
    place = bench.training if wrong == "pairs" else bench.completions
    entries = place.contestants

    def with_a_wrong_one(*given):
        step = next(iter(entries(*given).values())).step
        return {"a wrong one": bench.gradients.Contestant(lambda: 1.001 * step())}

    monkeypatch.setattr(place, "contestants", with_a_wrong_one)
    with pytest.raises(SystemExit, match="a wrong one doesn't compute what the naive loop does"):
        bench.training.check_small(workbench, images=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_all_autocast_in_half_precision_as_in_training(dtype, bench, workbench):
    both = workbench.build(images=False, dtype=dtype)
    entries = bench.training_contest.contestants(both, workbench.rows(bench.training.SMALL))
    seen = []
    both.model.get_base_model().get_decoder().layers[0].mlp.register_forward_pre_hook(
        lambda *_: seen.append(torch.is_autocast_enabled("cpu"))
    )
    for name, one in entries.items():
        with one.around():
            one.step()
        assert {*seen} == {dtype == torch.bfloat16}, name
        seen.clear()


def test_larger_errors_than_trls_are_refused(bench, workbench):
    both = workbench.build(images=False, dtype=torch.bfloat16)
    rows = workbench.rows(bench.training.SMALL)
    entries = bench.training_contest.contestants(both, rows)
    good = entries["ours, no checkpointing"]

    def coarse():
        loss = good.step()
        for parameter in both.model.parameters():
            if parameter.grad is not None:
                parameter.grad *= 1.5
        return loss

    entries["a coarse one"] = bench.gradients.Contestant(coarse)
    naive = partial(bench.training_contest.naive_step, both, rows)
    with pytest.raises(SystemExit, match=r"a coarse one errs .* times as much as TRL"):
        bench.gradients.check_half(both.model, naive, entries, "TRL, best settings")


@pytest.mark.parametrize("images", [False, True], ids=["text", "images"])
def test_both_collators_read_the_same_tokens(images, bench, workbench):
    both = workbench.build(images=images)
    case = bench.preferences.Case(3, 9, 5, ragged=True, images=images)
    ((rows, *_), again) = workbench.rows(case), workbench.rows(case)
    batch = both.ours.data_collator(rows)["batch"]
    theirs = both.theirs.data_collator(again[0])
    mask = theirs["attention_mask"].bool()
    found = [ids[kept].tolist() for ids, kept in zip(theirs["input_ids"], mask, strict=True)]
    pairs = list(zip(batch.prompts, batch.completions, strict=True))
    assert found == [[*p, *c[side]] for side in (0, 1) for p, c in pairs]
    assert len({len(prompt) for prompt in batch.prompts}) > 1


def test_on_a_cpu_trl_scores_only_answers_as_on_a_gpu(bench, workbench, monkeypatch):
    """Policy and reference; ours scores as many."""
    utils = importlib.import_module("trl.trainer.utils")
    kernel, scored = utils._ChunkedLogProbFunction, []

    def apply(hidden, *others):
        scored.append(len(hidden))
        return kernel.apply(hidden, *others)

    monkeypatch.setattr(utils, "_ChunkedLogProbFunction", SimpleNamespace(apply=apply))
    both = workbench.build(images=False)
    rows = workbench.rows(bench.preferences.Case(pairs=2, prompt=20, answer=5))
    entries = bench.training_contest.contestants(both, rows)
    scored.clear()
    entries["TRL, best settings"].step()
    assert scored == 2 * [2 * 2 * 5]
    assert not utils._use_triton(CPU)


def test_what_fails_has_an_error_and_no_times(bench, workbench):
    def failing():
        raise RuntimeError("out of memory\nand more")

    both = workbench.build(images=False)
    rows = workbench.rows(bench.training.SMALL)
    entries = bench.training_contest.contestants(both, rows)
    kept = {
        "TRL, best settings": entries["TRL, best settings"],
        "one that fails": bench.gradients.Contestant(failing),
    }
    results = bench.gradients.compared(
        bench.gradients.measure(both.model, kept, 1), ["TRL, best settings", "TRL, defaults"]
    )
    assert results["one that fails"] == {"error": "RuntimeError: out of memory"}
    assert results["TRL, best settings"]["times"] == {"TRL, best settings": 1}
    results["TRL, best settings"]["tokens_per_second"] = 1.0
    assert "one that fails           RuntimeError: out of memory" in bench.training.table(results)


def test_ratios_are_a_bases_time_over_ones_own(bench):
    rows = {"base": {"seconds": 3.0}, "fast": {"seconds": 2.0}, "failed": {"error": "x"}}
    found = bench.gradients.compared(rows, ["base", "failed"])
    assert found["fast"]["times"] == {"base": 1.5}
    assert found["failed"] == {"error": "x"}


def test_a_packed_row_is_predicted_by_its_positions(bench):
    """2 x (3 + 1) over 3 + 2, by hand."""
    assert bench.completions.Group(2, 3, 1).prediction == 8 / 5
    assert bench.completions.Group(1, 3, 1).prediction == 1


def test_lengths_are_the_same_for_the_same_case_and_bounded(bench):
    case = bench.preferences.Case(pairs=200, prompt=100, answer=50, ragged=True)
    (rows,) = case.micro_batches(512)
    assert rows == case.micro_batches(512)[0]
    prompts = sorted(len(row["prompt_ids"]) for row in rows)
    assert prompts[0] >= 4
    assert prompts[-1] <= 400
    assert prompts[100] == pytest.approx(100, rel=0.2)
    assert all(row["chosen_ids"][-1] == row["rejected_ids"][-1] == 510 for row in rows)


def test_lengths_are_as_uneven_whatever_the_medians_are(bench):
    def shares(prompt, answer):
        case = bench.preferences.Case(3, prompt, answer, ragged=True, batches=2)
        rows = [row for rows in case.lengths() for row in rows]
        return [(p / prompt, c / answer, r / answer) for p, c, r in rows]

    found, larger = shares(1000, 1000), shares(4000, 2000)
    assert all(x == pytest.approx(y, abs=0.002) for x, y in zip(found, larger, strict=True))
    assert len({*found}) == 6


def test_by_default_all_is_combined(bench):
    arguments = bench.training.parsed([])
    case = bench.preferences.Case
    found = [one for kind in arguments.kinds for one in bench.cases.pair_cases(arguments, kind)]
    assert len({*found}) == 2 * 3 * 2 * 2
    assert case(4, 192, 48, ragged=True, images=True, batches=2) in found
    assert case(1, 120, 120) in found
    assert len([*bench.cases.group_cases(arguments)]) == 3 * 2


@pytest.mark.parametrize(
    ("given", "expected"), [("1:1", (50, 50)), ("4:1", (80, 20)), ("10:1", (91, 9))]
)
def test_a_prompt_and_its_answer_share_the_length(given, expected, bench):
    assert bench.cases.split(100, bench.cases.ratio(given)) == expected


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_grows_by_what_is_held_at_once(bench):
    def act():
        for _ in range(3):
            torch.ones(2**24)  # 64 MiB, freed each time

    assert bench.memory.grown(act, CPU) == pytest.approx(64, rel=0.1)
