"""A row that `lcl shard` cannot have written is told, with its place, whichever container holds it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.containers import ArrowWriter, WebdatasetWriter
from lcl_data.sequence import Row
from lcl_data.shard_files import fault_of
from lcl_data.shards import Sequence, Shards, SpecialTokens
from schemas.errors import ShardError

SPECIAL = SpecialTokens(sot=10, eot=11, image=12, boi=13, eoi=14, pad=15, vocab_size=16)
WHOLE = Sequence(
    id="a" * 32,
    tokens=np.array([10, 1, 12, 2, 12, 11], np.int32),
    images=[b"\xff\xd8\xffone", b"\xff\xd8\xfftwo"],
    image_keys=["1a", "2b"],
    anchors=[None, (3, 4)],
    source="made",
    url="http://made/",
)
FAULTS = {
    "an id beyond the vocabulary": ([10, 16, 12, 12, 11], "not ids from 0 to 15"),
    "a negative id": ([10, -1, 12, 12, 11], "not ids from 0 to 15|a token is no id"),
    "no token": ([], "its 0 tokens"),
    "padding": ([10, 15, 12, 12, 11], "only a trainer puts in"),
    "a place without a picture": ([10, 12, 12, 12, 11], "3 places for pictures, but 2 pictures"),
    "a picture without a place": ([10, 12, 11], "1 places for pictures, but 2 pictures"),
}


def write(folder, sequences):
    writers = [
        ArrowWriter(folder / "00000.arrow", SPECIAL),
        WebdatasetWriter(folder / "00000.tar", folder / "00000.tar.idx", SPECIAL),
    ]
    for writer in writers:
        for sequence in sequences:
            texts = ["one", *[None] * len(sequence.images)]
            writer.write(Row(sequence, texts, [None] * len(sequence.images)))
        writer.close()
    return folder


@pytest.mark.parametrize("container", ["arrow", "webdataset"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_no_trainer_can_take_is_named_and_the_others_are_read(tmp_path, fault, container):
    tokens, told = FAULTS[fault]
    wrong = replace(WHOLE, id="b" * 32, tokens=np.array(tokens, np.int32))
    shards = Shards(write(tmp_path, [WHOLE, wrong, WHOLE]), container)
    with pytest.raises(ShardError, match=rf"00000\.(arrow|tar): (row|sample) 1 .*({told})"):
        shards[1]
    assert [shards[row].tokens.tolist() for row in (0, 2)] == [WHOLE.tokens.tolist()] * 2


def test_lists_of_pictures_must_be_as_long_as_one_another():
    assert fault_of(WHOLE, SPECIAL) == ""
    assert "the key 'XY'" in fault_of(replace(WHOLE, image_keys=["1a", "XY"]), SPECIAL)
    for change in ({"image_keys": ["1a"]}, {"anchors": [None] * 3}):
        assert "2 places for pictures, but 2 pictures" in fault_of(replace(WHOLE, **change), SPECIAL)


@settings(max_examples=150)
@given(st.data())
@pytest.mark.parametrize("container", ["arrow", "webdataset"])
def test_a_damaged_file_gives_rows_or_shard_errors_and_nothing_else(tmp_path_factory, container, data):
    folder = write(tmp_path_factory.mktemp("damaged"), [WHOLE] * 3)
    path = folder / ("00000.arrow" if container == "arrow" else "00000.tar")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        shards = Shards(folder, container)
        assert len(shards.lengths) == len(shards.image_counts) == len(shards)
    except ShardError as error:
        assert path.name in str(error)
        return
    for row in range(len(shards)):
        try:
            assert fault_of(shards[row], shards.special_tokens) == ""
        except ShardError as error:
            assert path.name in str(error)
