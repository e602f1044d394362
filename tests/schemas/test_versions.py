"""Every file says which contract it follows; a newer or foreign one is refused with what to do."""

import pyarrow as pa
import pytest

from schemas.documents import DOCUMENTS
from schemas.errors import ShardError
from schemas.images import IMAGES
from schemas.rejects import REJECTS
from schemas.sequences import SEQUENCES
from schemas.versions import SCHEMA_KEY, check, stamp

CONTRACTS = {"documents": DOCUMENTS, "images": IMAGES, "rejects": REJECTS, "sequences": SEQUENCES}


@pytest.mark.parametrize("name", CONTRACTS)
def test_each_contract_is_stamped_and_accepts_itself(name):
    schema = CONTRACTS[name]
    assert schema.metadata[SCHEMA_KEY].decode() == f"{name}/1"
    check(schema.metadata, schema, "here")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "here: not written by LCL"),
        ({b"pandas": b"{}"}, "here: not written by LCL"),
        (IMAGES.metadata, "here: holds images, not documents; is it the folder of another stage"),
        ({SCHEMA_KEY: b"documents/2"}, "here: documents of version 2, this LCL reads up to 1; upgrade lcl"),
        ({SCHEMA_KEY: b"documents/x"}, "upgrade lcl"),
    ],
)
def test_foreign_and_newer_files_are_refused(metadata, message):
    with pytest.raises(ShardError, match=message):
        check(metadata, DOCUMENTS, "here")


def test_a_stamp_keeps_other_metadata():
    schema = pa.schema([("a", pa.int8())], metadata={b"mine": b"kept"})
    assert stamp(schema, "things", 3).metadata == {b"mine": b"kept", SCHEMA_KEY: b"things/3"}
