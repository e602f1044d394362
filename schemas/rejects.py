"""What a stage dropped, and why: one row per rejected document or image reference."""

import pyarrow as pa

from schemas.versions import stamp

REJECTS = stamp(
    pa.schema(
        [
            pa.field(
                "kind", pa.string(), nullable=False
            ),  # files, documents, images or texts: the ledger's own keys
            pa.field("reason", pa.string(), nullable=False),
            ("id", pa.string()),  # of the document; null for a row that never became one
            ("item", pa.int32()),  # index of the item in the document as it was read
            ("url", pa.string()),  # of the image or the page
            ("place", pa.string()),  # upstream file and row, where there is no document
            ("detail", pa.string()),
            pa.field("count", pa.int64(), nullable=False),  # how many ledger entries the row stands for
        ]
    ),
    "rejects",
    1,
)
