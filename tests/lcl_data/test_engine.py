"""The engine gives every unit to the function once, wherever it runs, and says when a worker was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest

from lcl_data.engine import Engine
from schemas.errors import LclError


def square(number: int) -> int:
    return number * number


def polars_threads(_: int) -> int:
    return pl.thread_pool_size()


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 3])
def test_every_unit_once(workers: int) -> None:
    assert sorted(Engine(workers).run(square, range(20))) == [(n, n * n) for n in range(20)]


def test_workers_have_one_polars_thread_each() -> None:
    assert {result for _, result in Engine(2).run(polars_threads, range(2))} == {1}


def test_workers_are_forked_from_a_process_without_libraries_that_keep_threads() -> None:
    """A fork would lose the threads that polars and torch keep."""
    ask = "[name for name in ('polars', 'torch', 'ray') if name in __import__('sys').modules]"
    run_it = f"from lcl_data.engine import Engine; print(list(Engine(2).run(eval, [{ask!r}])))"
    told = subprocess.run([sys.executable, "-c", run_it], capture_output=True, text=True, check=True)
    assert told.stdout.strip().endswith(", [])]")


def test_a_killed_worker_is_told_with_the_remedy() -> None:
    with pytest.raises(LclError, match="--workers"):
        list(Engine(2).run(die, range(2)))
    assert len(list(Engine(2).run(square, range(2)))) == 2  # the next run has a pool of its own


def _note_and_wait(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(60)


def test_a_killed_run_leaves_no_workers_behind(tmp_path):
    run_it = (
        "from tests.lcl_data.test_engine import _note_and_wait as f; from lcl_data.engine import Engine; "
    )
    run_it += f"from pathlib import Path; p = Path({str(tmp_path)!r}); list(Engine(workers=2).run(f, [p, p]))"
    main = subprocess.Popen([sys.executable, "-W", "ignore", "-c", run_it], stderr=subprocess.DEVNULL)
    until(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    main.kill()
    main.wait()
    until(lambda: not any(is_running(pid) for pid in workers))


def until(claim):
    deadline = time.monotonic() + 30
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
