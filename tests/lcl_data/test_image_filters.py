"""What pixels say of drawn pictures, and the filters that cut on it: each finds its own kind and no other."""

import io

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lcl_data.filters.image_animated import ImageAnimated
from lcl_data.filters.image_blur import ImageBlur
from lcl_data.filters.image_format import ImageFormat
from lcl_data.filters.image_qr import ImageQr
from lcl_data.filters.image_text import ImageText
from lcl_data.filters.image_uniform import ImageUniform
from lcl_data.pictures import Refusal
from lcl_data.pixels import SIDE_PX, pixel_facts
from schemas.pixels import PIXEL_FACTS, PIXELS
from tests.lcl_data.drawn import blank, blurred, code, diagram, encoded, flyer, landscape

LIMIT = 50_000_000


def facts(image, form="JPEG", **options):
    return pixel_facts(encoded(image, form, **options), LIMIT)


def reason(filter_, *images):
    """The reason for each picture, without the filter's name."""
    schema = {name: dtype for name, dtype in pl.Schema(PIXELS).items() if name in PIXEL_FACTS}
    frame = pl.DataFrame([facts(image) for image in images], schema=schema)
    found = frame.select(filter_.reason().alias("reason"))["reason"].to_list()
    return [each and each.partition(":")[2] for each in found]


def grain(deviation):
    """Noise of a dark sensor."""
    return Image.fromarray(
        np.random.default_rng(0).normal(60, deviation, (300, 300)).round().astype(np.uint8)
    )


KINDS = [
    (ImageBlur(), blurred(1, 2), "blurred"),
    (ImageBlur(), blurred(2, 6), "blurred"),
    (ImageUniform(), blank(), "plain"),
    (ImageUniform(), Image.linear_gradient("L").point(lambda level: 120 + level // 20), "plain"),
    (ImageUniform(), grain(4.5), "faint"),
    (ImageQr(), code(), "too_large"),
    (ImageQr(), flyer(0.15), "too_large"),
    (ImageQr(), flyer(0.15).rotate(90, expand=True), "too_large"),
    (ImageText(), diagram(), "drawn"),
]


@pytest.mark.parametrize(("filter_", "picture", "expected"), KINDS)
def test_each_filter_finds_its_kind(filter_, picture, expected):
    assert reason(filter_, picture) == [expected]


@pytest.mark.parametrize("filter_", [ImageBlur(), ImageUniform(), ImageQr(), ImageText()])
def test_no_filter_drops_what_a_camera_sees(filter_):
    assert reason(filter_, *(landscape(seed) for seed in range(5))) == [None] * 5


def test_a_diagram_is_neither_blurred_nor_uniform_and_a_small_code_is_kept():
    assert [reason(each, diagram()) for each in (ImageBlur(), ImageUniform(), ImageQr())] == [[None]] * 3
    assert reason(ImageQr(), flyer(0.07)) == [None]  # 4 % without its quiet zone
    assert reason(ImageQr(max_share=0.03), flyer(0.07)) == ["too_large"]
    assert reason(ImageQr(max_share=0.0), flyer(0.07), landscape()) == ["too_large", None]


def test_what_was_not_measured_is_said_to_be_so():
    nothing = pl.DataFrame({name: [None] for name in PIXEL_FACTS}, schema_overrides=dict(pl.Schema(PIXELS)))
    for each in (ImageBlur(), ImageUniform(), ImageQr(), ImageText()):
        found = nothing.cast({n: d for n, d in pl.Schema(PIXELS).items() if n in PIXEL_FACTS})
        assert found.select(each.reason().alias("r"))["r"].to_list()[0].endswith(":unmeasured")


def test_formats_and_animations():
    frame = pl.DataFrame({"format": ["jpeg", "webp", "gif", None], "is_animated": [False, True, True, None]})
    assert frame.select(ImageFormat().reason().alias("r"))["r"].to_list() == [
        None,
        None,
        "image_format:not_allowed",
        "image_format:unmeasured",
    ]
    tolerant = ImageFormat(formats=("gif",), keep_unknown=True)
    assert frame.select(tolerant.reason().is_null().alias("r"))["r"].to_list() == [False, False, True, True]
    assert frame.select(ImageAnimated().reason().alias("r"))["r"].to_list() == [
        None,
        "image_animated:animated",
        "image_animated:animated",
        "image_animated:unmeasured",
    ]


def test_the_facts_are_those_of_their_definition():
    grey = np.asarray(landscape().convert("L"))
    found = facts(landscape(), "PNG")
    level = grey.astype(float)
    centre = level[1:-1, 1:-1]
    around = level[1:-1, :-2] + level[1:-1, 2:] + level[:-2, 1:-1] + level[2:, 1:-1]
    counts = np.bincount(grey.ravel(), minlength=256)
    shares = counts[counts > 0] / grey.size
    runs = [counts[max(0, at - 8) : at + 9].sum() for at in range(256)]
    assert found["pixel_sharpness"] == pytest.approx((around - 4 * centre).var())
    assert found["pixel_contrast"] == pytest.approx(level.std())
    assert found["pixel_entropy"] == pytest.approx(-(shares * np.log2(shares)).sum())
    assert found["pixel_ground"] == counts.argmax()
    assert found["pixel_plain_share"] == pytest.approx(max(runs) / grey.size)
    assert facts(code(), "PNG")["pixel_qr_share"] == pytest.approx(
        (29 / 37) ** 2, rel=0.1
    )  # 4 modules around


def test_a_large_picture_is_measured_at_the_common_scale():
    small = landscape()
    large = small.resize((small.width * 4, small.height * 4), Image.Resampling.BICUBIC)
    near, far = facts(small), facts(large)
    assert min(large.size) > SIDE_PX
    for name, margin in (("pixel_contrast", 0.05), ("pixel_entropy", 0.05), ("pixel_plain_share", 0.1)):
        assert far[name] == pytest.approx(near[name], rel=margin)
    assert reason(ImageBlur(), large) == [None]
    assert reason(ImageQr(), flyer(0.2).resize((1280, 1024), Image.Resampling.BICUBIC)) == ["too_large"]


def test_transparent_pixels_are_white_and_turning_changes_nothing():
    clear = Image.new("RGBA", (64, 64))
    assert facts(clear, "PNG")["pixel_ground"] == 255
    upright, turned = (
        facts(landscape(), "PNG"),
        facts(landscape().transpose(Image.Transpose.ROTATE_90), "PNG"),
    )
    assert turned == upright


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (3, 3), (5000, 3)])
def test_slivers_have_what_facts_they_can_have(size):
    found = facts(Image.new("L", size, 7), "PNG")
    assert found["pixel_plain_share"] == 1 and found["pixel_contrast"] == 0
    assert (found["pixel_sharpness"] is None) == (min(size) < 3)


def test_what_is_no_picture_or_too_large_is_refused():
    wide = io.BytesIO()
    Image.new("I;16", (9, 9)).save(wide, "PNG")
    for content in (b"", b"<html>", encoded(landscape())[:-500], wide.getvalue()):
        assert isinstance(pixel_facts(content, LIMIT), Refusal)
    assert pixel_facts(encoded(landscape()), 100).reason == "too_many_pixels"


WHOLE = encoded(flyer().resize((80, 64)))


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=40))
@settings(max_examples=60)
def test_mangled_bytes_are_measured_or_refused(at, bytes_):
    found = pixel_facts(WHOLE[:at] + bytes_ + WHOLE[at + len(bytes_) :], LIMIT)
    assert isinstance(found, Refusal) or set(found) == set(PIXEL_FACTS)
