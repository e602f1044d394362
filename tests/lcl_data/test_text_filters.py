"""Filters of wording: every reason by hand, boundaries, empty and non-Latin texts, levels, lists."""

import re
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.filters.c4_quality import C4Quality
from lcl_data.filters.character_repetition import CharacterRepetition
from lcl_data.filters.domains import Domains
from lcl_data.filters.fineweb_quality import FinewebQuality
from lcl_data.filters.flagged_words import FlaggedWords
from lcl_data.filters.gopher_quality import GopherQuality
from lcl_data.filters.gopher_repetition import GopherRepetition
from lcl_data.filters.punctuation import Punctuation
from lcl_data.filters.special_characters import SpecialCharacters
from lcl_data.filters.stop_words import StopWords
from lcl_data.filters.text_length import TextLength
from lcl_data.filters.text_share import TextShare
from lcl_data.filters.word_repetition import WordRepetition
from lcl_data.filters.words_per_image import WordsPerImage
from lcl_data.views import check, measured
from schemas import members
from schemas.documents import Image
from schemas.errors import RecipeError
from schemas.manifest import read_manifest
from tests.lcl_data.corpus import bytes_of, document, write_documents

PROSE = "The river that we have seen falls with great force to the sea, and nobody can be sure of its depth. "
CHINESE = "图像的表示必须能够从它之前的文本中预测出来。"


def judged(filter_, **columns):
    frame = pl.DataFrame(columns, schema_overrides={"text": pl.String, "url": pl.String})
    reason = filter_.reason().alias("reason")
    return measured(frame.select(pl.col(columns).name.keep()), [filter_]).with_columns(reason)


def reasons(filter_, **columns):
    """The reason for each row, without the filter's name."""
    found = judged(filter_, **columns)["reason"].to_list()
    return [reason and reason.removeprefix(f"{members.key(filter_)}:") for reason in found]


def fact(filter_, name, text):
    return judged(filter_, text=[text])[name][0]


WORDING = [
    C4Quality(),
    CharacterRepetition(),
    FinewebQuality(),
    GopherQuality(),
    GopherRepetition(),
    Punctuation(),
    SpecialCharacters(),
    StopWords(),
    TextLength(),
    WordRepetition(),
]


@pytest.mark.parametrize("filter_", WORDING, ids=members.key)
@settings(deadline=None)
@given(texts=st.lists(st.one_of(st.none(), st.text(), st.text("a .\n•…#{", max_size=80)), max_size=5))
def test_any_text_gets_a_finite_number_and_null_is_unmeasured(filter_, texts):
    rows = judged(filter_, text=texts)
    numbers = rows.drop("text", "reason").select(pl.selectors.numeric().cast(pl.Float64))
    for text, row, reason in zip(texts, numbers.rows(), rows["reason"], strict=True):
        if text is None:
            assert reason == f"{members.key(filter_)}:unmeasured"
        else:
            assert all(0 <= number < float("inf") for number in row)
            assert reason is None or not reason.endswith("unmeasured")


@pytest.mark.parametrize("filter_", WORDING, ids=members.key)
def test_each_row_is_judged_by_itself(filter_):
    texts = [PROSE * 6, "", None, CHINESE * 9, "one two\none two", "x" * 50, PROSE]
    alone = [reasons(filter_, text=[text])[0] for text in texts]
    assert reasons(filter_, text=texts) == alone


def test_text_length_is_cut_where_the_level_says():
    texts = ["a b c", "a b c d", "w " * 10, "w " * 1001]
    assert reasons(TextLength(), text=texts) == ["too_short", "too_short", None, None]
    assert reasons(TextLength(level="text"), text=texts) == ["too_short", None, None, "too_long"]
    assert reasons(TextLength(min_words=0), text=["", "a"]) == [None, None]


def plain_character_repetition(text, n):
    counts = sorted(Counter(text[i : i + n] for i in range(len(text) - n + 1)).values(), reverse=True)
    if not counts:
        return 0.0
    return sum(counts[: min(int(len(counts) ** 0.5), sum(c > 1 for c in counts))]) / sum(counts)


@settings(deadline=None)
@given(st.text("abé漢🙂 ", max_size=60), st.integers(1, 10))
def test_character_repetition_is_the_papers(text, n):
    found = fact(CharacterRepetition(length=n), f"character_repetition_{n}", text)
    assert found == pytest.approx(plain_character_repetition(text, n))


def test_character_repetition_cuts_above_its_threshold():
    # 11 runs of ten characters, all "aaaaaaaaaa": one kind, the share is 1.
    assert reasons(CharacterRepetition(), text=["a" * 20, "a" * 10, "a" * 9, PROSE]) == [
        "too_high",
        None,
        None,
        None,
    ]
    # "abab": 2-grams ab, ba, ab; the most frequent sqrt(2) = 1 kind has 2 of 3.
    assert reasons(CharacterRepetition(length=2, max=2 / 3), text=["abab"]) == [None]
    assert reasons(CharacterRepetition(length=2, max=0.66), text=["abab"]) == ["too_high"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["ab", "c", "it's", "漢"]), max_size=20), st.integers(1, 5))
def test_word_repetition_is_the_papers(words, n):
    counts = Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)).values()
    expected = sum(c for c in counts if c > 1) / sum(counts) if counts else 0.0
    assert fact(WordRepetition(length=n), f"word_repetition_{n}", " ".join(words)) == pytest.approx(expected)


def test_word_repetition_strips_words_and_knows_the_level():
    # Six 5-grams, the first equal to the last but for case and punctuation: 2 of 6.
    text = "A b c d e, 12 (A) B. c! d e"
    assert fact(WordRepetition(), "word_repetition_5", text) == pytest.approx(2 / 6)
    # 12 5-grams, 2 of them equal: 1/6 is between the paper's cutoffs.
    text = "a b c d e f g h i j k a b c d e"
    assert reasons(WordRepetition(), text=[text]) == [None]
    assert reasons(WordRepetition(level="text"), text=[text]) == ["too_high"]


def test_special_characters():
    assert fact(SpecialCharacters(), "special_character_share", "ab 1") == 0.5
    assert fact(SpecialCharacters(), "special_character_share", "हिन्दी") == 0.0  # vowel signs are no specials
    assert fact(SpecialCharacters(), "special_character_share", "🙂🙂é漢") == 0.5
    edge = "abcdefg 12"  # 0.3
    assert reasons(SpecialCharacters(), text=[edge, PROSE, ""]) == ["too_high", None, None]
    assert reasons(SpecialCharacters(level="text"), text=[edge, "abcdef 123"]) == [None, "too_high"]


def test_punctuation():
    assert fact(Punctuation(), "punctuation_marks", "Well, it's 3.5 - so?") == 3
    assert fact(Punctuation(), "words_and_marks", "Well, it's 3.5 - so?") == 8
    bare = "word " * 12
    assert reasons(Punctuation(), text=[bare, PROSE, CHINESE, "", "a b c"]) == [
        "too_low",
        None,
        None,
        "too_low",
        "too_low",
    ]
    assert reasons(Punctuation(level="text"), text=[bare, "word " * 11, ""]) == ["too_low", None, None]
    assert reasons(Punctuation(min=0.5), text=["a.", "a b."]) == [None, "too_low"]


def test_stop_words(tmp_path):
    # the, of, to: 3 of 9 stripped words; 42 is none.
    text = "The (42) price of sugar rose; bakers turned to honey."
    assert fact(StopWords(), "stop_word_share", text) == pytest.approx(3 / 9)
    assert reasons(StopWords(), text=[text, PROSE, "", "42", CHINESE]) == [
        "too_low",
        None,
        "too_low",
        "too_low",
        "too_low",
    ]
    assert reasons(StopWords(level="text"), text=[text]) == [None]
    german = tmp_path / "de.txt"
    german.write_text("der # article\n\nDie\nund\n", "utf-8")
    assert reasons(StopWords(file=german, min=0.5), text=["Die Sonne", "Sonne Mond", "der die DAS"]) == [
        None,
        "too_low",
        None,
    ]


def test_flagged_words(tmp_path):
    listed = tmp_path / "rude.txt"
    listed.write_text("damn\nüble\n", "utf-8")
    clean = "word " * 99
    assert reasons(
        FlaggedWords(file=listed), text=[clean + "Damn!", clean + "damn ÜBLE", "damnation", ""]
    ) == [None, "too_high", None, None]
    assert reasons(FlaggedWords(file=listed, max=0), text=[clean + "damn", clean]) == ["too_high", None]


def test_a_list_is_told_before_any_work_when_it_cannot_be_used(tmp_path):
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "latin1").write_bytes(b"\xfcble\n")
    for file, message in (("none", "no such file"), ("empty", "empty list"), ("latin1", "not UTF-8")):
        with pytest.raises(RecipeError, match=message):
            members.build("lcl_data.filters", {"flagged_words": {"file": str(tmp_path / file)}}, FlaggedWords)
    with pytest.raises(RecipeError, match="give a list"):
        members.build("lcl_data.filters", "domains", Domains)


def test_a_changed_list_is_another_setting_and_a_moved_one_is_not(tmp_path):
    docs = write_documents(tmp_path / "in", [[document(0, "damn it")]])
    listed = tmp_path / "a/words"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "words").write_text("damn\n")

    def run(path):
        return filter_documents(docs, tmp_path / "out", (FlaggedWords(file=path),), Engine()).digest

    first = run(listed)
    assert run(tmp_path / "b/words") == first
    assert "/" not in str(read_manifest(tmp_path / "out").settings)
    (tmp_path / "b/words").write_text("it\n")
    assert run(tmp_path / "b/words") != first


def test_gopher_quality_names_each_rule():
    def gopher(**given):
        off = {"min_words": 0, "max_words": 10**6, "min_word_length": 0, "max_word_length": 99}
        off |= {"max_symbols_per_word": 9, "max_bullet_lines": 1, "max_ellipsis_lines": 1}
        return GopherQuality(**(off | {"min_alphabetic_words": 0, "min_stop_words": 0} | given))

    for rule, passes, falls, reason in (
        ({"min_words": 3}, "a - b", "a b", "too_few_words"),
        ({"max_words": 2}, "a b", "a b c", "too_many_words"),
        ({"min_word_length": 3}, "a, bbbbb!", "aa bbb", "words_too_short"),
        ({"max_word_length": 3}, "aaa... (bbb)", "aaa bbbb", "words_too_long"),
        ({"max_symbols_per_word": 0.5}, "#a b", "#a #b c", "too_many_hashes"),
        ({"max_symbols_per_word": 0.5}, "a... b", "a... b…", "too_many_ellipses"),
        ({"max_bullet_lines": 0.5}, "- a\n\nb - c", "- a\n  • b\nc", "too_many_bullet_lines"),
        ({"max_ellipsis_lines": 0.5}, "a...\nb\n", "a... \nb…\nc", "too_many_ellipsis_lines"),
        ({"min_alphabetic_words": 0.8}, "a b c1 d 5", "a b c 4 5", "too_few_alphabetic_words"),
        ({"min_stop_words": 2}, "The cat AND", "the the other", "too_few_stop_words"),
    ):
        assert reasons(gopher(**rule), text=[passes, falls]) == [None, reason], rule


def test_gopher_quality_keeps_prose():
    assert reasons(GopherQuality(), text=[PROSE * 3, PROSE * 2, "", CHINESE]) == [
        None,
        "too_few_words",
        "too_few_words",
        "too_few_words",
    ]


def plain_gopher_repetition(text, tops, repeated):
    """Table A1 as FineWeb's filter counts it, written down without any haste."""
    found, words, whole = {}, text.split(), max(len(text), 1)
    for name, separator in (("paragraph", r"\n\s*\n"), ("line", r"\n")):
        parts = [part for part in re.split(separator, text) if part.strip()]
        copies = [part for at, part in enumerate(parts) if part in parts[:at]]
        found[f"repeated_{name}s"] = len(copies) / max(len(parts), 1)
        found[f"repeated_{name}_chars"] = sum(map(len, copies)) / whole
    for n in tops:
        counts = Counter(" ".join(words[at : at + n]) for at in range(len(words) - n + 1))
        gram, count = counts.most_common(1)[0] if counts else ("", 0)
        found[f"top_{n}_gram_chars"] = len(gram) * count / whole if count > 1 else 0.0
    for n in repeated:
        seen, characters, at = set(), 0, 0
        while at <= len(words) - n:
            gram = tuple(words[at : at + n])
            is_copy = gram in seen
            characters += sum(map(len, gram)) * is_copy
            at += n if is_copy else 1
            seen.add(gram)
        found[f"repeated_{n}_gram_chars"] = characters / whole
    return found


@given(st.lists(st.sampled_from(["a", "bb", "漢", "c.", "\n", "\n\n"]), max_size=40).map(" ".join))
@settings(deadline=None)
def test_gopher_repetition_is_the_papers(text):
    tops, repeated = {2: 1.0, 3: 1.0}, {2: 1.0, 5: 1.0}
    filter_ = GopherRepetition(max_top_ngram_chars=tops, max_repeated_ngram_chars=repeated)
    expected = plain_gopher_repetition(text, tops, repeated)
    row = judged(filter_, text=[text]).row(0, named=True)
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_gopher_repetition_names_each_rule():
    def gopher(**given):
        off = {f"max_repeated_{part}": 1 for part in ("lines", "line_chars", "paragraphs", "paragraph_chars")}
        return GopherRepetition(**(off | {"max_top_ngram_chars": {}, "max_repeated_ngram_chars": {}} | given))

    for rule, passes, falls, reason in (
        ({"max_repeated_lines": 0.5}, "a\na\n\n", "a\na\na", "repeated_lines"),
        ({"max_repeated_line_chars": 0.4}, "ab\nab", "ab\nab\nab", "repeated_line_chars"),
        ({"max_repeated_paragraphs": 0.3}, "a\na\n\nb\n\nc", "a\n\nb\n \na", "repeated_paragraphs"),
        ({"max_repeated_paragraph_chars": 0.3}, "a\na", "ab\n\nab", "repeated_paragraph_chars"),
        ({"max_top_ngram_chars": {2: 0.5}}, "a b c a b d e", "a b c a b", "top_2_gram_chars"),
        ({"max_repeated_ngram_chars": {2: 0.2}}, "a b c d b c", "a b a b", "repeated_2_gram_chars"),
    ):
        assert reasons(gopher(**rule), text=[passes, falls]) == [None, reason], rule
    assert reasons(GopherRepetition(), text=[PROSE, "", "one two", (PROSE + "\n") * 2]) == [
        None,
        None,
        None,
        "repeated_lines",
    ]


def test_c4_quality():
    five = 'One. Two! "Three?" Four (4.) Five...'
    assert fact(C4Quality(), "sentences", five) == 5
    assert fact(C4Quality(), "sentences", "Version 3.5 of e.g a.b.c\nno end") == 0
    assert fact(C4Quality(), "sentences", "第一。第二！第三？") == 3
    assert reasons(C4Quality(), text=[five, five[:-5], five + "{", five + " Lorem IPSUM dolor", ""]) == [
        None,
        "too_few_sentences",
        "curly_bracket",
        "lorem_ipsum",
        "too_few_sentences",
    ]
    assert reasons(C4Quality(curly_bracket=False, min_sentences=0), text=["{"]) == [None]


def test_fineweb_quality_names_each_rule():
    def fineweb(**given):
        off = {"min_ended_lines": 0, "max_short_lines": 1, "max_repeated_lines": 1}
        return FinewebQuality(**(off | {"max_line_ends_per_word": 9} | given))

    for rule, passes, falls, reason in (
        ({"min_ended_lines": 0.5}, "a.\n\n  \nb", "a.\nb\nc", "too_few_ended_lines"),
        (
            {"max_short_lines": 0.5, "short_line_chars": 3},
            "abc\n\nabcd",
            "abc\nab\nabcd",
            "too_many_short_lines",
        ),
        ({"max_repeated_lines": 0.25}, "ab\nab\ncdef", "ab\nab\ncde", "too_many_repeated_lines"),
        ({"max_line_ends_per_word": 0.5}, "a b\nc d\n", "a b\nc\n", "too_many_line_ends"),
    ):
        assert reasons(fineweb(**rule), text=[passes, falls]) == [None, reason], rule
    assert reasons(fineweb(min_ended_lines=1), text=["द वाक्य।\n一句。\nجملة؟ "]) == [None]


def test_words_per_image():
    few, enough = "word " * 149, "word " * 150
    assert reasons(WordsPerImage(), text=[few, enough, "a", "", None], images=[3, 3, 2, 0, 3]) == [
        "too_few",
        None,
        None,
        None,
        "unmeasured",
    ]
    both = WordsPerImage(min=2, max=3, above_images=0)
    assert reasons(both, text=["a", "a b", "a b c", "a b c d", "a"], images=[1, 1, 1, 1, 0]) == [
        "too_few",
        None,
        None,
        "too_many",
        None,
    ]


def test_text_share():
    texts, images = [0, 1, 1, 3, 0], [2, 3, 1, 0, 0]
    assert reasons(TextShare(), texts=texts, images=images) == [None] * 5
    cut = TextShare(min=0.25, max=0.5)
    assert reasons(cut, texts=texts, images=images) == ["too_low", None, None, "too_high", "too_low"]


def test_domains_stand_for_their_subdomains(tmp_path):
    url = [
        "https://Example.org/a",
        "http://user@www.example.org:8080/b?c#d",
        "https://badexample.org/",
        "https://other.net/ads/1.html?x=1",
        "https://other.net/ads/2.html",
        "",
        None,
    ]
    listed = tmp_path / "hosts"
    listed.write_text("https://www.other.net/ads/1.html/\n")
    rule = Domains(deny=("example.org",), deny_file=listed)
    assert reasons(rule, url=url) == ["denied", "denied", None, "denied", None, "unmeasured", "unmeasured"]
    rule = Domains(allow=("example.org", "net"), deny=("www.example.org/b",))
    assert reasons(rule, url=url[:5]) == [None, "denied", "not_allowed", None, None]


def test_a_list_that_changes_between_two_runs_of_one_process_is_read_anew(tmp_path):
    listed = tmp_path / "hosts"
    listed.write_text("example.org")
    rule, url = Domains(deny_file=listed), ["https://example.org/", "https://other.net/a"]
    assert reasons(rule, url=url) == ["denied", None]
    listed.write_text("other.net # and no more")
    assert reasons(rule, url=url) == [None, "denied"]


def test_domains_of_pictures(tmp_path):
    doc = document(0, "words", Image("https://cdn.stock.com/1.jpg"), Image("https://h.org/2.jpg"))
    docs = write_documents(tmp_path / "in", [[doc]])
    cuts = (Domains(level="image", deny=("stock.com",)),)
    ledger = filter_documents(docs, tmp_path / "out", cuts, Engine()).ledger
    assert ledger.images.rejected == {"domains:denied": 1}
    assert ledger.documents.kept == 1


def test_a_filter_may_stand_twice_at_two_levels_and_two_cutoffs(tmp_path):
    check([kind(level=level) for level in ("text", "document") for kind in map(type, WORDING)])
    check([StopWords(min=0.1), StopWords(min=0.2), GopherQuality(min_words=1), GopherQuality()])


def test_workers_do_not_change_a_byte(tmp_path):
    corpus = [
        [document(10 * shard + n, PROSE * n, CHINESE, "a b c d e f " * n, Image("u")) for n in range(8)]
        for shard in range(3)
    ]
    docs = write_documents(tmp_path / "in", corpus)
    cuts = (*(type(each)(level="text") for each in WORDING[1:3]), *WORDING)
    one = filter_documents(docs, tmp_path / "one", cuts, Engine())
    assert one.ledger.documents.balances
    assert one.ledger.texts.balances
    assert filter_documents(docs, tmp_path / "two", cuts, Engine(2)) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
