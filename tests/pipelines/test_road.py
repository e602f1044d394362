"""The whole road on a small drawn corpus: every fault found, the law proved, a kill harmless."""

from pathlib import Path

import pytest

from lcl_data.engine import Engine
from lcl_data.verify import verify
from pipelines.console import Console
from pipelines.corpus import Truth
from pipelines.road import walk
from schemas.errors import RecipeError
from schemas.manifest import Ledger, read_manifest
from tests.pipelines.small import settings, tiny

STAGES = ("documents", "images", "filtered", "deduplicated", "tokenizer", "shards")


def tree(work: Path) -> dict[str, bytes]:
    paths = (path for stage in STAGES for path in (work / stage).rglob("*") if path.is_file())
    return {str(path.relative_to(work)): path.read_bytes() for path in sorted(paths)}


def ledger(work: Path, stage: str) -> Ledger:
    return read_manifest(work / stage).ledger


def test_every_planted_fault_is_in_the_ledger(corpus: tuple[Path, Truth], walked: Path) -> None:
    faults = corpus[1].faults
    ingested, fetched = ledger(walked, "documents"), ledger(walked, "images").images.rejected
    assert ingested.files and ingested.files.rejected == {"failed": len(faults["torn_shards"])}
    assert sum(ingested.documents.rejected.values()) == len(faults["broken_lines"])
    assert ingested.documents.kept == corpus[1].documents
    assert ingested.images.kept == corpus[1].images
    names = {
        "dead_links": "http_404",
        "pages_as_images": "not_an_image",
        "truncated_images": "truncated",
        "empty_images": "empty",
        "decompression_bombs": "too_many_pixels",
        "opted_out_images": "opted_out",
    }
    assert {reason: fetched[reason] for reason in names.values()} == {
        reason: len(faults[fault]) for fault, reason in names.items()
    }
    assert ledger(walked, "deduplicated").documents.rejected.keys() == {"exact_document", "same_url"}


def test_the_law_holds_over_all_stages(walked: Path) -> None:
    report = verify(walked)
    assert [problem.what for problem in report.problems] == []
    assert report.totals.stages == 8


def test_a_second_walk_writes_nothing(corpus: tuple[Path, Truth], walked: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in walked.rglob("*.arrow")}
    told = {path: path.stat().st_mtime_ns for path in (walked / "run").rglob("*") if path.is_file()}
    again = settings(corpus[0], walked, *tiny(corpus[0]))
    assert walk("demo", again, Engine(), Console(), excused=("ingest",)) == 0  # its torn file is known
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {path: path.stat().st_mtime_ns for path in told} == told


def test_a_changed_threshold_re_makes_what_depends_on_it(corpus: tuple[Path, Truth], walked: Path) -> None:
    work = walked.parent / "changed"
    data_only = ("train=null", "eval=null")
    walk("demo", settings(corpus[0], work, *data_only), Engine(), Console())
    documents = (work / "documents" / "manifest.json").read_bytes()
    kept = ledger(work, "filtered").images.kept
    pickier = [*settings(corpus[0], work, *data_only), "filters=[{similarity: {min: 0.3}}]"]
    walk("demo", pickier, Engine(), Console())
    assert (work / "documents" / "manifest.json").read_bytes() == documents
    assert ledger(work, "filtered").images.kept < kept
    assert not verify(work).problems


def test_a_wrong_setting_is_told_before_any_work(tmp_path: Path) -> None:
    wrong = ["ingest.src=x", f"work={tmp_path}", "filters=[{text_length: {min_word: 3}}]"]
    with pytest.raises(RecipeError, match="min_word: no such setting; did you mean min_words"):
        walk("mmc4", wrong, Engine(), Console())
    assert not list(tmp_path.iterdir())
