"""The stage `filter`: the ledger's law, order of cuts, facts from the store, equal bytes whatever happens."""

from typing import ClassVar, Literal

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters import Filter, measure
from lcl_data.filters.image_count import ImageCount
from lcl_data.filters.image_size import ImageSize
from lcl_data.filters.similarity import Similarity
from lcl_data.filters.text_length import TextLength
from lcl_data.filters.url_words import UrlWords
from lcl_data.store import facts, read_opaque
from schemas import members
from schemas.documents import Image
from schemas.errors import RecipeError
from schemas.manifest import read_manifest
from tests.lcl_data.corpus import (
    bytes_of,
    document,
    read_documents,
    rejects,
    shards,
    write_documents,
    write_store,
)


class LongTexts(Filter):
    """A third party's filter of text items."""

    applies_to: ClassVar[Literal["text"]] = "text"

    def reasons(self) -> dict[str, pl.Expr]:
        return {"short": pl.col("text").str.len_chars() < 3}


class Misfit(Filter):
    """Asks for what images do not have."""

    applies_to: ClassVar[Literal["image"]] = "image"

    def reasons(self) -> dict[str, pl.Expr]:
        return {"ugly": pl.col("beauty") < 3}


ALL = (
    UrlWords(),
    Similarity(min=0.25),
    ImageSize(),
    LongTexts(),
    TextLength(min_words=1),
    ImageCount(max=2),
)


def counted(folder):
    """The rejects tables added up as a ledger's rejections."""
    counts = {}
    for row in rejects(folder):
        reasons = counts.setdefault(row["kind"], {})
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + row["count"]
    return counts


@given(shards())
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_law_holds_and_nothing_left_would_be_cut_again(tmp_path_factory, corpus):
    folder = tmp_path_factory.mktemp("law")
    manifest = filter_documents(write_documents(folder / "in", corpus), folder / "out", ALL, Engine())
    kept = read_documents(folder / "out")
    ledger = manifest.ledger
    for count in (ledger.documents, ledger.images, ledger.texts):
        assert count is None or count.balances
    assert ledger.documents.read == sum(len(shard) for shard in corpus)
    assert ledger.documents.kept == len(kept)
    assert ledger.images.kept == sum(len(each.images) for each in kept)
    rejected = {kind: count.rejected for kind, count in ledger if count is not None and count.rejected}
    assert counted(folder / "out") == rejected
    order = [each.id for shard in corpus for each in shard]
    assert [each.id for each in kept] == [identity for identity in order if identity in {k.id for k in kept}]
    again = filter_documents(folder / "out", folder / "again", ALL, Engine()).ledger
    assert (again.documents.kept, again.images.kept) == (ledger.documents.kept, ledger.images.kept)


def test_filters_cut_in_order_and_a_document_takes_its_images_along(tmp_path):
    def seen(name):
        return Image(f"http://h/{name}.jpg")

    docs = [
        document(0, "some words", seen("a"), seen("logo")),
        document(1, seen("icon"), "more words"),
        document(2, seen("b"), seen("c"), seen("d"), seen("button"), url="http://p/2"),
    ]
    cuts = (UrlWords(), ImageCount(max=2))
    ledger = filter_documents(
        write_documents(tmp_path / "in", [docs]), tmp_path / "out", cuts, Engine()
    ).ledger
    assert read_documents(tmp_path / "out") == [document(0, "some words", seen("a"))]
    assert ledger.documents.rejected == {"image_count:too_few": 1, "image_count:too_many": 1}
    assert ledger.images.rejected == {"url_words:stop_word": 3, "document_rejected": 3}
    first = rejects(tmp_path / "out")[0]
    assert (first["reason"], first["id"], first["item"], first["url"]) == (
        "url_words:stop_word",
        docs[0].id,
        2,
        "http://h/logo.jpg",
    )


def test_no_filters_change_nothing(tmp_path):
    docs = [
        document(0),
        document(1, "a", Image("u", anchor=0, phash=2**64 - 1, meta="{}")),
        document(2, Image("v")),
    ]
    filter_documents(write_documents(tmp_path / "in", [docs, []]), tmp_path / "out", (), Engine())
    assert read_documents(tmp_path / "out") == docs
    assert (tmp_path / "in/00000.parquet").read_bytes() == (tmp_path / "out/00000.parquet").read_bytes()


def test_anchors_follow_their_texts(tmp_path):
    own, lost, free = Image("u", anchor=2), Image("v", anchor=1), Image("w")
    doc = document(0, "first", lost, "x", own, "third", free)
    filter_documents(write_documents(tmp_path / "in", [[doc]]), tmp_path / "out", (LongTexts(),), Engine())
    (kept,) = read_documents(tmp_path / "out")
    assert kept.items == ("first", Image("v"), Image("u", anchor=1), "third", free)
    ledger = read_manifest(tmp_path / "out").ledger
    assert ledger.texts.model_dump(exclude_none=True) == {
        "read": 3,
        "kept": 2,
        "rejected": {KEY + ":short": 1},
    }


KEY = members.key(LongTexts())


def test_facts_come_from_the_store(tmp_path):
    images = write_store(
        tmp_path / "images",
        {"url": "http://h/a", "original_width": 640, "original_height": 480, "width": 256, "sha256": "ab"},
        {"url": "http://h/b", "reason": "http_404"},
        {"url": "http://h/twice", "reason": "timeout"},
        {"url": "http://h/twice", "original_width": 10, "original_height": 20, "phash": 2**64 - 1},
    )
    a, b, twice, never = (Image(f"http://h/{name}", alt=name) for name in ("a", "b", "twice", "never"))
    corpus = [[document(0, a, "words", b)], [], [document(1, twice, never, a)]]
    docs = write_documents(tmp_path / "in", corpus)
    manifest = filter_documents(docs, tmp_path / "out", (ImageSize(),), Engine(), images=images)
    known = Image("http://h/a", "000000000", "a", width=640, height=480, sha256="ab")
    assert [each.items for each in read_documents(tmp_path / "out")] == [(known, "words"), (known,)]
    assert manifest.ledger.images.rejected == {
        "download:http_404": 1,
        "download:missing": 1,
        "image_size:too_small": 1,
    }
    assert not (tmp_path / "out/exchange").exists()


def test_a_store_of_an_earlier_version_lacks_a_fact_and_serves(tmp_path):
    images = write_store(tmp_path / "images", {"url": "http://h/a", "phash": 7, "opaque_phash": 9})
    docs = write_documents(tmp_path / "in", [[document(0, Image("http://h/a"))]])
    filter_documents(docs, tmp_path / "out", (), Engine(), images=images)
    (whole,) = read_documents(tmp_path / "out")[0].images
    (path,) = facts(images)
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["opaque", "opaque_phash"]), path)
    assert read_opaque(images, [whole.key]) == {}
    filter_documents(docs, tmp_path / "early", (), Engine(), images=images)
    assert read_documents(tmp_path / "early")[0].images == (Image(whole.url, whole.key, phash=whole.phash),)


def test_workers_do_not_change_a_byte(tmp_path):
    corpus = [
        [document(10 * s + n, Image(f"http://h/{n}", width=n * 90), "text") for n in range(9)]
        for s in range(5)
    ]
    docs = write_documents(tmp_path / "in", corpus)
    one = filter_documents(docs, tmp_path / "one", (ImageCount(), TextLength(min_words=1)), Engine())
    assert filter_documents(docs, tmp_path / "two", (ImageCount(), TextLength(min_words=1)), Engine(2)) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")


def test_a_torn_shard_fails_alone_and_is_asked_again_once_mended(tmp_path):
    images = write_store(
        tmp_path / "images", {"url": "http://h/a", "original_width": 9, "original_height": 9}
    )
    docs = write_documents(tmp_path / "in", [[document(n, Image("http://h/a"), f"{n}")] for n in range(3)])
    whole = (docs / "00001.parquet").read_bytes()
    (docs / "00001.parquet").write_bytes(whole[:-100])
    torn = filter_documents(docs, tmp_path / "out", (), Engine(), images=images)
    assert list(torn.failed) == ["00001.parquet"]
    assert torn.ledger.documents.kept == 2
    (docs / "00001.parquet").write_bytes(whole)
    mended = filter_documents(docs, tmp_path / "out", (), Engine(), images=images)
    fresh = filter_documents(docs, tmp_path / "fresh", (), Engine(), images=images)
    assert mended == fresh
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")


def test_a_filter_that_does_not_fit_is_told_before_any_work(tmp_path):
    docs = write_documents(tmp_path / "in", [[document(0, "a")]])
    with pytest.raises(RecipeError, match="beauty"):
        filter_documents(docs, tmp_path / "out", (Misfit(),), Engine())
    assert not (tmp_path / "out").exists()


MEASURED = []  # heights of the frames over which a fact was measured


def length(text: pl.Series, _: int = 0) -> pl.Series:
    MEASURED.append(text.len())
    return text.str.len_chars()


class Longer(Filter):
    """Cuts on a fact that Python measures; another instance shares it."""

    applies_to: ClassVar[Literal["document"]] = "document"
    min: int = 0
    unit: int = 0

    def facts(self) -> dict[str, pl.Expr]:
        return {"length": measure(length, pl.UInt32, self.unit), "double": pl.col("length") * 2}

    def reasons(self) -> dict[str, pl.Expr]:
        return {"short": pl.col("double") < 2 * self.min}


class Shadow(Longer):
    """Calls its fact as a column is called."""

    def facts(self) -> dict[str, pl.Expr]:
        return {"text": pl.lit(1)}


def test_a_fact_is_measured_once_and_again_once_the_text_has_changed(tmp_path):
    docs = [document(0, "a", "long text"), document(1, "ab"), document(2, "abc", "d")]
    folder = write_documents(tmp_path / "in", [docs])
    MEASURED.clear()
    shared = filter_documents(folder, tmp_path / "shared", (Longer(min=3), Longer(min=6)), Engine())
    assert [height for height in MEASURED if height] == [3]
    assert shared.ledger.documents.rejected == {f"{members.key(Longer())}:short": 2}
    MEASURED.clear()
    cuts = (Longer(min=3), LongTexts(), Longer(min=4))
    between = filter_documents(folder, tmp_path / "between", cuts, Engine())
    assert [height for height in MEASURED if height] == [3, 2]
    assert between.ledger.documents.rejected == {
        f"{members.key(Longer())}:short": 2
    }  # "abc" is too short now


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ((Longer(), Longer(unit=1)), "its fact length otherwise than .*Longer does"),
        ((Shadow(),), "its fact text is a column of documents"),
    ],
)
def test_facts_that_do_not_fit_are_told_before_any_work(tmp_path, wrong, told):
    docs = write_documents(tmp_path / "in", [[document(0, "a")]])
    with pytest.raises(RecipeError, match=told):
        filter_documents(docs, tmp_path / "out", wrong, Engine())
    assert not (tmp_path / "out").exists()
