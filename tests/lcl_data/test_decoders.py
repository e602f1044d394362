"""Decoding processes survive what kills one of them."""

import asyncio
import os
import subprocess
import sys

import pytest

from lcl_data.decoders import Decoders
from lcl_data.pictures import Picture, Refusal
from schemas.errors import LclError


def die_of_marked(batch, settings):
    if b"fatal" in batch:
        os._exit(139)
    return [Refusal("fine", str(len(content))) for content in batch]


def die_at_once(batch, settings):
    os._exit(139)


def prepared(batches, prepare):
    async def run(pool):
        tasks = [pool.prepare(batch, Picture()) for batch in batches]
        return [[outcome.reason for outcome in outcomes] for outcomes in await asyncio.gather(*tasks)]

    pool = Decoders(2, prepare)
    try:
        return asyncio.run(run(pool))
    finally:
        pool.close()


def test_a_picture_that_kills_its_decoder_is_refused_and_no_other():
    batches = [[b"a", b"b"], [b"c", b"fatal", b"d"], [b"e"], [b"fatal"], [b"f"] * 3]
    crashed = [
        ["decoder_crashed" if picture == b"fatal" else "fine" for picture in batch] for batch in batches
    ]
    assert prepared(batches, die_of_marked) == crashed


def test_a_machine_on_which_no_decoder_lives_is_an_error():
    with pytest.raises(LclError, match="killed at once"):
        prepared([[b"a"]], die_at_once)


def test_pandas_is_kept_out_of_our_processes_where_it_is_installed(tmp_path):
    (tmp_path / "pandas.py").write_text("raise SystemExit('pandas was imported')")
    program = (
        "from lcl_data.no_pandas import keep_pandas_out; keep_pandas_out()\n"
        "import pyarrow as pa\n"
        "assert pa.Table.from_pylist([{'a': 1}], pa.schema([('a', pa.int64())])).to_pylist() == [{'a': 1}]"
    )
    subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": tmp_path}, check=True)
