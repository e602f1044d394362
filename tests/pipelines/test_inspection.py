"""`lcl inspect` shows every kind of folder of ours, and says in a line what is wrong with one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lcl_data.engine import Engine
from lcl_data.foreign import accept
from pipelines.console import Console
from pipelines.inspection import inspect
from schemas.errors import RecipeError, ShardError
from schemas.manifest import read_manifest
from tests.lcl_data.test_store import img2datasets_folder

Show = Callable[..., dict[str, Any]]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    """The one JSON object of `lcl inspect --json`, and what a person reads under `told`."""

    def run(path: Path, id: str = "") -> dict[str, Any]:
        inspect(path, id, Console(as_json=True))
        told = capsys.readouterr()
        return {**json.loads(told.out), "told": told.err}

    return run


def copied(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out / folder.name)
    return out / folder.name


def test_a_work_folder(walked: Path, show: Show) -> None:
    found = show(walked)
    assert {row["stage"] for row in found["stages"]} == {
        *("ingest", "download", "filter", "dedupe", "tokenizer", "shard", "train", "eval")
    }


@pytest.mark.parametrize("name", ["documents", "filtered", "deduplicated"])
def test_documents(walked: Path, show: Show, name: str) -> None:
    found, ledger = show(walked / name), read_manifest(walked / name).ledger
    assert found["documents"] == ledger.documents.kept
    assert found["images"] == ledger.images.kept
    assert "read" in found["told"]


def test_a_document_is_shown_whole(walked: Path, show: Show) -> None:
    row = pq.read_table(walked / "filtered" / "00000.parquet").to_pylist()[0]
    found = show(walked / "filtered", row["id"][:20])
    assert found["id"] == row["id"]
    assert [item.get("text") for item in found["items"]] == [item["text"] for item in row["items"]]
    assert "<image" in found["told"]


def test_a_sequence_is_shown_whole(walked: Path, show: Show) -> None:
    row = pq.read_table(walked / "deduplicated" / "00000.parquet", columns=["id"]).to_pylist()[0]
    found = show(walked / "shards", row["id"])
    assert len(found["image_keys"]) == len(found["image_nbytes"]) == len(found["anchors"]) > 0
    assert "<image 0" in found["told"]


def test_a_store_and_its_pictures(walked: Path, show: Show) -> None:
    found = show(walked / "images")
    assert found["pictures"] == found["outcomes"]["success"]
    facts = pq.read_table(walked / "images" / "00000.parquet").to_pylist()[0]
    for id in (facts["key"], facts["url"]):
        assert show(walked / "images", id)["url"] == facts["url"]


def test_shards(walked: Path, show: Show) -> None:
    found = show(walked / "shards")
    assert found["sequences"] > 0 and found["vocabulary"] == 406


def test_a_run(walked: Path, show: Show) -> None:
    found = show(walked / "run")
    assert found["checkpoints"] == ["step-00000002"]
    assert found["metrics"]["step"] == 2


def test_a_run_that_has_not_logged_yet(tmp_path: Path, show: Show) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    assert "no step logged yet" in show(tmp_path)["told"]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"ste')
    assert show(tmp_path)["metrics"] == {"step": 1}


def test_a_tokenizer_and_evals(walked: Path, show: Show) -> None:
    assert show(walked / "tokenizer")["vocabulary"] == 406
    found = show(walked / "eval")
    assert set(found["evals"]) == {"knn"}
    assert "[" in found["told"] and "knn" in found["told"]


def test_a_folder_img2dataset_made_before_and_after_it_is_indexed(tmp_path: Path, show: Show) -> None:
    theirs = img2datasets_folder(tmp_path / "theirs")
    before = show(theirs)
    accept(theirs, Engine())
    after = show(theirs)
    assert before["urls"] == after["urls"] == 4
    assert before["pictures"] == after["pictures"] == 2
    assert after["outcomes"]["http_404"] == 1
    assert show(theirs, "000000002")["sha256"]


@pytest.mark.parametrize("name", ["run", "tokenizer", "eval", "."])
def test_a_folder_without_documents_has_nothing_to_show_of_them(walked: Path, show: Show, name: str) -> None:
    with pytest.raises(RecipeError, match="holds no documents; --id reads"):
        show(walked / name, "ab")


@pytest.mark.parametrize("name", ["deduplicated", "shards", "images"])
def test_an_id_that_nothing_has(walked: Path, show: Show, name: str) -> None:
    with pytest.raises(RecipeError, match="nothing in it begins with 'zz'"):
        show(walked / name, "zz")


@pytest.mark.parametrize("name", ["filtered", "images", "shards", "tokenizer", "eval"])
def test_a_missing_or_torn_file_is_told_in_a_line(
    walked: Path, show: Show, tmp_path: Path, name: str
) -> None:
    folder = copied(walked / name, tmp_path)
    shard = folder / read_manifest(folder).shards[0].name
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ShardError, match="missing or torn; run"):
        show(folder)
    shard.unlink()
    with pytest.raises(ShardError, match="missing or torn; run"):
        show(folder)


def test_damage_within_a_file_is_told_in_a_line(walked: Path, show: Show, tmp_path: Path) -> None:
    folder = copied(walked / "filtered", tmp_path)
    path = folder / "00000.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ShardError, match="missing or torn") as caught:
        show(folder)
    assert "\n" not in str(caught.value)


def test_an_unfinished_stage(walked: Path, show: Show, tmp_path: Path) -> None:
    folder = copied(walked / "filtered", tmp_path)
    (folder / "manifest.json").unlink()
    for id in ("", "ab"):
        with pytest.raises(ShardError, match="has not finished"):
            show(folder, id)
