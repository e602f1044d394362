"""Prose: descriptions are true, fillers say nothing about shapes."""

import random
import re
from dataclasses import replace

from pipelines.prose import describe, filler, write_article
from pipelines.scenes import COLOURS, GROUNDS, SHAPES, draw_scene


def _words(text):
    return set(re.findall(r"[a-z]+", text.lower()))


def _named(text):
    return {shape for shape in SHAPES if {shape, shape + "s", shape + "es"} & _words(text)}


def test_a_description_names_its_shape_and_nothing_that_is_not_there():
    rng = random.Random(0)
    for _ in range(500):
        scene = draw_scene(rng)
        text = describe(scene, rng)
        assert _named(text) == {scene.shape}
        assert _words(text) & set(COLOURS) <= {scene.colour}
        assert _words(text) & set(GROUNDS) <= {scene.ground}
        assert ("two" in _words(text)) == (scene.count == 2)
        assert "{" not in text


def test_plurals_and_articles_are_english():
    rng = random.Random(0)
    pair = replace(draw_scene(rng, "cross"), count=2)
    assert all("crosses" in describe(pair, rng) for _ in range(20))
    texts = [describe(replace(draw_scene(rng, "arrow"), colour="orange"), rng) for _ in range(200)]
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", " ".join(texts))


def test_fillers_name_no_shape_and_use_several_hundred_words():
    rng = random.Random(0)
    texts = [filler(rng) for _ in range(3000)]
    assert not any(_named(text) for text in texts)
    assert 250 < len(set().union(*map(_words, texts))) < 1000


def test_articles_are_seeded_and_figures_belong_to_the_text_that_describes_them():
    articles = [write_article(random.Random(i)) for i in range(300)]
    assert articles == [write_article(random.Random(i)) for i in range(300)]
    assert {len(a.figures) for a in articles} == {1, 2, 3, 4}
    for article in articles:
        for figure in article.figures:
            assert (figure.scene.shape in _named(article.texts[figure.anchor])) == figure.described
    strays = [not f.described for a in articles for f in a.figures]
    assert 0.03 < sum(strays) / len(strays) < 0.12
