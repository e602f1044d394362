"""Filters of what a text repeats: equal to the papers' definitions written plainly, boundaries."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcl_data.filters.character_repetition import CharacterRepetition
from lcl_data.filters.gopher_repetition import GopherRepetition
from lcl_data.filters.word_repetition import WordRepetition
from tests.lcl_data.judging import PROSE, fact, judged, reasons


def plain_character_repetition(text, n):
    counts = sorted(Counter(text[i : i + n] for i in range(len(text) - n + 1)).values(), reverse=True)
    if not counts:
        return 0.0
    return sum(counts[: min(int(len(counts) ** 0.5), sum(c > 1 for c in counts))]) / sum(counts)


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
