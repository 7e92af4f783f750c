"""The table of claims: what counts as the same order, and what a broken line says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.quality.claims import Claim, main, markdown, read_claims, same_order
from engine.errors import InputError


def _claim(ours: dict[str, float], paper: dict[str, float]) -> Claim:
    return Claim("gohd", "two stages", ours, paper, 7)


def test_the_same_order_counts_pairs_not_values() -> None:
    paper = {"full": 1.79, "transformer": 1.81, "without": 1.93}
    assert same_order(_claim({"full": 5.0, "transformer": 6.0, "without": 9.0}, paper)) == (3, 3)
    assert same_order(_claim({"full": 6.0, "transformer": 5.0, "without": 9.0}, paper)) == (2, 3)


def test_variants_only_one_side_has_do_not_count_nor_do_ties_of_the_paper() -> None:
    assert same_order(_claim({"full": 1.0, "new": 2.0}, {"full": 1.0, "old": 3.0})) == (0, 0)
    assert same_order(_claim({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 1.0})) == (0, 0)
    assert same_order(_claim({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0})) == (0, 1)


def test_the_table_has_a_line_per_variant_and_one_verdict() -> None:
    text = markdown([_claim({"full": 2.0, "less": 1.0, "extra": 3.0}, {"full": 2.5, "less": 2.0})])
    lines = text.splitlines()
    assert len(lines) == 2 + 3
    assert lines[2].endswith("| full | 2.5 | 2 | 7 | yes |")
    assert lines[4].startswith("|  |  | extra |  | 3 |")


def test_the_newest_line_of_a_claim_counts_and_null_was_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "claims.jsonl"
    old = {"family": "osm", "claim": "landmark loss", "ours": {"full": 1.0}, "paper": {"full": 2.0}, "n": 1}
    new = old | {"ours": {"full": 3.0, "none": None}, "n": 9, "commit": "abc"}
    path.write_text("\n".join([json.dumps(old), "", json.dumps(new)]), encoding="utf-8")
    (found,) = read_claims(path)
    assert found.ours == {"full": 3.0}
    assert (found.n, found.commit) == (9, "abc")


def test_a_matrix_is_laid_out_cell_by_cell(tmp_path: Path) -> None:
    path = tmp_path / "claims.jsonl"
    cells = {"pose": {"lips": 0.1, "eyes": 0.2}}
    line = {"family": "pdfgc", "claim": "table VI", "ours": cells, "paper": cells}
    path.write_text(json.dumps(line), encoding="utf-8")
    (found,) = read_claims(path)
    assert found.ours == {"pose/lips": 0.1, "pose/eyes": 0.2}
    assert same_order(found) == (1, 1)


def test_a_measure_of_ours_stands_beside_the_papers_and_orders_keep_to_one_measure(tmp_path: Path) -> None:
    path = tmp_path / "claims.jsonl"
    ours = {"full": {"lmd_m": 2.0, "ssim_eyes": 0.8, "var": 3.0}, "less": {"lmd_m": 2.1, "ssim_eyes": 0.9}}
    paper = {"full": {"mld": 1.8, "ssim_eyes": 0.9}, "less": {"mld": 1.9, "ssim_eyes": 0.8}}
    line = {"family": "gohd", "claim": "stages", "ours": ours, "paper": paper}
    path.write_text(json.dumps(line), encoding="utf-8")
    (found,) = read_claims(path)
    assert found.paper["less/lmd_m"] == 1.9
    assert same_order(found) == (1, 2)


def test_a_slash_in_a_variants_name_is_no_measure(tmp_path: Path) -> None:
    path = tmp_path / "claims.jsonl"
    ours = {"full": {"dvt_all": 2.0}, "w/o s": {"dvt_all": 1.0}}
    line = {"family": "vast", "claim": "table 3", "ours": ours, "paper": {"full": 26.7, "w/o s": 21.1}}
    path.write_text(json.dumps(line), encoding="utf-8")
    (found,) = read_claims(path)
    assert found.paper == {"full/dvt_all": 26.7, "w/o s/dvt_all": 21.1}


def test_words_of_a_paper_have_no_order(tmp_path: Path) -> None:
    path = tmp_path / "claims.jsonl"
    line = {
        "family": "vast",
        "claim": "figure",
        "ours": {"full": 0.7},
        "paper": {"full": True, "less": "worse"},
    }
    path.write_text(json.dumps(line), encoding="utf-8")
    (found,) = read_claims(path)
    assert found.paper == {}
    assert "not comparable" in markdown([found])


def test_the_shipped_results_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr().out
    for family in ("gohd", "flowvq", "osm", "vast", "pdfgc"):
        assert f"| {family} |" in said


def test_what_is_missing_or_broken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "claims.jsonl"
    assert main(["--results", str(path)]) == 1
    assert "claims_" in capsys.readouterr().out
    path.write_text('{"family": "osm"}', encoding="utf-8")
    with pytest.raises(InputError, match="line 1"):
        read_claims(path)
