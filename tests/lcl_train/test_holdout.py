import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcl_data.shards import Shards
from lcl_train.holdout import LEAST, MOST, count, hashes, held_out
from lcl_train.loader import Fitting, Loader
from schemas.errors import ShardError
from tests.lcl_train import tiny


def chosen(folder, share=0.01, per_shard=16, documents=range(700)):
    shards = Shards(tiny.write_shards(folder, [tiny.document(n) for n in documents], per_shard))
    return {shards[int(row)].id for row in held_out(shards, 0, share)}


@pytest.mark.parametrize(
    ("rows", "share", "wanted"),
    [
        (0, 0.01, 0),
        (9, 0.01, 0),
        (100, 0.01, 10),
        (5000, 0.01, LEAST),
        (50_000, 0.01, 500),
        (10**8, 0.01, MOST),
        (10**8, 0.0, 0),
    ],
)
def test_the_share_has_bounds(rows, share, wanted):
    assert count(rows, share) == wanted


def test_the_choice_depends_on_ids_alone(tmp_path):
    found = chosen(tmp_path / "a")
    assert len(found) == LEAST
    assert found == chosen(tmp_path / "b", per_shard=100, documents=reversed(range(700)))


def test_a_corpus_that_grows_keeps_most_of_its_choice(tmp_path):
    before, after = chosen(tmp_path / "a"), chosen(tmp_path / "b", documents=range(1000))
    assert after & {f"{n:032x}" for n in range(700)} <= before


def test_rows_that_are_never_drawn_are_not_chosen(tmp_path):
    documents = [tiny.document(n, pictures=1 + (n >= 20)) for n in range(40)]
    shards = Shards(tiny.write_shards(tmp_path, documents))
    assert held_out(shards, 2, 0.01).min() >= 20
    assert len(held_out(shards, 2, 0.01)) == 2
    assert not len(held_out(shards, 0, 0.0))
    assert not len(held_out(shards, 3, 0.01))


def test_of_many_shards_a_few_are_asked(tmp_path):
    shards = Shards(tiny.write_shards(tmp_path, [tiny.document(n) for n in range(400)], per_shard=2))
    rows = held_out(shards, 0, 0.01)
    assert len(rows) == 64 * 2 // 10
    assert len(shards._open) <= 200


def test_no_part_of_a_document_held_out_is_learned_from_whatever_shard_it_is_in(tmp_path):
    """200 shards, 64 of them asked, and three in four documents with parts in two of them."""
    parts = [{**tiny.document(n), "id": f"{n // 4:032x}" + f"-{n % 4}" * (n % 4 > 0)} for n in range(600)]
    shards, settings = Shards(tiny.write_shards(tmp_path, parts, per_shard=3)), tiny.settings(rows=30)
    loader = Loader(shards, Fitting(settings.rows, settings.pack, 4, 16, seed=0, holdout=0.01), 0)
    held = {shards[row].id[:32] for row in loader.held.tolist()}
    batches = iter(loader)
    learned = {name[:32] for _ in range(loader.steps(1)) for name in next(batches).documents if name}
    batches.close()
    assert len(held) >= 5 and len(learned) + len(held) == 150 and not learned & held


@given(st.lists(st.text("0123456789abcdef", min_size=32, max_size=32), max_size=20))
def test_parts_of_a_document_go_together(ids):
    whole = hashes(pa.array(ids, pa.string()))
    parts = hashes(pa.array([f"{id}-{k + 1}" for k, id in enumerate(ids)], pa.string()))
    assert np.array_equal(whole, parts)
    assert len(set(whole.tolist())) == len(set(ids))


def test_a_slice_of_ids_hashes_as_the_ids_themselves():
    ids = pa.array(["a part-1", *(f"{n:032x}" for n in range(10))])
    assert np.array_equal(hashes(ids)[3:7], hashes(ids.slice(3, 4)))
    assert not len(hashes(ids.slice(0, 0)))


def test_hashes_of_neighbouring_ids_are_spread_evenly():
    numbers = hashes(pa.array([f"{n:032x}" for n in range(20_000)]))
    for bits in (numbers >> np.uint64(56), numbers & np.uint64(255)):
        assert np.bincount(bits.astype(np.int64), minlength=256).std() < 2 * (20_000 / 256) ** 0.5


def test_ids_that_are_not_ours_are_told():
    with pytest.raises(ShardError, match="no hexadecimal numbers"):
        hashes(pa.array(["é" * 32]))
