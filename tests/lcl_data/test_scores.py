"""Scores of models as tables: every form and identifier, no row in RAM order, contradictions named."""

import json

import polars as pl
import pytest

from lcl_data import scoring
from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.score import Score
from lcl_data.report import report
from schemas.documents import Image
from schemas.errors import RecipeError
from schemas.manifest import read_manifest
from tests.lcl_data.corpus import bytes_of, document, read_documents, write_documents, write_store


def write_scores(path, rows):
    """A table of (identifier column, name, value) rows in the form its name asks for."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".csv":
        pl.DataFrame(rows).write_csv(path)
    else:
        pl.DataFrame(rows).with_columns(pl.col("value").cast(pl.Float32)).write_parquet(path)
    return path


def clip(identifier, **values):
    return [{identifier: name, "name": "clip", "value": value} for name, value in values.items()]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("identifier", ["url", "key", "sha256"])
def test_pictures_are_found_by_any_identifier(tmp_path, suffix, identifier):
    names = {"url": ["a", "b", "c"], "key": ["0000001", "0000002", "0000003"], "sha256": ["1a", "2b", "3c"]}
    pictures = [Image(url, key=key, sha256=digest) for url, key, digest in zip(*names.values(), strict=True)]
    docs = write_documents(tmp_path / "in", [[document(0, *pictures, "text")]])
    high, low, _ = names[identifier]
    rows = [*clip(identifier, **{high: 0.28, low: 0.27}), {identifier: high, "name": "other", "value": 0.0}]
    table = write_scores(tmp_path / f"scores{suffix}", rows)
    manifest = filter_documents(
        docs, tmp_path / "out", (Score(name="clip", min=0.28),), Engine(), scores=[table]
    )
    (kept,) = read_documents(tmp_path / "out")
    assert kept == document(0, pictures[0], "text")  # the threshold itself is kept, in float32 too
    assert manifest.ledger.images.rejected == {"score:clip_too_low": 1, "score:unmeasured": 1}
    assert [each.name for each in manifest.inputs] == ["documents", "scores"]


def test_documents_are_found_by_their_id_and_several_scores_cut(tmp_path):
    corpus = [document(n, f"text {n}", Image(f"u{n}")) for n in range(4)]
    docs = write_documents(tmp_path / "in", [corpus[:2], corpus[2:]])
    rows = [
        {"document_id": each.id, "name": name, "value": float(n)}
        for n, each in enumerate(corpus)
        for name in ("edu", "toxic")
    ]
    tables = tmp_path / "tables"
    tables.mkdir()
    write_scores(tables / "0.parquet", rows[:5])
    write_scores(tables / "1.csv", rows[5:])
    cuts = (
        Score(name="edu", min=1, level="document"),
        Score(name="toxic", max=2, level="document"),
    )
    filter_documents(docs, tmp_path / "out", cuts, Engine(), scores=[tables])
    assert read_documents(tmp_path / "out") == corpus[1:3]
    told = report(docs, cuts, Engine(), scores=[tables])
    assert told.ledger == read_manifest(tmp_path / "out").ledger
    assert told.facts["document"]["score_edu"].quantiles["p99"] == 3


def test_scores_by_content_need_only_the_store(tmp_path):
    images = write_store(
        tmp_path / "images", {"url": "http://h/a", "sha256": "aa"}, {"url": "http://h/b", "sha256": "bb"}
    )
    docs = write_documents(tmp_path / "in", [[document(0, Image("http://h/a"), Image("http://h/b"))]])
    table = write_scores(tmp_path / "s.parquet", clip("sha256", aa=0.5, bb=0.1))
    filter_documents(
        docs, tmp_path / "out", (Score(name="clip", min=0.3),), Engine(), images=images, scores=[table]
    )
    (kept,) = read_documents(tmp_path / "out")
    assert [image.url for image in kept.images] == ["http://h/a"]


def test_workers_parts_and_order_of_rows_change_no_byte(tmp_path, monkeypatch):
    corpus = [[document(20 * s + n, Image(f"u{n}"), f"{n}") for n in range(20)] for s in range(3)]
    docs = write_documents(tmp_path / "in", corpus)
    rows = clip("url", **{f"u{n}": n / 20 for n in range(20)})
    cuts = (Score(name="clip", min=0.25, max=0.8),)
    one, two = (
        write_scores(tmp_path / f"{n}.parquet", each) for n, each in enumerate([rows, [*rows[::-1], rows[0]]])
    )
    filter_documents(docs, tmp_path / "one", cuts, Engine(), scores=[one])
    filter_documents(docs, tmp_path / "three", cuts, Engine(3), scores=[one])
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "three")
    monkeypatch.setattr(scoring, "_PART_ROWS", 7)
    filter_documents(docs, tmp_path / "two", cuts, Engine(), scores=[two])
    assert read_documents(tmp_path / "two") == read_documents(tmp_path / "one")
    assert read_manifest(tmp_path / "two").digest != read_manifest(tmp_path / "one").digest


def test_the_key_is_believed_before_the_url(tmp_path):
    docs = write_documents(tmp_path / "in", [[document(0, Image("u", key="0001"))]])
    tables = [
        write_scores(tmp_path / "1.csv", clip("url", u=0.1)),
        write_scores(tmp_path / "2.csv", clip("key", **{"0001": 0.9})),
    ]
    filter_documents(docs, tmp_path / "out", (Score(name="clip", min=0.5),), Engine(), scores=tables)
    assert len(read_documents(tmp_path / "out")[0].images) == 1


def test_two_values_of_one_score_are_named(tmp_path):
    docs = write_documents(tmp_path / "in", [[document(0, Image("u"))]])
    one = write_scores(tmp_path / "1.csv", clip("url", v=0.5, u=0.1))
    two = write_scores(tmp_path / "2.parquet", clip("url", u=0.25))
    with pytest.raises(
        RecipeError, match=r"url u: has two values of score clip, 0.1 and 0.25 \(.*1.csv row 1"
    ):
        filter_documents(docs, tmp_path / "out", (Score(name="clip", min=0),), Engine(), scores=[one, two])


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("s.csv", "url,name,value\nu,blip,1\n", "score clip: in none of the tables; they have blip"),
        ("s.csv", "url,value\nu,1\n", "its columns are url, value; a table of scores has name, value"),
        ("s.csv", "url,key,name,value\nu,k,clip,1\n", "one of key, sha256, url, document_id"),
        ("s.csv", "url,name,value\nu,clip,high\n", r"table of scores \(.*`high`[^\n]*\); mend the table"),
        ("s.parquet", "nonsense", "not readable as a table of scores"),
        ("s.txt", "", "is a file ending in .parquet, .csv, .jsonl"),
        (None, None, "no such file"),
    ],
)
def test_a_wrong_table_is_told(tmp_path, name, content, told):
    docs = write_documents(tmp_path / "in", [[document(0, Image("u"))]])
    path = tmp_path / (name or "absent.csv")
    if name:
        path.write_text(content)
    with pytest.raises(RecipeError, match=told):
        filter_documents(docs, tmp_path / "out", (Score(name="clip", min=0),), Engine(), scores=[path])
    assert not list(tmp_path.glob("out/*.parquet"))


def test_a_score_without_table_and_a_table_without_score_are_told(tmp_path):
    docs = write_documents(tmp_path / "in", [[document(0, Image("u"))]])
    table = write_scores(tmp_path / "s.csv", clip("url", u=0.1))
    with pytest.raises(RecipeError, match="score clip: no table of scores; give one"):
        filter_documents(docs, tmp_path / "out", (Score(name="clip", min=0),), Engine())
    with pytest.raises(RecipeError, match=r"no filter cuts on one; add score: .* one of clip"):
        filter_documents(docs, tmp_path / "out", (), Engine(), scores=[table])
    with pytest.raises(ValueError, match="give a threshold"):
        Score(name="clip")
