"""Cut pictures by the size of their file: a tiny file holds a spacer or a flat colour."""

from typing import ClassVar, Literal

import polars as pl
from pydantic import Field

from lcl_data.filters import Filter


class ImageBytes(Filter):
    """Bytes of the original file; of the stored one where the store does not tell (img2dataset's).

    The default minimum is COYO's (5 KB); the loader of OpenFlamingo asks for 10 KB. No published pipeline
    states a maximum, so there is none by default.
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    min: int = Field(5_000, ge=0, description="files of fewer bytes are rejected")
    max: int | None = Field(None, ge=1, description="files of more bytes are rejected; null: none is")

    def reasons(self) -> dict[str, pl.Expr]:
        """too_few, too_many."""
        reasons = {"too_few": pl.col("nbytes") < self.min}
        if self.max is not None:
            reasons["too_many"] = pl.col("nbytes") > self.max
        return reasons
