"""Where shard functions run: everything else is "run this function over these units" and does not know.

Workers are spawned, not forked, because polars keeps threads; each gets one polars thread, so that
`workers` is the number of cores used. One worker means this process: no start-up cost, and a debugger sees
the code.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from lcl_data.no_pandas import keep_pandas_out
from schemas.errors import LclError

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]  # stage, units done, units in all
_AHEAD = 4  # units handed to the pool per worker: enough to keep it busy, few enough to keep memory flat


def silent(stage: str, done: int, total: int) -> None:
    """A progress report that nobody reads."""


@dataclass(frozen=True, slots=True)
class Engine:
    """This machine's process pool.

    Attributes:
        workers: processes; 0 means one per core this process may use.
        progress: called after every finished unit.
    """

    workers: int = 1
    progress: Progress = silent

    @property
    def size(self) -> int:
        """How many processes work at once."""
        return self.workers or len(os.sched_getaffinity(0))

    def run(self, function: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[tuple[Unit, Result]]:
        """Apply a picklable function to every unit; yields (unit, result) in order of completion.

        Raises:
            LclError: a worker process was killed (by the system's memory killer, as a rule).
        """
        units = list(units)
        if min(self.size, len(units)) <= 1:
            for unit in units:
                yield unit, function(unit)
            return
        try:
            yield from self._pooled(function, units)
        except BrokenProcessPool as error:
            raise LclError(
                "a worker process was killed, most often for want of memory; "
                "run the same command again with fewer --workers: finished shards are kept"
            ) from error

    def _pooled(self, function: Callable[[Unit], Result], units: list[Unit]) -> Iterator[tuple[Unit, Result]]:
        pool = _pool(self.size)
        waiting = iter(units)
        running: dict[Future[Result], Unit] = {}
        try:
            while True:
                while len(running) < self.size * _AHEAD and (unit := next(waiting, None)) is not None:
                    running[pool.submit(function, unit)] = unit
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BaseException:  # an error, or a caller that wants no more: nothing may go on unseen
            _pool.cache_clear()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@cache
def _pool(workers: int) -> ProcessPoolExecutor:
    """The pool of this process, kept from stage to stage: a worker takes a second or more to start."""
    return ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    os.environ["POLARS_MAX_THREADS"] = "1"
    keep_pandas_out()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed run leaves no workers behind: they would write under the names its resumption writes under."""
    if parent := parent_process():
        parent.join()
        os._exit(1)
