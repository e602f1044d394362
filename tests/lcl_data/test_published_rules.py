"""Rules of published pipelines, each one by hand: Gopher, C4, FineWeb, and shares of words and pictures."""

from lcl_data.filters.c4_quality import C4Quality
from lcl_data.filters.fineweb_quality import FinewebQuality
from lcl_data.filters.gopher_quality import GopherQuality
from lcl_data.filters.text_share import TextShare
from lcl_data.filters.words_per_image import WordsPerImage
from tests.lcl_data.judging import CHINESE, PROSE, fact, reasons


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
