"""Two real processes that train together over gloo: what the tests of parallel training share."""

import os
import socket
from multiprocessing import get_context

from safetensors.torch import load_file, save_file


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def run(work, folder, *given, world=2):
    """`work(*given)` on every rank; the tensors it returns on each, in the order of ranks."""
    context, port = get_context("spawn"), free_port()
    ranks = [
        context.Process(target=_run, args=(rank, world, port, folder, work, given)) for rank in range(world)
    ]
    for process in ranks:
        process.start()
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
