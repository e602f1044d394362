"""`lcl run --dry-run`: which stages would work and why, with nothing written."""

from pathlib import Path

import pytest

from lcl_data.engine import Engine
from lcl_data.folders import changed
from pipelines.console import Console
from pipelines.corpus import Truth
from pipelines.forecast import forecast
from pipelines.recipes import plan, read
from pipelines.road import walk
from schemas.errors import RecipeError
from tests.pipelines.small import settings, tiny


class Listening(Console):
    def result(self, value: dict) -> None:
        self.told = value


def pending(root: Path, work: Path, *more: str) -> dict[str, str]:
    console = Listening()
    assert forecast(plan(read("demo", settings(root, work, *tiny(root), *more))), console) == 0
    found: dict[str, str] = console.told["pending"]
    return found


def test_a_finished_road_would_only_try_its_torn_file_again(corpus: tuple[Path, Truth], walked: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in walked.rglob("*")}
    (torn,) = corpus[1].faults["torn_shards"]
    found = pending(corpus[0], walked)
    assert found["ingest"].startswith("failed last time") and torn in found["ingest"]
    assert {path: path.stat().st_mtime_ns for path in walked.rglob("*")} == before


def test_an_empty_folder_has_everything_before_it(corpus: tuple[Path, Truth], tmp_path: Path) -> None:
    found = pending(corpus[0], tmp_path / "work")
    assert found.pop("ingest") == "never run" and set(found.values()) == {"after ingest"}
    assert not (tmp_path / "work").exists()


def test_it_names_the_change_and_what_comes_after(corpus: tuple[Path, Truth], tmp_path: Path) -> None:
    root, work = corpus[0], tmp_path / "work"
    sound = "ingest.src=" + str(sound_copy(root, corpus[1], tmp_path))
    data_only = ("train=null", "eval=null", sound)
    assert walk("demo", settings(root, work, *data_only), Engine(), Console()) == 0
    assert pending(root, work, *data_only) == {}
    picked = pending(root, work, *data_only, "filters=[{similarity: {min: 0.3}}]")
    assert picked.pop("filter") == "changed: filters"
    assert picked == dict.fromkeys(("dedupe", "tokenizer", "shard"), "after filter")
    smaller = pending(root, work, *data_only, "download.picture.short_side=64")
    assert smaller["download"] == "changed: picture.short_side"
    (work / "deduplicated" / "00000.parquet").unlink()
    assert pending(root, work, *data_only) == {
        "dedupe": "missing or torn: 00000.parquet",
        "tokenizer": "after dedupe",
        "shard": "after dedupe",
    }
    (work / "shards" / "manifest.json").unlink()
    (work / "deduplicated" / "manifest.json").unlink()
    assert pending(root, work, *data_only)["dedupe"] == "begun and not finished"


def sound_copy(root: Path, truth: Truth, folder: Path) -> Path:
    """The corpus without the file that is torn."""
    copy = folder / "sound"
    copy.mkdir()
    for path in (root / "mmc4" / "data").iterdir():
        if path.name not in truth.faults["torn_shards"]:
            (copy / path.name).write_bytes(path.read_bytes())
    return copy


def test_what_is_wrong_is_told_as_by_the_run_itself(corpus: tuple[Path, Truth], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="short_side"):
        pending(corpus[0], tmp_path / "work", "download.picture.short_side=0")


@pytest.mark.parametrize(
    ("was", "now", "named"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 2, "c": 2}}, ["a.b"]),
        ({"a": [{"b": 1}, {"c": 1}]}, {"a": [{"b": 1}, {"c": 2}]}, ["a[1].c"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a"]),
        ({"a": 1}, {"b": 1}, ["a", "b"]),
    ],
)
def test_changed_settings_have_names(was: dict, now: dict, named: list[str]) -> None:
    assert changed(was, now) == named
