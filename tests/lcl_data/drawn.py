"""Pictures drawn for the tests of what pixels say, and image stores that hold them."""

import io

import numpy as np
import segno
from PIL import Image, ImageDraw, ImageFilter

from lcl_data import files, store
from lcl_data.engine import Engine
from lcl_data.outcomes import count
from lcl_data.stage import Stage, Unit
from schemas.images import IMAGES, SUCCESS
from schemas.manifest import Input


def landscape(seed=0, size=(320, 256)):
    """What a camera might see: clouds of every size, lit from one side, with grain."""
    rng = np.random.default_rng(seed)
    width, height = size
    scene = np.zeros((height, width, 3))
    for cells in (3, 7, 15, 31, 63, 127):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        scene += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), float) / (1 + cells**0.5)
    scene += np.linspace(0, 60, width)[None, :, None] + rng.normal(0, 6, (height, width, 1))
    scene = (scene - scene.min()) / np.ptp(scene) * 255
    return Image.fromarray(scene.astype(np.uint8))


def blurred(seed=0, sigma=3):
    return landscape(seed).filter(ImageFilter.GaussianBlur(sigma))


def blank(colour="silver"):
    """A placeholder: one colour and a few words."""
    page = Image.new("RGB", (320, 256), colour)
    ImageDraw.Draw(page).text((130, 120), "no image", fill="grey")
    return page


def diagram():
    """Boxes, arrows and words on white."""
    page = Image.new("RGB", (320, 256), "white")
    draw = ImageDraw.Draw(page)
    for row in range(5):
        for column in range(2):
            x, y = 20 + 150 * column, 10 + 48 * row
            draw.rectangle(
                (x, y, x + 120, y + 34), outline="black", fill=("lightblue", "wheat")[column], width=2
            )
            draw.text((x + 8, y + 6), f"step {row}.{column}\nof the process", fill="black")
        draw.line((140, 27 + 48 * row, 170, 27 + 48 * row), fill="black", width=2)
    return page


def code(side=200):
    """A QR code of `side` pixels with its quiet zone."""
    file = io.BytesIO()
    segno.make("https://example.org/promotion?id=12345", micro=False).save(file, kind="png", scale=10)
    file.seek(0)
    return Image.open(file).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def flyer(share=0.2, seed=0):
    """A landscape with a QR code, quiet zone included, on `share` of it."""
    page = landscape(seed)
    page.paste(code(round((share * page.width * page.height) ** 0.5)), (31, 17))
    return page


def encoded(image, form="JPEG", **options):
    file = io.BytesIO()
    image.save(file, form, **({"quality": 95} if form == "JPEG" else {}) | options)
    return file.getvalue()


def address(shard, row):
    return f"http://h/{shard}/{row}.jpg"


def picture_store(folder, shards):
    """An image store with a shard per list of encoded pictures; None is a URL that failed."""
    units = [Unit(number, f"{number}", contents) for number, contents in enumerate(shards)]
    inputs = (Input(name="upstream", digest=files.digest(repr(shards))),)
    Stage("download", folder, {}, inputs).run(_fill, units, Engine())
    return folder


def _fill(unit, draft):
    rows = []
    with draft.path(".tar").open("wb") as file:
        tar = store.TarWriter(file)
        for number, content in enumerate(unit.payload):
            key = f"{unit.number:05d}{number:04d}"
            row = dict.fromkeys(IMAGES.names) | {"url": address(unit.number, number), "key": key}
            row |= {"references": 1, "status": "failed_to_download", "reason": "http_404"}
            if content is not None:
                place = {"offset": tar.add(f"{key}.jpg", content), "nbytes": len(content)}
                row |= {"status": SUCCESS, "reason": None, "format": "jpeg", "is_animated": False} | place
            rows.append(row)
        tar.close()
    draft.rows(".tar", sum(content is not None for content in unit.payload))
    store.write_table(draft.path(".parquet"), rows)
    draft.rows(".parquet", len(rows))
    count(draft, rows)
