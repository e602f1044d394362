"""The processes that decode pictures while one process fetches.

They are forked from a server process that has imported Pillow for all of them, start while the list of URLs
is still being made, and end with the process that started them even if that is killed. A picture that kills
its decoder is found out and refused; it does not end the command.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress

from lcl_data.forks import end_with_parent, start_server
from lcl_data.freed_memory import keep_freed_memory
from lcl_data.pictures import Picture, Prepared, Refusal, prepare_all
from schemas.errors import LclError

Outcomes = list[Prepared | Refusal]
Prepare = Callable[[Sequence[bytes], Picture], Outcomes]


class Decoders:
    """A pool of decoding processes."""

    def __init__(self, size: int, prepare: Prepare = prepare_all) -> None:
        """Start `size` processes without waiting for them; `prepare` is what they run, on a batch."""
        self.size = size
        self._prepare = prepare
        self._pool = _start(size)
        self._suspects = asyncio.Lock()

    async def prepare(self, batch: Sequence[bytes], settings: Picture) -> Outcomes:
        """Have a batch prepared; one that was under way when a process died is taken picture by picture.

        Raises:
            LclError: decoding processes cannot live on this machine.
        """
        pool = self._pool
        try:
            return await self._run(pool, batch, settings)
        except BrokenProcessPool:
            if pool is self._pool:  # the first batch to notice
                self._pool = _start(self.size)
        async with self._suspects:
            return await self._one_by_one(batch, settings)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    async def _one_by_one(self, batch: Sequence[bytes], settings: Picture) -> Outcomes:
        outcomes: Outcomes = []
        pool = await self._tried(settings)
        try:
            for content in batch:
                try:
                    outcomes += await self._run(pool, (content,), settings)
                except BrokenProcessPool:
                    outcomes.append(Refusal("decoder_crashed", "the process that decoded it was killed"))
                    pool = await self._tried(settings)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return outcomes

    async def _tried(self, settings: Picture) -> ProcessPoolExecutor:
        """One process that is known to work, so that what kills it is the picture."""
        pool = _start(1)
        try:
            await self._run(pool, (b"",), settings)
        except BrokenProcessPool as error:
            raise LclError(
                "decoding processes are killed at once, most often for want of memory; run the same command "
                "again with fewer --workers or a smaller max_pixels: finished shards are kept"
            ) from error
        return pool

    async def _run(self, pool: ProcessPoolExecutor, batch: Sequence[bytes], settings: Picture) -> Outcomes:
        return await asyncio.get_running_loop().run_in_executor(pool, self._prepare, batch, settings)


@contextmanager
def decoders(workers: int) -> Iterator[Decoders]:
    """Decoding processes for the time of a `with` block."""
    pool = Decoders(workers)
    try:
        yield pool
    finally:
        pool.close()


def _start(workers: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(workers, start_server(), initializer=_begin)
    threading.Thread(target=_warm, args=(pool, workers)).start()  # the first to start waits for the server
    return pool


def _warm(pool: ProcessPoolExecutor, workers: int) -> None:
    with suppress(RuntimeError):  # the pool broke or was closed meanwhile
        for _ in range(workers):  # a process is started with each task that finds none idle
            pool.submit(prepare_all, (b"GIF8",), Picture())  # has Pillow import its readers


def _begin() -> None:
    keep_freed_memory()
    end_with_parent()
