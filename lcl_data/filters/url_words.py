"""Cut pictures whose address says that they are furniture of the page: logos, buttons, icons."""

import re
from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class UrlWords(Filter):
    """Words in the URL of an image, whatever their case.

    A word counts where no letter stands on either side of it, a plural `s` and a camel-case boundary
    excepted: `site-logo.png`, `icons/24.png`, `logo2.gif` and `siteLogo.png` match, `iconic.jpg` and
    `silicon.jpg` do not. The default words are MMC4's (section 3); OBELICS adds porn, xxx and sex, MINT-1T
    logo, avatar, porn and xxx alone. Those pipelines match substrings anywhere, which also drops the silicon.
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    words: tuple[str, ...] = Field(
        ("logo", "button", "icon", "plugin", "widget"),
        min_length=1,
        description="images whose URL holds one of these words are rejected",
    )

    def reasons(self) -> dict[str, pl.Expr]:
        """stop_word."""
        return {"stop_word": pl.col("url").str.contains(self._pattern)}

    @property
    def _pattern(self) -> str:
        alone = "|".join(re.escape(word) for word in self.words)
        capital = "|".join(re.escape(word.capitalize()) for word in self.words)
        ways = (
            rf"(?i:(?:^|[^a-z])(?:{alone})s?(?:[^a-z]|$))",
            rf"[a-z](?:{capital})s?(?:[^a-z]|$)",  # siteLogo
            rf"(?:^|[^A-Za-z])(?:{capital})[A-Z]",  # LogoSmall
        )
        return "|".join(ways)
