import json

import pytest
import tokenizers
from tokenizers import decoders, models

from lcl_data import tokenizer
from lcl_train.vocabulary import TOKENIZER, token_bytes
from schemas.errors import ShardError

TEXTS = ["The cell's wall, 12 µm thick – naïve text; 日本 ☃!", "plain words only"]


def published(folder, made):
    (folder / TOKENIZER).write_text(made.published, encoding="utf-8")
    return token_bytes(folder, made.special.vocab_size)


def test_a_byte_level_vocabulary_counts_the_bytes_of_its_texts(tmp_path):
    tokenizer.train(TEXTS * 3, 300, tmp_path / "made.json")
    made = tokenizer.load(str(tmp_path / "made.json"))
    nbytes = published(tmp_path, made)
    for text, ids in zip(TEXTS, made.encode(TEXTS), strict=True):
        assert nbytes[ids].sum() == len(text.encode())
    special = made.special
    assert not nbytes[[special.sot, special.eot, special.image, special.boi, special.eoi, special.pad]].any()


def test_clips_vocabulary_counts_the_bytes_of_what_it_decodes_to(tmp_path):
    pytest.importorskip("open_clip")
    made = tokenizer.load(tokenizer.CLIP)
    nbytes = published(tmp_path, made)
    for text in TEXTS:
        ids = made.encode([made.clean(text)])[0]
        assert nbytes[ids].sum() == len(made.decode(ids).encode())


def test_a_vocabulary_that_is_not_of_bytes_has_no_such_numbers(tmp_path):
    assert token_bytes(tmp_path, 10) is None
    words = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    words.decoder = decoders.WordPiece()
    (tmp_path / TOKENIZER).write_text(words.to_str())
    assert token_bytes(tmp_path, 2) is None
    content = json.loads(words.to_str())
    (tmp_path / TOKENIZER).write_text(json.dumps({**content, "decoder": None}))
    assert token_bytes(tmp_path, 2) is None


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"decoder": {"type": "ByteLevel"}}',
        '{"decoder": {"type": "ByteLevel"}, "model": {"vocab": {"a": 9}}}',
    ],
)
def test_a_damaged_tokenizer_is_told(tmp_path, content):
    (tmp_path / TOKENIZER).write_text(content)
    with pytest.raises(
        ShardError, match=r"tokenizer\.json: not the tokenizer of these shards .*`lcl shard` again"
    ):
        token_bytes(tmp_path, 2)
