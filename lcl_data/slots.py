"""Parallel lists of texts and images, as OBELICS, OmniCorpus and MINT-1T have them, to items in order.

Position by position exactly one of images[i] and texts[i] is set. Facts about pictures come in two ways:
as long as the lists, with nothing beside texts, or one for each picture in their order. A list of facts that
is of neither length belongs to nobody, and stays whole in the document's meta.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lcl_data.links import absolute
from lcl_data.sources import dump, parse
from schemas.documents import Image, Item
from schemas.errors import SourceError

_LARGEST = {"width": 1 << 31, "height": 1 << 31, "nbytes": 1 << 63}  # what the columns hold
Slot = tuple[str | None, str | None]  # image, text


def entries(fields: Mapping[str, Any] | SourceError) -> int:
    """Image entries of a row, counted before any is judged."""
    images = None if isinstance(fields, SourceError) else fields.get("images")
    return sum(bool(image) for image in images) if isinstance(images, list) else 0


def slots(fields: Mapping[str, Any], blank: frozenset[str] = frozenset(("",))) -> list[Slot]:
    """The (image, text) of every position; the one that is not set is None.

    Args:
        fields: of the row; `images` and `texts` are lists of strings and nulls.
        blank: texts that stand for no text beside an image. Where no image is, "" is an empty text.

    Raises:
        SourceError: `bad_type`, `mismatched_lengths`, `both_text_and_image` or `neither_text_nor_image`.
    """
    images, texts = _strings(fields, "images"), _strings(fields, "texts")
    if len(images) != len(texts):
        raise SourceError("mismatched_lengths", f"{len(images)} images, {len(texts)} texts")
    return [_slot(image, text, blank, at) for at, (image, text) in enumerate(zip(images, texts, strict=True))]


def items(
    found: Sequence[Slot], image: Callable[[int, int, str], Image]
) -> tuple[tuple[Item, ...], tuple[SourceError, ...]]:
    """The items in order, and why pictures among them are lost.

    Args:
        found: of `slots`.
        image: makes the picture of (position, number among the pictures, reference), or raises a
            `SourceError`, which costs that picture alone.

    Raises:
        SourceError: `empty`, nothing is left.
    """
    made: list[Item] = []
    lost = []
    number = 0
    for at, (reference, text) in enumerate(found):
        if reference is None:
            made.append(text or "")
            continue
        try:
            made.append(image(at, number, reference))
        except SourceError as error:
            lost.append(SourceError(error.reason, f"position {at}: {error.detail}"))
        number += 1
    if not made:
        raise SourceError("empty", "no text and no image")
    return tuple(made), tuple(lost)


def deal(
    found: Sequence[Slot], meta: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Give each picture its entry of the lists that speak of pictures.

    Args:
        found: of `slots`.
        meta: fields of the row.
        names: under which name an entry of a field stands among a picture's facts; where that is empty, the
            entry's own fields do.

    Returns:
        The facts of every picture in order, and `meta` without the fields that could be dealt out.
    """
    facts: list[dict[str, Any]] = [{} for image, _ in found if image is not None]
    left = dict(meta)
    for key, name in names.items():
        values = _per_image(found, meta.get(key))
        if values is None or not all(name or value is None or isinstance(value, dict) for value in values):
            continue
        del left[key]
        for fact, value in zip(facts, values, strict=True):
            if value is not None:
                fact |= {name: value} if name else value
    return facts, left


def json_of(fields: Mapping[str, Any], column: str, kind: type) -> Any:
    """The value of a column that is nested or a JSON string of it; None where it is null or not there.

    Raises:
        SourceError: `broken_json`, or `bad_type` where it is no `kind`.
    """
    value = fields.get(column)
    if isinstance(value, str):
        value = parse(value, column)
    if value is not None and not isinstance(value, kind):
        raise SourceError("bad_type", f"{column} is {type(value).__name__}")
    return value


def columns(fact: Mapping[str, Any], wanted: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of a picture's facts fits our columns, by their names, and the rest under upstream's names.

    Args:
        fact: upstream's.
        wanted: upstream's name of each column of `Image`: alt, width, height, nbytes, format.
    """
    known = {name: fact[key] for name, key in wanted.items() if fits(name, fact.get(key))}
    used = {wanted[name] for name in known}
    return known, {key: value for key, value in fact.items() if key not in used}


def linked(raw: str, page: str | None, fact: Mapping[str, Any], wanted: Mapping[str, str]) -> Image:
    """The picture that an upstream URL means.

    Args:
        raw: the URL as upstream has it; kept where the absolute one differs.
        page: address of the page.
        fact: what upstream says of the picture.
        wanted: as of `columns`.

    Raises:
        SourceError: `bad_url`, it means no picture that can be fetched.
    """
    address = absolute(raw, page)
    if address is None:
        raise SourceError("bad_url", raw[:200])
    known, meta = columns(fact, wanted)
    return Image(url=address, meta=dump(meta | ({"raw_url": raw} if address != raw else {})), **known)


def _per_image(found: Sequence[Slot], values: Any) -> list[Any] | None:
    """The values of a list for each picture in order; None if the list cannot be dealt out to them.

    A list as long as the slots must hold nothing beside texts (null, or a struct of nulls as Parquet may
    give it back); where nothing but pictures is there, both ways mean the same.
    """
    if not isinstance(values, list):
        return None
    if len(values) == len(found):
        pairs = list(zip(values, found, strict=True))
        if not any(_says(value) for value, (image, _) in pairs if image is None):
            return [value for value, (image, _) in pairs if image is not None]
    return values if len(values) == sum(image is not None for image, _ in found) else None


def _strings(fields: Mapping[str, Any], column: str) -> list[str | None]:
    values = fields.get(column)
    if not isinstance(values, list):
        raise SourceError("bad_type", f"{column} is {type(values).__name__}")
    if not all(value is None or isinstance(value, str) for value in values):
        raise SourceError("bad_type", f"{column} holds something that is no string")
    return values


def _slot(image: str | None, text: str | None, blank: frozenset[str], at: int) -> Slot:
    if image:
        if text and text not in blank:
            raise SourceError("both_text_and_image", f"position {at}")
        return image, None
    if text is None:
        raise SourceError("neither_text_nor_image", f"position {at}")
    return None, text


def _says(value: Any) -> bool:
    """Whether a fact says anything."""
    return any(one is not None for one in value.values()) if isinstance(value, dict) else value is not None


def fits(name: str, value: Any) -> bool:
    """Whether a column holds the value; what does not fit stays in meta."""
    if name in _LARGEST:
        return type(value) is int and 0 <= value < _LARGEST[name]
    return isinstance(value, str)
