"""`lcl verify` finds every planted fault, names it, and finds nothing where nothing is wrong."""

import json

import polars as pl
import pyarrow.parquet as pq
import pytest

from lcl_data import files, store
from lcl_data.dedupe.exact_document import ExactDocument
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.url_words import UrlWords
from lcl_data.shard import Shard, shard
from lcl_data.stage import Stage, Unit
from lcl_data.tokenizer import train
from lcl_data.verify import verify
from schemas.documents import DOCUMENTS, Image, to_table
from schemas.images import IMAGES
from tests.lcl_data.corpus import document, write_documents
from tests.lcl_data.sharding import make_corpus


@pytest.fixture
def work(tmp_path):
    """Three stages, one after the other."""
    picture, logo = Image("http://h/a"), Image("http://h/logo")
    corpus = [
        [document(0, "a", picture), document(1, "b", logo)],
        [document(2, "a", picture), document(3, picture)],
    ]
    docs = write_documents(tmp_path / "1-documents", corpus)
    filter_documents(docs, tmp_path / "2-filtered", (UrlWords(),), Engine())
    deduplicate(tmp_path / "2-filtered", tmp_path / "3-deduplicated", (ExactDocument(),), Engine())
    return tmp_path


def found(work, place):
    """What is said of one place, all other places being whole."""
    problems = verify(work).problems
    assert {problem.place for problem in problems} == {str(work / place)}, problems
    assert all(problem.remedy for problem in problems)
    return " ".join(problem.what for problem in problems)


def rewrite(folder, change, name="manifest.json"):
    """Change the JSON of a manifest in place."""
    manifest = json.loads((folder / name).read_text())
    change(manifest)
    (folder / name).write_text(json.dumps(manifest))


def forge(folder, shard, table):
    """Replace a shard by other rows and let the manifest agree with its bytes."""
    path = folder / shard
    pq.write_table(table, path)

    def agree(manifest):
        (entry,) = [each for each in manifest["shards"] if each["name"] == shard]
        entry.update(sha256=files.sha256(path), nbytes=path.stat().st_size)

    rewrite(folder, agree)


def test_nothing_wrong(work):
    report = verify(work)
    assert report.problems == []
    assert [stage.reads for stage in report.stages] == [[], ["1-documents"], ["2-filtered"]]
    assert report.totals.model_dump(exclude={"nbytes"}) == {"stages": 3, "shards": 6, "rows": 11, "links": 2}
    assert verify(work / "2-filtered").problems == []
    assert json.loads(report.model_dump_json())["stages"][2]["ledger"]["documents"]["kept"] == 3


def test_flipped_byte(work):
    path = work / "2-filtered/00001.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    assert "its bytes are not those that were written" in found(work, "2-filtered/00001.parquet")


def test_missing_shard(work):
    (work / "2-filtered/00000.parquet").unlink()
    assert found(work, "2-filtered/00000.parquet") == "is missing"


def test_deleted_row(work):
    folder = work / "3-deduplicated"
    forge(folder, "00000.parquet", pq.read_table(folder / "00000.parquet").slice(1))
    whats = [problem.what for problem in verify(work).problems]
    assert whats == [
        "holds 1 rows, its manifest says 2",
        "documents: the files hold 2, the ledger kept 3",
        "images: the files hold 1, the ledger kept 2",
    ]


def test_wrong_ledger(work):
    rewrite(work / "3-deduplicated", lambda manifest: manifest["ledger"]["documents"].update(read=9))
    assert [problem.what for problem in verify(work).problems] == [
        "documents: the ledger does not balance: read 9, kept 3, rejected 1",
        "read 9 documents, but 2-filtered kept 4",
    ]


def test_a_reason_that_no_table_bears_out(work):
    rewrite(
        work / "3-deduplicated",
        lambda manifest: manifest["ledger"]["documents"].update(rejected={"same_url": 1}),
    )
    said = found(work, "3-deduplicated/rejects")
    assert "rejected 0 as exact_document, the tables 1" in said
    assert "rejected 1 as same_url, the tables 0" in said


def test_rejects_of_another_shape(work):
    (work / "3-deduplicated/rejects/00001.parquet").write_bytes(b"no table")
    problems = [problem.what for problem in verify(work).problems]
    assert problems[0].startswith("cannot be read")


def test_a_chain_that_does_not_fit(work):
    """The filter claims to have read an image more than its input kept, and balances."""

    def claim(manifest):
        manifest["ledger"]["images"]["read"] += 1
        manifest["ledger"]["images"]["kept"] += 1

    rewrite(work / "3-deduplicated", claim)
    whats = [problem.what for problem in verify(work).problems]
    assert whats == ["images: the files hold 2, the ledger kept 3", "read 4 images, but 2-filtered kept 3"]


def test_rows_that_break_the_contract(work):
    folder = work / "3-deduplicated"
    table = pq.read_table(folder / "00000.parquet")
    adrift = to_table([document(0, "a", Image("http://h/a", anchor=0))]).to_pylist()
    adrift[0]["items"][1]["image"]["anchor"] = 5
    adrift[0]["items"].append({"text": None, "image": None})
    forge(folder, "00000.parquet", type(table).from_pylist([*adrift, table.to_pylist()[1]], schema=DOCUMENTS))
    said = found(work, "3-deduplicated/00000.parquet")
    assert "anchored to a text that is not there" in said
    assert "not exactly one of text and image" in said


def test_foreign_rows_under_our_name(work):
    folder = work / "3-deduplicated"
    forge(folder, "00000.parquet", pl.DataFrame({"id": ["a", "b"]}).to_arrow())
    assert "not written by LCL" in found(work, "3-deduplicated/00000.parquet")


def test_unfinished_and_failed_stages(work, tmp_path):
    (work / "1-documents/manifest.json").unlink()
    rewrite(work / "3-deduplicated", lambda manifest: manifest.update(failed={"00009.parquet": "torn"}))
    said = {problem.place.rpartition("/")[2]: problem.what for problem in verify(work).problems}
    assert said == {
        "1-documents": "has no manifest.json: the stage has not finished",
        "3-deduplicated": "00009.parquet failed: torn",
    }


def test_a_foreign_file_that_failed_is_a_rejection_and_no_problem(work):
    def count(manifest):
        manifest["ledger"]["files"] = {"read": 3, "kept": 2, "rejected": {"failed": 1}}
        manifest["failed"] = {"torn.zip": "torn"}

    rewrite(work / "3-deduplicated", count)
    assert verify(work).problems == []
    rewrite(work / "3-deduplicated", lambda manifest: manifest.update(failed={}))
    assert found(work, "3-deduplicated/rejects") == "files: the ledger rejected 1 as failed, the tables 0"


def test_a_store_keeps_the_references_to_what_it_has(tmp_path):
    def fill(unit, draft):
        rows = [("a", "success", None, 3), ("b", "failed_to_download", "http_404", 2)]
        named = [dict(zip(("url", "status", "reason", "references"), row, strict=True)) for row in rows]
        store.write_table(
            draft.path(".parquet"), [dict.fromkeys(IMAGES.names) | {"key": "0"} | row for row in named]
        )
        draft.rows(".parquet", 2)
        draft.path(".tar").write_bytes(b"pictures")
        draft.count("images").read, draft.count("images").kept = 5, kept
        draft.reject("images", "http_404", 5 - kept)

    for kept, problems in ((3, []), (4, ["images: the files hold 3, the ledger kept 4"])):
        folder = tmp_path / f"{kept}"
        Stage("download", folder, {}, ()).run(fill, [Unit(0, "0")], Engine())
        assert [problem.what for problem in verify(folder).problems] == problems


@pytest.mark.parametrize("containers", [("webdataset",), ("arrow",), ("arrow", "webdataset")])
def test_training_shards_are_counted_in_every_container_once(tmp_path, containers):
    docs, images = make_corpus(tmp_path, words=60)
    train(["the quick brown fox"], 300, tmp_path / "tokenizer.json")
    settings = Shard(
        tokenizer=str(tmp_path / "tokenizer.json"), containers=containers, max_tokens=32, image_slots=4
    )
    ledger = shard(docs, images, tmp_path / "shards", settings, Engine()).ledger
    assert verify(tmp_path / "shards").problems == []

    def claim(manifest):
        for kind in ("documents", "images"):
            manifest["ledger"][kind]["read"] += 1
            manifest["ledger"][kind]["kept"] += 1

    rewrite(tmp_path / "shards", claim)
    assert [problem.what for problem in verify(tmp_path / "shards").problems] == [
        f"{kind}: the files hold {kept}, the ledger kept {kept + 1}"
        for kind, kept in (("documents", ledger.documents.kept), ("images", ledger.images.kept))
    ]


def test_a_tar_of_other_rows_than_the_ledger_says(tmp_path):
    docs, images = make_corpus(tmp_path, shards=1)
    train(["the quick brown fox"], 300, tmp_path / "tokenizer.json")
    settings = Shard(tokenizer=str(tmp_path / "tokenizer.json"), containers=("webdataset",))
    shard(docs, images, tmp_path / "shards", settings, Engine())
    rewrite(tmp_path / "shards", lambda manifest: manifest["shards"][0].update(rows=99))
    assert "rows, its manifest says 99" in found(tmp_path, "shards/00000.tar")


def test_nothing_there(tmp_path):
    assert [problem.what for problem in verify(tmp_path).problems] == ["holds no stage folder"]
