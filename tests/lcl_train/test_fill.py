"""The bound that benchmarks/fill.py holds the packer against: no packing takes fewer rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fill import fill, least_rows, pieces
from lcl_data.shards import Shards
from lcl_train.loader import Fitting, Loader
from lcl_train.pack import PackSettings, Piece
from tests.lcl_train import tiny

ROW = 24
PACK = PackSettings(row_tokens=ROW, row_images=99, lookahead=100)


def least_by_search(sizes, rows=()):
    """The fewest rows, by trying every row for every piece."""
    if not sizes:
        return len(rows)
    first, *others = sizes
    tried = {room for room in rows if room >= first}
    with_old = (
        least_by_search(others, (*rows[: (at := rows.index(room))], room - first, *rows[at + 1 :]))
        for room in tried
    )
    return min([least_by_search(others, (*rows, ROW - first)), *with_old])


@given(st.lists(st.integers(1, ROW), min_size=1, max_size=6))
def test_no_packing_takes_fewer_rows_than_the_bound(sizes):
    assert least_rows(sizes, ROW) <= least_by_search(sizes)


@pytest.mark.parametrize(
    ("sizes", "rows"), [([13] * 5, 5), ([24, 12, 12, 6, 6, 12], 3), ([15, 15, 10, 10], 3), ([9, 9, 6], 1)]
)
def test_the_bound_is_reached_where_sizes_leave_no_choice(sizes, rows):
    assert least_rows(sizes, ROW) == rows == least_by_search(sizes)
    share, _ = fill([Piece(n, -1, 0, 0, size, 0) for n, size in enumerate(sizes)], PACK)
    assert share == pytest.approx(sum(sizes) / ROW / rows)


def test_the_pieces_are_those_of_an_epoch(tmp_path):
    documents = [tiny.document(n, pictures=1 + n % 3) for n in range(40)]
    shards = Shards(tiny.write_shards(tmp_path, documents))
    pack = tiny.settings().pack
    found = pieces(shards, 4, pack, 1)
    assert sorted({piece.row for piece in found}) == list(range(40))
    loader = Loader(shards, Fitting(2, pack, 4, 16, 0), 0)
    assert sum(piece.tokens for piece in found) == sum(batch.n_tokens for batch in loader.once())
