"""Trains a run in a child that is killed again and again; torch is imported once, here, and never used here.

Usage: python -m tests.lcl_train.kills SHARDS FOLDER KILLS
"""

import io
import os
import random
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from lcl_train.loop import train
from tests.lcl_train import tiny

SETTINGS = tiny.settings(steps=60, save_every_steps=2, validate_every_steps=7, ema=0.9)


def start(shards, out):
    """A child that trains, one thread of torch in it."""
    child = os.fork()
    if child:
        return child
    try:
        train(shards, out, SETTINGS, "auto", Console(file=io.StringIO()))
        os._exit(0)
    finally:
        os._exit(1)


def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(shards, folder, kills):
    began = time.monotonic()
    assert ended(start(shards, folder / "undisturbed")) == 0
    took = time.monotonic() - began
    moments, codes = random.Random(0), []
    while codes.count(-signal.SIGKILL) < kills:
        child = start(shards, folder / "killed")
        time.sleep(moments.uniform(0, took / 4))
        os.kill(child, signal.SIGKILL)
        codes.append(ended(child))
        assert codes[-1] == -signal.SIGKILL, f"the run ended before it was killed {kills} times: {codes}"
    assert ended(start(shards, folder / "killed")) == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
