"""Rows of MMC4, packed as its mirrors have them, and what its source reads."""

import io
import json
import zipfile

from lcl_data.sources.mmc4 import Mmc4

PAGE = "http://cars.example/hofi-48.html"


def upstream():
    """A row of the shape of the README's example: image_info runs against the text."""
    return {
        "image_info": [
            {
                "face_detections": None,
                "image_name": "b9040a0dbb22.jpg",
                "matched_sim": 0.27694183588027954,
                "matched_text_index": 2,
                "raw_url": "http://cars.example/3/2/index.90.jpg",
            },
            {
                "face_detections": None,
                "image_name": "db1c21bc8474.jpg",
                "matched_sim": 0.3234919607639313,
                "matched_text_index": 1,
                "raw_url": "http://cars.example/3/2/index.91.jpg",
            },
        ],
        "similarity_matrix": [[0.2436, 0.3175, 0.27694183588027954], [0.2233, 0.3234919607639313, 0.2611]],
        "text_list": [
            "A key locks every door.",
            "One button does the same.",
            "A lamp blinks when it is done.",
        ],
        "url": PAGE,
        "could_have_url_duplicate": 0,
    }


def line(row):
    return json.dumps(row).encode() + b"\n"


def zipped(name, content, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def rows_of(path, **options):
    source = Mmc4(**options)
    return [row for unit in source.units(path) for row in source.read(unit)]


def read_lines(tmp_path, content, **options):
    path = tmp_path / "docs_shard_0_v2.jsonl"
    path.write_bytes(content)
    return rows_of(path, **options)
