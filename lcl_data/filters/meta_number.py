"""Cut pictures by a number that upstream wrote beside them and that has no column of ours."""

from typing import ClassVar, Literal, Self

import polars as pl
from pydantic import Field, model_validator

from lcl_data.filters import Filter


class MetaNumber(Filter):
    """A field of a picture's meta: LAION's punsafe (its card advises < 0.5) and pwatermark (< 0.8), COYO's
    watermark_score, DataComp's clip_b32_similarity_score.

    There is no default, because the number depends on the field. What is no number, null or not there is
    rejected as `unmeasured`, or kept with `missing: keep`, since not every release of a set has every column.
    """

    applies_to: ClassVar[Literal["image"]] = "image"
    field: str = Field(pattern=r"^\w+$", description="name of the field, as upstream has it")
    min: float | None = Field(None, description="what has less is rejected; null: nothing")
    max: float | None = Field(None, description="what has more is rejected; null: nothing")
    missing: Literal["reject", "keep"] = Field("reject", description="what becomes of a picture without it")

    def facts(self) -> dict[str, pl.Expr]:
        """The number."""
        found = pl.col("meta").str.json_path_match(f"$['{self.field}']").cast(pl.Float64, strict=False)
        return {f"meta_{self.field}": pl.when(found.is_finite()).then(found)}

    def reasons(self) -> dict[str, pl.Expr]:
        """<field>_too_low, <field>_too_high."""
        value = pl.col(f"meta_{self.field}")
        reasons = {}
        if self.min is not None:
            reasons[f"{self.field}_too_low"] = value < self.min
        if self.max is not None:
            reasons[f"{self.field}_too_high"] = value > self.max
        keep = self.missing == "keep"
        return {name: held.fill_null(False) if keep else held for name, held in reasons.items()}

    @model_validator(mode="after")
    def _cuts(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give a threshold: min or max")
        return self
