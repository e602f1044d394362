"""A folder that is damaged, or read and filled at once, is told with a remedy that helps."""

from functools import partial

import pytest

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.text_length import TextLength
from lcl_data.ingest import Ingest, ingest
from schemas.errors import RecipeError
from schemas.manifest import read_manifest
from tests.lcl_data.corpus import bytes_of, document, write_documents
from tests.lcl_data.sentences import line, upstream


def test_a_damaged_shard_is_told_with_a_remedy_that_helps(tmp_path):
    src = tmp_path / "docs_shard_0_v2.jsonl"
    src.write_bytes(line(upstream()) * 50)
    docs = tmp_path / "docs"
    again = partial(ingest, src, docs, Ingest(format="mmc4"), Engine())
    again()
    whole = (docs / "00000.parquet").read_bytes()
    middle = len(whole) // 2
    damaged = (
        whole[:middle] + bytes(byte ^ 0xA5 for byte in whole[middle : middle + 64]) + whole[middle + 64 :]
    )
    (docs / "00000.parquet").write_bytes(damaged)  # as long as it was: nobody sees it but who reads it
    cut = filter_documents(docs, tmp_path / "out", [TextLength(min_words=1)], Engine())
    assert "delete it and run the stage that wrote it again" in cut.failed["00000.parquet"]
    (docs / "00000.parquet").unlink()
    again()
    assert (docs / "00000.parquet").read_bytes() == whole
    cut = filter_documents(docs, tmp_path / "out", [TextLength(min_words=1)], Engine())
    assert not cut.failed and cut.ledger.documents.read == 50


def test_the_folder_that_is_read_is_not_filled(tmp_path):
    cuts = (TextLength(min_words=1),)
    docs = filter_documents(
        write_documents(tmp_path / "in", [[document(0, "a text")]]), tmp_path / "out", cuts, Engine()
    )
    before = bytes_of(tmp_path / "out")
    with pytest.raises(RecipeError, match="is the folder that is read"):
        filter_documents(
            tmp_path / "out", tmp_path / "in" / ".." / "out", (TextLength(min_words=9),), Engine()
        )
    assert bytes_of(tmp_path / "out") == before and read_manifest(tmp_path / "out") == docs
