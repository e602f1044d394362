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
        pixels: uint8 [N, 3, H, W]; or float, if normalised already.
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
    """A segment with its images framed by their slots.

    Attributes:
        tokens: [n] ids.
        labels: [n] what is to be told after a token (or at it, where something is hidden); `IGNORED`.
        images: [n] number in the batch of the image that fills a slot or stands after a `<BoI>`, else -1.
        contexts: per `<BoI>` the hash of what stands before it, or None where nothing does.
        matches: whether image and text belong together; None: nobody asks.
        placed: whose it is; None: padding.
    """

    tokens: Longs
    labels: Longs
    images: Longs
    contexts: list[int | None]
    matches: bool | None
    placed: Placed | None


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
    laid = list(_lay(rows, specials, slots, row_tokens))
    parts = list(chain.from_iterable(rows))
    keys = [key_number(key) for placed in parts for key in placed.image_keys]
    if not len(keys) == len(pixels) == sum(len(placed.part.pictures) for placed in parts):
        raise RecipeError(f"{len(pixels)} images, {len(keys)} image keys: give one of each")
    shown = len(pixels)
    if not shown:
        pixels, keys = pixels.new_zeros((1, *pixels.shape[1:])), [-1]
    hidden = [placed.part.hidden for placed in parts if placed.part.hidden is not None]
    return Batch(
        **_indices(laid, specials, slots, row_tokens),
        pixels=pixels,
        hidden=torch.from_numpy(np.concatenate([np.zeros((0, slots), np.bool_), *hidden])),
        image_keys=torch.tensor(keys, dtype=torch.int64),
        documents=tuple(segment.placed.document if segment.placed else "" for segment in laid),
        sources=tuple(segment.placed.source if segment.placed else "" for segment in laid),
        n_images=shown,
        n_parts=len(parts),
    )


def key_number(image_key: str) -> int:
    """The first 60 bits of a content hash in hex, which fit an int64."""
    return int(image_key[:15], 16)


def _lay(
    rows: Sequence[Sequence[Placed]], specials: SpecialTokens, slots: int, row_tokens: int
) -> Iterator[_Laid]:
    """The segments of all rows, and the padding that fills each row."""
    parts = [len(placed.part.pictures) for row in rows for placed in row]
    first = iter(accumulate(parts, initial=0))
    for row in rows:
        taken = 0
        for placed in row:
            image = next(first)
            for segment in placed.part.segments:
                laid = _frame(segment, placed, image, specials, slots)
                taken += len(laid.tokens)
                yield laid
        if taken > row_tokens:
            raise RecipeError(f"a row of {taken} tokens exceeds row_tokens {row_tokens}: pack it smaller")
        if empty := row_tokens - taken:
            nothing = np.full(empty, IGNORED)
            yield _Laid(np.full(empty, specials.pad), nothing, np.full(empty, -1), [], None, None)


def _frame(segment: Segment, placed: Placed, image: int, specials: SpecialTokens, slots: int) -> _Laid:
    """Each image token becomes `<BoI>`, `slots` visual slots (the image id), `<EoI>`."""
    is_image = segment.tokens == specials.image
    widths = np.where(is_image, slots + 2, 1)
    tokens = np.repeat(segment.tokens.astype(np.int64), widths)
    first = (np.cumsum(widths) - widths)[is_image]
    tokens[first] = specials.boi
    tokens[first + slots + 1] = specials.eoi
    numbers = np.full(len(tokens), -1)
    numbers[tokens == specials.boi] = image + segment.images
    numbers[tokens == specials.image] = np.repeat(numbers[first], slots)
    labels = _labels(segment, tokens, widths, specials)
    contexts = _contexts(segment, placed, specials)
    return _Laid(tokens, labels, numbers, contexts, segment.matches, placed)


def _labels(segment: Segment, tokens: Longs, widths: NDArray[np.intp], specials: SpecialTokens) -> Longs:
    """What is to be told at each place: never a visual slot, `<EoI>`, sot or padding."""
    if segment.targets is not None:
        told = np.repeat(segment.targets.astype(np.int64), widths)
        return np.where(told == NO_TARGET, IGNORED, told)
    if not segment.generates:
        return np.full(len(tokens), IGNORED)
    labels = np.append(tokens[1:], IGNORED)
    for unpredicted in (specials.image, specials.eoi, specials.sot, specials.pad):
        labels[labels == unpredicted] = IGNORED
    return labels


def _contexts(segment: Segment, placed: Placed, specials: SpecialTokens) -> list[int | None]:
    """A hash of all that stands before each image of a segment, earlier images included.

    After nothing but start-of-text the context is the same for all images: false negatives of one another, so
    that such an image has none.
    """
    if not segment.contrasts:
        return [None] * len(segment.images)
    digest, found = blake2b(digest_size=8), []
    start, empty = 0, int(len(segment.tokens) > 0 and segment.tokens[0] == specials.sot)
    frames = np.flatnonzero((segment.tokens == specials.image) | (segment.tokens == specials.boi))
    for at, image in zip(frames, segment.images, strict=True):
        digest.update(segment.tokens[start:at].tobytes())
        found.append(int.from_bytes(digest.digest()) >> 1 if at > empty else None)
        digest.update(placed.image_keys[image].encode())
        start = int(at) + 1
    return found


def _indices(laid: list[_Laid], specials: SpecialTokens, slots: int, row_tokens: int) -> dict[str, Any]:
    """Every index, from the framed segments."""
    tokens = np.concatenate([each.tokens for each in laid])
    labels = np.concatenate([each.labels for each in laid])
    images = np.concatenate([each.images for each in laid])
    lengths = [len(each.tokens) for each in laid]
    positions = [np.arange(len(each.tokens)) * (each.placed is not None) for each in laid]
    slot = tokens == specials.image
    contexts = [context for each in laid for context in each.contexts]
    pairs = np.flatnonzero([context is not None for context in contexts])
    boi = np.flatnonzero(tokens == specials.boi)[pairs]
    judged = [at for at, each in enumerate(laid) if each.matches is not None]
    told = np.flatnonzero(labels != IGNORED)
    segments = [segment for each in laid if each.placed for segment in each.placed.part.segments]
    indices = {
        "tokens": tokens,
        "positions": np.concatenate(positions),
        "visual_index": np.where(slot, images * slots + (np.cumsum(slot) - 1) % slots, -1),
        "pair_position": boi,
        "pair_image": images[boi],
        "pair_context": np.array([contexts[pair] for pair in pairs], np.int64),
        "label_position": told,
        "labels": labels[told],
        "match_position": np.cumsum(lengths)[judged] - 1,
        "matches": np.array([laid[at].matches for at in judged], np.int64),
    }
    return {
        **{name: torch.from_numpy(index) for name, index in indices.items()},
        "segments": Segments.of(lengths, all(segment.targets is None for segment in segments), row_tokens),
        "n_tokens": sum(len(each.tokens) for each in laid if each.placed),
    }
