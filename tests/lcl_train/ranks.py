"""Real processes of a test: two that train together over gloo, or one to be killed.

They are forked by a server that has imported torch and never used it, once for all tests of a session.
"""

import os
import socket
from multiprocessing import get_context

from safetensors.torch import load_file, save_file


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def started(work, *given):
    """A process that does `work(*given)`."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["lcl_train.loop"])
    process = context.Process(target=work, args=given)
    process.start()
    return process


def run(work, folder, *given, world=2):
    """`work(*given)` on every rank; the tensors it returns on each, in the order of ranks."""
    port = free_port()
    ranks = [started(_run, rank, world, port, folder, work, given) for rank in range(world)]
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0] * world
    return [load_file(folder / f"{rank}.safetensors") for rank in range(world)]


def _run(rank, world, port, folder, work, given):
    import torch

    from lcl_train import parallel

    torch.set_num_threads(1)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT", "MASTER_ADDR")
    values = (rank, rank, world, port, "127.0.0.1")
    os.environ.update({name: str(value) for name, value in zip(names, values, strict=True)})
    with parallel.joined(torch.device("cpu")):
        found = work(*given)
        save_file({name: value.detach().contiguous() for name, value in found.items()}, _file(folder, rank))


def _file(folder, rank):
    return folder / f"{rank}.safetensors"
