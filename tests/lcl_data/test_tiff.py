"""Frames of a TIFF: cut out undecoded, equal in every pixel, and damage is an `ImageError`."""

import io
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence

from lcl_data.carriers import Carrier
from lcl_data.pictures import Picture, Prepared, prepare
from lcl_data.tiff import Tiff, frames, single
from schemas.errors import ImageError

BEFORE, AFTER = b"x" * 777, b"y" * 99  # the TIFF lies within a file


def picture(seed, mode="RGB", size=(37, 23)):
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 4), np.uint8)
    return Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode)


def tiff_of(pictures, **options):
    file = io.BytesIO()
    pictures[0].save(file, "TIFF", save_all=True, append_images=pictures[1:], **options)
    return file.getvalue()


def opened(content):
    return Tiff(io.BytesIO(BEFORE + content + AFTER), len(BEFORE), len(content))


def cut(content, limit=1 << 20):
    tiff = opened(content)
    return [single(tiff, frame, limit) for frame in frames(tiff)]


ANY = [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]
WAYS = [(mode, way) for mode in ("1", "L", "P", "RGB", "CMYK", "I;16") for way in ANY]
WAYS += [("1", "group4"), *((mode, "jpeg") for mode in ("L", "RGB", "CMYK"))]


@pytest.mark.parametrize(("mode", "compression"), WAYS)
@pytest.mark.parametrize("big", [False, True])
def test_a_frame_cut_out_has_the_pixels_it_had(mode, compression, big):
    shapes = [(37, 23), (8, 300), (64, 1)]
    if mode == "I;16":
        made = [Image.fromarray(np.arange(w * h, dtype=np.uint16).reshape(h, w)) for w, h in shapes]
    else:
        made = [picture(seed, mode, size) for seed, size in enumerate(shapes)]
    content = tiff_of(made, compression=compression, big_tiff=big)
    found = cut(content)
    with Image.open(io.BytesIO(content)) as whole:
        for one, frame in zip(found, ImageSequence.Iterator(whole), strict=True):
            alone = Image.open(io.BytesIO(one))
            assert (alone.mode, alone.n_frames) == (frame.mode, 1)
            assert np.array_equal(np.asarray(alone), np.asarray(frame))
            assert isinstance(prepare(one, Picture()), Prepared)
    assert [(frame.width, frame.height) for frame in frames(opened(content))] == shapes


def test_only_the_bytes_of_the_frame_are_handed_over():
    content = tiff_of([picture(seed, size=(200, 200)) for seed in range(6)])
    assert all(len(one) < len(content) / 5 for one in cut(content))


def test_a_frame_turned_by_its_tag_is_turned_once(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    content = tiff_of([picture(0, "L"), picture(1, "L")], exif=turned)
    (tmp_path / "all.tar").write_bytes(BEFORE + content)
    carrier = Carrier(str(tmp_path / "all.tar"), len(BEFORE), len(content), 0)
    assert Carrier.parse(str(carrier)) == carrier
    found = prepare(carrier.read(1 << 20), Picture())
    assert (found.width, found.height, found.original_width) == (23, 37, 23)
    pixels = np.asarray(Image.open(io.BytesIO(found.content)), float)
    assert np.abs(pixels - np.asarray(picture(0, "L").rotate(270, expand=True), float)).mean() < 12


def test_a_carrier_says_what_is_wrong_with_its_tiff(tmp_path):
    content = tiff_of([picture(0), picture(1)])
    path = tmp_path / "all.tar"
    path.write_bytes(BEFORE + content)
    for carrier, limit, reason in [
        (Carrier(str(path), len(BEFORE), len(content), 2), 1 << 20, "truncated"),
        (Carrier(str(path), len(BEFORE), len(content) + 1, 0), 1 << 20, "carrier_torn"),
        (Carrier(str(path), len(BEFORE), None, 1), 1000, "too_large"),
        (Carrier(str(path), 0, None, 0), 1 << 20, "not_an_image"),
        (Carrier(str(tmp_path / "gone"), 0, None, 0), 1 << 20, "carrier_missing"),
    ]:
        with pytest.raises(ImageError) as told:
            carrier.read(limit)
        assert told.value.reason == reason


def test_a_chain_that_bites_its_tail_ends():
    content = bytearray(tiff_of([picture(0)]))
    first = int.from_bytes(content[4:8], "little")
    tags = int.from_bytes(content[first : first + 2], "little")
    content[first + 2 + 12 * tags : first + 6 + 12 * tags] = content[4:8]
    assert len(list(frames(opened(bytes(content))))) == 1


def test_more_pixels_than_allowed_are_refused_from_the_header():
    (one,) = cut(tiff_of([Image.new("1", (3000, 3000))], compression="group4"))
    assert prepare(one, Picture(max_pixels=1000)).reason == "too_many_pixels"


@settings(max_examples=300)
@given(st.data(), st.booleans())
def test_damaged_tiffs_raise_image_errors_only(data, big):
    whole = bytearray(tiff_of([picture(0, size=(9, 7)), picture(1, size=(5, 5))], big_tiff=big))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    tiff = opened(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    try:
        for frame in islice(frames(tiff), 5):
            prepare(single(tiff, frame, 1 << 16), Picture())
    except ImageError as error:
        assert error.reason in ("not_an_image", "truncated", "broken_image", "too_large")
