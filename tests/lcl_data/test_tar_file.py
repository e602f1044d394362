"""The tar container: what numpy and a walk by hand read is what json and tarfile would, or an error."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcl_data.shards import Shards
from lcl_data.tar_file import TarFile
from schemas.errors import ShardError
from tests.lcl_data.test_shard_files import WHOLE, write

TOKENS = b'"tokens":[10,1,12,2,12,11]'
BLOCK = 512


def damaged(folder, old, new):
    """The tar with bytes of a sample exchanged for as many others."""
    path = folder / "00000.tar"
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


@pytest.mark.parametrize(
    "text",
    [
        b"10,1,12,2,12,1x",
        b"10,,12,2,12,11,",
        b",0,1,12,2,12,11",
        b"10 1,12,2,12,11",
        b"10,1,12,2,1.5,1",
        b"9999999999,12,1",
        b'10,"1",12,12,11',
        b"-0,1,12,2,1e1,1",
    ],
)
def test_tokens_that_are_no_numbers_are_told_with_file_sample_and_remedy(tmp_path, text):
    path = damaged(write(tmp_path, [WHOLE]), TOKENS[10:-1], text)
    with pytest.raises(
        ShardError, match=rf"00000\.tar: sample 0 \({WHOLE.id}\): its json .*`lcl shard` again"
    ):
        TarFile(path).read(0)


@given(st.lists(st.integers(0, 2**31 - 1), max_size=40), st.sampled_from(["", " "]))
def test_tokens_are_what_json_says(tmp_path_factory, ids, space):
    folder = write(tmp_path_factory.mktemp("tar"), [WHOLE])
    text = f",{space}".join(map(str, ids)).encode()
    path = folder / "00000.tar"
    content = path.read_bytes()
    start, size = BLOCK, int(content[124:135], 8)
    record = content[start : start + size].replace(TOKENS, b'"tokens":[' + text + b"]")
    assert json.loads(record)["tokens"] == ids
    head = bytearray(content[:BLOCK])
    head[124:135] = b"%011o" % len(record)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    rest = start + size + -size % BLOCK
    path.write_bytes(bytes(head) + record.ljust(len(record) + -len(record) % BLOCK, b"\0") + content[rest:])
    found = TarFile(path)
    assert found.read(0).tokens.tolist() == ids and found.read(0).tokens.dtype == np.int32
    assert found.lengths().tolist() == [len(ids)]


@pytest.mark.parametrize("at", [0, 99, 130, 150, 257])
@pytest.mark.parametrize("member", [0, 1, 3])
def test_a_damaged_header_is_told_and_is_no_end(tmp_path, at, member):
    """Of the name, the size, the checksum, the magic; of the first member and of others."""
    path = write(tmp_path, [WHOLE, WHOLE]) / "00000.tar"
    content = bytearray(path.read_bytes())
    starts = [at for at in range(0, len(content), BLOCK) if content[at + 257 : at + 262] == b"ustar"]
    content[starts[member] + at] ^= 1
    path.write_bytes(content)
    with pytest.raises(ShardError, match=r"00000\.tar: not a whole tar .*run `lcl shard` again"):
        Shards(tmp_path, "webdataset")


@pytest.mark.parametrize("record", [b"[]", b"{}", b'{"schema":"sequences/1"}'])
def test_a_foreign_record_is_no_exception(tmp_path, record):
    folder = write(tmp_path, [WHOLE])
    content = (folder / "00000.tar").read_bytes()
    size = int(content[124:135], 8)
    path = damaged(folder, content[BLOCK : BLOCK + size], record.ljust(size))
    with pytest.raises(ShardError, match=r"00000\.tar"):
        TarFile(path)
