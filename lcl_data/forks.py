"""The server process from which workers are forked within milliseconds, because it has imported for them.

Light enough to be started before anything heavy is imported, so that both imports go on side by side. It does
not import polars, one of whose threads a fork would lose; those of numpy and pyarrow see to it themselves.
"""

import os
from functools import cache
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.context import ForkServerContext
from multiprocessing.util import Finalize
from threading import Thread

_IMPORTED = ["__main__", "lcl_data.decoders", "lcl_data.stage"]


def start_server() -> ForkServerContext:
    """Start the server of this process if it does not run yet, without waiting for it; it ends with us."""
    context = get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    forkserver.ensure_running()
    _wait_for_it_at_exit()
    return context


@cache
def _wait_for_it_at_exit() -> None:
    """Then the time of all workers counts as ours, for `time` and whoever else asks, and none outlives us."""
    Finalize(None, forkserver._forkserver._stop, exitpriority=-1)  # type: ignore[attr-defined]  # after all else


def end_with_parent() -> None:
    """Have this worker end when the process that asked for it does, even by a kill: it would write under the
    names that a resumed run writes under.
    """
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
