"""The papers' claims beside our measurements, as one Markdown table.

    python -m benchmarks.quality.claims [--results benchmarks/results/claims.jsonl]

Each line of the file is one run of a family's ``claims_NAME.py``: ``family``, ``claim``, ``ours`` and
``paper`` (variant -> value, or variant -> measure -> value), ``commit`` and optionally ``n`` (how many things
ours was measured on) and a ``note``. The newest line of a claim counts. Values of different measures and
data do not compare; what must agree is the **order** of the variants under one measure. ``STAND_INS`` says
which of our measures stands beside a paper's. What this table shows, explained: ``benchmarks/CLAIMS.md``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import InputError

__all__ = ["Claim", "main", "markdown", "read_claims", "same_order"]

# By family: the paper's measure (empty where it gives one number a variant) -> the measure of ours beside it.
STAND_INS = {
    "gohd": {"": "ssim_pose", "mld": "lmd_m"},
    "pdfgc": {"": "corruption"},
    "vast": {"": "dvt_all"},
}
_MEASURES = frozenset({"lmd_m", "ssim_eyes", "ssim_pose", "corruption", "dvt_all", "dvt_strong"})

RESULTS = Path(__file__).resolve().parents[1] / "results" / "claims.jsonl"


@dataclass(frozen=True)
class Claim:
    """One claim of one paper; both mappings go from variant to value."""

    family: str
    claim: str
    ours: dict[str, float]
    paper: dict[str, float]
    n: int
    commit: str = ""
    note: str = ""


def read_claims(path: Path) -> list[Claim]:
    """The newest line of every claim, in order of family, then of first appearance.

    Raises:
        InputError: the file is not there, or a line lacks a field.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there; run the benchmarks.quality.claims_* scripts first")
    found: dict[tuple[str, str], Claim] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            raw = json.loads(line)
            claim = Claim(
                raw["family"],
                raw["claim"],
                ours := _values(raw["ours"]),
                _beside(raw["family"], ours, _values(raw["paper"])),
                int(raw.get("n", 0)),
                str(raw.get("commit", "")),
                str(raw.get("note", "")),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}, line {number}: not a claim ({error})") from error
        found[claim.family, claim.claim] = claim
    return sorted(found.values(), key=lambda c: c.family)


def _values(raw: dict[str, Any]) -> dict[str, float]:
    """What was measured: null was not, and words and yes or no do not rank. A mapping of mappings is
    laid out as ``row/column``."""
    found: dict[str, float] = {}
    for name, value in raw.items():
        if isinstance(value, dict):
            found |= {f"{name}/{inner}": v for inner, v in _values(value).items()}
        elif value is not None and not isinstance(value, str | bool):
            found[name] = float(value)
    return found


def _beside(family: str, ours: dict[str, float], paper: dict[str, float]) -> dict[str, float]:
    """``paper`` with its variants named as ours, wherever another measure of ours stands in for its own."""
    stand_ins = STAND_INS.get(family, {})
    found: dict[str, float] = {}
    for name, value in paper.items():
        variant, slash, measure = name.rpartition("/")
        others = [f"{name}/{stand_ins.get('')}"]
        others += [f"{variant}/{stand_ins[measure]}"] if slash and measure in stand_ins else []
        found[next((o for o in others if name not in ours and o in ours), name)] = value
    return found


def _measure(name: str) -> str:
    """Of a variant's value: values of two measures have no order."""
    measure = name.rpartition("/")[2]
    return measure if measure in _MEASURES else ""


def same_order(claim: Claim) -> tuple[int, int]:
    """(pairs of variants that both rank alike, pairs that both measured and the paper tells apart)."""
    both = [name for name in claim.paper if name in claim.ours]
    agreeing = total = 0
    for a, b in itertools.combinations(both, 2):
        if _measure(a) != _measure(b):
            continue
        theirs, ours = claim.paper[a] - claim.paper[b], claim.ours[a] - claim.ours[b]
        if theirs != 0.0:
            total += 1
            agreeing += theirs * ours > 0.0
    return agreeing, total


def _verdict(claim: Claim) -> str:
    agreeing, total = same_order(claim)
    if not total:
        return "not comparable"
    return "yes" if agreeing == total else f"no ({agreeing} of {total} pairs)"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def markdown(claims: list[Claim]) -> str:
    """A table with one line per variant; the verdict stands on the first line of its claim."""
    lines = [
        "| family | claim | variant | paper | ours | n | same order? |",
        "|---|---|---|---|---|---|---|",
    ]
    for claim in claims:
        names = [*claim.paper, *(name for name in claim.ours if name not in claim.paper)]
        for k, name in enumerate(names):
            head = (claim.family, claim.claim) if k == 0 else ("", "")
            tail = (str(claim.n or ""), _verdict(claim)) if k == 0 else ("", "")
            cells = (*head, name, _number(claim.paper.get(name)), _number(claim.ours.get(name)), *tail)
            lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    notes = [f"* {c.family}, {c.claim}: {c.note}" for c in claims if c.note]
    return "\n".join([*lines, "", *notes]) if notes else "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.claims",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args(argv)
    try:
        print(markdown(read_claims(options.results)))
    except InputError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
