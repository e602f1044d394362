"""Every kind of bytes a server may call a picture."""

import io
import subprocess
import sys
import zlib

import imagehash
import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from lcl_data import pictures
from lcl_data.phash import phash
from lcl_data.pictures import Picture, Prepared, Refusal, prepare
from tests.lcl_data.painted import SETTINGS, distance, drawing, encoded, pixels, prepared


def reason(data: bytes, settings: Picture = SETTINGS) -> str:
    result = prepare(data, settings)
    assert isinstance(result, Refusal), result
    return result.reason


def test_equal_pixels_are_stored_as_equal_bytes_whatever_format_they_came_in():
    image, few = drawing(400, 300), drawing(400, 300).quantize(64)
    forms = [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
    stored = {prepared(encoded(image, form, **options)).content for form, options in forms}
    assert stored == {prepared(encoded(image.convert("RGBA"), "PNG")).content}
    assert prepared(encoded(few, "PNG")).content == prepared(encoded(few.convert("RGB"), "PNG")).content


def test_a_small_jpeg_keeps_its_bytes():
    data = encoded(drawing(300, 200), quality=70)
    result = prepared(data)
    assert result.content == data
    assert (result.width, result.height, result.format, result.is_animated) == (300, 200, "jpeg", False)


def test_a_large_picture_is_reduced_to_the_short_side():
    result = prepared(encoded(drawing(900, 600)))
    assert (result.width, result.height) == (384, 256)
    assert (result.original_width, result.original_height) == (900, 600)


@pytest.mark.parametrize("size", [(400, 300), (1200, 900), (2000, 1500)])
def test_reduction_is_as_good_as_pillows_best(size):
    image = drawing(*size)
    best = np.asarray(image.resize((341, 256), Image.Resampling.LANCZOS)).astype(int)
    ours = pixels(prepared(encoded(image, quality=95)))
    # 35 dB is where JPEG at quality 95 itself lies on this texture.
    assert 10 * np.log10(255**2 / np.mean((ours - best) ** 2)) > 33


@pytest.mark.parametrize("size", [(400, 300), (300, 200), (1400, 1050)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}])
def test_the_quick_decoder_gives_what_pillow_gives(monkeypatch, size, mode, options):
    data = encoded(drawing(*size).convert(mode), **options)
    quick = prepared(data)
    monkeypatch.setattr(pictures, "_quickly", lambda *_: None)
    assert prepared(data) == quick


def test_a_faulty_jpeg_that_pillow_reads_is_kept():
    data = encoded(drawing(400, 300))
    faulty = data[:-2] + bytes(8) + data[-2:]  # idle bytes before the end mark
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(faulty, "RGB")
    assert prepared(faulty).content == prepared(data).content


def test_decoders_that_read_a_header_differently_are_not_trusted():
    data = encoded(drawing(400, 300))
    image = Image.open(io.BytesIO(data))
    image._size = (100, 75)
    assert pictures._quickly(image, data, image.size) is None


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP"])
def test_a_large_picture_of_any_format_is_reduced_in_two_steps(form):
    image = drawing(1700, 1300)
    best = np.asarray(image.resize((335, 256), Image.Resampling.LANCZOS)).astype(int)
    ours = pixels(prepared(encoded(image, form)))
    assert 10 * np.log10(255**2 / np.mean((ours - best) ** 2)) > 33


def test_the_same_bytes_give_the_same_bytes():
    data = encoded(drawing(500, 400), "PNG")
    assert prepare(data, SETTINGS) == prepare(data, SETTINGS)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_other_formats_become_jpeg(form):
    image = drawing(80, 60)
    result = prepared(encoded(image, form))
    assert result.format == form.lower() and not result.is_animated
    assert np.abs(pixels(result) - np.asarray(image)).mean() < 16  # GIF has 256 colours


@pytest.mark.parametrize(
    "data",
    [b"<!DOCTYPE html><html><body>404</body></html>", b"\n <html>", b"%PDF-1.7", b"hello", b"\0" * 100],
)
def test_what_is_not_a_picture_is_called_that(data):
    assert reason(data) == "not_an_image"


def test_no_bytes_are_called_empty():
    assert reason(b"") == "empty"


@pytest.mark.parametrize(
    "data", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0\0\0\x1cftypavif\0\0\0\0mif1"]
)
def test_formats_we_do_not_read_are_called_that(data):
    assert reason(data) == "unsupported_format"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_truncated_pictures_are_called_that(form, part):
    data = encoded(drawing(300, 200), form)
    assert reason(data[: int(len(data) * part)]) == "truncated"


def test_damaged_bytes_are_refused_and_never_raise():
    random = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        data = encoded(drawing(60, 40), form)
        for _ in range(60):
            broken = bytearray(data)
            for place in random.integers(0, len(data), 6):
                broken[place] = random.integers(256)
            assert isinstance(prepare(bytes(broken), SETTINGS), Prepared | Refusal)


BOMBS = """
import resource, sys
from pathlib import Path
from lcl_data.pictures import Picture, prepare
for path in map(Path, sys.argv[1:]):
    prepare(path.with_suffix(".small").read_bytes(), Picture())  # readers are imported on first use
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = prepare(path.read_bytes(), Picture())
    print(result.reason, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_decompression_bombs_are_refused_from_their_headers_in_flat_memory(tmp_path):
    forms = {"PNG": 20_000, "GIF": 20_000, "WEBP": 16_000, "JPEG": 16_000}
    for form, side in forms.items():
        (tmp_path / f"{form}.bomb").write_bytes(bomb(form, side, side))
        (tmp_path / f"{form}.small").write_bytes(encoded(drawing(30, 30), form))
    paths = [tmp_path / f"{form}.bomb" for form in forms]
    run = subprocess.run([sys.executable, "-c", BOMBS, *paths], capture_output=True, text=True, check=True)
    for line in run.stdout.splitlines():
        outcome, kilobytes = line.split()
        assert outcome == "too_many_pixels"
        assert int(kilobytes) < 20_000, "the pixels would take 0.7 GB and more"
    assert len(run.stdout.splitlines()) == len(forms)


def bomb(form: str, width: int, height: int) -> bytes:
    """A small file of a picture whose header claims width x height pixels."""
    data = bytearray(encoded(Image.new("P" if form == "GIF" else "RGB", (64, 64)), form, lossless=True))
    if form == "PNG":
        header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + data[24:29]
        data[12:29] = header
        data[29:33] = zlib.crc32(header).to_bytes(4, "big")
    elif form == "GIF":
        data[6:10] = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    elif form == "WEBP":
        start = data.index(b"VP8L") + 9
        bits = int.from_bytes(data[start : start + 4], "little") >> 28 << 28 | height - 1 << 14 | width - 1
        data[start : start + 4] = bits.to_bytes(4, "little")
    else:
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def test_the_pixel_cap_is_a_setting():
    settings = Picture(max_pixels=10_000)
    assert reason(encoded(drawing(101, 100)), settings) == "too_many_pixels"
    prepared(encoded(drawing(100, 100)), settings)


def test_a_side_no_jpeg_can_hold_is_refused():
    assert reason(encoded(Image.new("RGB", (66_000, 10)), "PNG")) == "too_long"


def test_cmyk_becomes_rgb():
    image = drawing(120, 90)
    result = prepared(encoded(image.convert("CMYK"), "JPEG", quality=95))
    assert np.abs(pixels(result) - np.asarray(image)).mean() < 8


def test_an_rgb_jpeg_is_read_as_rgb():
    image = drawing(400, 300)
    result = prepared(encoded(image, "JPEG", quality=95, keep_rgb=True))
    best = np.asarray(image.resize((result.width, result.height), Image.Resampling.LANCZOS))
    assert np.abs(pixels(result) - best).mean() < 6


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(form):
    ramp = np.linspace(0, 65535, 200 * 100).astype(np.uint16).reshape(100, 200)
    result = prepared(encoded(Image.fromarray(ramp), form))
    assert np.abs(pixels(result)[..., 0] - (ramp >> 8)).max() <= 6


@pytest.mark.parametrize("mode", ["P", "RGBA", "LA"])
def test_transparency_lies_on_white(mode):
    image = Image.new("RGBA", (64, 64), (90, 90, 90, 255))
    image.paste((0, 0, 0, 0), (0, 0, 32, 64))
    if mode == "P":
        image = image.quantize(8)
    result = prepared(encoded(image.convert(mode), "PNG"))
    assert pixels(result)[:, :28].min() > 245
    assert np.abs(pixels(result)[:, 36:] - 90).max() < 6


def hiding(colours: Image.Image, alpha: np.ndarray) -> Image.Image:
    image = colours.convert("RGBA")
    image.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return image


@pytest.mark.parametrize(("form", "turned"), [("PNG", 1), ("WEBP", 1), ("PNG", 6)])
def test_what_transparency_hides_is_kept_beside_what_is_shown(form, turned):
    colours, exif = drawing(240, 200), Image.Exif()
    alpha = np.full((200, 240), 255)
    alpha[:, :120] = 0
    exif[0x0112] = turned
    result = prepared(encoded(hiding(colours, alpha), form, lossless=True, exact=True, exif=exif))
    opaque = Image.open(io.BytesIO(result.opaque))
    upright = colours.rotate(-90, expand=True) if turned == 6 else colours
    assert opaque.size == upright.size
    assert np.abs(np.asarray(opaque, int) - np.asarray(upright, int)).mean() < 8
    assert distance(result.opaque_phash, phash(upright)) <= 4 < distance(result.opaque_phash, result.phash)


def test_only_another_picture_with_something_to_be_seen_is_kept():
    colours, half = drawing(100, 80), np.tile(np.repeat([0, 255], 50), (80, 1))
    opaque = hiding(colours, np.full((80, 100), 255))
    white = colours.copy()
    white.paste("white", (0, 0, 50, 80))
    glyph = hiding(Image.new("RGB", (100, 80), "black"), half)
    for image in (opaque, hiding(white, half), glyph, colours):
        result = prepared(encoded(image, "PNG"))
        assert result.opaque is result.opaque_phash is None


def test_a_palette_without_transparency_keeps_its_colours():
    image = drawing(60, 40).quantize(64)
    assert np.abs(pixels(prepared(encoded(image, "PNG"))) - np.asarray(image.convert("RGB"))).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_and_gone(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(drawing(120, 60), "JPEG", quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    result = prepared(data)
    assert (result.original_width, result.original_height) == (result.width, result.height) == upright.size
    assert np.abs(pixels(result) - np.asarray(upright)).mean() < 6
    assert Image.open(io.BytesIO(result.content)).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_kept_and_flagged(form):
    frames = [Image.new("RGB", (50, 40), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    result = prepared(encoded(frames[0], form, save_all=True, append_images=frames[1:], duration=50))
    assert result.is_animated and result.format == form.lower()
    assert np.abs(pixels(result).mean((0, 1)) - (250, 0, 0)).max() < 6


def test_grey_stays_grey():
    result = prepared(encoded(drawing(400, 300).convert("L")))
    assert Image.open(io.BytesIO(result.content)).mode == "L"


def test_phash_is_imagehashs():
    sizes = np.random.default_rng(5).integers(8, 600, (40, 2))
    drawings = [drawing(int(width), int(height), seed) for seed, (width, height) in enumerate(sizes)]
    apart = [distance(phash(image), int(str(imagehash.phash(image)), 16)) for image in drawings]
    assert max(apart) <= 2 and sum(map(bool, apart)) <= 2


def test_phash_of_what_is_stored_is_that_of_its_pixels():
    result = prepared(encoded(drawing(900, 700)))
    again = phash(Image.open(io.BytesIO(result.content)))
    assert distance(result.phash, again) <= 4
    assert distance(result.phash, prepared(encoded(drawing(900, 700, seed=1))).phash) > 10
