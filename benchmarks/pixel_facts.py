"""What the pixel facts cost, and what their filters find and lose at their default thresholds.

    python benchmarks/pixel_facts.py DEV --more FOLDER [--pictures 300] [--seed 0] [--json OUT]

DEV holds `pairs.jsonl` (image, alt) and the pictures; words of the alternative texts say which are
photographs and which drawings. FOLDER holds further photographs. The faults are made here from those
photographs: blurred by a known sigma, QR codes pasted at known shares; blanks are drawn. All pass through
`pictures.prepare`, as in a store. CPU seconds of one process.
"""

import argparse
import io
import json
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import segno
from PIL import Image, ImageDraw, ImageFilter

from lcl_data import pixels
from lcl_data.filters import Filter
from lcl_data.filters.image_blur import ImageBlur
from lcl_data.filters.image_qr import ImageQr
from lcl_data.filters.image_text import ImageText
from lcl_data.filters.image_uniform import ImageUniform
from lcl_data.pictures import Picture, Refusal, prepare
from schemas.pixels import PIXEL_FACTS, PIXELS

TAKEN = re.compile(r"\b(photo|photos|photograph|photographs|painting|portrait)\b", re.IGNORECASE)
DRAWN = re.compile(
    r"\b(diagram|graph|chart|flow ?chart|table|plot|structural formula|structure of|equation|number line|"
    r"curve|axis)\b",
    re.IGNORECASE,
)
FILTERS: tuple[Filter, ...] = (ImageUniform(), ImageBlur(), ImageQr(), ImageText())
TEXTS = {"29 modules": "https://example.org/promotion?id=12345", "57 modules": "x" * 200}
ENLARGED = (
    4  # a code is pasted into the picture at this scale: what the store does to it afterwards is honest
)


def stored(image: Image.Image) -> bytes:
    """The picture as a store would hold it."""
    file = io.BytesIO()
    image.save(file, "PNG")
    made = prepare(file.getvalue(), Picture())
    assert not isinstance(made, Refusal)
    return made.content


def opened(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def blurred(image: Image.Image, sigma: float) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(sigma))


def with_code(image: Image.Image, share: float, text: str, draw: random.Random) -> Image.Image | None:
    """A code whose modules cover `share` of the picture, turned by up to 15 degrees; None: no room for it."""
    size = image.width * ENLARGED, image.height * ENLARGED
    drawn = segno.make(text, micro=False)
    modules = drawn.symbol_size(border=0)[0]
    file = io.BytesIO()
    drawn.save(file, kind="png", scale=8, border=4)
    side = round((share * size[0] * size[1]) ** 0.5 * (modules + 8) / modules)
    code = Image.open(file).convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)
    code = code.rotate(draw.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True)
    if code.width >= min(size):
        return None
    page = image.resize(size, Image.Resampling.BICUBIC)
    page.paste(code, tuple(draw.randrange(a - b) for a, b in zip(size, code.size, strict=True)), code)
    return page.resize(image.size, Image.Resampling.HAMMING, reducing_gap=2.0)


def blanks(number: int, draw: random.Random) -> Iterator[Image.Image]:
    """One colour, one colour with words, faint gradients, faint noise: in turn."""
    for n in range(number):
        colour = tuple(draw.randrange(256) for _ in range(3))
        page = Image.new("RGB", (320, 256), colour)
        if n % 4 == 1:
            ImageDraw.Draw(page).text((90, 120), "image not available", fill="grey")
        if n % 4 == 2:
            ramp = np.linspace(0, draw.uniform(4, 16), 320)[None, :] + draw.randrange(230)
            page = Image.fromarray(np.repeat(ramp, 256, 0).astype(np.uint8))
        if n % 4 == 3:
            noise = np.random.default_rng(n).normal(draw.randrange(20, 230), draw.uniform(1, 4), (256, 320))
            page = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        yield page


def reasons(contents: Iterable[bytes]) -> pl.DataFrame:
    """A row per picture, a column per filter: whether it drops the picture."""
    rows = [pixels.pixel_facts(content, 50_000_000) for content in contents]
    schema = {name: dtype for name, dtype in pl.Schema(PIXELS).items() if name in PIXEL_FACTS}
    facts = pl.DataFrame([{} if isinstance(row, Refusal) else row for row in rows], schema=schema)
    return facts.select(each.reason().is_not_null().alias(type(each).__name__) for each in FILTERS)


def shares(contents: Iterable[bytes]) -> dict[str, Any]:
    dropped = reasons(contents)
    return {
        "pictures": dropped.height,
        **{name: dropped[name].sum() / dropped.height for name in dropped.columns},
    }


def cost(contents: list[bytes]) -> dict[str, float]:
    """CPU milliseconds a picture, of each part and of all."""

    def spent(work: Callable[[Any], Any], inputs: list[Any]) -> tuple[float, list[Any]]:
        began = time.process_time()
        made = [work(each) for each in inputs]
        return (time.process_time() - began) / len(inputs) * 1e3, made

    table: dict[str, float] = {}
    table["all"], _ = spent(partial(pixels.pixel_facts, max_pixels=50_000_000), contents)
    table["decode"], grey = spent(lambda content: pixels._grey(Image.open(io.BytesIO(content))), contents)
    images = [np.asarray(each) for each in grey]
    table["sharpness"], _ = spent(pixels._laplacian_variance, images)
    table["histogram"], counts = spent(pixels._histogram, grey)
    table["entropy"], _ = spent(pixels._entropy, counts)
    table["plain_share"], _ = spent(pixels._fullest_run, counts)
    table["qr_share"], _ = spent(pixels._qr_share, images)
    return table


def labelled(dev: Path) -> Iterator[tuple[Path, str]]:
    """(picture, taken, drawn or other) by the first words of its alternative text."""
    for line in (dev / "pairs.jsonl").read_text().splitlines():
        row = json.loads(line)
        words = (row["alt"] or "")[:80]
        is_taken, is_drawn = bool(TAKEN.search(words)), bool(DRAWN.search(words))
        label = "other" if is_taken == is_drawn else "taken" if is_taken else "drawn"
        if (dev / row["image"]).exists():
            yield dev / row["image"], label


def sets(options: argparse.Namespace) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Named sets of stored pictures."""
    draw = random.Random(options.seed)
    found = list(labelled(options.dev))
    by_label = {
        label: sorted({path for path, of in found if of == label}) for label in ("taken", "drawn", "other")
    }
    chosen = draw.sample(by_label["taken"], options.pictures)
    for label, paths in by_label.items():
        yield f"untouched, {label}", (path.read_bytes() for path in paths)
    for folder in options.more:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png"))
        yield f"untouched, {folder.name}", (stored(opened(path)) for path in paths)
    yield "blank", (stored(page) for page in blanks(options.pictures, draw))
    for sigma in (0.5, 1, 1.5, 2, 3, 5):
        yield f"blurred, sigma {sigma} px", (stored(blurred(opened(path), sigma)) for path in chosen)
    for name, text in TEXTS.items():
        for share in (0.02, 0.04, 0.06, 0.08, 0.12, 0.2):
            pages = (with_code(opened(path), share, text, draw) for path in chosen)
            yield f"code of {name} on {share:.0%}", (stored(page) for page in pages if page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--more", type=Path, nargs="*", default=[])
    parser.add_argument("--pictures", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = [path for path, _ in labelled(options.dev)][::18]
    enlarged = [opened(path) for path in chosen]
    scaled = [
        stored(each.resize([round(side * 256 / min(each.size)) for side in each.size])) for each in enlarged
    ]
    told: dict[str, Any] = {
        "ms": {"as they are": cost([path.read_bytes() for path in chosen]), "short side 256": cost(scaled)}
    }
    for name, costs in told["ms"].items():
        print(f"{name}: " + ", ".join(f"{part} {ms:.3f} ms" for part, ms in costs.items()))
    told["dropped"] = {}
    print(
        "| set | pictures | "
        + " | ".join(type(each).__name__ for each in FILTERS)
        + " |\n|---|---|---|---|---|---|"
    )
    for name, contents in sets(options):
        row = told["dropped"][name] = shares(contents)
        print(
            f"| {name} | {row['pictures']} | "
            + " | ".join(f"{row[type(f).__name__]:.2%}" for f in FILTERS)
            + " |"
        )
    if options.json:
        options.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
