"""Documents: what goes into Arrow comes out again, and anchors cannot point outside the text."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.documents import (
    DOCUMENTS,
    IMAGE_STRUCT,
    Document,
    Image,
    document_id,
    from_row,
    to_row,
    to_table,
)
from schemas.errors import SourceError
from schemas.versions import check

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
INT32 = st.integers(-(2**31), 2**31 - 1)
OF_TYPE = {
    pa.string(): WORDS,
    pa.int32(): INT32,
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.bool_(): st.booleans(),
}
IMAGES = st.builds(
    Image,
    **{
        field.name: OF_TYPE[field.type] if not field.nullable else st.none() | OF_TYPE[field.type]
        for field in IMAGE_STRUCT
        if field.name != "anchor"
    },
)


@st.composite
def documents(draw):
    items = draw(st.lists(WORDS | IMAGES, max_size=6))
    texts = sum(isinstance(item, str) for item in items)
    anchors = st.none() | st.integers(0, texts - 1) if texts else st.none()
    items = tuple(
        item if isinstance(item, str) else Image(**{**values(item), "anchor": draw(anchors)})
        for item in items
    )
    optional = [draw(st.none() | WORDS) for _ in range(3)]
    return Document(draw(WORDS), draw(WORDS), items, *optional)


def values(image):
    return {field.name: getattr(image, field.name) for field in IMAGE_STRUCT}


@settings(max_examples=50)
@given(st.lists(documents(), max_size=4))
def test_document_to_arrow_to_document_is_the_identity(found):
    table = to_table(found)
    table.validate(full=True)
    assert table.schema.equals(DOCUMENTS, check_metadata=True)
    assert [from_row(row) for row in table.to_pylist()] == found
    assert table.equals(pa.Table.from_pylist([to_row(document) for document in found], schema=DOCUMENTS))


def test_the_identity_holds_through_parquet(tmp_path):
    pictures = [
        Image(f"http://h.example/{i}.jpg", anchor=0, phash=2**63 + i, similarity=0.25) for i in range(3)
    ]
    found = [
        Document(document_id("mmc4", "a.jsonl", i), "mmc4", ("", *pictures[:i], "word"), meta="{}")
        for i in range(4)
    ]
    path = tmp_path / "00000.parquet"
    pq.write_table(to_table([*found, Document("x", "mmc4", ())]), path)
    table = pq.read_table(path)
    assert [from_row(row) for row in table.to_pylist()] == [*found, Document("x", "mmc4", ())]
    check(table.schema.metadata, DOCUMENTS, path)


@pytest.mark.parametrize("anchor", [-1, 1, 7])
def test_an_anchor_outside_the_text_is_refused(anchor):
    with pytest.raises(SourceError, match=f"points at text {anchor} of 1") as error:
        Document("x", "mmc4", ("only", Image("http://h.example/a.jpg", anchor=anchor)))
    assert error.value.reason == "anchor_out_of_range"


def test_ids_are_of_places():
    places = [("mmc4", "a", 1), ("mmc4", "a", 11), ("mmc4", "a1", 1), ("obelics", "a", 1)]
    ids = {document_id(*place) for place in places}
    assert len(ids) == len(places)
    assert all(len(id) == 32 and set(id) <= set("0123456789abcdef") for id in ids)
