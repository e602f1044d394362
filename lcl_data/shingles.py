"""Texts as hashes of their words and word n-grams, a batch at a time in numpy.

The hashes are of 64 bits and the same on every machine, in every process and version. A word is a run of
letters and digits after lower-casing; a character of a script that sets no spaces is a word of its own.
"""

from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
import polars as pl
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

# Scripts that set no spaces between words.
_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_UNSPACED = rf"([{_SCRIPTS}])"
_MARKED = rf"[{_SCRIPTS}\p{{M}}]"  # or a letter whose accent is a character of its own
_LARGEST_NGRAM = 64


@dataclass(frozen=True, slots=True)
class Hashed:
    """Hashes of a batch of texts, one after the other: those of text i are values[ends[i - 1]:ends[i]]."""

    values: Hashes
    ends: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many each text has."""
        return np.diff(self.ends, prepend=0)

    @property
    def owners(self) -> NDArray[np.int64]:
        """The text of each hash."""
        return np.repeat(np.arange(len(self.ends)), self.counts)


def words(texts: pl.Series) -> Hashed:
    """The hash of each word of each text; none of a null."""
    plain = _plain(texts.fill_null(""))
    data = np.frombuffer(_joined(plain).translate(_IN_WORDS), np.uint8)
    _blot_symbols(data)
    inside = data != 0
    edges = np.flatnonzero(inside[1:] ^ inside[:-1]) + 1
    starts, stops = edges[::2], edges[1::2]
    ends = np.cumsum(plain.str.len_bytes().to_numpy() + 1, dtype=np.int64)
    return Hashed(_hashed(data, starts, stops - starts), np.searchsorted(starts, ends))


def _joined(texts: pl.Series) -> bytearray:
    """The texts in UTF-8, a line feed before the first and after each, room for a chunk at the end."""
    joined = texts.str.join("\n").to_arrow(compat_level=pl.CompatLevel.oldest())
    return bytearray().join((b"\n", joined.buffers()[2] or b"", b"\n", bytes(_CHUNK)))


def _hashed(data: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> Hashes:
    """The hash of each slice of `data`, which goes on for eight bytes after the last one."""
    chunks = np.ndarray(len(data) - _CHUNK + 1, "<u8", data, strides=(1,))  # the eight bytes from each place
    hashes = mixed(chunks[starts] & _MASKS.take(lengths, mode="clip"))
    long = np.flatnonzero(lengths > _CHUNK)
    for done in count(_CHUNK, _CHUNK):
        if not len(long):
            return hashes
        rest = _MASKS.take(lengths[long] - done, mode="clip")
        hashes[long] = mixed(hashes[long] ^ (chunks[starts[long] + done] & rest))
        long = long[lengths[long] > done + _CHUNK]
    raise AssertionError


def joined(hashed: Hashed, ends: NDArray[np.int64]) -> Hashed:
    """The same hashes as those of longer texts, text i being the texts from ends[i - 1] to ends[i]."""
    before = np.concatenate([[0], hashed.ends])
    return Hashed(hashed.values, before[ends])


@dataclass(frozen=True, slots=True)
class Ngrams(Hashed):
    """Hashes of runs of words; run i begins at word firsts[i] of the batch."""

    firsts: NDArray[np.int64]


def ngrams(hashed: Hashed, size: int) -> Ngrams:
    """The hash of each run of `size` words of each text, with repetitions; none of a shorter text."""
    counts = np.maximum(hashed.counts - size + 1, 0)
    ends = np.cumsum(counts)
    firsts = np.arange(counts.sum()) + np.repeat(hashed.ends - hashed.counts - (ends - counts), counts)
    return Ngrams(runs(hashed.values, firsts, size), ends, firsts)


def runs(values: Hashes, firsts: NDArray[np.int64], size: int, salt: int = 0) -> Hashes:
    """The hash of the run of `size` words from each place in `firsts`; another one for another `salt`."""
    sums = np.zeros(len(firsts), np.uint64)
    for place, factor in enumerate(_odd(salt * _LARGEST_NGRAM + size)[salt * _LARGEST_NGRAM :]):
        words = values[place:].take(firsts)
        words *= factor
        sums += words
    return mixed(sums)


def _plain(texts: pl.Series) -> pl.Series:
    """Texts that hold more than ASCII in lower case and as `_spaced` says; others as they are."""
    is_wide = texts.str.len_bytes() != texts.str.len_chars()
    if not is_wide.any():
        return texts
    lower = texts.filter(is_wide).str.to_lowercase()
    is_marked = lower.str.contains(_MARKED)
    if is_marked.any():
        lower = lower.scatter(is_marked.arg_true(), _spaced(lower.filter(is_marked)))
    return texts.scatter(is_wide.arg_true(), lower)


def _spaced(texts: pl.Series) -> pl.Series:
    """Accents composed (NFKC), white space between words that have none."""
    composed = texts.str.normalize("NFKC")
    return composed.str.replace_all(_UNSPACED, " $1 ").str.replace_all(r"[^\w\s]", " ")


def _blot_symbols(data: NDArray[np.uint8]) -> None:
    """Zero the characters of UTF-8 beyond ASCII that are neither letter nor digit."""
    wide = np.flatnonzero(data >= 0x80)
    leads = data[wide]
    for lead, second, size in _SYMBOLS:
        at = wide[leads == lead]
        at = at[np.isin(data[at + 1], second)] if len(at) else at
        for place in range(size):
            data[at + place] = 0


_CHUNK = 8
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(_CHUNK + 1)], np.uint64)
# What becomes of a byte: itself beyond ASCII, a letter in lower case, a digit, or 0.
_IN_WORDS = bytes(
    byte if byte >= 0x80 else ord(chr(byte).lower()) * chr(byte).isalnum() for byte in range(256)
)
# First byte, second bytes and length of characters that are no letters: Latin-1 signs (U+0080 to U+00BF),
# punctuation and symbols (U+2000 to U+2BFF), wide punctuation (U+3000 to U+303F).
_SYMBOLS = ((0xC2, range(0x80, 0xC0), 2), (0xE2, range(0x80, 0xB0), 3), (0xE3, (0x80,), 3))


@cache
def _odd(count: int) -> Hashes:
    """Well-mixed odd numbers, the same for ever."""
    return mixed(np.arange(1, count + 1, dtype=np.uint64)) | np.uint64(1)


def mixed(values: Hashes) -> Hashes:
    """Each value with its bits spread over all 64 (the finaliser of SplitMix64)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed
