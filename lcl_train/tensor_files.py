"""Tensors on the way to a safetensors file and back; what goes wrong there is told by its kind of error."""

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lcl_train import parallel
from schemas.errors import CheckpointError


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, on rank 0; the others only take part in gathering them, one at a time."""
    held = {}
    for name, tensor in tensors.items():
        whole = parallel.whole(tensor.detach())
        if parallel.is_main():
            held[name] = whole.cpu().contiguous()
    return held


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a safetensors file.

    Raises:
        OSError: the disk is full or gone; nothing of the file is left.
    """
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        path.unlink(missing_ok=True)
        found = re.search(r"os error (\d+)", str(error))
        code = int(found[1]) if found else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        CheckpointError: it is torn, or no such file.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: torn, or no safetensors file ({error}); take an earlier checkpoint"
        ) from error
