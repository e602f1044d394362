"""The ledger adds up, and a manifest is read back as it was written or refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ShardError
from schemas.manifest import MANIFEST, Count, Ledger, Manifest, read_manifest

NUMBERS = st.integers(0, 1000)


@st.composite
def counts(draw):
    rejected = draw(st.dictionaries(st.sampled_from("abc"), NUMBERS))
    kept = draw(NUMBERS)
    return Count(read=kept + sum(rejected.values()), kept=kept, rejected=rejected)


LEDGERS = st.builds(Ledger, documents=counts(), images=counts(), files=st.none() | counts())


@given(st.lists(LEDGERS, max_size=4))
def test_sums_of_balanced_ledgers_balance_whatever_their_order(ledgers):
    total, backwards = Ledger(), Ledger()
    for ledger in ledgers:
        total.add(ledger)
    for ledger in reversed(ledgers):
        backwards.add(ledger)
    assert total.documents.balances
    assert total.images.balances
    assert total.files is None or total.files.balances
    assert total.sorted().model_dump_json() == backwards.sorted().model_dump_json()


def test_a_missing_row_shows():
    assert not Count(read=3, kept=1, rejected={"broken_json": 1}).balances


def manifest():
    return Manifest(
        stage="ingest", digest="d", settings={"format": "mmc4"}, inputs=[], shards=[], ledger=Ledger()
    )


def test_a_manifest_is_read_back(tmp_path):
    (tmp_path / MANIFEST).write_text(manifest().model_dump_json())
    assert read_manifest(tmp_path) == manifest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has not finished: run it again"),
        ("{", "not a manifest of LCL"),
        (
            json.dumps(manifest().model_dump() | {"version": 2}),
            "version 2, this LCL reads up to 1; upgrade lcl",
        ),
        (json.dumps({"version": 2, "surprise": 1}), "reads up to 1; upgrade lcl$"),
        (json.dumps(manifest().model_dump() | {"surprise": 1}), "surprise"),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(tmp_path, content, message):
    (tmp_path / "rejects").mkdir()
    if content is not None:
        (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(ShardError, match=message):
        read_manifest(tmp_path)
