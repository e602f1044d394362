import gzip
import html
import json
import random
import subprocess
import sys
import tarfile
from functools import lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import ftfy
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers

from lcl_data.shards import SpecialTokens
from lcl_data.tokenizer import CLIP, SPECIALS, clean_like_clip, load, train
from schemas.errors import RecipeError

CORPUS = Path(__file__).parents[3] / "shared" / "corpora" / "openstax-dev.tar.gz"
HOSTILE = [*SPECIALS, "<|endoftext|>", "<|startoftext|>", "<image>", "[PAD]", "<s>", "</s>", "[CLS]", "[IMG]"]
PARTS = [
    "It's",
    "they'RE",
    "we'd've",
    "'S",
    "naïve café",
    "ﬁne",
    "Größe 12.5%",
    "東京タワー",
    "Ελλάς",
    "Привет, мир!",
    "3.14159",
    "hello",
    "World",
    "schÃ¶n",
    "&amp;lt;b&gt;",
    "&nbsp;",
    "don’t",
    "“quoted”",
    "tab\tnew\nline",
    "\xa0",
    "x²+y²=z²",
    "👩\u200d👩\u200d👧 🇩🇪",
    "½",
    "¡hola!",
    "http://a.b/c?d=e&f=g",
    "C++/C#",
    "a_b_c",
    "!!!'s",
    "--",
    "...",
    "İstanbul",
    "ǅ",
    "①②",
    "१२३",
    "\u200b",
    "Á",
    "w/o",
    "$5",
    "'ſ",
    "ﷺ",
    "\ufeff",
    "\x0b",
    "photosynthesis",
    "THE END",
    "(see Fig. 3)",
    "</w>",
    "Ġ",
]
texts = st.lists(st.sampled_from([*PARTS, *HOSTILE]) | st.text(max_size=8), max_size=8).map(" ".join)


def encode(tokenizer, text):
    return tokenizer.encode([tokenizer.clean(text)])[0]


@pytest.fixture(scope="module")
def theirs():
    """open_clip's tokenizer, from its file: the package's other imports take longer than the test."""
    path = Path(find_spec("open_clip").submodule_search_locations[0]) / "tokenizer.py"
    spec = spec_from_file_location("open_clip_tokenizer", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer()


def test_clip_imports_neither_open_clip_nor_torch():
    code = "import sys; from lcl_data.tokenizer import load; load('clip'); print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'tokenizers'" in modules
    assert "'torch'" not in modules
    assert "'open_clip'" not in modules


def test_clip_has_the_papers_ids_and_a_padding_id():
    assert load(CLIP).special == SpecialTokens(49406, 49407, 49408, 49409, 49410, 49411, 49412)


def test_clip_ids_equal_open_clips(theirs):
    ours, draw = load(CLIP), random.Random(0)
    sentences = PARTS + ["".join(draw.choices([" ", *PARTS], k=9)) for _ in range(400)]
    for sentence in sentences:
        assert encode(ours, sentence) == theirs.encode(sentence), sentence


@pytest.mark.skipif(not CORPUS.exists(), reason="the shared corpus is not beside this checkout")
def test_clip_ids_equal_open_clips_on_ten_thousand_real_sentences(theirs):
    ours, sentences = load(CLIP), []
    with tarfile.open(CORPUS) as tar:
        member = next(member for member in tar if member.name.endswith("docs.jsonl"))
        for line in tar.extractfile(member):
            sentences += [item["text"] for item in json.loads(line)["items"] if item["type"] == "text"]
            if len(sentences) >= 10_000:
                break
    assert len(sentences) >= 10_000
    ids = ours.encode([ours.clean(sentence) for sentence in sentences[:10_000]])
    assert [s for s, i in zip(sentences, ids, strict=False) if theirs.encode(s) != i] == []


@given(st.text(st.characters(codec="ascii"), max_size=60))
def test_the_short_way_of_cleaning_plain_ascii_changes_nothing(text):
    long_way = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert clean_like_clip(text) == " ".join(long_way.split()).lower()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    train(["the quick brown fox", "jumps over the lazy dog", *PARTS], 400, path)
    return path


def foreign(folder, model, special):
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(special)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def all_kinds(trained, tmp_path_factory):
    make = tmp_path_factory.mktemp
    vocab = {word: n for n, word in enumerate(["[UNK]", "[PAD]", "hello", "<s>", "</s>", "<image>"])}
    level = foreign(make("word"), models.WordLevel(vocab, "[UNK]"), ["[PAD]", "<s>", "</s>", "<image>"])
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((chr(c), -5.0) for c in range(33, 127))]
    unigram = foreign(make("unigram"), models.Unigram(pieces, 0), ["<s>", "</s>", "<|endoftext|>"])
    return [load(CLIP), load(str(trained)), load(str(level)), load(str(unigram))]


@lru_cache
def special_ids(tokenizer):
    added = json.loads(tokenizer.published)["added_tokens"]
    return {token["id"] for token in added if token["special"]}


def test_special_strings_in_text_stay_text(all_kinds):
    for tokenizer in all_kinds:
        for text in [*HOSTILE, "a<start_of_img>b </s><s>", " ".join(HOSTILE), "".join(HOSTILE)]:
            ids = encode(tokenizer, text)
            assert ids
            assert not special_ids(tokenizer) & set(ids), text


@settings(max_examples=60)
@given(text=texts)
def test_no_text_whatever_gives_a_special_id(all_kinds, text):
    for tokenizer in all_kinds:
        ids = encode(tokenizer, text)
        assert not special_ids(tokenizer) & set(ids)
        assert all(0 <= token < tokenizer.special.vocab_size for token in ids)


def test_padding_is_an_id_of_its_own(all_kinds):
    for tokenizer in all_kinds:
        s = tokenizer.special
        assert len({s.sot, s.eot, s.image, s.boi, s.eoi, s.pad}) == 6
        assert s.pad in special_ids(tokenizer)
        assert max(s.sot, s.eot, s.image, s.boi, s.eoi, s.pad) < s.vocab_size


def test_published_file_reloads_to_the_same_ids(all_kinds, tmp_path):
    for number, tokenizer in enumerate(all_kinds):
        path = tmp_path / f"{number}.json"
        path.write_text(tokenizer.published)
        again = load(str(path))
        assert again.special == tokenizer.special
        assert again.published == tokenizer.published
        plain = tokenizers.Tokenizer.from_file(str(path))
        assert plain.token_to_id("<pad>") == tokenizer.special.pad
        ids = [*tokenizer.encode(["hello"])[0], tokenizer.special.pad]
        assert plain.decode(ids).replace(" ", "") == "hello"


def test_starts_cut_the_text_where_the_ids_are_cut(all_kinds):
    for tokenizer in all_kinds[:2]:
        text = tokenizer.clean("The quick brown 東京 fox jumps")
        ids, starts = tokenizer.encode_with_starts(text)
        assert ids == tokenizer.encode([text])[0]
        assert starts == sorted(starts)
        assert len(starts) == len(ids)


def test_byte_level_decodes_to_what_it_read(trained):
    tokenizer = load(str(trained))
    for text in ["the quick  brown\n\nfox", "naïve 東京 👩‍👩‍👧", "<|endoftext|>"]:
        ids = tokenizer.encode([text])[0]
        assert tokenizer.decode([tokenizer.special.sot, *ids, tokenizer.special.eot]) == text


def test_clip_decodes_readably():
    tokenizer = load(CLIP)
    assert tokenizer.decode(encode(tokenizer, "A naïve  Fox's den")) == "a naïve fox 's den "


def test_training_is_deterministic(tmp_path):
    corpus = [f"{word} {number}" for number in range(50) for word in PARTS]
    for name in ("a.json", "b.json"):
        train(iter(corpus), 400, tmp_path / name)
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert load(str(tmp_path / "a.json")).special.vocab_size == 406


def test_a_wrong_path_or_file_is_told_by_name(tmp_path):
    with pytest.raises(RecipeError, match=r"nowhere\.json: no such file"):
        load(str(tmp_path / "nowhere.json"))
    other = tmp_path / "other.json"
    other.write_bytes(gzip.compress(b"x"))
    with pytest.raises(RecipeError, match="not a tokenizer"):
        load(str(other))
    merges = '"merges": [["a", "b"]]'
    for model in (
        '{"vocab": {}}',
        '{"type": "BPE", "vocab": {"a": 0}}',
        f'{{"vocab": {{"a": 0}}, {merges}}}',
    ):
        other.write_text(f'{{"added_tokens": [], "model": {model}}}')
        with pytest.raises(RecipeError, match="not a tokenizer"):
            load(str(other))
    with pytest.raises(RecipeError, match="no such file"):
        load(str(tmp_path))
