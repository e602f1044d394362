"""Cut pictures or documents by the score that a model gave them, whichever model it was."""

from typing import Literal, Self

import polars as pl
from pydantic import Field, model_validator

from lcl_data.filters import Filter, score_column


class Score(Filter):
    """A score from the tables given with `--scores` (see docs/curation.md).

    There is no default, because the number depends on the model: MMC4 keeps pictures whose CLIP ViT-L/14
    cosine is at least 0.15 (section 3), LAION-400M 0.3 of ViT-B/32, DataComp's best baseline the top 30 % of
    ViT-L/14. What no table scores is rejected as `unmeasured`.
    """

    name: str = Field(min_length=1, description="of the score, as the column name of the table says")
    min: float | None = Field(None, description="what scores less is rejected; null: nothing")
    max: float | None = Field(None, description="what scores more is rejected; null: nothing")
    level: Literal["document", "image"] = Field("image", description="what is judged")

    @property
    def applies_to(self) -> Literal["document", "image"]:  # type: ignore[override]  # a setting, no constant
        """The level."""
        return self.level

    def scores(self) -> tuple[str, ...]:
        """Its name."""
        return (self.name,)

    def reasons(self) -> dict[str, pl.Expr]:
        """<name>_too_low, <name>_too_high."""
        # Models score in float32: as a double, a score of 0.24 would fall below 0.24.
        value = pl.col(score_column(self.name)).cast(pl.Float32)
        reasons = {}
        if self.min is not None:
            reasons[f"{self.name}_too_low"] = value < pl.lit(self.min, pl.Float32)
        if self.max is not None:
            reasons[f"{self.name}_too_high"] = value > pl.lit(self.max, pl.Float32)
        return reasons

    @model_validator(mode="after")
    def _cuts(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give a threshold: min or max")
        return self
