"""Writes small articles about scenes: a title, sentences that describe pictures, filler about other things.

Words are drawn from lists of a few hundred, so that a language model has something to learn beyond the
descriptions, while no filler sentence names a shape: only pictures and their descriptions tell it.
"""

import random
from dataclasses import dataclass

from pipelines.scenes import Scene, draw_scene


def _listed(text: str) -> tuple[str, ...]:
    """The words or phrases of a list with commas."""
    return tuple(phrase.strip() for phrase in text.split(","))


NAMES = _listed(
    """
    Anna, Bertil, Clara, David, Elin, Felix, Greta, Hugo, Ines, Jonas, Karin, Lars, Maja, Nils, Olga,
    Petra, Rolf, Sara, Tomas, Ulla, Viktor, Wanda, Yusuf, Zelda, Amir, Bianca, Carlos, Dana, Emil,
    Farid
    """
)
TOWNS = _listed(
    """
    Lund, Malmo, Bergen, Porto, Delft, Graz, Turku, Parma, Ghent, Bath, York, Vigo, Trieste, Leeds,
    Basel, Tartu, Cork, Arles, Siena, Bremen, Gdansk, Zadar, Olomouc, Uppsala, Nancy, Exeter, Haarlem,
    Kotor, Sopot, Visby
    """
)
TRADES = _listed(
    """
    baker, teacher, sailor, farmer, printer, potter, weaver, painter, gardener, doctor, driver, singer,
    carpenter, tailor, cook, fisher, engineer, nurse, librarian, miller, florist, butcher, porter,
    pilot, clerk, mason, dancer, editor, barber, guide
    """
)
VERBS = _listed(
    """
    repaired, sold, carried, borrowed, found, cleaned, painted, counted, measured, described,
    collected, lost, returned, opened, packed, weighed, compared, ordered, admired, moved, tested,
    wrapped, saved, traded, folded, stored, polished, lifted, checked, finished
    """
)
THINGS = _listed(
    """
    basket, ladder, kettle, blanket, lantern, bicycle, violin, suitcase, window, table, bottle,
    notebook, carpet, engine, mirror, candle, hammer, teapot, drawer, letter, camera, bucket, curtain,
    pillow, barrel, saddle, compass, ticket, anchor, umbrella, radio, shovel, garden, bench, wagon,
    piano, helmet, feather, bridge, oven
    """
)
ADJECTIVES = _listed(
    """
    old, quiet, heavy, simple, broken, wooden, narrow, famous, cheap, strange, useful, careful, modern,
    gentle, dusty, fragile, familiar, honest, early, late, ordinary, borrowed, hidden, pleasant,
    sturdy, tired, clever, polite, local, foreign
    """
)
TIMES = _listed(
    """
    before breakfast, after the rain, in early spring, on a Sunday, during the war, last winter, at
    noon, every morning, in the evening, for three weeks, without delay, since childhood, long ago,
    once a year, before the storm, at midnight, after lunch, on market day, in October, all summer
    """
)
REMARKS = _listed(
    """
    nobody asked why, the price was fair, it was worth the trouble, the neighbours agreed, the train
    was late again, this took longer than planned, the weather did not help, a second visit followed,
    most visitors never notice, the records say little more, opinions differ about it, the answer came
    by post, little has changed since
    """
)
KINDS = _listed(
    """
    Notes, Letters, Stories, Questions, Memories, A diary, News, Lessons, Observations, Short reports,
    Pages, Thoughts
    """
)

FILLERS = (
    "The {trade} from {town} {verb} the {adjective} {thing} {time}.",
    "{name} {verb} a {thing} {time}, and {remark}.",
    "In {town}, the {adjective} {trade} {verb} every {thing}.",
    "{time_}, {name} and the {trade} {verb} the {thing} near {town}.",
    "Some say the {thing} in {town} is {adjective}, but {remark}.",
    "{name} wrote to the {trade}: the {thing} arrived {time}.",
    "It was {adjective} work, and {remark}.",
    "Who {verb} the {thing} {time}?",
)
TITLES = (
    "{kind} from {town}, part {number}",
    "{kind} of the {adjective} {trade}",
    "{name} in {town}: {kind_}",
    "{kind} about the {thing}",
)
DESCRIPTIONS = (
    "The picture shows {what}.",
    "Here you can see {what}.",
    "{name} drew {what}.",
    "This is {what}.",
    "Look at {what}.",
    "On this page there is {what}.",
    "The {trade} made {what}.",
    "We found {what} in {town}.",
)
LEADS = (
    "Now we come to the {noun}.",
    "A word about the {noun}.",
    "{name} always liked a good {noun}.",
    "The next sheet is about a {noun}.",
)
PLACES = {"left": "at the left", "middle": "in the middle", "right": "at the right"}
IMAGES_PER_ARTICLE = (1, 2, 3, 4)
IMAGE_WEIGHTS = (35, 35, 20, 10)
LEAD_SHARE = 0.25
STRAY_SHARE = 0.07
# Much filler would drown what ties text to pictures: its entropy is most of a language model's loss.
FILLER_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of an article: its scene, the index of its text, and whether that text describes it."""

    scene: Scene
    anchor: int
    described: bool = True


@dataclass(frozen=True, slots=True)
class Article:
    """Texts in reading order and the figures that belong to them."""

    texts: tuple[str, ...]
    figures: tuple[Figure, ...]


def write_article(rng: random.Random) -> Article:
    """Write an article of 1 to 4 figures; some figures stray to a text that says nothing about them."""
    texts = [_fill(rng, rng.choice(TITLES)), filler(rng)]
    figures = []
    for _ in range(rng.choices(IMAGES_PER_ARTICLE, IMAGE_WEIGHTS)[0]):
        scene = draw_scene(rng)
        described = rng.random() >= STRAY_SHARE
        if described and rng.random() < LEAD_SHARE:
            texts.append(_fill(rng, rng.choice(LEADS), noun=scene.shape))
        texts.append(describe(scene, rng) if described else filler(rng))
        figures.append(Figure(scene, len(texts) - 1, described))
        texts += [filler(rng)] * (rng.random() < FILLER_SHARE)
    return Article(tuple(texts), tuple(figures))


def describe(scene: Scene, rng: random.Random) -> str:
    """A sentence that names the shape always, the colour mostly and the rest sometimes.

    What is left out makes the shape the surest tie of text and picture, so that a model learns it first.
    """
    words = [scene.size] * (rng.random() < 0.25) + [scene.colour] * (rng.random() < 0.7)
    what = " ".join([*words, _plural(scene.shape) if scene.count == 2 else scene.shape])
    if rng.random() < 0.45:
        pattern = [scene.pattern] * (rng.random() < 0.3)
        what += " " + " ".join(["on", _article([*pattern, scene.ground]), "background"])
    if scene.count == 1 and rng.random() < 0.25:
        what += f" {PLACES[scene.place]}"
    counted = f"two {what}" if scene.count == 2 else _article(what.split())
    return _fill(rng, rng.choice(DESCRIPTIONS), what=counted)


def filler(rng: random.Random) -> str:
    """A sentence that has nothing to do with any picture."""
    return _fill(rng, rng.choice(FILLERS))


def _article(words: list[str]) -> str:
    """The words behind "a" or "an"."""
    return " ".join(["an" if words[0][0] in "aeiou" else "a", *words])


def _plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("s") else "s")


def _fill(rng: random.Random, template: str, **given: str) -> str:
    kind, time = rng.choice(KINDS), rng.choice(TIMES)
    return template.format(
        name=rng.choice(NAMES),
        town=rng.choice(TOWNS),
        trade=rng.choice(TRADES),
        verb=rng.choice(VERBS),
        thing=rng.choice(THINGS),
        adjective=rng.choice(ADJECTIVES),
        remark=rng.choice(REMARKS),
        number=rng.randrange(1, 40),
        kind=kind,
        kind_=kind.lower(),
        time=time,
        time_=time[0].upper() + time[1:],
        **given,
    )
