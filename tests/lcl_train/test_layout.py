"""What each layout makes of a document: every picture and its text, once, in parts that fit a row."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from lcl_data.shards import Sequence, SpecialTokens
from lcl_train.collate import IGNORED, Placed, collate
from lcl_train.layout import Draw, Layout, lay_out, part_tokens
from lcl_train.pack import PackSettings
from schemas.errors import RecipeError

SPECIALS = SpecialTokens(sot=100, eot=101, image=102, boi=103, eoi=104, pad=105, vocab_size=106)
SOT, EOT, IMAGE, BOI, EOI, PAD = 100, 101, 102, 103, 104, 105
PACK = PackSettings(row_tokens=64, row_images=8, lookahead=4)
SLOTS = 4


def document(tokens, anchors, name="doc"):
    count = tokens.count(IMAGE)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    keys = [f"{at:064x}" for at in range(count)]
    return Sequence(name, np.array(tokens, np.int32), [buffer.getvalue()] * count, keys, anchors, "tiny")


ANCHORED = document([SOT, 1, 2, IMAGE, 3, 4, IMAGE, 5, EOT], [(1, 3), (4, 6)])
OTHER = document([SOT, 8, 9, IMAGE, EOT], [(1, 3)], "other")


def laid(layout, own=ANCHORED, before=OTHER, pack=PACK):
    return lay_out(Draw(own, before, 0, 0), layout, SPECIALS, SLOTS, pack)


def tokens_of(part):
    return [segment.tokens.tolist() for segment in part.segments]


def batch_of(parts):
    placed = [Placed(part, [f"{k:064x}" for k in part.pictures], "doc", "tiny") for part in parts]
    pixels = torch.zeros(sum(len(part.pictures) for part in parts), 3, 16, 16, dtype=torch.uint8)
    return collate([placed], pixels, SPECIALS, SLOTS, 80)


def test_pairs_are_each_picture_with_its_text():
    parts = laid(Layout("pairs"))
    assert [tokens_of(part) for part in parts] == [[[SOT, 1, 2, BOI]], [[SOT, 3, 4, BOI]]]
    assert [part.pictures.tolist() for part in parts] == [[0], [1]]
    assert [part_tokens(part, SPECIALS, SLOTS) for part in parts] == [4, 4]


def test_captions_and_mismatches_share_the_picture():
    first, second = laid(Layout("pairs", captions=True, mismatches=True))
    assert tokens_of(first) == [[SOT, 1, 2, BOI], [IMAGE, 1, 2, EOT], [IMAGE, 8, 9, EOT]]
    assert part_tokens(first, SPECIALS, SLOTS) == 4 + 2 * (4 + SLOTS + 1)
    batch = batch_of([first, second])
    assert batch.n_images == 2 and batch.pair_image.tolist() == [0, 1]
    assert batch.matches.tolist() == [1, 0, 1, 0]
    assert batch.tokens[batch.match_position].tolist() == [EOT] * 4
    assert batch.labels.tolist() == [1, 2, EOT, 3, 4, EOT]  # captions are told, contexts and mismatches not
    slots = batch.visual_index[batch.visual_index >= 0].tolist()
    assert slots == [0, 1, 2, 3] * 2 + [4, 5, 6, 7] * 2


def test_a_picture_without_an_anchor_has_the_text_after_it_else_before():
    own = document([SOT, 1, 2, IMAGE, 3, IMAGE, IMAGE, EOT], [None, None, None])
    assert [tokens_of(part)[0] for part in laid(Layout("pairs"), own)] == [[SOT, 3, BOI], [SOT, 3, BOI]]
    lonely = document([SOT, 1, 2, IMAGE, EOT], [None])
    assert tokens_of(laid(Layout("pairs"), lonely)[0]) == [[SOT, 1, 2, BOI]]


@pytest.mark.parametrize(("captions", "mismatches"), [(False, False), (True, False), (True, True)])
def test_long_texts_are_cut_so_that_a_pair_just_fits_its_row(captions, mismatches):
    own = document([SOT, *range(1, 80), IMAGE, EOT], [(1, 80)])
    other = document([SOT, *range(80, 0, -1), IMAGE, EOT], [(1, 81)])
    layout = Layout("pairs", captions=captions, mismatches=mismatches)
    (part,) = laid(layout, own, other)
    texts = 1 + captions + mismatches
    assert len(part.segments) == texts
    assert PACK.longest - texts < part_tokens(part, SPECIALS, SLOTS) <= PACK.longest


def test_texts_are_cut_to_what_is_asked_and_too_short_a_row_is_told():
    own = document([SOT, *range(1, 60), IMAGE, EOT], [(1, 60)])
    layout = Layout("pairs", captions=True, mismatches=True)
    (short,) = laid(Layout("pairs", text_tokens=5), own)
    assert tokens_of(short) == [[SOT, 1, 2, 3, 4, 5, BOI]]
    with pytest.raises(RecipeError, match="row_tokens 16: pairs take 19"):
        laid(layout, own, pack=PackSettings(row_tokens=16, row_images=1))


def test_an_interleaved_document_is_one_causal_segment():
    (part,) = laid(Layout())
    (segment,) = part.segments
    assert sorted(segment.tokens.tolist()) == sorted(ANCHORED.tokens.tolist())
    assert batch_of([part]).segments.causal


def test_what_is_masked_is_what_is_told():
    own = document([SOT, *range(1, 40), IMAGE, EOT], [(1, 40)])
    layout = Layout(text_mask=0.4, image_mask=0.5)
    (part,) = laid(layout, own)
    assert np.array_equal(laid(layout, own)[0].segments[0].tokens, part.segments[0].tokens)
    batch = batch_of([part])
    assert not batch.segments.causal
    assert (batch.tokens[batch.label_position] == PAD).all()
    assert 0.2 < len(batch.labels) / 39 < 0.6
    assert not {SOT, EOT, IMAGE, BOI, EOI, PAD, IGNORED} & set(batch.labels.tolist())
    assert sorted([*batch.labels.tolist(), *(t for t in batch.tokens.tolist() if t < 100)]) == list(
        range(1, 40)
    )
    assert batch.positions.tolist()[:46] == list(range(46))
    assert batch.hidden.shape == (1, SLOTS)


def test_a_foreign_text_that_reads_the_same_is_no_mismatch():
    layout = Layout("pairs", captions=True, mismatches=True)
    assert [part.segments[-1].matches for part in laid(layout, OTHER, OTHER)] == [True]
