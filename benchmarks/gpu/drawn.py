"""A corpus drawn for machines that have none: documents of MMC4's lengths with JPEGs to decode.

Lengths are lognormal and numbers of pictures geometric about the means of MMC4 (43 B tokens and 585 M images
in 103 M documents); pictures are smooth noise of 256 pixels, about as many bytes as a photograph.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from lcl_data.shards import SpecialTokens
from schemas.sequences import SEQUENCES, TOKENS_KEY

WORDS = 49_406
SPECIALS = SpecialTokens(
    sot=WORDS,
    eot=WORDS + 1,
    image=WORDS + 2,
    boi=WORDS + 3,
    eoi=WORDS + 4,
    pad=WORDS + 5,
    vocab_size=WORDS + 6,
)
MEAN_WORDS, SPREAD, MEAN_IMAGES, MOST_IMAGES = 417, 0.7, 5.7, 20


def picture(seed: int, side: int) -> bytes:
    """A JPEG of noise at a few scales."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + random.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def document(number: int, side: int, pictures: list[bytes]) -> dict[str, Any]:
    """Words of a Zipf vocabulary with pictures among them, as the shard stage writes them."""
    random = np.random.default_rng([number, side])
    words = int(np.clip(random.lognormal(np.log(MEAN_WORDS) - SPREAD**2 / 2, SPREAD), 20, 1900))
    count = min(MOST_IMAGES, int(random.geometric(1 / MEAN_IMAGES)))
    tokens = (np.minimum(random.zipf(1.3, words), WORDS) - 1).tolist()
    for at in sorted(random.integers(0, words, count).tolist(), reverse=True):
        tokens.insert(at, SPECIALS.image)
    images = [pictures[n] for n in random.integers(0, len(pictures), count)]
    return {
        "id": f"{number:032x}",
        "tokens": [SPECIALS.sot, *tokens, SPECIALS.eot],
        "images": images,
        "image_keys": [hashlib.sha256(image).hexdigest() for image in images],
        "anchors": [None] * count,
        "source": "drawn",
        "url": None,
    }


def draw(folder: Path, documents: int, side: int = 256, distinct: int = 500, per_shard: int = 500) -> Path:
    """Write training shards; a picture is one of `distinct`, each decoded anew wherever it stands."""
    pictures = [picture(number, side) for number in range(distinct)]
    schema = SEQUENCES.with_metadata({**SEQUENCES.metadata, TOKENS_KEY: SPECIALS.to_json().encode()})
    folder.mkdir(parents=True, exist_ok=True)
    for shard, start in enumerate(range(0, documents, per_shard)):
        numbers = range(start, min(start + per_shard, documents))
        table = pa.Table.from_pylist([document(number, side, pictures) for number in numbers], schema)
        with (
            pa.OSFile(str(folder / f"{shard:05d}.arrow"), "wb") as file,
            pa.ipc.new_file(file, schema) as out,
        ):
            out.write_table(table)
    return folder
