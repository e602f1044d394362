"""Where shard functions run: everything else is "run this function over these units" and does not know.

On this machine workers are forked from a server process (`lcl_data.forks`), not from this one, because polars
keeps threads; each gets one polars thread, so that `workers` is the number of cores used. One worker means
this process: no start-up cost, and a debugger sees the code. On a Ray cluster every unit is a task of one
core; LCL is installed on all nodes, and all folders lie on storage that all of them see.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from logging import ERROR
from typing import Any, TypeVar

from lcl_data.forks import end_with_parent, start_server
from lcl_data.no_pandas import keep_pandas_out
from schemas.errors import LclError, RecipeError

Unit = TypeVar("Unit")
Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]  # stage, units done, units in all
_AHEAD = 4  # units handed out per worker: enough to keep it busy, few enough to keep memory flat
_RETRIES = 3  # of a task whose worker or node died
# Set where the workers start: polars reads the number of its threads when it is imported.
_WORKER_ENV = {"POLARS_MAX_THREADS": "1"}


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
    def local(self) -> int:
        """How many processes may work on this machine: what cannot be shared out, such as decoding what one
        process fetches, has as many.
        """
        return self.workers or len(os.sched_getaffinity(0))

    def warm(self) -> None:
        """Have what workers import be imported while the caller imports what he needs himself."""
        if self.local > 1:
            start_server()

    def run(self, function: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[tuple[Unit, Result]]:
        """Apply a picklable function to every unit; yields (unit, result) in order of completion.

        Raises:
            LclError: a worker process was killed (by the system's memory killer, as a rule).
        """
        units = list(units)
        if min(self.local, len(units)) <= 1:
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
        pool = _pool(self.local)
        waiting = iter(units)
        running: dict[Future[Result], Unit] = {}
        try:
            while True:
                while len(running) < self.local * _AHEAD and (unit := next(waiting, None)) is not None:
                    running[pool.submit(function, unit)] = unit
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BaseException:  # an error, or a caller that wants no more: nothing may go on unseen
            _pool.cache_clear()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@dataclass(frozen=True, slots=True)
class RayEngine(Engine):
    """A Ray cluster, which sees to placement and to workers and nodes that die.

    Attributes:
        address: `host:port` of the cluster. Empty: what RAY_ADDRESS says, else a cluster that runs on this
            machine, else one that is started for this command.
    """

    address: str = ""

    def run(self, function: Callable[[Unit], Result], units: Iterable[Unit]) -> Iterator[tuple[Unit, Result]]:
        """As of `Engine`: `workers` bounds the tasks under way, 0 means the cores of the cluster.

        Raises:
            LclError: a task lost its worker again and again.
            RecipeError: Ray is not installed, or there is no cluster at the address.
        """
        ray = _cluster(self.address)
        task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_call)
        shared = ray.put(function)
        most = (self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))) * _AHEAD
        waiting = iter(list(units))
        running: dict[Any, Unit] = {}
        try:
            while True:
                while len(running) < most and (unit := next(waiting, None)) is not None:
                    running[task.remote(shared, unit)] = unit
                if not running:
                    return
                for done in ray.wait(list(running))[0]:
                    yield running.pop(done), _result(ray, done)
        finally:
            for left in running:  # an error, or a caller that wants no more: nothing may go on unseen
                ray.cancel(left, force=True)


def _call(function: Callable[[Unit], Result], unit: Unit) -> Result:
    keep_pandas_out()
    return function(unit)


def _result(ray: Any, done: Any) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:  # what the function raised, in Ray's wrapping
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise LclError(
            f"a task lost its worker {_RETRIES + 1} times, most often for want of memory ({error}); "
            "run the same command again with fewer --workers: finished shards are kept"
        ) from error


@cache
def _cluster(address: str) -> Any:
    """The module `ray`, connected."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ImportError as error:
        raise RecipeError("engine ray is not installed: pip install 'lcl[ray]'") from error
    try:
        ray.init(
            address or None,
            runtime_env={"env_vars": _WORKER_ENV},
            include_dashboard=None if address else False,
            logging_level=ERROR,
            log_to_driver=False,
        )
    except ConnectionError as error:
        raise RecipeError(f"no Ray cluster at {address or 'RAY_ADDRESS'}: {error}") from error
    return ray


@cache
def _pool(workers: int) -> ProcessPoolExecutor:
    """The pool of this process, kept from stage to stage: what its workers imported stays imported."""
    return ProcessPoolExecutor(workers, start_server(), initializer=_start_worker)


def _start_worker() -> None:
    os.environ |= _WORKER_ENV
    keep_pandas_out()
    end_with_parent()
