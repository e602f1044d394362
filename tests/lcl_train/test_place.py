"""Placement by the coin: nothing but the images moves, and each only to one of the two sides of its text."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lcl_train.place import place, toss

SOT, EOT, IMAGE = 90, 91, 99


def run(tokens, anchors, coin):
    moved, order = place(np.array(tokens, np.int32), anchors, np.array(coin, bool), IMAGE)
    return moved.tolist(), order.tolist()


def test_heads_is_before_and_tails_after():
    tokens = [SOT, IMAGE, 1, 2, 3, EOT]
    assert run(tokens, [(2, 5)], [True]) == (tokens, [0])
    assert run(tokens, [(2, 5)], [False]) == ([SOT, 1, 2, 3, IMAGE, EOT], [0])


def test_images_of_one_text_keep_their_order_on_a_side():
    tokens = [SOT, IMAGE, IMAGE, IMAGE, 1, 2, EOT]
    anchors = [(4, 6)] * 3
    assert run(tokens, anchors, [False] * 3) == ([SOT, 1, 2, IMAGE, IMAGE, IMAGE, EOT], [0, 1, 2])
    assert run(tokens, anchors, [False, True, True]) == ([SOT, IMAGE, IMAGE, 1, 2, IMAGE, EOT], [1, 2, 0])


def test_images_pass_one_another():
    tokens = [SOT, IMAGE, 1, 2, IMAGE, 3, EOT]
    assert run(tokens, [(2, 4), (5, 6)], [False, True]) == ([SOT, 1, 2, IMAGE, IMAGE, 3, EOT], [0, 1])
    assert run(tokens, [(5, 6), (2, 4)], [False, True]) == ([SOT, IMAGE, 1, 2, 3, IMAGE, EOT], [1, 0])


def test_an_image_without_a_text_stays():
    tokens = [SOT, 1, IMAGE, 2, IMAGE, EOT]
    assert run(tokens, [None, (3, 3)], [False, False]) == (tokens, [0, 1])


@st.composite
def documents(draw):
    texts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    tokens, spans, number = [SOT], [], 0
    per_text = [draw(st.integers(0, 3)) for _ in texts]
    for length, images in zip(texts, per_text, strict=True):
        tokens += [IMAGE] * images
        spans += [(len(tokens), len(tokens) + length)] * images
        tokens += range(number, number + length)
        number += length
    anchors = [draw(st.sampled_from([span, None])) for span in spans]
    return [*tokens, EOT], anchors, [draw(st.booleans()) for _ in spans]


@given(documents())
def test_text_keeps_its_order_and_every_image_stands_at_its_text(document):
    tokens, anchors, coin = document
    moved, order = run(tokens, anchors, coin)
    assert [token for token in moved if token != IMAGE] == [token for token in tokens if token != IMAGE]
    assert sorted(order) == list(range(len(anchors)))
    places = [at for at, token in enumerate(moved) if token == IMAGE]
    for at, image in zip(places, order, strict=True):
        if anchors[image] is not None:
            text = tokens[slice(*anchors[image])]
            here = [token for token in (moved[at:] if coin[image] else moved[at::-1]) if token != IMAGE]
            assert here[0] == (text[0] if coin[image] else text[-1])


def test_the_coin_is_fair_and_falls_anew_each_epoch_but_never_otherwise():
    assert np.array_equal(toss(1, 2, "a", 64), toss(1, 2, "a", 64))
    assert not np.array_equal(toss(1, 2, "a", 64), toss(1, 3, "a", 64))
    assert not np.array_equal(toss(1, 2, "a", 64), toss(1, 2, "b", 64))
    assert abs(np.mean([toss(0, 0, str(n), 8).mean() for n in range(500)]) - 0.5) < 0.02
