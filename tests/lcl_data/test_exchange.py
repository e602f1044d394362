"""Laws of the exchange: the answer depends neither on buckets nor on workers; a killed run resumes."""

import polars as pl
import pytest

from lcl_data.engine import Engine
from lcl_data.exchange import buckets_for, exchange, hashes, remove, scratch
from lcl_data.stage import Unit
from schemas.errors import ShardError


def words_of(unit):
    """The words of a unit, keyed by their hash; a unit whose payload is a path to nothing is torn."""
    if unit.payload is None:
        raise ShardError(f"{unit.name}: torn")
    words = unit.payload.split()
    key, check = hashes(words).T
    frame = pl.DataFrame({"key": key, "check": check, "word": words}, schema_overrides={"word": pl.String})
    return frame.with_columns(document=pl.int_range(pl.len(), dtype=pl.UInt64) + (unit.number << 32))


def count(rows):
    return rows.group_by("word").agg(pl.len().alias("n"), pl.col("document").min())


UNITS = [Unit(n, f"{n}", " ".join(f"w{(n * k) % 17}" for k in range(n))) for n in range(150)]


def answers(paths):
    return pl.concat([pl.read_parquet(path) for path in paths]).sort("word")


@pytest.mark.parametrize("buckets", [1, 7])
def test_the_answer_is_that_of_one_query_over_everything(tmp_path, buckets):
    paths = exchange(tmp_path / "x", UNITS, words_of, count, buckets, Engine())
    assert len(paths) == buckets
    assert answers(paths).equals(count(pl.concat([words_of(unit) for unit in UNITS])).sort("word"))
    assert all(pl.read_parquet(path)["word"].is_sorted() for path in paths)


def test_bytes_do_not_depend_on_the_parts_in_which_keys_are_written(tmp_path, monkeypatch):
    units = UNITS + UNITS[::-1]  # more than 128: groups of several units
    whole = exchange(tmp_path / "whole", units, words_of, count, 3, Engine())
    assert {len(list(group.iterdir())) for group in (tmp_path / "whole/keys").iterdir()} == {1}
    monkeypatch.setattr("lcl_data.exchange._PART_BYTES", 1)
    parts = exchange(tmp_path / "parts", units, words_of, count, 3, Engine())
    assert max(len(list(group.iterdir())) for group in (tmp_path / "parts/keys").iterdir()) > 1
    assert [path.read_bytes() for path in whole] == [path.read_bytes() for path in parts]


def test_bytes_do_not_depend_on_workers(tmp_path):
    one = exchange(tmp_path / "one", UNITS[:30], words_of, count, 3, Engine(1))
    two = exchange(tmp_path / "two", UNITS[:30], words_of, count, 3, Engine(2))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_a_stopped_run_resumes_where_it_was(tmp_path):
    folder = scratch(tmp_path, "words", "0123456789abcdef0")
    with pytest.raises(ShardError):
        exchange(folder, [*UNITS[:64], Unit(200, "torn", None)], words_of, count, 3, Engine())
    made = {path: path.stat().st_mtime_ns for path in (folder / "keys").glob("*/*/*.parquet")}
    mended = [*UNITS[:64], Unit(200, "mended", "a b c")]
    paths = exchange(folder, mended, words_of, count, 3, Engine())
    assert made
    assert all(path.stat().st_mtime_ns == at for path, at in made.items())
    assert not list(folder.rglob(".tmp-*"))
    fresh = exchange(tmp_path / "fresh", mended, words_of, count, 3, Engine())
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in fresh]
    remove(tmp_path)
    assert not folder.exists()


def test_what_a_worker_that_was_given_up_has_made_meanwhile_is_taken(tmp_path):
    folder, units = tmp_path / "x", UNITS[:5]

    def overtaken(unit):
        exchange(folder, units, words_of, count, 3, Engine())
        return words_of(unit)

    paths = exchange(folder, units, overtaken, count, 3, Engine())
    fresh = exchange(tmp_path / "fresh", units, words_of, count, 3, Engine())
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in fresh]
    assert not list(folder.rglob(".tmp-*"))


def test_empty_questions(tmp_path):
    assert exchange(tmp_path / "none", [], words_of, count, 3, Engine()) == []
    paths = exchange(tmp_path / "empty", [Unit(0, "0", "")], words_of, count, 2, Engine())
    assert [pl.read_parquet(path).height for path in paths] == [0, 0]


def test_buckets_follow_from_the_size():
    assert [buckets_for(rows) for rows in (0, 1, 2_000_000, 2_000_001, 10**9)] == [1, 1, 1, 2, 500]


def test_hashes_never_change():
    assert [hex(part) for part in hashes(["https://example.org/a.jpg"])[0].tolist()] == [
        "0x376b76dfc17019e3",
        "0x341b2cfb4530094",
    ]
    assert hashes([]).shape == (0, 2)
