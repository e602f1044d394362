"""What filters of wording say of rows of text."""

import polars as pl

from lcl_data.views import measured
from schemas import members

PROSE = "The river that we have seen falls with great force to the sea, and nobody can be sure of its depth. "
CHINESE = "图像的表示必须能够从它之前的文本中预测出来。"


def judged(filter_, **columns):
    frame = pl.DataFrame(columns, schema_overrides={"text": pl.String, "url": pl.String})
    reason = filter_.reason().alias("reason")
    return measured(frame.select(pl.col(columns).name.keep()), [filter_]).with_columns(reason)


def reasons(filter_, **columns):
    """The reason for each row, without the filter's name."""
    found = judged(filter_, **columns)["reason"].to_list()
    return [reason and reason.removeprefix(f"{members.key(filter_)}:") for reason in found]


def fact(filter_, name, text):
    return judged(filter_, text=[text])[name][0]
