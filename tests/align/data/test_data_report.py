"""The report of a check, as text and as JSON."""

from __future__ import annotations

import json

from contralign.align.data import Example, Report


def report() -> Report:
    made = Report()
    made.add(0, [])
    made.add(1, [("truncated", "chosen keeps 3 of its 4 tokens")], "The sky")
    made.add(2, [("identical", "both are str 'x'")], "The sea")
    made.add(3, [("boundary", "' gr'"), ("truncated", "rejected keeps 1 of its 9 tokens")])
    for row in range(4, 10):
        made.add(row, [("bad-number", "weight is None")], "The sun")
    return made


def test_counts_rows_by_their_worst_problem() -> None:
    made = report()
    assert (made.rows, made.unusable, made.flagged, made.truncated) == (10, 7, 2, 2)
    assert Report().truncated == 0


def test_a_summary_is_one_line() -> None:
    assert report().summary() == "identical 1 (row 2), bad-number 6 (rows 4, 5, 6, 7, 8, ...)"
    assert report().summary("warning") == "boundary 1 (row 3), truncated 2 (rows 1, 3)"


def test_the_text_has_errors_first_each_with_its_way_out() -> None:
    paragraphs = str(report()).split("\n\n")
    assert paragraphs[0] == (
        "10 rows checked (the first is row 0): 7 can't be trained on, 2 more with warnings."
    )
    heads = [paragraph.split("\n")[0] for paragraph in paragraphs[1:]]
    assert heads == [
        "error: identical, 1 row",
        "error: bad-number, 6 rows",
        "warning: boundary, 1 row",
        "warning: truncated, 2 rows",
    ]
    lines = paragraphs[2].split("\n")
    assert "leave out the column" in lines[1]
    assert lines[2] == "  row 4 (The sun): weight is None"
    assert lines[-1] == "  and 1 other row"
    assert "row 3: ' gr'" in paragraphs[3]
    assert str(Report(rows=1)) == "1 row checked (the first is row 0): nothing found."


def test_json_says_the_same() -> None:
    found = json.loads(json.dumps(report().as_dict()))
    assert {key: found[key] for key in ("rows", "unusable", "flagged", "dropped", "truncated")} == {
        "rows": 10,
        "unusable": 7,
        "flagged": 2,
        "dropped": 0,
        "truncated": 2,
    }
    problem = found["problems"][1]
    assert (problem["name"], problem["severity"], problem["count"]) == ("bad-number", "error", 6)
    assert Example(**problem["first"][0]) == Example(4, "weight is None", "The sun")
    assert len(problem["first"]) == 5
