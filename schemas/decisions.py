"""What deduplication decided: one row per copy dropped, naming what was kept in its stead.

`decisions/NN_<rule>.parquet` in the stage folder, NN being the rule's place in the recipe.
"""

import pyarrow as pa

from schemas.versions import stamp

DECISIONS = stamp(
    pa.schema(
        [
            pa.field("document", pa.uint64(), nullable=False),  # input shard number << 32 | row
            ("item", pa.int32()),  # index of the dropped image item as read; null: the document is dropped
            pa.field("id", pa.string(), nullable=False),  # of the document dropped or holding the image
            pa.field("kept", pa.uint64(), nullable=False),  # document kept, or holding the image kept
            ("kept_item", pa.int32()),
            pa.field("kept_id", pa.string(), nullable=False),
            ("similarity", pa.float32()),  # 0..1; null where equality was asked for
        ]
    ),
    "decisions",
    1,
)
