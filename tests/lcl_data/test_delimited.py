"""Tables of pairs as text: order of the columns, quotes, torn lines, large files in parts."""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.pairs import Pairs
from lcl_data.sources.cc3m import Cc3m
from lcl_data.sources.cc12m import Cc12m
from lcl_data.sources.laion import Laion
from schemas.errors import ShardError, SourceError
from tests.lcl_data.text_tables import LINES, URL, rows_of, text_file

PIECES = st.sampled_from([b"\t", b'"', b",", b"\n", b"http://h/", b"\xff", b"a"])


@pytest.mark.parametrize("name", ["x.tsv", "x.tsv.gz"])
@pytest.mark.parametrize("caption_first", [True, False])
@pytest.mark.parametrize("header", [True, False])
def test_the_two_orders_of_conceptual_captions_are_told_from_the_content(
    tmp_path, name, caption_first, header
):
    rows = [("url", "Caption"), *LINES] if header else LINES
    lines = ["\t".join(row[::-1] if caption_first else row) for row in rows]
    path = text_file(tmp_path / name, "\r\n".join(lines))
    for source in (Cc3m(), Cc12m()):
        documents = [row.document for row in rows_of(source, path)]
        assert [(d.images[0].url, d.texts[0]) for d in documents] == LINES


def test_an_order_that_the_content_leaves_open_is_refused(tmp_path):
    path = text_file(tmp_path / "x.tsv", "http://h.example/1\thttp://h.example/2\n" * 5)
    with pytest.raises(ShardError, match=r"x\.tsv: no header.*source\.columns"):
        rows_of(Cc3m(), path)
    rows = rows_of(Cc3m(columns=("caption", "url")), path)
    assert [row.document.images[0].url for row in rows] == ["http://h.example/2"] * 5
    three = text_file(tmp_path / "y.tsv", "http://h.example/1\ta\tb\n")
    with pytest.raises(ShardError, match="no header"):
        rows_of(Cc3m(), three)
    (row,) = rows_of(Cc3m(columns=("url", "caption", "score")), three)
    assert json.loads(row.document.images[0].meta) == {"score": "b"}


def test_lines_that_are_no_row_are_counted(tmp_path):
    good = "\t".join(LINES[0]).encode()
    lines = [good] * 60 + [b"\xff" + good, b"one column", good + b"\tthree", b"", b"x" * 300, good]
    found = rows_of(Cc12m(max_line_nbytes=200), text_file(tmp_path / "x.tsv", b"\n".join(lines)))
    reasons = [row.document.reason for row in found if isinstance(row.document, SourceError)]
    assert reasons == ["not_utf8", "wrong_columns", "wrong_columns", "line_too_long"]
    assert len(found) == 65
    at = sum(map(len, lines[:60])) + 60
    assert found[60].place == f"x.tsv@{at}"


def test_csv_fields_may_hold_commas_quotes_and_line_ends(tmp_path):
    captions = ["a, b", 'say "x"', "two\n\nlines", "été"]
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerows([("url", "text", "punsafe"), *((URL, caption, "0.5") for caption in captions)])
    for name in ("x.csv", "x.csv.gz"):
        rows = rows_of(Laion(), text_file(tmp_path / name, file.getvalue()))
        assert [row.document.texts[0] for row in rows] == captions
        assert json.loads(rows[0].document.images[0].meta) == {"punsafe": "0.5"}
    broken = text_file(tmp_path / "y.csv", f'url,text\n{URL},ok\n{URL},"open\n{URL},swallowed\n')
    first, second = rows_of(Laion(), broken)
    assert first.document.texts == ("ok",)
    assert second.document.reason == "broken_csv" and "2 lines" in second.document.detail


@pytest.mark.parametrize("size", [1, 7, 100, 1000, 10**6])
def test_a_large_tsv_comes_in_parts_that_lose_no_line_and_change_no_id(tmp_path, size):
    path = text_file(tmp_path / "x.tsv", "".join(f"{url}\t{caption}\n" for url, caption in LINES))
    whole = [row.document for row in rows_of(Cc12m(), path)]
    source = Cc12m(nbytes_per_shard=size)
    assert [row.document for row in rows_of(source, path)] == whole
    units = source.units(path)
    assert [unit.number for unit in units] == list(range(len(units)))
    assert len(units) == max(1, -(-path.stat().st_size // size))


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.tsv.gz"])
def test_numbers_of_a_table_of_text_are_columns_too(tmp_path, name):
    rows = [
        ("url", "caption", "width", "height", "similarity", "punsafe"),
        (URL, "a boat", " 640", "4.8e2", "0.31", "0.1"),
    ]
    rows += [(URL, "no numbers", "", "wide", "nan", ""), (URL, "odd ones", "1_0", "-5", "1e", "0x1")]
    separator = "," if ".csv" in name else "\t"
    found = rows_of(Laion(), text_file(tmp_path / name, "\n".join(separator.join(row) for row in rows)))
    boat, blank, odd = (row.document.images[0] for row in found)
    assert (boat.width, boat.height, boat.similarity) == (640, 480, pytest.approx(0.31))
    assert json.loads(boat.meta) == {"punsafe": "0.1"}
    for image in (blank, odd):
        assert (image.width, image.height, image.similarity) == (None, None, None)
    assert json.loads(blank.meta) == {"width": "", "height": "wide", "similarity": "nan", "punsafe": ""}
    assert json.loads(odd.meta) == {"width": "1_0", "height": "-5", "similarity": "1e", "punsafe": "0x1"}


@settings(max_examples=100)
@given(
    st.binary(max_size=200) | st.lists(PIECES).map(b"".join),
    st.sampled_from(["x.tsv", "x.csv"]),
    st.integers(1, 40),
)
def test_any_bytes_are_rows_or_rejections(tmp_path_factory, content, name, size):
    path = text_file(tmp_path_factory.mktemp("any") / name, content)
    source: Pairs = Laion(columns=("url", "caption"), nbytes_per_shard=size)
    found = rows_of(source, path)
    if name == "x.tsv":
        lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        assert len(found) == sum(bool(line.strip()) for line in lines)
