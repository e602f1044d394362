import io
import random

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from torchvision.transforms import RandomResizedCrop

from lcl_data.pictures import Picture, prepare
from lcl_train.transform import CROP_AREA, CROP_ASPECT, _random_box, centre_crop, decode, random_crop


def gradient(width, height):
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8)


def encoded(pixels, form="JPEG", mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def photograph(side):
    """Smooth, with edges and noise, as pictures are."""
    noise = np.random.default_rng(0).normal(0, 40, (9, 9, 3)) + 127
    smooth = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).resize((side, side))
    pixels = np.array(smooth)
    pixels[side // 4 : side // 2, side // 3 : side // 2] = 250
    return pixels


def shares(pixels):
    return pixels / 255


def test_a_crop_depends_on_its_seed_only():
    picture = gradient(80, 60)
    again = random_crop(picture, 32, 0, 1, "id", 0)
    assert torch.equal(random_crop(picture, 32, 0, 1, "id", 0), again)
    assert not torch.equal(random_crop(picture, 32, 0, 2, "id", 0), again)
    assert again.shape == (3, 32, 32)
    assert again.dtype == torch.uint8
    assert again.permute(1, 2, 0).is_contiguous()


def test_crops_keep_nine_tenths_or_more_of_a_square():
    spans = []
    for seed in range(200):
        red, green, _ = shares(random_crop(gradient(300, 300), 64, seed))
        spans.append(float((red.max() - red.min()) * (green.max() - green.min())))
    assert min(spans) > 0.86  # the resampling of the edges takes a little
    assert max(spans) <= 1.001
    assert np.std(spans) > 0.01


@pytest.mark.parametrize(("width", "height"), [(400, 120), (120, 400), (300, 300), (256, 189)])
def test_boxes_are_those_of_random_resized_crop(width, height):
    """Mean and spread of the crop's edges, and the fallback of pictures that no crop fits."""
    picture = torch.zeros(3, height, width)
    ours = np.array([_random_box(width, height, random.Random(seed)) for seed in range(3000)])
    torch.manual_seed(0)
    theirs = []
    for _ in range(3000):
        top, left, h, w = RandomResizedCrop.get_params(picture, list(CROP_AREA), list(CROP_ASPECT))
        theirs.append((left, top, left + w, top + h))
    theirs = np.array(theirs)
    assert ours.mean(0) == pytest.approx(theirs.mean(0), abs=1.5)
    assert ours.std(0) == pytest.approx(theirs.std(0), abs=1.5)


def test_the_centre_crop_is_the_middle_square():
    red, green, _ = shares(centre_crop(gradient(200, 100), 50))
    assert float(red.min()) == pytest.approx(0.25, abs=0.02)
    assert float(red.max()) == pytest.approx(0.75, abs=0.02)
    assert green.max() - green.min() > 0.95


@pytest.mark.parametrize(("source", "side"), [(256, 224), (224, 64), (100, 224), (3, 32)])
def test_squares_are_those_of_pillow(source, side):
    pixels = photograph(source)
    resized = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    error = centre_crop(pixels, side).permute(1, 2, 0).numpy().astype(float) - np.asarray(resized)
    assert np.square(error).mean() < 255**2 / 10**5  # a PSNR of 50 dB


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 30}])
def test_jpeg_is_decoded_as_pillow_decodes_it(options):
    content = encoded(photograph(120), **options)
    expected = np.asarray(Image.open(io.BytesIO(content)))
    assert np.array_equal(decode(content), expected)
    assert np.array_equal(decode(memoryview(content)), expected)


@pytest.mark.parametrize(
    ("form", "mode"),
    [("PNG", "L"), ("PNG", "RGBA"), ("JPEG", "CMYK"), ("PNG", "P"), ("WEBP", "RGB"), ("JPEG", "L")],
)
def test_every_mode_becomes_rgb(form, mode):
    pixels = decode(encoded(gradient(8, 6), form, mode))
    assert pixels.shape == (6, 8, 3)
    assert pixels.dtype == np.uint8


def levels(mode):
    """A picture in four flat quarters, some of them transparent where the mode has that."""
    numbers = {
        "RGBA": [(200, 0, 0, 255), (0, 0, 200, 0), (0, 200, 0, 128), (9, 9, 9, 255)],
        "LA": [(200, 255), (0, 0), (90, 128), (9, 255)],
        "I;16": [0, 20_000, 40_000, 65_535],
    }[mode]
    flat = np.array(numbers, np.uint16 if mode == "I;16" else np.uint8)
    return np.kron(flat.reshape(2, 2, -1), np.ones((16, 16, 1), flat.dtype)).squeeze()


@pytest.mark.parametrize(
    ("mode", "quarters"),
    [
        ("RGBA", [(200, 0, 0), (255, 255, 255), (127, 227, 127), (9, 9, 9)]),
        ("LA", [(200,) * 3, (255,) * 3, (172,) * 3, (9,) * 3]),
        ("I;16", [(0,) * 3, (78,) * 3, (156,) * 3, (255,) * 3]),
    ],
)
def test_colours_are_those_that_curation_stores(mode, quarters):
    buffer = io.BytesIO()
    Image.fromarray(levels(mode)).save(buffer, "PNG")
    pixels, stored = decode(buffer.getvalue()), prepare(buffer.getvalue(), Picture())
    assert [tuple(pixels[y, x].tolist()) for y in (8, 24) for x in (8, 24)] == quarters
    assert np.abs(decode(stored.content).astype(int) - pixels)[4:12, 4:12].max() <= 3  # of a JPEG
    assert np.abs(decode(stored.content).astype(int) - pixels).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", [{}, {"comment": b"c" * 300, "icc_profile": b"i" * 70_000}])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_picture_stands_upright_as_curation_stores_it(form, orientation, options):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(photograph(64)[:40], form, exif=exif, **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    assert np.array_equal(decode(content), np.asarray(upright))
    stored = decode(prepare(content, Picture()).content)
    assert stored.shape == decode(content).shape and np.abs(stored.astype(int) - decode(content)).mean() < 3


def test_an_orientation_in_xmp_counts_too():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert decode(encoded(gradient(64, 40), xmp=xmp)).shape == (64, 40, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(range(200))]
)
@pytest.mark.filterwarnings("ignore")  # Pillow warns of it
def test_damaged_exif_is_none(exif):
    assert decode(encoded(gradient(64, 40), exif=exif)).shape == (40, 64, 3)


def test_a_picture_without_an_agreed_white_is_an_error():
    buffer = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(buffer, "TIFF")
    with pytest.raises(OSError, match="no agreed white"):
        decode(buffer.getvalue())


@pytest.mark.parametrize("nbytes", [0, 10, 300, 600])
def test_a_torn_picture_is_an_error(nbytes):
    with pytest.raises(OSError):
        decode(encoded(gradient(64, 64))[:nbytes])
