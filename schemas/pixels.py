"""What the pixels of stored pictures say of them: a row per row of the store's table, in its order.

A fact that is measured otherwise raises the version: tables of an earlier one are then measured again.
"""

import pyarrow as pa

from schemas.versions import stamp

PIXELS = stamp(
    pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            # Null where nothing is stored, or what is stored cannot be decoded. Meanings: lcl_data.pixels.
            ("pixel_sharpness", pa.float64()),
            ("pixel_contrast", pa.float64()),
            ("pixel_entropy", pa.float64()),
            ("pixel_ground", pa.uint8()),
            ("pixel_plain_share", pa.float64()),
            ("pixel_qr_share", pa.float64()),
        ]
    ),
    "pixels",
    1,
)
PIXEL_FACTS = tuple(name for name in PIXELS.names if name != "key")
