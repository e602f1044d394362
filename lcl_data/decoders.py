"""The workers that decode pictures while one process fetches.

As processes they import Pillow and numpy only (no polars, no aiohttp), start while the list of URLs is still
being made, and end with the process that started them even if that is killed.
"""

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process

from lcl_data.pictures import Picture, Prepared, Refusal, prepare_all
from schemas.errors import LclError


class Decoders:
    """A pool of decoding workers."""

    def __init__(self, pool: Executor, size: int) -> None:
        self._pool = pool
        self.size = size

    def submit(self, batch: Sequence[bytes], settings: Picture) -> asyncio.Future[list[Prepared | Refusal]]:
        """Have a batch prepared."""
        return asyncio.get_running_loop().run_in_executor(self._pool, prepare_all, batch, settings)


@contextmanager
def decoders(workers: int) -> Iterator[Decoders]:
    """Start `workers` processes without waiting for them; one worker is a thread of this process.

    Raises:
        LclError: one of them was killed.
    """
    pool = _processes(workers) if workers > 1 else ThreadPoolExecutor(1)
    try:
        yield Decoders(pool, workers)
    except BrokenProcessPool as error:
        raise LclError(
            "a decoding process was killed, most often for want of memory; run the same command again with "
            "fewer --workers or a smaller max_pixels: finished shards are kept"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _processes(workers: int) -> ProcessPoolExecutor:
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start)
    for _ in range(workers):  # a process is started with each task that finds none idle
        pool.submit(prepare_all, (b"GIF8",), Picture())  # has Pillow import its readers
    return pool


def _start() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
