"""Words that were encoded before: the ids are those of the text encoded as a whole."""

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, trainers

from lcl_data import known_words
from lcl_data.known_words import KnownWords, parts_at_spaces
from lcl_data.tokenizer import CLIP, load, train

WORDS = [
    "a",
    "the",
    "The",
    "it's",
    "'s",
    "don't",
    "3.14",
    "1,000",
    "é",
    "naïve",
    "日本語",
    "!?",
    "--",
    "x" * 70,
]
SPACES = [
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\n",
    "\n\n",
    "\t",
    " \n ",
    "\u00a0",
    "\u2009",
    "\u3000",
    "\x1c",
    "\u180e",
]
SPACES += ["\u200b", "\ufeff", "\x85", "", "\r\n ", " \u00a0 ", "\u2028", "İ", "Σ "]
texts = st.lists(st.sampled_from([*WORDS, *SPACES, "<|endoftext|>"]), max_size=30).map("".join)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train([" ".join(WORDS), "  \n\n   \t runs of    spaces   are words too    ", *WORDS] * 3, 500, path)
    return path


@pytest.fixture(scope="module")
def both(trained):
    return [load(CLIP), load(str(trained))]


@settings(max_examples=300)
@given(several=st.lists(texts, min_size=1, max_size=4))
def test_the_ids_are_those_of_the_text_as_a_whole(both, several):
    for tokenizer in both:
        whole = [tokenizer.encode_with_starts(text)[0] for text in several]
        assert tokenizer.encode(several) == whole
        assert tokenizer.encode(several) == whole  # now that its words are known


def test_words_that_no_longer_find_room_change_nothing(trained, monkeypatch):
    monkeypatch.setattr(known_words, "_MOST", 3)
    encoder = tokenizers.Tokenizer.from_file(str(trained))
    known = KnownWords(encoder)
    for text in ["a the it", "one two three four five", "a the it", "four five six"]:
        assert known.encode([text]) == [encoder.encode(text, add_special_tokens=False).ids]


def test_only_what_parts_words_at_spaces_may_be_encoded_by_words(trained):
    content = {**json.loads(trained.read_text()), "added_tokens": []}
    assert parts_at_spaces(content, "")
    joins = [
        {"model": {**content["model"], "dropout": 0.1}},
        {"model": {**content["model"], "type": "Unigram"}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first"}},
        {"pre_tokenizer": {**content["pre_tokenizer"], "add_prefix_space": True}},
        {"pre_tokenizer": {**content["pre_tokenizer"], "use_regex": False}},
        {"pre_tokenizer": None},
        {"normalizer": {"type": "NFC"}},
        {"added_tokens": [{"content": "New York"}]},
    ]
    for other in joins:
        assert not parts_at_spaces({**content, **other}, ""), other


def test_a_tokenizer_whose_words_hold_spaces_is_encoded_as_a_whole(tmp_path):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(["New York"] * 9, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ids = load(str(tmp_path / "tokenizer.json")).encode(["New York"])[0]
    assert ids == [tokenizer.token_to_id("NewĠYork")]
