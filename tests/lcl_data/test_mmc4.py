"""MMC4: canonical order, every layout, and the law that a mangled row is counted and never raises."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.rows import Found, json_fields
from lcl_data.sources.mmc4 import Mmc4
from schemas.documents import Document, Image
from schemas.errors import RecipeError, SourceError
from tests.lcl_data.sentences import line, read_lines, upstream


def document_of(tmp_path, row):
    (found,) = read_lines(tmp_path, line(row))
    return found.document, found.lost


def order(document):
    return [item if isinstance(item, str) else item.url for item in document.items]


def test_the_readme_document_in_canonical_order(tmp_path):
    document, lost = document_of(tmp_path, upstream())
    s0, s1, s2 = upstream()["text_list"]
    names = [json.loads(i.meta)["image_name"] if isinstance(i, Image) else i for i in document.items]
    assert names == [s0, "db1c21bc8474.jpg", s1, "b9040a0dbb22.jpg", s2]
    assert [image.anchor for image in document.images] == [1, 2]
    assert lost == ()


def test_no_upstream_field_is_lost(tmp_path):
    row = upstream()
    row["image_info"][0]["face_detections"] = [{"box": [1, 2, 3, 4]}]
    row["image_info"][1]["license"] = "unknown"
    row["language"] = "en"
    document, _ = document_of(tmp_path, row)
    infos, matrix = {}, {}
    for image in document.images:
        meta = json.loads(image.meta)
        matrix[image.url] = meta.pop("similarities")
        infos[image.url] = {
            "raw_url": image.url, "matched_text_index": image.anchor, "matched_sim": image.similarity, **meta
        }  # fmt: skip
    urls = [info["raw_url"] for info in row["image_info"]]
    rebuilt = {
        "image_info": [infos[url] for url in urls],
        "similarity_matrix": [matrix[url] for url in urls],
        "text_list": list(document.texts),
        "url": document.url,
        **json.loads(document.meta),
    }
    assert rebuilt == row


def test_a_matrix_that_does_not_fit_stays_whole(tmp_path):
    row = upstream()
    row["similarity_matrix"] = [[0.5]]
    document, _ = document_of(tmp_path, row)
    assert json.loads(document.meta)["similarity_matrix"] == [[0.5]]


def test_images_of_one_sentence_keep_the_order_of_image_info(tmp_path):
    row = upstream()
    row["image_info"] = [
        {"raw_url": f"http://h.example/{k}.jpg", "matched_text_index": at, "matched_sim": 0.3}
        for k, at in enumerate((2, 0, 2, 0, 2))
    ]
    document, _ = document_of(tmp_path, row)
    s0, s1, s2 = row["text_list"]
    at = "http://h.example/{}.jpg".format
    assert order(document) == [at(1), at(3), s0, s1, at(0), at(2), at(4), s2]


def test_special_token_strings_stay_text(tmp_path):
    row = upstream()
    row["text_list"][0] = "<start_of_img> <img_placehold> <|endofchunk|> <image>"
    document, _ = document_of(tmp_path, row)
    assert document.texts[0] == row["text_list"][0]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"matched_text_index": 3}, "anchor_out_of_range"),
        ({"matched_text_index": -1}, "anchor_out_of_range"),
        ({"matched_text_index": "1"}, "bad_type"),
        ({"matched_text_index": True}, "bad_type"),
        ({"matched_sim": "high"}, "bad_type"),
        ({"raw_url": ""}, "bad_url"),
        ({"raw_url": "data:image/png;base64,AAAA"}, "bad_url"),
        ({"raw_url": "http://[::1"}, "bad_url"),
        ({"raw_url": None}, "bad_type"),
    ],
)
def test_a_bad_image_is_rejected_alone(tmp_path, entry, reason):
    row = upstream()
    row["image_info"][0] |= entry
    (found,) = read_lines(tmp_path, line(row))
    assert [error.reason for error in found.lost] == [reason]
    assert found.images == 2
    assert len(found.document.images) == 1
    assert len(found.document.texts) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"text_list": ["cut off\n', "broken_json"),
        (b'{"text_list": ["\xff\xfe"]}\n', "broken_json"),
        (b'{"text_list": ["\\ud800"]}\n', "broken_json"),
        (b'{"text_list": [NaN]}\n', "broken_json"),
        (b"[" * 100_000 + b"\n", "broken_json"),
        (b"[]\n", "not_an_object"),
        (b"null\n", "not_an_object"),
        (b'{"text_list": [], "image_info": []}\n', "missing_field"),
        (b'{"text_list": [], "image_info": [], "url": "http://h.example/"}\n', "empty"),
        (b'{"text_list": "a", "image_info": [], "url": "http://h.example/"}\n', "bad_type"),
        (b'{"text_list": [1], "image_info": [], "url": "http://h.example/"}\n', "bad_type"),
        (
            b'{"text_list": ["a"], "image_info": [], "url": "", "x": ' + b"[" * 500 + b"]" * 500 + b"}\n",
            "too_deep",
        ),
        (b'{"text_list": ["' + b"x" * 3000 + b'"]}\n', "line_too_long"),
    ],
)
def test_a_bad_line_is_a_reason_with_its_place(tmp_path, content, reason):
    good = line(upstream())
    limit = {"max_line_nbytes": 2000} if reason == "line_too_long" else {}
    before, bad, after = read_lines(tmp_path, good + content + b"\n \r\n" + good, **limit)
    assert isinstance(bad.document, SourceError)
    assert bad.document.reason == reason
    assert bad.place == "docs_shard_0_v2.jsonl:2"
    assert after.place.endswith(":5")
    assert isinstance(before.document, Document)
    assert isinstance(after.document, Document)
    assert before.document.id != after.document.id  # upstream repeats pages; ids are of places


def test_lines_longer_than_a_block(tmp_path):
    row = upstream()
    row["text_list"][0] = "word " * 700_000
    content = line(row) + line(upstream()) + line(row)[:-1]
    found = [read.document.texts[0] for read in read_lines(tmp_path, content)]
    assert found == [row["text_list"][0], upstream()["text_list"][0], row["text_list"][0]]


def test_missing_numbers_are_named_and_keep_their_place(tmp_path):
    for number in (3216, 3219, 3221):
        (tmp_path / f"docs_shard_{number}_v2.jsonl").write_bytes(line(upstream()))
    (tmp_path / "more.jsonl").write_bytes(line(upstream()))
    units = Mmc4().units(tmp_path)
    assert [unit.number for unit in units] == [3216, 3219, 3221, 3222]
    assert Mmc4().notes(units) == ["missing shard numbers: 3217, 3220", "never existed upstream: 3218"]


def test_one_shard_number_twice(tmp_path):
    for name in ("docs_shard_1_v2.jsonl", "docs_shard_1_v3.jsonl", "docs_shard_2_v2.jsonl"):
        (tmp_path / name).write_bytes(line(upstream()))
    units = Mmc4().units(tmp_path)
    assert [unit.number for unit in units] == [1, 2, 3]
    assert Mmc4().notes(units) == [
        "same shard number, all read: docs_shard_1_v2.jsonl, docs_shard_1_v3.jsonl"
    ]


def test_nothing_to_read(tmp_path):
    with pytest.raises(RecipeError, match=r"no file that ends in \.jsonl"):
        Mmc4().units(tmp_path)
    with pytest.raises(RecipeError, match="no such file"):
        Mmc4().units(tmp_path / "absent")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PLACES = st.sampled_from(
    [("text_list",), ("text_list", 0), ("image_info",), ("image_info", 0), ("url",), ("similarity_matrix",)]
    + [("image_info", 1, key) for key in upstream()["image_info"][0]]
)


@settings(max_examples=150)
@given(PLACES, JSON, st.booleans())
def test_a_mangled_row_is_counted_and_never_raises(place, value, drop):
    row = upstream()
    at = row
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    if drop:
        del at[place[-1]]
    check_balance(row_of(line(row)))


@settings(max_examples=100)
@given(st.binary(max_size=64), st.integers(0, 700))
def test_mangled_bytes_are_counted_and_never_raise(noise, at):
    raw = line(upstream())
    check_balance(row_of(raw[:at] + noise + raw[at + len(noise) :]))


def row_of(content):
    return Mmc4()._row(Found(":1", 1, json_fields(content, 1 << 20)), "here", "0" * 32)


def check_balance(row):
    if isinstance(row.document, Document):
        assert row.images == len(row.document.images) + len(row.lost)
    else:
        assert isinstance(row.document, SourceError)
        assert row.lost == ()
