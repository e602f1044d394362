"""Facts about wording that several filters cut on: what a word, a line and a share of them is, as polars
expressions over the column `text`.

A word is what stands between spaces. So these facts, and the thresholds published for them, fit scripts that
put spaces between words; a Chinese, Japanese or Thai sentence is one word to them.
"""

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
    """The share of the bare words that a list holds; 0 where there is no bare word."""
    known = pl.Series(sorted(listed), dtype=pl.String)
    held = bare_words().list.eval(pl.element().is_in(known.implode()).cast(pl.Float64)).list.mean()
    return pl.when(pl.col("text").is_not_null()).then(held.fill_null(0.0))


@cache
def sentences() -> pl.Expr:
    """Sentences, by the marks that end them; one that ends in no mark does not count."""
    return pl.col("text").str.count_matches(_SENTENCE_END)
