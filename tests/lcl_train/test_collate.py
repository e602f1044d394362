"""What a batch holds, spelled out for documents small enough to read."""

import pytest
import torch

from lcl_data.shards import SpecialTokens
from lcl_train.collate import Placed, collate, key_number
from schemas.errors import RecipeError
from tests.lcl_train import tiny

SPECIALS = SpecialTokens(sot=100, eot=101, image=102, boi=103, eoi=104, pad=105, vocab_size=106)
SOT, EOT, IMAGE, BOI, EOI, PAD = 100, 101, 102, 103, 104, 105


def placed(*tokens):
    keys = [f"{at:015x}{0:049x}" for at, token in enumerate(tokens) if token == IMAGE]
    return Placed(tiny.part(tokens, IMAGE), keys, "doc", "tiny")


def batch_of(*rows, row_tokens=24, slots=2):
    images = sum(len(document.image_keys) for row in rows for document in row)
    return collate(rows, torch.zeros(images, 3, 4, 4), SPECIALS, slots, row_tokens)


def test_an_image_token_becomes_its_frame_and_slots():
    batch = batch_of([placed(SOT, IMAGE, IMAGE, 7, IMAGE)], row_tokens=14)
    frame = [BOI, IMAGE, IMAGE, EOI]
    assert batch.tokens.tolist() == [SOT, *frame, *frame, 7, *frame]
    assert batch.visual_index.tolist() == [-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, -1, 4, 5, -1]
    assert batch_of([placed(SOT)], row_tokens=1).tokens.tolist() == [SOT]


def test_every_index_of_one_row():
    batch = batch_of([placed(SOT, 7, IMAGE, 8, EOT), placed(SOT, 9, EOT)], row_tokens=14)
    frame = [BOI, IMAGE, IMAGE, EOI]
    assert batch.tokens.tolist() == [SOT, 7, *frame, 8, EOT, SOT, 9, EOT, PAD, PAD, PAD]
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 0, 0, 0]
    assert batch.segments.lengths == (8, 3, 3)
    assert batch.visual_index.tolist() == [-1] * 3 + [0, 1] + [-1] * 9
    assert (batch.pair_position.tolist(), batch.pair_image.tolist()) == ([2], [0])
    assert batch.label_position.tolist() == [0, 1, 5, 6, 8, 9]
    assert batch.labels.tolist() == [7, BOI, 8, EOT, 9, EOT]
    assert (batch.n_tokens, batch.n_parts, batch.n_images) == (11, 2, 1)
    assert (batch.documents, batch.sources) == (("doc", "doc", ""), ("tiny", "tiny", ""))


def test_rows_lie_end_to_end():
    batch = batch_of([placed(SOT, 7, EOT)], [placed(SOT, 8, IMAGE, EOT)], row_tokens=8)
    assert len(batch.tokens) == 16
    assert batch.pair_position.tolist() == [10]
    assert batch.segments.lengths == (3, 5, 7, 1)


@pytest.mark.parametrize(
    ("tokens", "pairs"),
    [
        ((SOT, IMAGE, 7, EOT), []),
        ((IMAGE, 7, EOT), []),
        ((SOT, IMAGE, IMAGE, 7, EOT), [1]),
        ((SOT, 7, IMAGE, 8, IMAGE, EOT), [0, 1]),
        ((7, IMAGE, EOT), [0]),
    ],
)
def test_an_image_is_a_pair_only_with_something_of_its_document_before_it(tokens, pairs):
    neighbour = placed(SOT, 9, EOT)
    assert batch_of([placed(*tokens)]).pair_image.tolist() == pairs
    assert batch_of([neighbour, placed(*tokens)]).pair_image.tolist() == pairs


def test_copies_of_a_picture_share_a_number():
    assert key_number("ab" * 32) == key_number("ab" * 32) != key_number("ac" * 32)
    assert 0 <= key_number("f" * 64) < 2**63


def test_pairs_of_one_context_share_a_number():
    first, copy = placed(SOT, 7, IMAGE, 8, IMAGE, EOT), placed(SOT, 7, IMAGE, 8, IMAGE, EOT)
    other = Placed(tiny.part([SOT, 7, IMAGE, 8, IMAGE, EOT], IMAGE), ["ab" * 32, "cd" * 32])
    contexts = batch_of([first, copy, other], row_tokens=48).pair_context.tolist()
    assert contexts[:2] == contexts[2:4] and contexts[0] == contexts[4]
    assert len({contexts[0], contexts[1], contexts[5]}) == 3  # another picture before it is another context


def test_a_batch_without_pictures_holds_a_blank_one():
    batch = batch_of([placed(SOT, 7, EOT)])
    assert batch.pixels.shape == (1, 3, 4, 4) and batch.n_images == 0
    assert (batch.visual_index == -1).all() and not len(batch.pair_image)


def test_a_row_that_is_too_long_is_refused():
    with pytest.raises(RecipeError, match="5 tokens exceeds row_tokens 4"):
        batch_of([placed(SOT, 1, 2, 3, EOT)], row_tokens=4)


def test_images_must_match_their_tokens():
    with pytest.raises(RecipeError, match="2 images, 1 image keys"):
        collate([[placed(SOT, IMAGE, EOT)]], torch.zeros(2, 3, 4, 4), SPECIALS, 2, 16)


def test_a_batch_moves_as_a_whole():
    batch = batch_of([placed(SOT, 7, IMAGE, EOT)]).to("meta")
    assert batch.tokens.is_meta and batch.pixels.is_meta and batch.segments.bounds.is_meta
    assert batch.n_parts == 1
