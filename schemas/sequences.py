"""The training shards: one row per document (or part of one), text as token ids, each image as ONE position
token.

Shards do not know the model: the loader expands a position token to `<BoI>` + N visual slots + `<EoI>`.
"""

import pyarrow as pa

from schemas.versions import stamp

TOKENS_KEY = b"lcl.tokens"  # JSON of the special ids: sot, eot, image, boi, eoi, pad, vocab_size

SEQUENCES = stamp(
    pa.schema(
        [
            pa.field(
                "id", pa.string(), nullable=False
            ),  # the document's id; part k >= 1 of a split one: <id>-<k>
            pa.field("tokens", pa.list_(pa.int32()), nullable=False),
            pa.field(
                "images", pa.list_(pa.binary()), nullable=False
            ),  # encoded, in the order of their tokens
            pa.field("image_keys", pa.list_(pa.string()), nullable=False),  # sha256 hex of the encoded bytes
            # [start, end) in tokens of the text an image belongs to; null where its place says it
            pa.field(
                "anchors", pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())])), nullable=False
            ),
            pa.field("source", pa.string(), nullable=False),
            ("url", pa.string()),
        ]
    ),
    "sequences",
    1,
)
