import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.sequence import Budget, Picture, Words, sequences, split
from lcl_data.tokenizer import load, train
from schemas.documents import Document, Image

LONG_WORDS = "photosynthesis naïve 東京 interleaved documents <start_of_img> of many words"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train([LONG_WORDS, "a b c d e f g"], 300, path)
    return load(str(path))


@pytest.fixture(scope="module")
def both(tokenizer):
    return [tokenizer, load("clip")]


def contents_of(document):
    contents = {image.key: f"bytes of {image.key}".encode() for image in document.images}
    return {key: (content, hashlib.sha256(content).hexdigest()) for key, content in contents.items()}


texts = st.lists(st.sampled_from(LONG_WORDS.split()), max_size=12).map(" ".join)


@st.composite
def documents(draw):
    """Texts and pictures in any order, some pictures belonging to any text."""
    kinds = draw(st.lists(st.booleans(), max_size=9))
    count = sum(kinds)
    anchors = st.none() | st.integers(0, count - 1) if count else st.none()
    items = []
    for number, is_text in enumerate(kinds):
        items.append(draw(texts) if is_text else Image(f"u{number}", key=f"k{number}", anchor=draw(anchors)))
    return Document("d", "made", tuple(items), "http://page/")


def body(row):
    return row.sequence.tokens[1:-1].tolist()


def whole(document, tokenizer):
    """What one endless row would hold between its start and end token."""
    joined = [
        (tokenizer.joint if number else "") + tokenizer.clean(text)
        for number, text in enumerate(document.texts)
    ]
    ids = iter(tokenizer.encode(joined))
    parts = [next(ids) if isinstance(item, str) else [tokenizer.special.image] for item in document.items]
    return [token for part in parts for token in part]


budgets = st.builds(
    lambda slots, more: Budget(slots + more + 2, slots), st.integers(1, 6), st.integers(0, 30)
)


@settings(max_examples=120)
@given(document=documents(), budget=budgets)
def test_the_parts_are_the_whole_and_none_exceeds_the_budget(both, document, budget):
    for tokenizer in both:
        rows = sequences(document, contents_of(document), tokenizer, budget)
        special = tokenizer.special
        assert [token for row in rows for token in body(row)] == whole(document, tokenizer)
        for row in rows:
            tokens = row.sequence.tokens
            images = len(row.sequence.images)
            assert tokens.dtype == np.int32
            assert (tokens[0], tokens[-1]) == (special.sot, special.eot)
            assert not {special.sot, special.eot} & set(body(row))
            assert len(tokens) + images * (budget.image_slots - 1) <= budget.max_tokens
            assert images == body(row).count(special.image) == len(row.sequence.image_keys)
        assert [row.sequence.id for row in rows] == ["d", *(f"d-{k}" for k in range(1, len(rows)))][
            : len(rows)
        ]


@settings(max_examples=120)
@given(document=documents(), budget=budgets)
def test_no_picture_and_no_text_is_lost(both, document, budget):
    for tokenizer in both:
        contents = contents_of(document)
        rows = sequences(document, contents, tokenizer, budget)
        if not rows:
            assert not document.images
            continue
        images = [image for row in rows for image in row.sequence.images]
        assert images == [contents[image.key][0] for image in document.images]
        keys = [key for row in rows for key in row.sequence.image_keys]
        assert keys == [contents[image.key][1] for image in document.images]
        kept = "".join(text or "" for row in rows for text in row.texts)
        assert squeezed(kept) == squeezed("".join(document.texts))


def squeezed(text):
    return "".join(text.split()).lower()


@settings(max_examples=120)
@given(document=documents(), budget=budgets)
def test_an_anchor_is_the_span_of_its_text_or_nothing(both, document, budget):
    for tokenizer in both:
        rows = sequences(document, contents_of(document), tokenizer, budget)
        joined = [
            (tokenizer.joint if n else "") + tokenizer.clean(text) for n, text in enumerate(document.texts)
        ]
        ids = tokenizer.encode(joined)
        anchors = [(row, span) for row in rows for span in row.sequence.anchors]
        for image, (row, span) in zip(document.images if rows else (), anchors, strict=True):
            if span is not None:
                assert row.sequence.tokens[slice(*span)].tolist() == ids[image.anchor]
            elif len(rows) == 1 and image.anchor is not None:
                assert not ids[image.anchor]


def test_a_picture_stays_with_its_sentence_when_the_document_is_split(tokenizer):
    items = ["a b c d", Image("u", key="k", anchor=1), "e f g", "a b c d"]
    document = Document("d", "made", tuple(items))
    sizes = [len(ids) for ids in tokenizer.encode(["a b c d", " e f g"])]
    budget = Budget(2 + sizes[0] + 2, 2)  # the picture alone would still fit into the first part
    first, second, *_ = sequences(document, contents_of(document), tokenizer, budget)
    assert first.texts == ["a b c d"]
    assert second.texts[:2] == [None, "e f g"]
    assert second.sequence.anchors == [(2, 2 + sizes[1])]


def test_only_a_text_that_alone_exceeds_the_budget_is_cut_inside():
    def words(owner, size):
        return Words(list(range(size)), "x" * size, owner, list(range(size)))

    parts = split([words(0, 6), words(1, 6), words(2, 25), Picture(b"", "", 2), words(3, 3)], Budget(12, 4))
    assert [[getattr(item, "text", "image") for item in part] for part in parts] == [
        ["x" * 6],
        ["x" * 6, "x" * 4],
        ["x" * 10],
        ["x" * 10],
        ["x" * 1, "image", "x" * 3],
    ]


def test_a_picture_whose_text_was_cut_keeps_its_place_only(tokenizer):
    document = Document("d", "made", (Image("u", key="k", anchor=0), LONG_WORDS))
    rows = sequences(document, contents_of(document), tokenizer, Budget(12, 4))
    assert len(rows) > 1
    assert rows[0].sequence.anchors == [None]
    assert rows[0].texts[0] is None
    assert "".join(text for row in rows for text in row.texts if text) == LONG_WORDS


def test_nothing_gives_no_row(both):
    for tokenizer in both:
        for items in [(), ("",), (Image("u", key="gone"),)]:
            assert sequences(Document("d", "made", items), {}, tokenizer, Budget(64, 8)) == []


def test_texts_do_not_run_into_each_other(tokenizer):
    document = Document("d", "made", ("ab", "cd"))
    (row,) = sequences(document, {}, tokenizer, Budget(64, 8))
    assert tokenizer.decode(row.sequence.tokens) == "ab cd"
