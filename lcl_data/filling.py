"""The shards of an image store on their way from the network to the disk, a few in hand at a time.

The URLs of a slow host are dealt over all shards, so every shard that is begun may have to wait for it. What
is in hand costs disk and is lost by a kill: when enough is, no other shard is begun until one is published.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace

from lcl_data import store
from lcl_data.answers import is_transient
from lcl_data.batches import Batches
from lcl_data.carriers import Carrier
from lcl_data.decoders import Decoders
from lcl_data.fetch import Fetch, Fetched, fetch_all
from lcl_data.pictures import Picture, Prepared, Refusal
from lcl_data.spool import Spool
from lcl_data.stage import Unit

_REPORTED = 16  # outcomes between two reports of progress
_THREADS = 64  # name look-ups wait in threads

Known = Iterable[tuple[int, store.Row, bytes]]  # (number of the URL in its shard, row, encoded picture)
Begin = Callable[[Unit], tuple[Spool, Known]]


class Filling:
    """One run over the shards of a store that are still to be made."""

    def __init__(self, begin: Begin, fetch: Fetch, in_hand: int, report: Callable[[int], None]) -> None:
        """Prepare a run.

        Args:
            begin: makes an empty shard, and says what is known of its URLs; runs in a thread.
            fetch: how URLs are fetched.
            in_hand: shards under way at a time.
            report: told now and then how many URLs have an outcome.
        """
        self._begin = begin
        self._fetch = fetch
        self._hands = asyncio.Semaphore(in_hand)
        self._report = report
        self._places: dict[int, _Place] = {}  # of the URLs under way, by their number in this run
        self._finished: asyncio.Queue[Spool] = asyncio.Queue()
        self._settled = 0  # URLs with an outcome
        self._open: set[Spool] = set()  # shards in hand

    def run(self, todo: list[Unit], pool: Decoders, picture: Picture) -> None:
        """Fetch, decode, write; returns when every shard is published."""
        try:
            asyncio.run(self._run(todo, Batches(pool, picture, self._decoded)))
        finally:  # of an error, and of its threads: what waits on a full disk must not fill it further
            for spool in self._open:
                spool.discard()
                spool.draft.discard()
        self._report(self._settled)

    async def _run(self, todo: list[Unit], batches: "Batches[tuple[_Place, Fetched]]") -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        await asyncio.gather(self._gather(todo, batches), batches.run(), self._write(len(todo)))

    async def _gather(self, todo: list[Unit], batches: "Batches[tuple[_Place, Fetched]]") -> None:
        """Bring every URL to its outcome, or its body to the decoders."""
        async with aclosing(fetch_all(self._draw(todo), self._fetch)) as results:
            async for fetched in results:
                place = self._places.pop(fetched.index)
                if fetched.content is None:
                    self._failed(place, fetched)
                else:
                    await batches.add((place, fetched), fetched.content)
        await batches.close()

    async def _write(self, count: int) -> None:
        """Publish shards as they are complete, while others are fetched."""
        for _ in range(count):
            spool = await self._finished.get()
            await asyncio.to_thread(spool.write)
            self._open.remove(spool)
            self._hands.release()

    async def _draw(self, todo: list[Unit]) -> AsyncIterator[str | Carrier]:
        """What to fetch or read, shard after shard, drawn when there is room for them."""
        number = 0
        for unit in todo:
            await self._hands.acquire()
            spool, known = await asyncio.to_thread(self._take_up, unit)
            self._count(known)
            if spool.is_complete:
                self._finished.put_nowait(spool)
            for index, url in spool.missing():
                self._places[number] = _Place(spool, index)
                number += 1
                yield Carrier.parse(url.carrier) if url.carrier else url.url

    def _take_up(self, unit: Unit) -> tuple[Spool, int]:
        """A shard with what is known of its URLs, and how many these are; in a thread, which reads them."""
        spool, known = self._begin(unit)
        self._open.add(spool)
        count = 0
        for index, row, content in known:
            if not is_transient(row["reason"]):
                spool.keep(index, row, content)
                count += 1
        return spool, count

    def _decoded(self, fetched: "tuple[_Place, Fetched]", outcome: Prepared | Refusal) -> None:
        place, answer = fetched
        if isinstance(outcome, Refusal):
            self._failed(place, replace(answer, reason=outcome.reason, detail=outcome.detail))
            return
        place.spool.store(place.index, outcome, answer.http_status, len(answer.content or b""))
        self._settle(place.spool)

    def _failed(self, place: "_Place", fetched: Fetched) -> None:
        place.spool.fail(place.index, fetched)
        self._settle(place.spool)

    def _settle(self, spool: Spool) -> None:
        self._count(1)
        if spool.is_complete:
            self._finished.put_nowait(spool)

    def _count(self, outcomes: int) -> None:
        before, self._settled = self._settled, self._settled + outcomes
        if before // _REPORTED < self._settled // _REPORTED:
            self._report(self._settled)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the outcome of a URL belongs."""

    spool: Spool
    index: int
