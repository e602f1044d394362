"""Packed rows to a `Batch`: flat tokens, and every index the model needs, computed in the loader's workers.

The model then only copies and selects by index: no boolean masks, no host synchronisation inside a step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lcl_data.shards import SpecialTokens
from lcl_train.attend import Segments
from schemas.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Placed:
    """A document or part in its row.

    Attributes:
        tokens: int32 [n], one image-position token per image.
        image_keys: its images' content hashes (hex), in the order of their tokens.
    """

    tokens: NDArray[np.int32]
    image_keys: Sequence[str]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows laid end to end: T positions, N images of S visual slots, P contrastive pairs, L targets.

    Tensors are int64 unless said otherwise.

    Attributes:
        tokens: [T] ids; visual slots hold the image id, the ends of rows the padding id.
        positions: [T], from 0 in each document.
        segments: the documents' lengths (padding is a segment of its own).
        pixels: float [N, 3, H, W], in the order of their slots.
        image_keys: [N], equal for copies of one picture.
        slot_index: [N * S] flat places of the visual slots, image by image.
        pair_position: [P] flat place of `<BoI>` of each image that has something of its document before it.
        pair_image: [P] that image's number in `pixels`.
        label_position: [L] flat places whose next token is a target.
        labels: [L] those targets: text, end of text and `<BoI>`.
        n_tokens: positions that are no padding.
        n_documents: documents, parts counted one by one.
    """

    tokens: Tensor
    positions: Tensor
    segments: Segments
    pixels: Tensor
    image_keys: Tensor
    slot_index: Tensor
    pair_position: Tensor
    pair_image: Tensor
    label_position: Tensor
    labels: Tensor
    n_tokens: int
    n_documents: int

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on another device, without waiting for the copy."""
        return self._each(lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory; `torch.utils.data.DataLoader` calls this."""
        return self._each(lambda value: value.pin_memory())

    def _each(self, change: Callable[[Any], Any]) -> "Batch":
        """The batch with every tensor changed."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: change(value) for name, value in values.items() if not isinstance(value, int)}
        return Batch(**{**values, **changed})


def expand(tokens: NDArray[np.int32], specials: SpecialTokens, slots: int) -> NDArray[np.int64]:
    """Each image token becomes `<BoI>`, `slots` visual slots (the image id), `<EoI>`."""
    is_image = tokens == specials.image
    wide = np.repeat(tokens.astype(np.int64), np.where(is_image, slots + 2, 1))
    first = np.flatnonzero(is_image) + np.arange(int(is_image.sum())) * (slots + 1)
    wide[first] = specials.boi
    wide[first + slots + 1] = specials.eoi
    return wide


def key_number(image_key: str) -> int:
    """The first 60 bits of a content hash in hex, which fit an int64."""
    return int(image_key[:15], 16)


def collate(
    rows: Sequence[Sequence[Placed]], pixels: Tensor, specials: SpecialTokens, slots: int, row_tokens: int
) -> Batch:
    """Lay packed rows end to end, each filled with padding to `row_tokens`.

    Args:
        rows: the documents and parts of each row.
        pixels: float [N, 3, H, W], the images of all rows in order.
        specials: the ids.
        slots: visual slots of an image (the model's N).
        row_tokens: positions of a row.

    Raises:
        RecipeError: if a row is too long or the images are not as many as their tokens.
    """
    texts: list[NDArray[np.int64]] = []
    for row in rows:
        wide = [expand(placed.tokens, specials, slots) for placed in row]
        empty = row_tokens - sum(map(len, wide))
        if empty < 0:
            raise RecipeError(
                f"a row of {row_tokens - empty} tokens exceeds row_tokens {row_tokens}: pack it smaller"
            )
        texts += wide + [np.full(empty, specials.pad)] * (empty > 0)
    keys = [key_number(key) for placed in chain.from_iterable(rows) for key in placed.image_keys]
    return _index(texts, torch.tensor(keys, dtype=torch.int64), pixels, specials, sum(map(len, rows)))


def _index(
    texts: list[NDArray[np.int64]], keys: Tensor, pixels: Tensor, specials: SpecialTokens, n_documents: int
) -> Batch:
    """Every index, from the flat tokens alone."""
    tokens = np.concatenate(texts)
    lengths = [len(text) for text in texts]
    positions = np.concatenate([np.arange(length) for length in lengths])
    boi = np.flatnonzero(tokens == specials.boi)
    if not len(boi) == len(pixels) == len(keys):
        raise RecipeError(
            f"{len(boi)} image tokens, {len(pixels)} images, {len(keys)} image keys: give one of each"
        )
    pairs = np.flatnonzero(_has_context(tokens, positions, boi, specials.sot))
    targets = _targets(tokens, positions, specials)
    return Batch(
        tokens=torch.from_numpy(tokens),
        positions=torch.from_numpy(np.where(tokens == specials.pad, 0, positions)),
        segments=Segments.of(lengths),
        pixels=pixels,
        image_keys=keys,
        slot_index=torch.from_numpy(np.flatnonzero(tokens == specials.image)),
        pair_position=torch.from_numpy(boi[pairs]),
        pair_image=torch.from_numpy(pairs),
        label_position=torch.from_numpy(targets - 1),
        labels=torch.from_numpy(tokens[targets]),
        n_tokens=int(np.count_nonzero(tokens != specials.pad)),
        n_documents=n_documents,
    )


def _has_context(
    tokens: NDArray[np.int64], positions: NDArray[np.int64], boi: NDArray[np.int64], sot: int
) -> NDArray[np.bool_]:
    """Whether something of its document besides start-of-text stands before each image.

    After nothing but start-of-text the context is the same for all images: false negatives of one another.
    """
    starts_with_sot = tokens[boi - positions[boi]] == sot
    return np.asarray(positions[boi] > starts_with_sot)


def _targets(
    tokens: NDArray[np.int64], positions: NDArray[np.int64], specials: SpecialTokens
) -> NDArray[np.int64]:
    """Flat places of the tokens to predict: no visual slot, `<EoI>`, sot, padding or first of a document."""
    unpredicted = [specials.image, specials.eoi, specials.sot, specials.pad]
    return np.flatnonzero((positions > 0) & ~np.isin(tokens, unpredicted))
