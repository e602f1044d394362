"""Documents -> flat frames -> documents is the identity, whatever slice of a table they come from."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.frames import TEXTS, flatten, no_documents, read_frames
from lcl_data.stage import document_units
from schemas.documents import DOCUMENTS, Image, from_row, to_table
from tests.lcl_data.corpus import document, shards, write_documents


@given(shards(), st.integers(0, 3), st.integers(0, 2**31))
@settings(max_examples=30)
def test_flat_and_back(corpus, start, shard):
    documents = [each for part in corpus for each in part]
    table = to_table(documents)
    for batch in table.combine_chunks().to_batches():
        frames = flatten(batch.slice(start), shard << 32)
        assert [from_row(row) for row in frames.to_table().to_pylist()] == documents[start:]
        assert frames.to_table().schema.equals(DOCUMENTS, check_metadata=True)
        assert frames.count("images") == sum(len(each.images) for each in documents[start:])


def test_numbers_and_places():
    (batch,) = to_table([document(0), document(1, "a", Image("u")), document(2, "b")]).to_batches()
    frames = flatten(batch, 7 << 32)
    assert frames.documents["document"].to_list() == [7 << 32, (7 << 32) + 1, (7 << 32) + 2]
    assert frames.items.select("document", "item", "is_image").rows() == [
        ((7 << 32) + 1, 0, False),
        ((7 << 32) + 1, 1, True),
        ((7 << 32) + 2, 0, False),
    ]
    assert frames.summary().select("text", "texts", "images").rows() == [("", 0, 0), ("a", 1, 1), ("b", 1, 0)]


def test_columns_that_are_not_read_are_not_there(tmp_path):
    corpus = [[document(0), document(1, "a", Image("u")), document(2, "b")]]
    (unit,) = document_units(write_documents(tmp_path, corpus))
    (whole,), (texts,) = read_frames(unit), read_frames(unit, ("id", TEXTS))
    assert texts.documents.equals(whole.documents.select("document", "id"))
    assert texts.items.equals(whole.items.select("document", "item", "is_image", "text"))


def test_no_documents():
    assert no_documents().to_table().equals(DOCUMENTS.empty_table())
    assert document(0, "a").items == ("a",)
