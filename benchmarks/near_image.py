"""Which pictures does `near_image` find that were re-encoded harder than the copies of dedupe_quality.py?

    python benchmarks/near_image.py FOLDER [--images 700] [--side 190] [--seed 4]

A seeded choice of the pictures below FOLDER is encoded again in three ways. Printed: the share found by
distance of the hash and likeness of the pixels.
"""

import argparse
import io
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from lcl_data.likeness import likeness, thumbnail
from lcl_data.phash import phash
from lcl_data.pictures import Picture, Refusal, prepare

DISTANCES, LEAST = (4, 6, 8, 10), (0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
WAYS = {"mild": (0.8, 0.95, (45, 60, 75), 0.05), "strong": (0.4, 1.0, (20, 30, 45), 0.1)}


def stored(path: Path) -> Image.Image | None:
    """The picture as `download` would store it."""
    made = prepare(path.read_bytes(), Picture())
    return None if isinstance(made, Refusal) else Image.open(io.BytesIO(made.content)).convert("RGB")


def recoded(image: Image.Image, way: str, rng: random.Random) -> Image.Image:
    quality = 75
    if way == "cropped":
        (width, height), cut = image.size, [rng.uniform(0, 0.02) for _ in range(4)]
        right, bottom = width - int(width * cut[2]), height - int(height * cut[3])
        image = image.crop((int(width * cut[0]), int(height * cut[1]), right, bottom))
    else:
        least, most, qualities, light = WAYS[way]
        scale, quality = rng.uniform(least, most), rng.choice(qualities)
        size = (int(image.width * scale), int(image.height * scale))
        image = image.resize(size, Image.Resampling.LANCZOS)
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(1 - light, 1 + light))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def recall(images: list[Image.Image], way: str, rng: random.Random) -> None:
    copies = [recoded(image, way, rng) for image in images]
    alike = likeness([thumbnail(image) for image in images], [thumbnail(copy) for copy in copies])
    apart = np.array([(phash(a) ^ phash(b)).bit_count() for a, b in zip(images, copies, strict=True)])
    for least in LEAST:
        found = [f"{((alike >= least) & (apart <= bits)).mean():.3f}" for bits in DISTANCES]
        print(f"| {way} | {least} | " + " | ".join(found) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=700)
    parser.add_argument("--side", type=int, default=190)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    paths = sorted(
        path for path in options.folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    chosen = rng.sample(paths, len(paths))
    large = (image for path in chosen if (image := stored(path)) and min(image.size) >= options.side)
    images = [image for image, _ in zip(large, range(options.images), strict=False)]
    print(
        f"{len(images)} pictures\n\n| copies | likeness | "
        + " | ".join(f"d <= {d}" for d in DISTANCES)
        + " |"
    )
    print("|---|---|" + "---|" * len(DISTANCES))
    for way in (*WAYS, "cropped"):
        recall(images, way, rng)


if __name__ == "__main__":
    main()
