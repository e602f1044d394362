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

Place = TypeVar("Place")
Settle = Callable[[Place, Prepared | Refusal], None]


class Batches(Generic[Place]):
    """Gathers bodies, has them decoded and settles each batch as soon as it is done: a slow host must not
    hold up what others have sent.
    """

    def __init__(self, pool: Decoders, settings: Picture, settle: Settle[Place]) -> None:
        """`settle` is called in the event loop with every place and what became of its body."""
        self._pool = pool
        self._settings = settings
        self._settle = settle
        self._held: list[tuple[Place, bytes]] = []
        self._nbytes = 0
        self._sent: set[asyncio.Task[None]] = set()  # batches that are being decoded

    async def add(self, place: Place, content: bytes) -> None:
        """Take a body; waits while the decoding processes have more than they need to stay busy."""
        self._held.append((place, content))
        self._nbytes += len(content)
        if len(self._held) >= _PICTURES or self._nbytes >= _NBYTES:
            await self._send()

    async def finish(self) -> None:
        """Returns when every body taken is settled."""
        await self._send()
        await asyncio.gather(*self._sent)

    async def _send(self) -> None:
        while len(self._sent) > 2 * self._pool.size:
            done, self._sent = await asyncio.wait(self._sent, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        self._sent.add(asyncio.create_task(self._decode(self._held)))
        self._held, self._nbytes = [], 0

    async def _decode(self, batch: list[tuple[Place, bytes]]) -> None:
        outcomes = await self._pool.prepare([content for _, content in batch], self._settings)
        for (place, _), outcome in zip(batch, outcomes, strict=True):
            self._settle(place, outcome)
