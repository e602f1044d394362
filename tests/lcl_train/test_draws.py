"""Laws of drawing: every document once an epoch, sources in exact proportion, the same after a resume."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.shards import Shards
from lcl_train import draws
from lcl_train.draws import Mixture, Source
from tests.lcl_train import tiny

DOCUMENTS = [tiny.document(number, pictures=number % 3) for number in range(50)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return Shards(tiny.write_shards(tmp_path_factory.mktemp("shards"), DOCUMENTS, per_shard=7))


def everything(rows, images):
    return np.ones(len(rows), np.bool_)


def source(shards, choice=everything, seed=0):
    return Source(shards, np.arange(len(shards.paths)), choice, (seed,))


@pytest.mark.parametrize("window", [1, 10, 20, 1000])
def test_every_epoch_has_every_document_once_in_an_order_of_its_own(shards, monkeypatch, window):
    monkeypatch.setattr(draws, "WINDOW_ROWS", window)
    one = source(shards)
    epochs = [[one.next() for _ in range(50)] for _ in range(3)]
    for number, epoch in enumerate(epochs):
        assert sorted(drawn.row for drawn in epoch) == list(range(50))
        assert {drawn.epoch for drawn in epoch} == {number}
        for drawn in epoch:
            assert (drawn.tokens, drawn.images) == (shards.lengths[drawn.row], shards.image_counts[drawn.row])
    rows = [[drawn.row for drawn in epoch] for epoch in epochs]
    assert rows[0] != rows[1] != rows[2]
    assert [drawn.row for drawn in one.epoch()] == rows[0]


@pytest.mark.parametrize("window", [1, 10, 1000])
@settings(max_examples=20)
@given(stop=st.integers(0, 120))
def test_a_source_goes_on_where_it_stood(shards, window, stop):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draws, "WINDOW_ROWS", window)
        rich = lambda rows, images: images > 0  # noqa: E731
        one, other = source(shards, rich), source(shards, rich)
        for _ in range(stop):
            one.next()
        other.go_to(one.passed)
        assert [one.next() for _ in range(40)] == [other.next() for _ in range(40)]


def test_only_the_window_at_hand_is_opened(shards, monkeypatch, tmp_path):
    monkeypatch.setattr(draws, "WINDOW_ROWS", 10)
    fresh = Shards(shards.folders)
    fresh._open.clear()
    first = source(fresh)
    first.next()
    assert len(fresh._open) <= 2
    drawn, documents = source(fresh).sample()
    assert len(drawn) <= 14 and documents == 50


def test_a_window_that_was_looked_at_is_not_opened_again(shards, monkeypatch):
    fresh = Shards(shards.folders)
    one = source(fresh)
    drawn, _ = one.sample()
    monkeypatch.setattr(fresh, "file", None)
    assert [one.next() for _ in range(50)] == [tuple(fields) for fields in drawn.tolist()]
    one.go_to(7)
    assert one.next() == tuple(drawn[7])


def test_a_sample_looks_on_until_it_finds_something(shards, monkeypatch):
    monkeypatch.setattr(draws, "WINDOW_ROWS", 1)
    one_row = source(shards, lambda rows, images: rows == 33)
    assert [one_row.next().row for _ in range(3)] == [33, 33, 33]
    drawn, documents = one_row.sample()
    assert drawn[:, 0].tolist() == [33]
    assert documents >= 1
    assert source(shards, lambda rows, images: rows < 0).sample()[1] == 0


class Numbers:
    """A source that only counts."""

    passed = 0

    def next(self):
        self.passed += 1
        return self


@settings(max_examples=50)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_a_mixture_never_strays_a_whole_document(weights):
    sources = [Numbers() for _ in weights]
    mixture, seen = Mixture(sources, weights), Counter()
    for total in range(1, 400):
        seen[sources.index(mixture.next())] += 1
        for number, weight in enumerate(weights):
            assert abs(seen[number] - total * weight / sum(weights)) < 1 + 1e-9
