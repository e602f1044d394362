"""The engine gives every unit to the function once, wherever it runs, and says when a worker was killed."""

import os
import signal

import pytest

from lcl_data.engine import Engine
from schemas.errors import LclError


def square(number: int) -> int:
    return number * number


def polars_threads(_: int) -> str | None:
    return os.environ.get("POLARS_MAX_THREADS")


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_unit_once(workers: int) -> None:
    assert sorted(Engine(workers).run(square, range(20))) == [(n, n * n) for n in range(20)]


def test_workers_have_one_polars_thread_each() -> None:
    assert {result for _, result in Engine(2).run(polars_threads, range(2))} == {"1"}


def test_a_killed_worker_is_told_with_the_remedy() -> None:
    with pytest.raises(LclError, match="--workers"):
        list(Engine(2).run(die, range(2)))
