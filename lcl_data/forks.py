"""The server process from which decoders are forked within milliseconds, because it has imported for them.

Light enough to be started before anything heavy is imported, so that both imports go on side by side.
"""

from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext


def start_server() -> ForkServerContext:
    """Start the server of this process if it does not run yet, without waiting for it; ends with us."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["__main__", "lcl_data.decoders"])
    forkserver.ensure_running()
    return context
