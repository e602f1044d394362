"""How a document becomes what one row holds: interleaved as it is, or one caption pair per picture.

All objectives learn from the same documents; a layout is what differs in their input. It is pure: a document,
an epoch and a seed give the same parts anywhere, so that planning and rendering agree.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lcl_data.shards import Sequence, SpecialTokens
from lcl_train.pack import PackSettings, split
from lcl_train.place import place, toss
from schemas.errors import RecipeError

Ids = NDArray[np.int32]
NO_TARGET = -1


@dataclass(frozen=True, slots=True)
class Layout:
    """What an objective wants to see of a document.

    Attributes:
        kind: `interleaved`, the document with each image before or after its text by a coin; or `pairs`, each
            image alone with its text (MMC4 degraded to pairs, as the paper does for CLIP, CoCa and BLIP-2).
        captions: pairs only: also the image followed by its text, to be told.
        mismatches: pairs only: also the image followed by a text of the document drawn before.
        text_tokens: pairs only: tokens of a text that are kept.
        text_mask: share of text tokens hidden behind the padding id, to be told from both sides.
        image_mask: share of an image's slots whose pixels are hidden.
    """

    kind: Literal["interleaved", "pairs"] = "interleaved"
    captions: bool = False
    mismatches: bool = False
    text_tokens: int = 77
    text_mask: float = 0.0
    image_mask: float = 0.0

    @property
    def is_causal(self) -> bool:
        """Whether a token sees only what stands before it; where something is hidden it sees all."""
        return not (self.text_mask or self.image_mask)


INTERLEAVED = Layout()


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens that attend to one another and to nothing else, and what is learned from them.

    Attributes:
        tokens: int32 [n]; an image token becomes `<BoI>`, slots, `<EoI>`; a bare `<BoI>` stays as it is.
        images: intp [k], for each `<BoI>` the number of its image among those of the part.
        contrasts: whether the stream at `<BoI>` must foretell the image.
        generates: whether the next tokens are to be told.
        matches: whether image and text belong together; None: nobody asks.
        targets: int32 [n], what is to be told AT a token, `NO_TARGET` elsewhere; None: next tokens.
    """

    tokens: Ids
    images: NDArray[np.intp]
    contrasts: bool = True
    generates: bool = True
    matches: bool | None = None
    targets: Ids | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """What stays together in a row: segments that share images.

    Attributes:
        segments: one of an interleaved document; up to three of a pair.
        pictures: intp [m], numbers of its images in the document.
        hidden: bool [m, slots], slots whose pixels are hidden; None: none.
    """

    segments: tuple[Segment, ...]
    pictures: NDArray[np.intp]
    hidden: NDArray[np.bool_] | None = None


class Draw(NamedTuple):
    """A document as it is drawn.

    Attributes:
        document: the row of a shard.
        before: the document drawn before it, whose text serves as a mismatch.
        seed: of the run.
        epoch: of the document.
    """

    document: Sequence
    before: Sequence | None
    seed: int
    epoch: int


def lay_out(
    draw: Draw, layout: Layout, specials: SpecialTokens, slots: int, pack: PackSettings
) -> list[Part]:
    """The parts of a drawn document, each of which fits a row.

    Args:
        draw: what is drawn.
        layout: what the objective wants.
        specials: the ids.
        slots: visual slots of an image.
        pack: budgets of a row.

    Raises:
        RecipeError: an image with its frame does not fit a row.
    """
    if layout.kind == "pairs":
        return list(_pairs(draw, layout, specials, slots, pack))
    parts = _interleaved(draw, specials, slots, pack)
    return (
        parts
        if layout.is_causal
        else [_masked(*each, layout, specials, slots, draw) for each in enumerate(parts)]
    )


def part_tokens(part: Part, specials: SpecialTokens, slots: int) -> int:
    """Positions a part takes in its row."""
    return sum(
        len(segment.tokens) + int(np.count_nonzero(segment.tokens == specials.image)) * (slots + 1)
        for segment in part.segments
    )


def _interleaved(draw: Draw, specials: SpecialTokens, slots: int, pack: PackSettings) -> list[Part]:
    document = draw.document
    coin = toss(draw.seed, draw.epoch, document.id, len(document.images))
    tokens, images = place(document.tokens, document.anchors, coin, specials.image)
    return [
        Part((Segment(cut.tokens, np.arange(cut.images.stop - cut.images.start)),), images[cut.images])
        for cut in split(tokens, specials, slots, pack)
    ]


def _pairs(
    draw: Draw, layout: Layout, specials: SpecialTokens, slots: int, pack: PackSettings
) -> Iterator[Part]:
    """A part per picture that has a text; its segments share the picture, so that it is encoded once."""
    shown = layout.captions + layout.mismatches  # segments besides the context, with the picture in them
    frames = 2 + shown * (slots + 3)
    room = min(layout.text_tokens, (pack.longest - frames) // (1 + shown))  # a part holds them all
    if room < 1:
        raise RecipeError(f"{pack.limit}: pairs take {frames + 1 + shown}; raise it to that or more")
    wrong = _texts(draw.before, specials, room) if draw.before and layout.mismatches else []
    alone, first = np.zeros(1, np.intp), np.array([specials.image], np.int32)
    for image, text in enumerate(_texts(draw.document, specials, room)):
        if not len(text):
            continue
        foreign = next((other for other in wrong if len(other) and not np.array_equal(other, text)), None)
        context = _ids(specials.sot, text, specials.boi)
        caption = _ids(first, text, specials.eot)
        segments = [Segment(context, alone, generates=False)]
        if layout.captions:
            segments.append(
                Segment(caption, alone, contrasts=False, matches=True if layout.mismatches else None)
            )
        if foreign is not None:
            mismatch = _ids(first, foreign, specials.eot)
            segments.append(Segment(mismatch, alone, contrasts=False, generates=False, matches=False))
        yield Part(tuple(segments), np.array([image]))


def _ids(*parts: int | Ids) -> Ids:
    return np.concatenate([np.atleast_1d(part) for part in parts]).astype(np.int32)


def _texts(document: Sequence, specials: SpecialTokens, room: int) -> list[Ids]:
    """Per picture the text it belongs to, cut to `room` tokens: its anchor, else what follows it up to the
    next picture (most captions do), else what stands before it.
    """
    tokens = document.tokens
    places = np.flatnonzero(tokens == specials.image)
    ends = np.array([0, *places, len(tokens) - int(tokens[-1] == specials.eot)])
    texts = []
    for k, anchor in enumerate(document.anchors):
        after, before = tokens[ends[k + 1] + 1 : ends[k + 2]], tokens[ends[k] + 1 : ends[k + 1]]
        if anchor is not None:
            own = tokens[anchor[0] : anchor[1]]
            texts.append(own[own != specials.image][:room])
        else:
            texts.append(after[:room] if len(after) else before[-room:])
    return texts


def _masked(number: int, part: Part, layout: Layout, specials: SpecialTokens, slots: int, draw: Draw) -> Part:
    """Hide a share of the text tokens and of the slots; only what is hidden is to be told."""
    digest = blake2b(f"mask/{draw.seed}/{draw.epoch}/{draw.document.id}/{number}".encode(), digest_size=8)
    rng = np.random.default_rng(int.from_bytes(digest.digest(), "little"))
    (segment,) = part.segments
    is_text = ~np.isin(segment.tokens, [specials.sot, specials.eot, specials.image, specials.pad])
    hides = is_text & (rng.random(len(segment.tokens)) < layout.text_mask)
    tokens = np.where(hides, specials.pad, segment.tokens).astype(np.int32)
    targets = np.where(hides, segment.tokens, NO_TARGET).astype(np.int32)
    hidden = rng.random((len(part.pictures), slots)) < layout.image_mask
    return Part((Segment(tokens, segment.images, contrasts=False, targets=targets),), part.pictures, hidden)
