"""Facts about wording that several filters cut on: what a word, a line and a share of them is, as polars
expressions over the column `text`.

A word is what stands between spaces. So these facts, and the thresholds published for them, fit scripts that
put spaces between words; a Chinese, Japanese or Thai sentence is one word to them.
"""

import re
from functools import cache

import polars as pl

# From the first letter to the last of a run without spaces: what is left of a word once punctuation, digits
# and symbols are stripped from its ends, as OBELICS does before it compares words.
BARE_WORD = r"[\p{L}\p{M}](?:\S*[\p{L}\p{M}])?"

_SENTENCE_END = r"""[.!?…؟।][.!?…]*["'”’»)\]]*(?:\s|$)|[。！？]"""


@cache
def words() -> pl.Expr:
    """Runs of characters other than spaces."""
    return pl.col("text").str.count_matches(r"\S+")


@cache
def lines() -> pl.Expr:
    """Lines that are not blank."""
    return pl.col("text").str.count_matches(r"(?m)^.*\S")


@cache
def bare_words() -> pl.Expr:
    """The words in lower case, stripped to letters at both ends; those without a letter are left out."""
    return pl.col("text").str.to_lowercase().str.extract_all(BARE_WORD)


def ratio(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """`part / whole`; 0 where the whole is."""
    return pl.when(whole > 0).then(part / whole).when(whole == 0).then(0.0)


@cache
def share_of(listed: frozenset[str]) -> pl.Expr:
    """The share of the bare words that a list holds; 0 where there is none of either.

    What a list holds besides bare words (phrases, words with a digit or sign at an end) counts as a word
    wherever it stands between others, its words apart by any white space.
    """
    every = pl.Series(sorted(listed), dtype=pl.String)
    is_bare = every.str.contains(f"^(?:{BARE_WORD})$")
    known, others = every.filter(is_bare), every.filter(~is_bare)
    words = bare_words()
    held = words.list.eval(pl.element().is_in(known.implode())).list.sum()
    if len(others):
        held = held + pl.col("text").str.to_lowercase().str.count_matches(_either(others.to_list()))
    share = (held / words.list.len().clip(1)).clip(0, 1)
    return pl.when(pl.col("text").is_not_null()).then(share.fill_null(0.0))


def _either(phrases: list[str]) -> str:
    """A pattern that meets any of the phrases, the longest first, and none within a word."""
    return "|".join(_alone(phrase) for phrase in sorted(phrases, key=len, reverse=True))


def _alone(phrase: str) -> str:
    spaced = r"\s+".join(pl.escape_regex(word) for word in phrase.split())
    first, last = (r"\b" if re.match(r"\w", end) else "" for end in (phrase[0], phrase[-1]))
    return f"{first}{spaced}{last}"


@cache
def sentences() -> pl.Expr:
    """Sentences, by the marks that end them; one that ends in no mark does not count."""
    return pl.col("text").str.count_matches(_SENTENCE_END)
