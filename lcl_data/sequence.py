"""A document becomes token sequences: text ids, one position token per picture, parts where it is too long.

Nothing is cut off: an over-long document goes on in further parts, broken between items, and inside a text
only where that text alone exceeds the budget.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from lcl_data.shards import Sequence, SpecialTokens
from lcl_data.tokenizer import Tokenizer
from schemas.documents import Document, Image


@dataclass(frozen=True, slots=True)
class Picture:
    """An image item with its bytes.

    Attributes:
        content: encoded bytes.
        key: sha256 hex of them.
        owner: index of the text item it belongs to; None: its place says it.
    """

    content: bytes
    key: str
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """A text item, or a piece of one, with its ids.

    Attributes:
        ids: token ids.
        text: as the document has it; a piece of the cleaned text where the item was cut.
        owner: index of the text item.
        starts: character of `text` at which each id begins; only where the item may be cut.
        is_whole: not a piece.
    """

    ids: list[int]
    text: str
    owner: int | None
    starts: list[int] = field(default_factory=list)
    is_whole: bool = True

    def cut(self, size: int) -> tuple["Words", "Words"]:
        """The first `size` ids and the rest; the texts join to the whole again."""
        place = self.starts[size]
        head = Words(self.ids[:size], self.text[:place], self.owner, self.starts[:size], False)
        starts = [start - place for start in self.starts[size:]]
        return head, Words(self.ids[size:], self.text[place:], self.owner, starts, False)


Item = Words | Picture


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a training shard, and what only the WebDataset container keeps.

    Attributes:
        sequence: what both containers hold.
        texts: the items in order: a text, or None where a picture stands.
        anchor_texts: for each picture the index, among the texts of this row, of the one it belongs to.
    """

    sequence: Sequence
    texts: list[str | None]
    anchor_texts: list[int | None]


@dataclass(frozen=True, slots=True)
class Budget:
    """The room of one part, and how much a picture takes of it.

    Attributes:
        max_tokens: slots of a part, start and end token included.
        image_slots: slots of a picture in the model: its visual tokens and two delimiters.
    """

    max_tokens: int
    image_slots: int

    @property
    def room(self) -> int:
        """Slots for items."""
        return self.max_tokens - 2

    def cost(self, item: Item) -> int:
        """Slots an item takes."""
        return self.image_slots if isinstance(item, Picture) else len(item.ids)


def sequences(
    document: Document, contents: Mapping[str, tuple[bytes, str]], tokenizer: Tokenizer, budget: Budget
) -> list[Row]:
    """The rows of a document, in reading order; none if it holds neither text nor a picture.

    Args:
        document: its pictures without content are left out.
        contents: encoded bytes and sha256 hex, by store key.
        tokenizer: of the shards.
        budget: of one row.
    """
    parts = split(list(_items(document, contents, tokenizer, budget.room)), budget)
    return [_row(document, number, part, tokenizer.special) for number, part in enumerate(parts)]


def split(items: list[Item], budget: Budget) -> list[list[Item]]:
    """Cut items into parts that each fit the budget, keeping a picture beside its text where possible."""
    parts = _Parts(budget)
    for block in _blocks(items):
        cost = sum(map(budget.cost, block))
        if parts.room < cost <= budget.room:
            parts.open()
        for item in block:
            parts.add(item)
    return parts.parts if any(map(budget.cost, items)) else []


class _Parts:
    """The parts so far, and the room left in the last one."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.parts: list[list[Item]] = []
        self.room = 0

    def open(self) -> None:
        self.parts.append([])
        self.room = self.budget.room

    def add(self, item: Item) -> None:
        """Append an item; a text longer than a whole part fills the room left, then further parts."""
        while isinstance(item, Words) and len(item.ids) > self.budget.room:
            if not self.room:
                self.open()
            head, item = item.cut(self.room)
            self._put(head)
        if not self.parts or self.budget.cost(item) > self.room:
            self.open()
        self._put(item)

    def _put(self, item: Item) -> None:
        self.parts[-1].append(item)
        self.room -= self.budget.cost(item)


def _blocks(items: list[Item]) -> Iterator[list[Item]]:
    """Runs of items of one owner: a text with the pictures that belong to it and stand beside it."""
    block: list[Item] = []
    for item in items:
        if block and (item.owner is None or item.owner != block[0].owner):
            yield block
            block = []
        block.append(item)
    if block:
        yield block


def _items(
    document: Document, contents: Mapping[str, tuple[bytes, str]], tokenizer: Tokenizer, room: int
) -> Iterator[Item]:
    prepared = [
        (tokenizer.joint if number else "") + tokenizer.clean(text)
        for number, text in enumerate(document.texts)
    ]
    ids = tokenizer.encode(prepared)
    number = 0
    for item in document.items:
        if isinstance(item, Image):
            if item.key in contents:
                yield Picture(*contents[cast(str, item.key)], owner=item.anchor)
            continue
        if len(ids[number]) > room:
            cuttable, starts = tokenizer.encode_with_starts(prepared[number])
            yield Words(cuttable, prepared[number], number, starts)
        else:
            yield Words(ids[number], item, number)
        number += 1


def _row(document: Document, number: int, part: list[Item], special: SpecialTokens) -> Row:
    tokens = [special.sot]
    spans: dict[int | None, tuple[int, int]] = {}
    for item in part:
        if isinstance(item, Picture):
            tokens.append(special.image)
            continue
        if item.is_whole and item.ids:
            spans[item.owner] = (len(tokens), len(tokens) + len(item.ids))
        tokens += item.ids
    pictures = [item for item in part if isinstance(item, Picture)]
    sequence = Sequence(
        id=document.id if number == 0 else f"{document.id}-{number}",
        tokens=np.array([*tokens, special.eot], np.int32),
        images=[picture.content for picture in pictures],
        image_keys=[picture.key for picture in pictures],
        anchors=[spans.get(picture.owner) for picture in pictures],
        source=document.source,
        url=document.url,
    )
    words = [item for item in part if isinstance(item, Words)]
    places = {item.owner: index for index, item in enumerate(words) if item.is_whole}
    owners = [None if picture.owner is None else places.get(picture.owner) for picture in pictures]
    return Row(sequence, [item.text if isinstance(item, Words) else None for item in part], owners)
