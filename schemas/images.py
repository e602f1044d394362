"""The image store: one row per URL tried, failures too, beside the tars that hold what succeeded.

The layout and the first columns are img2dataset's own, so that its users bring what they have; the rest is
ours.
"""

import pyarrow as pa

from schemas.versions import stamp

SUCCESS = "success"
FAILED_TO_DOWNLOAD = "failed_to_download"
FAILED_TO_RESIZE = "failed_to_resize"

IMAGES = stamp(
    pa.schema(
        [
            pa.field("url", pa.string(), nullable=False),
            pa.field("key", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),  # one of the three above
            ("reason", pa.string()),  # http_404, timeout, truncated, ...; null on success
            ("error_message", pa.string()),
            ("http_status", pa.int32()),
            ("width", pa.int32()),  # of the stored picture, pixels
            ("height", pa.int32()),
            ("original_width", pa.int32()),
            ("original_height", pa.int32()),
            ("original_nbytes", pa.int64()),
            ("format", pa.string()),  # of the original: jpeg, png, webp, gif, ...
            ("is_animated", pa.bool_()),
            ("offset", pa.int64()),  # of the picture's bytes in NNNNN.tar
            ("nbytes", pa.int64()),  # of the stored picture
            ("sha256", pa.string()),  # hex, of the stored bytes
            ("phash", pa.uint64()),
            # The picture as a decoder shows it that ignores transparency: a JPEG of the stored size, and its
            # hash; null where that is no other picture, or of one colour.
            ("opaque", pa.binary()),
            ("opaque_phash", pa.uint64()),
            ("references", pa.int64()),  # image items of the documents that point at this URL
        ]
    ),
    "images",
    1,
)
