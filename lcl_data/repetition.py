"""How much of a text is a repetition of itself: n-grams as 64-bit numbers, counted a text at a time.

Each function takes a String series and gives a series of equal length, null where the text is. Two n-grams
that differ have one number with a probability of about 2**-64.
"""

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl

from lcl_data.wording import BARE_WORD

Numbers = np.ndarray[tuple[int], np.dtype[np.uint64]]
Lengths = np.ndarray[tuple[int], np.dtype[np.int64]]

_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: 2**64 over the golden ratio
_FOLD = np.uint64(32)


def character_repetition(texts: pl.Series, length: int) -> pl.Series:
    """The share of the most frequent character n-grams among all: OBELICS' measure.

    Most frequent are the first sqrt(kinds) kinds of n-gram, as far as they occur more than once.
    """

    def ratio(text: str) -> float:
        characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
        counts = np.sort(_counts(ngrams(_mixed(characters), length)))[::-1]
        most = min(int(np.sqrt(len(counts))), int((counts > 1).sum()))
        return float(counts[:most].sum() / counts.sum()) if len(counts) else 0.0

    return _each(texts, ratio)


def word_repetition(texts: pl.Series, length: int) -> pl.Series:
    """The share of word n-grams that occur more than once: OBELICS' measure, over bare words."""

    def ratio(numbers: Numbers) -> float:
        counts = _counts(ngrams(numbers, length))
        return float(counts[counts > 1].sum() / counts.sum()) if len(counts) else 0.0

    words = texts.str.to_lowercase().str.extract_all(BARE_WORD)
    return _over(words, ratio)


def repeated_lines(texts: pl.Series) -> pl.Series:
    """The share of characters in lines that an earlier line equals; blank lines do not count."""

    def ratio(text: str) -> float:
        lines = [line for line in text.split("\n") if line.strip()]
        whole = sum(map(len, lines))
        return copies(lines)[1] / whole if whole else 0.0

    return _each(texts, ratio)


def gopher_fields(tops: tuple[int, ...], repeated: tuple[int, ...]) -> list[str]:
    """The names of the numbers that `gopher_repetition` gives, in their order."""
    parts = [f"repeated_{part}" for part in ("paragraphs", "paragraph_chars", "lines", "line_chars")]
    return parts + [f"top_{n}_gram_chars" for n in tops] + [f"repeated_{n}_gram_chars" for n in repeated]


def gopher_repetition(texts: pl.Series, tops: tuple[int, ...], repeated: tuple[int, ...]) -> pl.Series:
    """The shares of Gopher's table A1, as a struct.

    Args:
        texts: whole texts.
        tops: lengths of the n-grams of which the most frequent is measured.
        repeated: lengths of the n-grams of which the repetitions are measured.
    """
    names = gopher_fields(tops, repeated)
    words = texts.str.extract_all(r"\S+")
    numbers, ends = numbered(words)
    lengths = words.filter(words.list.len() > 0).explode().str.len_chars().to_numpy()
    rows, start = [], 0
    for text, end in zip(texts, ends, strict=True):
        run = slice(start, start := int(end))
        shares = (
            None
            if text is None
            else [
                *_copied_parts(text),
                *_phrases(numbers[run], lengths[run], tops, repeated, max(len(text), 1)),
            ]
        )
        rows.append(shares and dict(zip(names, shares, strict=True)))
    return pl.Series(texts.name, rows, dtype=pl.Struct(dict.fromkeys(names, pl.Float64)))


def _copied_parts(text: str) -> list[float]:
    """Shares of paragraphs and lines, and of characters in them, that an earlier one equals."""
    shares = []
    for separator in (r"\n\s*\n", r"\n"):
        parts = [part for part in re.split(separator, text) if part.strip()]
        count, characters = copies(parts)
        shares += [count / max(len(parts), 1), characters / max(len(text), 1)]
    return shares


def _phrases(
    words: Numbers, lengths: Lengths, tops: tuple[int, ...], repeated: tuple[int, ...], whole: int
) -> Iterator[float]:
    """Shares of characters in n-grams of words."""
    ends = np.concatenate([[0], lengths.cumsum(dtype=np.int64)])
    found = {}
    for n, places, kinds, counts in _recurring(words, sorted({*tops, *repeated})):
        found[n] = (_most(places, kinds, counts, ends, n), _copied(places, kinds, ends, n))
    yield from (found[n][0] / whole for n in tops)
    yield from (found[n][1] / whole for n in repeated)


def _recurring(words: Numbers, lengths: list[int]) -> Iterator[tuple[int, Lengths, Lengths, Lengths]]:
    """For each of the ascending lengths n: n, where the n-grams begin that occur more than once, the kind of
    each, and how often each kind occurs.

    A longer n-gram recurs only where its beginning does, so that few places are left to look at.
    """
    places, grams, done = np.arange(len(words)), np.zeros(len(words), np.uint64), 0
    for n in lengths:
        for step in range(done, n):
            inside = places + step < len(words)
            places, grams = places[inside], grams[inside]
            grams = grams * _FACTOR + words[places + step]
        done = n
        _, kinds, counts = np.unique(grams, return_inverse=True, return_counts=True)
        recurs = counts[kinds] > 1
        places, grams, kinds = places[recurs], grams[recurs], kinds[recurs]
        yield n, places, kinds, counts


def _most(places: Lengths, kinds: Lengths, counts: Lengths, ends: Lengths, n: int) -> int:
    """Characters in the most frequent n-gram, spaces included; of several the one that comes first."""
    if not len(places):
        return 0
    at = places[np.argmax(counts[kinds])]
    return int(counts.max() * (ends[at + n] - ends[at] + n - 1))


def _copied(places: Lengths, kinds: Lengths, ends: Lengths, n: int) -> int:
    """Characters in n-grams that an earlier one equals; where two overlap, the first counts."""
    seen: set[int] = set()
    characters = free = 0
    for at, kind in zip(places.tolist(), kinds.tolist(), strict=True):
        if at < free:
            continue
        if kind in seen:
            free = at + n
            characters += int(ends[free] - ends[at])
        seen.add(kind)
    return characters


def copies(parts: Iterable[str]) -> tuple[int, int]:
    """How many parts an earlier one equals, and the characters in them."""
    seen: set[str] = set()
    count = characters = 0
    for part in parts:
        if part in seen:
            count += 1
            characters += len(part)
        seen.add(part)
    return count, characters


def ngrams(numbers: Numbers, length: int) -> Numbers:
    """A number for each run of `length` numbers."""
    many = len(numbers) - length + 1
    if many <= 0:
        return numbers[:0]
    gram = np.zeros(many, np.uint64)
    for start in range(length):
        gram = gram * _FACTOR + numbers[start : start + many]
    return gram


def numbered(words: pl.Series) -> tuple[Numbers, Numbers]:
    """The words of a series of lists as 64-bit numbers in one row, and where each list ends in it."""
    lengths = words.list.len().fill_null(0)
    flat = words.filter(lengths > 0).explode().hash(seed=0)
    return flat.to_numpy().astype(np.uint64, copy=False), lengths.cum_sum().to_numpy().astype(np.uint64)


def _over(words: pl.Series, ratio: Callable[[Numbers], float]) -> pl.Series:
    numbers, ends = numbered(words)
    runs = np.split(numbers, ends[:-1].astype(np.int64)) if len(ends) else []
    found = [None if absent else ratio(run) for absent, run in zip(words.is_null(), runs, strict=True)]
    return pl.Series(words.name, found, dtype=pl.Float64)


def _each(texts: pl.Series, ratio: Callable[[str], float]) -> pl.Series:
    return pl.Series(texts.name, [None if text is None else ratio(text) for text in texts], dtype=pl.Float64)


def _mixed(numbers: Numbers) -> Numbers:
    """Small numbers spread over 64 bits, so that sums of products of them do not meet."""
    mixed = (numbers + np.uint64(1)) * _FACTOR
    mixed = (mixed ^ (mixed >> _FOLD)) * _FACTOR
    return mixed ^ (mixed >> _FOLD)


def _counts(numbers: Numbers) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.unique(numbers, return_counts=True)[1]
