"""Packed rows to a `Batch`: flat tokens, and every index the model needs, computed in the loader's workers.

The model then only selects by index: no boolean masks, no host synchronisation inside a step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcl_data.shards import SpecialTokens
from lcl_train.attend import Segments
from lcl_train.layout import NO_TARGET, Part, Segment
from schemas.errors import RecipeError

Longs = NDArray[np.int64]
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Placed:
    """A part in its row.

    Attributes:
        part: what it is.
        image_keys: content hashes (hex) of its pictures, in their order.
        document: id of its document.
        source: name of its corpus.
    """

    part: Part
    image_keys: Sequence[str]
    document: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows laid end to end: T positions, N images of S visual slots, P contrastive pairs, L targets.

    Tensors are int64 unless said otherwise. A batch without pictures holds a blank one, so that every shape
    has something to work on.

    Attributes:
        tokens: [T] ids; visual slots hold the image id, the ends of rows the padding id.
        positions: [T], from 0 in each segment.
        segments: what attends to one another (padding is a segment of its own).
        pixels: uint8 [N, 3, H, W], channels last in memory; or float, if normalised already.
        hidden: bool [N, S], slots whose pixels the encoder must not see; [0, S] where nothing is hidden.
        image_keys: [N], equal for copies of one picture.
        visual_index: [T] row of the visual tokens [N * S] that fills a slot; -1: a token's own embedding.
        pair_position: [P] flat place of `<BoI>` of each image that has something of its document before it.
        pair_image: [P] that image's number in `pixels`.
        pair_context: [P], equal for identical contexts.
        label_position: [L] flat places at which something is to be told.
        labels: [L] what: text, end of text and `<BoI>`.
        match_position: [M] flat places of the last tokens of captions to judge.
        matches: [M], 1 where image and text belong together.
        documents: id of each segment's document; empty for padding.
        sources: corpus of each segment; empty for padding.
        n_tokens: positions that are no padding.
        n_images: pictures.
        n_parts: documents, their parts counted one by one.
    """

    tokens: Tensor
    positions: Tensor
    segments: Segments
    pixels: Tensor
    hidden: Tensor
    image_keys: Tensor
    visual_index: Tensor
    pair_position: Tensor
    pair_image: Tensor
    pair_context: Tensor
    label_position: Tensor
    labels: Tensor
    match_position: Tensor
    matches: Tensor
    documents: tuple[str, ...]
    sources: tuple[str, ...]
    n_tokens: int
    n_images: int
    n_parts: int

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on another device, without waiting for the copy."""
        return self._each(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory; `torch.utils.data.DataLoader` calls this."""
        return self._each(lambda value: value.pin_memory())

    def segment_of(self, places: Tensor) -> Tensor:
        """The number of the segment that each flat place [L] is in, on the host."""
        ends = torch.tensor(list(accumulate(self.segments.lengths)))
        return torch.searchsorted(ends, places.cpu(), right=True)

    def _each(self, change: Callable[[Any], Any]) -> "Batch":
        """The batch with every tensor changed."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {
            name: change(value) for name, value in values.items() if isinstance(value, Tensor | Segments)
        }
        return Batch(**{**values, **changed})


class _Laid(NamedTuple):
    """The segments of all rows end to end, an image still one token, and where the batch has them.

    Attributes:
        segments: without padding.
        owners: whose each is.
        tokens: [n] ids.
        bounds: [segments + 1], where each begins in `tokens`, and the end.
        at: [n] place in the batch of each token; of an image that of its `<BoI>`.
        images: [k] number in the batch of each `<BoI>`'s image.
        spans: positions of each segment and its owner; None: padding, which is there too.
    """

    segments: list[Segment]
    owners: list[Placed]
    tokens: Longs
    bounds: Longs
    at: Longs
    images: Longs
    spans: list[tuple[int, Placed | None]]


def collate(
    rows: Sequence[Sequence[Placed]], pixels: Tensor, specials: SpecialTokens, slots: int, row_tokens: int
) -> Batch:
    """Lay packed rows end to end, each filled with padding to `row_tokens`.

    Args:
        rows: the documents and parts of each row.
        pixels: uint8 [N, 3, H, W], the images of all rows in order.
        specials: the ids.
        slots: visual slots of an image (the model's N).
        row_tokens: positions of a row.

    Raises:
        RecipeError: if a row is too long or the images are not as many as their keys.
    """
    parts = list(chain.from_iterable(rows))
    keys = [key_number(key) for placed in parts for key in placed.image_keys]
    if not len(keys) == len(pixels) == sum(len(placed.part.pictures) for placed in parts):
        raise RecipeError(f"{len(pixels)} images, {len(keys)} image keys: give one of each")
    shown = len(pixels)
    if not shown:
        blank = pixels.new_zeros((1, *pixels.shape[1:]))
        pixels, keys = blank.contiguous(memory_format=torch.channels_last), [-1]
    laid = _lay(rows, specials, slots, row_tokens)
    hidden = [placed.part.hidden for placed in parts if placed.part.hidden is not None]
    indices = {
        **_positions(laid, specials, slots, len(rows) * row_tokens),
        **_pairs(laid, specials),
        **_targets(laid, specials),
        "hidden": np.concatenate([np.zeros((0, slots), np.bool_), *hidden]),
        "image_keys": np.array(keys, np.int64),
    }
    is_causal = all(segment.targets is None for segment in laid.segments)
    return Batch(
        **{name: torch.from_numpy(index) for name, index in indices.items()},
        segments=Segments.of([length for length, _ in laid.spans], is_causal, row_tokens),
        pixels=pixels,
        documents=tuple(owner.document if owner else "" for _, owner in laid.spans),
        sources=tuple(owner.source if owner else "" for _, owner in laid.spans),
        n_tokens=sum(length for length, owner in laid.spans if owner),
        n_images=shown,
        n_parts=len(parts),
    )


def key_number(image_key: str) -> int:
    """The first 60 bits of a content hash in hex, which fit an int64."""
    return int(image_key[:15], 16)


def _lay(rows: Sequence[Sequence[Placed]], specials: SpecialTokens, slots: int, row_tokens: int) -> _Laid:
    parts = list(chain.from_iterable(rows))
    segments = [segment for placed in parts for segment in placed.part.segments]
    owners = [placed for placed in parts for _ in placed.part.segments]
    tokens = np.concatenate([np.zeros(0, np.int64), *(segment.tokens for segment in segments)])
    bounds = np.cumsum([0, *(len(segment.tokens) for segment in segments)])
    ends = np.concatenate([[0], np.cumsum(np.where(tokens == specials.image, slots + 2, 1))])
    spans = _spans(rows, iter(np.diff(ends[bounds]).tolist()), row_tokens)
    starts = accumulate((length for length, _ in spans), initial=0)
    begins = [start for start, (_, owner) in zip(starts, spans, strict=False) if owner]
    shifts = np.array(begins, np.int64) - ends[bounds[:-1]]
    first = accumulate((len(placed.part.pictures) for placed in parts), initial=0)
    images = [
        number + segment.images
        for number, placed in zip(first, parts, strict=False)
        for segment in placed.part.segments
    ]
    return _Laid(
        segments=segments,
        owners=owners,
        tokens=tokens,
        bounds=bounds,
        at=ends[:-1] + np.repeat(shifts, np.diff(bounds)),
        images=np.concatenate([np.zeros(0, np.int64), *images]),
        spans=spans,
    )


def _spans(
    rows: Sequence[Sequence[Placed]], lengths: Iterator[int], row_tokens: int
) -> list[tuple[int, Placed | None]]:
    """Positions and owner of each segment, and of the padding that fills each row."""
    spans: list[tuple[int, Placed | None]] = []
    for row in rows:
        own = [(next(lengths), placed) for placed in row for _ in placed.part.segments]
        taken = sum(length for length, _ in own)
        if taken > row_tokens:
            raise RecipeError(f"a row of {taken} tokens exceeds row_tokens {row_tokens}: pack it smaller")
        spans += [*own, (row_tokens - taken, None)] if taken < row_tokens else own
    return spans


def _positions(laid: _Laid, specials: SpecialTokens, slots: int, size: int) -> dict[str, Longs]:
    """What stands where: each image token becomes `<BoI>`, `slots` visual slots (the image id), `<EoI>`."""
    tokens, visual_index = np.full(size, specials.pad), np.full(size, -1)
    tokens[laid.at] = laid.tokens
    is_framed = laid.tokens == specials.image
    begins, images = laid.at[is_framed], laid.images[is_framed[_frames(laid, specials)]]
    inside = begins[:, None] + np.arange(1, slots + 1)
    tokens[begins], tokens[inside], tokens[begins + slots + 1] = specials.boi, specials.image, specials.eoi
    visual_index[inside] = images[:, None] * slots + np.arange(slots)
    positions = [np.arange(length) if owner else np.zeros(length, np.int64) for length, owner in laid.spans]
    return {"tokens": tokens, "positions": np.concatenate(positions), "visual_index": visual_index}


def _frames(laid: _Laid, specials: SpecialTokens) -> NDArray[np.intp]:
    """Where in `laid.tokens` each `<BoI>` is, bare or of an image."""
    return np.flatnonzero((laid.tokens == specials.image) | (laid.tokens == specials.boi))


def _pairs(laid: _Laid, specials: SpecialTokens) -> dict[str, Longs]:
    """Images and what stands before them, and captions to judge."""
    frames, contexts = _frames(laid, specials), list[int | None]()
    waiting = iter(frames.tolist())
    for segment, owner, start in zip(laid.segments, laid.owners, laid.bounds[:-1].tolist(), strict=True):
        places = [next(waiting) - start for _ in segment.images]
        contexts += _contexts(segment, places, owner, specials) if segment.contrasts else [None] * len(places)
    pairs = [number for number, context in enumerate(contexts) if context is not None]
    judged = [number for number, segment in enumerate(laid.segments) if segment.matches is not None]
    return {
        "pair_position": laid.at[frames[pairs]],
        "pair_image": laid.images[pairs],
        "pair_context": np.array([contexts[pair] for pair in pairs], np.int64),
        "match_position": laid.at[laid.bounds[1:][judged] - 1],
        "matches": np.array([laid.segments[number].matches for number in judged], np.int64),
    }


def _contexts(
    segment: Segment, places: list[int], owner: Placed, specials: SpecialTokens
) -> list[int | None]:
    """A hash of all that stands before each image of a segment, earlier images included.

    After nothing but start-of-text the context is the same for all images: false negatives of one another, so
    that such an image has none.
    """
    digest, found = blake2b(digest_size=8), list[int | None]()
    start, empty = 0, int(len(segment.tokens) > 0 and segment.tokens[0] == specials.sot)
    for at, image in zip(places, segment.images.tolist(), strict=True):
        digest.update(segment.tokens[start:at].tobytes())
        found.append(int.from_bytes(digest.digest()) >> 1 if at > empty else None)
        digest.update(owner.image_keys[image].encode())
        start = at + 1
    return found


def _targets(laid: _Laid, specials: SpecialTokens) -> dict[str, Longs]:
    """What is to be told: after a token the next one, but never a visual slot, `<EoI>`, sot or padding; or at
    a token, where something is hidden.
    """
    hidden = [segment.targets for segment in laid.segments if segment.targets is not None]
    if hidden:  # then of all segments: one layout made them
        labels = np.concatenate(hidden).astype(np.int64)
        is_told = labels != NO_TARGET
        return {"label_position": laid.at[is_told], "labels": labels[is_told]}
    tokens, generates = laid.tokens, [segment.generates for segment in laid.segments]
    is_told = np.repeat(np.array(generates, np.bool_), np.diff(laid.bounds))
    is_told[laid.bounds[:-1]] = False  # nothing stands before it
    is_told &= (tokens != specials.sot) & (tokens != specials.eoi) & (tokens != specials.pad)
    labels = np.where(tokens == specials.image, specials.boi, tokens)
    return {"label_position": laid.at[is_told] - 1, "labels": labels[is_told]}
