"""Bring texts into one form: mended encodings, one Unicode form, plain spaces, no control characters."""

import re
import unicodedata
from functools import cache
from typing import Any, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Cleaner, measure

_LINE_ENDS = re.compile("\r\n?|[\x85\u2028\u2029]")
_SPACES = re.compile("[\t\v\f \xa0\u1680\u2000-\u200a\u202f\u205f\u3000\ufffc]+")
_PASSES = 8  # a repair may uncover another; more than three in a row have not been seen


class NormaliseText(Cleaner):
    """Four repairs, repeated until they change nothing.

    - `encoding`: what was decoded wrongly is decoded again by ftfy, as in FineWeb 2 (arXiv 2506.20920);
      quotes, ligatures and HTML entities stay as they are.
    - `form`: Unicode's normal form.
    - `controls`: control characters go, as OBELICS' remove_non_printing_characters, and invisible format
      characters with them, except the joiners that emoji, Indic and Persian spelling need.
    - `spaces`: a run of spaces of any kind becomes one, as in OBELICS' standardize_whitespace; none at either
      end of a line, one blank line at most between paragraphs.
    """

    encoding: bool = Field(True, description="mend text that was decoded in a wrong encoding")
    form: Literal["NFC", "NFKC"] | None = Field("NFC", description="Unicode's normal form; null leaves it")
    controls: bool = Field(True, description="take out control and format characters")
    spaces: bool = Field(True, description="make runs of spaces one; strip lines and blank lines")

    def cleaned(self) -> pl.Expr:
        """The text after the repairs."""
        return measure(normalised, pl.String, self.encoding, self.form, self.controls, self.spaces)


def normalised(
    texts: pl.Series, encoding: bool, form: Literal["NFC", "NFKC"] | None, controls: bool, spaces: bool
) -> pl.Series:
    """Texts after the repairs; null stays null."""
    found = [text and _normalised(text, encoding, form, controls, spaces) for text in texts]
    return pl.Series(texts.name, found, dtype=pl.String)


def _normalised(
    text: str, encoding: bool, form: Literal["NFC", "NFKC"] | None, controls: bool, spaces: bool
) -> str:
    for _ in range(_PASSES):
        before = text
        # No ASCII text is wrongly decoded, and ftfy takes long to say so.
        if encoding and not (text.isascii() and "\x1b" not in text):
            text = _mended(text)
        if controls:
            text = _LINE_ENDS.sub("\n", text).translate(_unprintable())
        if form:
            text = unicodedata.normalize(form, text)
        if spaces:
            text = re.sub(r" ?\n ?", "\n", _SPACES.sub(" ", text))
            text = re.sub(r"\n{3,}", "\n\n", text).strip()
        if text == before:
            break
    return text


def _mended(text: str) -> str:
    import ftfy

    return ftfy.fix_text(text, _repairs())


@cache
def _repairs() -> Any:
    import ftfy

    return ftfy.TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )


@cache
def _unprintable() -> dict[int, None]:
    """Categories Cc and Cf, but for line ends, tabs, joiners (emoji, Indic, Persian) and tags (flags)."""
    needed = {0x09, 0x0A, 0x200C, 0x200D, *range(0xE0020, 0xE0080)}
    codes = (code for code in range(0xE1000) if code not in needed)
    return dict.fromkeys(code for code in codes if unicodedata.category(chr(code)) in ("Cc", "Cf"))
