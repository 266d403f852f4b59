"""Figures and the table they are printed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One measure. `goal` is the most (for a rate, the least) that meets it; None: only told."""

    measure: str
    ours: str
    reference: str
    figure: float
    goal: float | None = None
    is_at_least: bool = False
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Is the goal, if any, reached?"""
        if self.goal is None:
            return True
        return self.figure >= self.goal if self.is_at_least else self.figure <= self.goal

    @property
    def verdict(self) -> str:
        """For the last column."""
        return "-" if self.goal is None else "met" if self.is_met else "missed"


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def ms(seconds: float) -> str:
    """Seconds as milliseconds for people."""
    return f"{seconds * 1000:.1f} ms"


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    lines = [
        "| measure | weave-net | reference | figure | goal | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        sign = "" if row.goal is None else ">= " if row.is_at_least else "<= "
        goal = "-" if row.goal is None else f"{sign}{row.goal:g}{row.unit}"
        lines.append(
            f"| {row.measure} | {row.ours} | {row.reference or '-'} "
            f"| {row.figure:.3g}{row.unit} | {goal} | {row.verdict} |"
        )
    return "\n".join(lines)
