"""What deduplication decided: one row per copy dropped, naming what was kept in its stead.

`decisions/NN_<rule>.parquet` in the stage folder, NN being the rule's place in the recipe.
"""

import pyarrow as pa

from schemas.versions import stamp

DECISIONS = stamp(
    pa.schema(
        [
            pa.field("document", pa.uint64(), nullable=False),  # input shard number << 32 | row
            ("item", pa.int32()),  # index of the dropped item as read; null: the document is dropped
            pa.field("id", pa.string(), nullable=False),  # of the document dropped or holding the item
            ("kept", pa.uint64()),  # document kept, or holding the item kept; null: no document stays for it
            ("kept_item", pa.int32()),
            ("kept_id", pa.string()),  # where `kept` is null: which evaluation item it is like, if any
            # 0..1, to what was kept, or to the nearest other copy if those two were not compared; null where
            # equality was asked for
            ("similarity", pa.float32()),
            pa.field("reason", pa.string(), nullable=False),  # the rule, as the ledger counts it
        ]
    ),
    "decisions",
    1,
)
DECIDED = DECISIONS.names[:-1]  # what a rule says; its name is added where its decisions are published
