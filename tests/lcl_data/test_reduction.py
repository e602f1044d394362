"""Our reduction is Pillow's, whichever library computes it."""

import numpy as np
import pytest
from PIL import Image

from lcl_data import reduction
from lcl_data.reduction import as_pillow, reduced

FILTERS = ("box", "bilinear", "bicubic", "lanczos")
SIZES = [((400, 300), (341, 256)), ((300, 700), (256, 597)), ((1000, 640), (400, 256)), ((9, 30), (8, 27))]


def noise(width: int, height: int, channels: int) -> np.ndarray:
    """Smooth colours with texture; four channels: the last is alpha, from nothing to all."""
    random = np.random.default_rng(width)
    coarse = random.integers(0, 256, (7, 7, channels), dtype=np.uint8)
    layers = [Image.fromarray(coarse[..., n]).resize((width, height)) for n in range(channels)]
    smooth = np.stack([np.asarray(layer, np.int16) for layer in layers], axis=-1)
    pixels = np.clip(smooth + random.integers(-9, 10, smooth.shape), 0, 255).astype(np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


def pillows(pixels: np.ndarray, size: tuple[int, int], name: str, mode: str) -> np.ndarray:
    return np.asarray(as_pillow(pixels, mode).resize(size, Image.Resampling[name.upper()])).astype(int)


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("channels", [1, 4])
def test_it_is_pillows_but_for_a_level(before, after, name, channels):
    pixels = noise(*before, channels)
    ours = reduced(pixels, after, name, has_alpha=False)
    assert ours.shape[1::-1] == after and ours.dtype == np.uint8
    apart = np.abs(ours - pillows(pixels, after, name, "RGBX"))
    assert apart.max() <= 3 and apart.mean() < 0.4


@pytest.mark.parametrize("name", FILTERS)
def test_colours_weigh_by_their_alpha(name):
    pixels = noise(400, 300, 4)
    pixels[:, :200, 3] = 0
    pixels[:, :200, :3] = 255  # what cannot be seen must not bleed into what can
    ours = reduced(pixels, (341, 256), name, has_alpha=True).astype(int)
    best = pillows(pixels, (341, 256), name, "RGBA")
    weight = best[..., 3:] / 255
    assert np.abs((ours - best)[..., :3] * weight).max() <= 4


def test_the_fourth_channel_of_no_meaning_changes_no_colour():
    pixels = noise(400, 300, 4)
    opaque = pixels.copy()
    opaque[..., 3] = 255
    ours = [reduced(each, (341, 256), "bicubic", has_alpha=False)[..., :3] for each in (pixels, opaque)]
    assert np.array_equal(*ours)


def test_the_size_it_has_costs_nothing():
    pixels = noise(40, 30, 4)
    assert reduced(pixels, (40, 30), "box", has_alpha=True) is pixels


def test_vector_instructions_change_no_bit():
    if reduction.fast is None:
        pytest.skip("Pillow reduces on this machine")
    pixels, extensions = noise(500, 333, 4), reduction.fast.CpuExtensions
    resizer = reduction._resizer()
    own = resizer.cpu_extensions
    results = []
    for extension in (own, extensions.none):
        resizer.cpu_extensions = extension
        results += [[reduced(pixels, (384, 256), name, has_alpha=False) for name in FILTERS]]
    resizer.cpu_extensions = own
    assert all(np.array_equal(one, other) for one, other in zip(*results, strict=True))


@pytest.mark.parametrize("channels", [1, 4])
def test_without_the_library_pillow_reduces(monkeypatch, channels):
    pixels = noise(400, 300, channels)
    ours = reduced(pixels, (341, 256), "bicubic", has_alpha=False).astype(int)
    monkeypatch.setattr(reduction, "fast", None)
    assert np.abs(reduced(pixels, (341, 256), "bicubic", has_alpha=False) - ours).max() <= 3
