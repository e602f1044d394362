"""Laws of cutting and packing: every token and image exactly once, budgets held, the same after a resume."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.shards import SpecialTokens
from lcl_train.pack import Packer, PackSettings, Piece, split
from schemas.errors import RecipeError

SPECIALS = SpecialTokens(sot=100, eot=101, image=102, boi=103, eoi=104, pad=105, vocab_size=106)


def document(draws):
    """0 is an image, else a token of text, all different."""
    tokens = [SPECIALS.image if not draw else 1000 + at for at, draw in enumerate(draws)]
    return np.array([SPECIALS.sot, *tokens, SPECIALS.eot], np.int32)


def piece(number, tokens, images):
    return Piece(number, -1, 0, 0, tokens, images)


def expanded_length(tokens, slots):
    return len(tokens) + (tokens == SPECIALS.image).sum() * (slots + 1)


@settings(max_examples=200)
@given(
    st.lists(st.sampled_from([0, 1, 1, 1, 1]), max_size=120),
    st.integers(1, 5),
    st.integers(9, 40),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.2, 1.0]),
    st.sampled_from([1, 3]),
)
def test_split_keeps_everything_once_within_the_budgets(draws, slots, longest, row_images, slack, times):
    """Rows of several times a part cut documents no other way than rows of one."""
    tokens, budget = document(draws), PackSettings(row_tokens=longest, row_images=row_images, slack=slack)
    if times > 1:
        budget = budget.model_copy(update={"row_tokens": times * longest, "part_tokens": longest})
    parts = split(tokens, SPECIALS, slots, budget)
    for part in parts:
        assert part.tokens.dtype == np.int32
        assert expanded_length(part.tokens, slots) <= longest
        assert part.images.stop - part.images.start == (part.tokens == SPECIALS.image).sum() <= row_images
        assert part.tokens[0] == SPECIALS.sot
        assert len(parts) == 1 or part.tokens[1:].tolist() not in ([], [SPECIALS.eot])
    rejoined = np.concatenate([parts[0].tokens, *(part.tokens[1:] for part in parts[1:])])
    assert np.array_equal(rejoined, tokens)
    assert [part.images.start for part in parts[1:]] == [part.images.stop for part in parts[:-1]]


def test_a_cut_beside_an_image_is_preferred_to_one_in_text():
    draws = [1] * 8 + [0] + [1] * 3 + [1] * 20
    near = split(document(draws), SPECIALS, 2, PackSettings(row_tokens=16, slack=0.2))
    far = split(document(draws), SPECIALS, 2, PackSettings(row_tokens=16, slack=0))
    assert near[0].tokens[-1] == SPECIALS.image
    assert far[0].tokens[-1] != SPECIALS.image


def test_a_document_that_fits_stays_whole():
    tokens = document([1, 0, 1])
    (part,) = split(tokens, SPECIALS, 4, PackSettings(row_tokens=10))
    assert part.tokens is tokens


@pytest.mark.parametrize("name", ["row_tokens", "part_tokens"])
def test_rows_and_parts_too_short_for_an_image_are_refused(name):
    with pytest.raises(RecipeError, match=f"{name} 19: an image takes 20"):
        split(document([0]), SPECIALS, 16, PackSettings(**{name: 19}))


def test_no_part_is_longer_than_a_row():
    """A preset's `part_tokens` does not stand in the way of short rows."""
    settings = PackSettings(row_tokens=30, part_tokens=31)
    assert (settings.longest, settings.limit) == (30, "row_tokens 30")


def test_rows_of_several_documents_are_full_where_rows_of_one_cannot_be():
    sizes = np.random.default_rng(0).integers(1100, 1900, 2000).tolist()
    filled = []
    for times in (1, 8):
        packer = Packer(PackSettings(row_tokens=2048 * times, part_tokens=2048, row_images=24 * times))
        rows_of(packer, [piece(number, size, 1) for number, size in enumerate(sizes)])
        filled.append(packer.stats.fill)
    assert filled[0] < 0.75 and filled[1] > 0.95


pieces = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3)), max_size=60).map(
    lambda sizes: [piece(number, *size) for number, size in enumerate(sizes)]
)


def rows_of(packer, waiting):
    rows = []
    for piece in waiting:
        packer.push(piece)
        while packer.is_full:
            rows.append(packer.pop())
    while len(packer):
        rows.append(packer.pop())
    return rows


@given(pieces)
def test_every_piece_is_in_one_row_and_no_row_is_over_a_budget(waiting):
    packer = Packer(PackSettings(row_tokens=30, row_images=3, lookahead=5))
    rows = rows_of(packer, waiting)
    assert sorted(piece for row in rows for piece in row) == waiting
    assert all(
        sum(piece.tokens for piece in row) <= 30 and sum(piece.images for piece in row) <= 3 for row in rows
    )
    assert packer.stats.rows == len(rows)
    assert packer.stats.tokens == sum(piece.tokens for piece in waiting)
    assert packer.stats.image_budget == 3 * len(rows)


@given(pieces, st.integers(0, 60))
def test_a_resumed_packer_makes_the_same_rows(waiting, stop):
    budget = PackSettings(row_tokens=30, row_images=3, lookahead=5)
    whole, first, second = Packer(budget), Packer(budget), Packer(budget)
    expected, rows = rows_of(whole, waiting), []
    for piece in waiting[:stop]:
        first.push(piece)
        while first.is_full:
            rows.append(first.pop())
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert rows + rows_of(second, waiting[stop:]) == expected
    assert second.stats == whole.stats


def row_by_hand(waiting, budget):
    """The first row as the class says it, from pieces in the order of their arrival."""
    row = [waiting[0]]
    for piece in sorted(waiting[1:], key=lambda piece: -piece.tokens):
        tokens, images = (sum(each) for each in zip(*((p.tokens, p.images) for p in row), strict=True))
        if tokens + piece.tokens <= budget.row_tokens and images + piece.images <= budget.row_images:
            row.append(piece)
    return row


@given(pieces.filter(bool))
def test_a_row_is_the_oldest_piece_and_the_largest_that_fit(waiting):
    budget = PackSettings(row_tokens=30, row_images=3)
    packer = Packer(budget)
    for piece in waiting:
        packer.push(piece)
    while waiting:
        expected = row_by_hand(waiting, budget)
        assert packer.pop() == expected
        waiting = [piece for piece in waiting if piece not in expected]


def test_the_oldest_piece_never_starves():
    packer = Packer(PackSettings(row_tokens=30, lookahead=4))
    packer.push(piece(-1, 8, 0))
    for number in range(8):
        packer.push(piece(number, 30, 0))
    assert packer.pop()[0].row == -1


def test_a_piece_larger_than_a_row_is_refused():
    with pytest.raises(RecipeError, match="split the document first"):
        Packer(PackSettings(row_tokens=30)).push(piece(0, 31, 0))


@pytest.mark.parametrize(("words", "images", "slots"), [(1800, 2, 49), (1800, 2, 196), (300, 4, 64)])
def test_rows_of_web_documents_are_full(words, images, slots):
    """Lognormal lengths around the median, images anywhere; the tail of a finite stream is left out."""
    generator, budget = np.random.default_rng(0), PackSettings(row_tokens=2048)
    packer = Packer(budget)
    for number in range(1500):
        length = int(words * 1.3 * np.exp(generator.normal(0, 1))) + 1
        draws = np.ones(length + 20, int)
        draws[generator.choice(len(draws), min(generator.poisson(images), 20), replace=False)] = 0
        for at, part in enumerate(split(document(draws), SPECIALS, slots, budget)):
            count = part.images.stop - part.images.start
            packer.push(Piece(number, -1, 0, at, expanded_length(part.tokens, slots), count))
        while packer.is_full:
            packer.pop()
    assert packer.stats.fill > 0.95, packer.stats
    assert 0 < packer.stats.image_fill < 1
