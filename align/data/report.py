"""What a check found: problems with their counts and first rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .problems import PROBLEMS, Problem

FIRST = 5


@dataclass(frozen=True)
class Example:
    """A row that has a problem.

    Attributes:
        row: Its index, from 0.
        found: What was found there.
        excerpt: How its prompt begins, to recognise it by.
    """

    row: int
    found: str
    excerpt: str


@dataclass
class Finding:
    """One problem's rows.

    Attributes:
        problem: What is wrong with them.
        count: How many there are.
        first: The first ones.
    """

    problem: Problem
    count: int = 0
    first: list[Example] = field(default_factory=list)


@dataclass
class Report:
    """What a check of rows found; of a stream, what it has found so far.

    Attributes:
        rows: Rows that were checked.
        unusable: Rows with an error.
        flagged: Rows with a warning and no error.
        dropped: RowError rows that were left out.
        tokens: Whether a tokenizer or processor was there to check tokens with.
        findings: By the problem's name.
    """

    rows: int = 0
    unusable: int = 0
    flagged: int = 0
    dropped: int = 0
    tokens: bool = True
    findings: dict[str, Finding] = field(default_factory=dict)

    def add(self, row: int, problems: Sequence[tuple[str, str]], excerpt: str = "") -> None:
        """Count a row.

        Args:
            row: Its index.
            problems: The name of each problem, and what was found.
            excerpt: How its prompt begins.
        """
        self.rows += 1
        severities = {PROBLEMS[name].severity for name, _ in problems}
        self.unusable += "error" in severities
        self.flagged += severities == {"warning"}
        for name, found in problems:
            finding = self.findings.setdefault(name, Finding(PROBLEMS[name]))
            finding.count += 1
            if len(finding.first) < FIRST:
                finding.first.append(Example(row, found, excerpt))

    @property
    def truncated(self) -> int:
        """Pairs with a completion that was cut."""
        return self.findings["truncated"].count if "truncated" in self.findings else 0

    @property
    def ordered(self) -> list[Finding]:
        """Errors first, as `PROBLEMS` lists them."""
        return [self.findings[name] for name in PROBLEMS if name in self.findings]

    def summary(self, severity: str = "error") -> str:
        """Each problem of a severity with its count and first rows, on one line."""
        return ", ".join(
            f"{finding.problem.name} {finding.count} ({_rows(finding)})"
            for finding in self.ordered
            if finding.problem.severity == severity
        )

    def as_dict(self) -> dict[str, Any]:
        """Values that JSON knows."""
        return {
            "rows": self.rows,
            "unusable": self.unusable,
            "flagged": self.flagged,
            "dropped": self.dropped,
            "truncated": self.truncated,
            "tokens": self.tokens,
            "problems": [
                {
                    "name": finding.problem.name,
                    "severity": finding.problem.severity,
                    "explanation": finding.problem.explanation,
                    "count": finding.count,
                    "first": [vars(example) for example in finding.first],
                }
                for finding in self.ordered
            ],
        }

    def __str__(self) -> str:
        told = "nothing found."
        if self.findings:
            told = f"{self.unusable} can't be trained on, {self.flagged} more with warnings."
        head = f"{_count(self.rows, 'row')} checked (the first is row 0): {told}"
        return "\n\n".join([head, *map(_paragraph, self.ordered)])


def _paragraph(finding: Finding) -> str:
    problem = finding.problem
    lines = [f"{problem.severity}: {problem.name}, {_count(finding.count, 'row')}"]
    lines.append(f"  {problem.explanation}")
    for example in finding.first:
        place = f" ({example.excerpt})" if example.excerpt else ""
        lines.append(f"  row {example.row}{place}: {example.found}")
    if (others := finding.count - len(finding.first)) > 0:
        lines.append(f"  and {_count(others, 'other row')}")
    return "\n".join(lines)


def _rows(finding: Finding) -> str:
    numbers = ", ".join(str(example.row) for example in finding.first)
    more = ", ..." if finding.count > len(finding.first) else ""
    return f"row{'s' if finding.count > 1 else ''} {numbers}{more}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
