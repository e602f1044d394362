"""Scenes: pictures are functions of their scene, and only shapes tell the class."""

import random
from dataclasses import replace

import numpy as np
import pytest

from pipelines.scenes import COLOURS, OUTLINES, PATTERNS, SHAPES, SIDE_PX, SIZES, draw_scene, render


def _scenes(count, seed=0):
    rng = random.Random(seed)
    return [draw_scene(rng, SHAPES[i % len(SHAPES)]) for i in range(count)]


def test_a_picture_is_a_function_of_its_scene():
    scene = draw_scene(random.Random(3))
    assert render(scene).tobytes() == render(scene).tobytes()
    assert render(scene).tobytes() != render(replace(scene, seed=scene.seed + 1)).tobytes()
    assert render(scene).size == (SIDE_PX, SIDE_PX) and render(scene).mode == "RGB"


def test_equal_seeds_draw_equal_scenes_and_a_given_shape_is_kept():
    assert _scenes(40) == _scenes(40) != _scenes(40, seed=1)
    assert {draw_scene(random.Random(i), "heart").shape for i in range(20)} == {"heart"}


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_lie_in_the_unit_disc_reach_its_rim_and_fill_a_good_part(shape):
    reach = np.linalg.norm(OUTLINES[shape], axis=1)
    assert 0.9 <= reach.max() <= 1.22
    bright = [np.asarray(render(scene)).max(axis=2) > 160 for scene in _scenes(100) if scene.shape == shape]
    assert 0.1 < np.mean(bright) < 0.75


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2])
def test_every_kind_of_scene_can_be_drawn(pattern, size, count):
    scene = replace(draw_scene(random.Random(5)), pattern=pattern, size=size, count=count)
    assert np.asarray(render(scene)).std() > 10


def test_the_shape_colour_is_seen_in_the_middle():
    base = replace(draw_scene(random.Random(1), "square"), place="middle", count=1, size="large")
    centre = slice(SIDE_PX * 3 // 8, SIDE_PX * 5 // 8)
    for name, colour in COLOURS.items():
        seen = np.asarray(render(replace(base, colour=name)))[centre, centre].mean(axis=(0, 1))
        assert np.abs(seen - np.array(colour)).max() < 60


def test_mean_colour_does_not_tell_the_class():
    """The nearest class mean of mean colours, on 1,000 pictures: at most twice as good as chance."""
    scenes = _scenes(1000)
    labels = np.array([SHAPES.index(scene.shape) for scene in scenes])
    means = np.array([np.asarray(render(scene, 48)).mean(axis=(0, 1)) for scene in scenes])
    centres = np.array([means[:500][labels[:500] == k].mean(axis=0) for k in range(len(SHAPES))])
    guesses = np.linalg.norm(means[500:, None] - centres, axis=2).argmin(axis=1)
    assert (guesses == labels[500:]).mean() < 2 / len(SHAPES)
