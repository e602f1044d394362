"""Fetched bodies on their way to the decoding processes, several at a time because each message has its
price.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from lcl_data.decoders import Decoders
from lcl_data.pictures import Picture, Prepared, Refusal

_PICTURES = 16
_NBYTES = 4 << 20
_WAITING = 2 * _PICTURES  # bodies that wait while all decoders are busy
_AHEAD = 2  # batches per decoding process: one is worked on, one waits

Place = TypeVar("Place")
Settle = Callable[[Place, Prepared | Refusal], None]


class Batches(Generic[Place]):
    """Has bodies decoded and settles each batch as soon as it is done: a slow host must not hold up what
    others have sent.

    A batch is what waits when a decoder has room for it: many bodies where decoding is the bottleneck, one
    where the network is, and none ever waits for company.
    """

    def __init__(self, pool: Decoders, settings: Picture, settle: Settle[Place]) -> None:
        """`settle` is called in the event loop with every place and what became of its body."""
        self._pool = pool
        self._settings = settings
        self._settle = settle
        self._arrived: asyncio.Queue[tuple[Place, bytes] | None] = asyncio.Queue(_WAITING)

    async def add(self, place: Place, content: bytes) -> None:
        """Take a body; waits while the decoding processes have more than they need to stay busy."""
        await self._arrived.put((place, content))

    async def close(self) -> None:
        """Say that no more bodies come."""
        await self._arrived.put(None)

    async def run(self) -> None:
        """Returns when `close` was called and every body taken is settled."""
        await asyncio.gather(*(self._decode() for _ in range(_AHEAD * self._pool.size)))

    async def _decode(self) -> None:
        while batch := await self._next():
            outcomes = await self._pool.prepare([content for _, content in batch], self._settings)
            for (place, _), outcome in zip(batch, outcomes, strict=True):
                self._settle(place, outcome)

    async def _next(self) -> list[tuple[Place, bytes]]:
        """What waits, up to a batch; nothing when no more bodies come."""
        batch, nbytes = [], 0
        body = await self._arrived.get()
        while body is not None:
            batch.append(body)
            nbytes += len(body[1])
            if len(batch) == _PICTURES or nbytes >= _NBYTES or self._arrived.empty():
                return batch
            body = self._arrived.get_nowait()
        self._arrived.put_nowait(None)  # for the others
        return batch
