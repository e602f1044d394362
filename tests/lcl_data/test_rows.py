"""Rows of foreign tables: none is lost to another, and what Python cannot hold costs one row."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lcl_data.sources.laion import Laion
from lcl_data.sources.mmc4 import Mmc4
from schemas.errors import ShardError

URL = "http://host.example/a.jpg"


def rows_of(source, path):
    return [row for unit in source.units(path) for row in source.read(unit)]


@pytest.mark.parametrize("name", ["x.parquet", "x.tsv", "x.csv"])
def test_two_columns_of_one_name_are_refused(tmp_path, name):
    path, header, row = tmp_path / name, ["url", "caption", "note", "note"], [URL, "a boat", "x", "y"]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_arrays([pa.array([cell]) for cell in row], names=header), path)
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text(f"{mark.join(header)}\n{mark.join(row)}\n")
    with pytest.raises(ShardError, match=r"several columns are called note; .*name"):
        rows_of(Laion(), path)


def test_files_whose_names_hold_a_number_sign_have_ids_of_their_own(tmp_path):
    for number in range(3):
        pq.write_table(pa.table({"url": [URL], "caption": ["a boat"]}), tmp_path / f"x#{number}.parquet")
    assert len({row.document.id for row in rows_of(Laion(), tmp_path)}) == 3
    assert rows_of(Laion(), tmp_path) == rows_of(Laion(rows_per_shard=1), tmp_path)


@pytest.mark.parametrize(
    ("kind", "values"), [(pa.timestamp("ms"), [0, 2**60]), (pa.duration("s"), [0, 2**62])]
)
def test_a_time_that_python_does_not_know_costs_its_row(tmp_path, kind, values):
    table = {"url": [URL] * 2, "caption": ["a boat"] * 2, "at": pa.array(values, kind)}
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    good, bad = rows_of(Laion(), tmp_path)
    assert good.document.texts == ("a boat",) and bad.document.reason == "broken_value"


@pytest.mark.parametrize(("source", "name"), [(Laion(), "x.tsv.gz"), (Mmc4(), "docs_shard_1_v2.jsonl.gz")])
def test_an_empty_gzip_file_is_torn(tmp_path, source, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ShardError, match="an empty file is no gzip"):
        rows_of(source, tmp_path)


def test_a_line_too_long_within_a_quoted_cell_costs_its_record(tmp_path):
    (tmp_path / "x.csv").write_text(f'url,caption\n{URL},"a\n{"b" * 400}\nc"\n{URL},a boat\n')
    long, good = rows_of(Laion(max_line_nbytes=100), tmp_path)
    assert long.document.reason == "line_too_long" and good.document.texts == ("a boat",)
