import io

import numpy as np
import pytest
from PIL import Image

from lcl_train.transform import centre_crop, decode, random_crop


def gradient(width, height):
    x = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    y = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8))


def shares(pixels):
    return pixels / 255


def test_a_crop_depends_on_its_seed_only():
    picture = gradient(80, 60)
    again = random_crop(picture, 32, 0, 1, "id", 0)
    assert np.array_equal(random_crop(picture, 32, 0, 1, "id", 0), again)
    assert not np.array_equal(random_crop(picture, 32, 0, 2, "id", 0), again)
    assert again.shape == (3, 32, 32)
    assert again.dtype == np.uint8


def test_crops_keep_nine_tenths_or_more_of_a_square():
    spans = []
    for seed in range(200):
        red, green, _ = shares(random_crop(gradient(300, 300), 64, seed))
        spans.append((red.max() - red.min()) * (green.max() - green.min()))
    assert min(spans) > 0.86  # the resampling of the edges takes a little
    assert max(spans) <= 1.001
    assert np.std(spans) > 0.01


def test_a_picture_no_crop_fits_is_taken_whole():
    red, _, _ = shares(random_crop(gradient(400, 20), 32, 5))
    assert red.max() - red.min() > 0.9


def test_the_centre_crop_is_the_middle_square():
    red, green, _ = shares(centre_crop(gradient(200, 100), 50))
    assert red.min() == pytest.approx(0.25, abs=0.02)
    assert red.max() == pytest.approx(0.75, abs=0.02)
    assert green.max() - green.min() > 0.95


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P"])
def test_every_mode_becomes_rgb(mode):
    buffer = io.BytesIO()
    gradient(8, 8).convert(mode).save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    assert decode(buffer.getvalue()).mode == "RGB"


@pytest.mark.parametrize("nbytes", [0, 10, 300])
def test_a_torn_picture_is_an_error(nbytes):
    buffer = io.BytesIO()
    gradient(64, 64).save(buffer, "JPEG")
    with pytest.raises(OSError):
        decode(buffer.getvalue()[:nbytes])
