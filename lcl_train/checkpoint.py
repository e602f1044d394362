"""Checkpoints: a folder per step, tensors in safetensors, all else in JSON; nothing pickled is ever loaded.

A folder is written under a temporary name and renamed when it is on the disk, so one that has its name is
whole. It holds whole tensors under the names of parameters, whatever wrote it: sharded ones are gathered one
at a time, and rank 0 writes. So a run moves between one process, DDP and FSDP2. torch.distributed.checkpoint
is not used: its folders hold a pickled `.metadata`. All ranks must see the folder.
"""

import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from lcl_train import parallel
from lcl_train.presets import ModelSettings
from lcl_train.step_folders import TEMPORARY, checkpoints, named, remove, sweep
from lcl_train.tensor_files import on_host, read_tensors, write_tensors
from schemas.errors import CheckpointError
from schemas.overrides import differences

VERSION = 1
_MODEL, _TRAINING, _STATE = "model.safetensors", "training.safetensors", "state.json"
_AVERAGES = "averages.safetensors"  # only of runs that keep them
_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt"}


class Best(BaseModel):
    """The checkpoint of a run that did best so far: its step, and by what measure."""

    model_config = ConfigDict(extra="forbid")
    step: int
    metric: str
    value: float


class State(BaseModel):
    """What a checkpoint holds besides tensors.

    Attributes:
        version: of this layout.
        step: optimiser steps done.
        settings: the run's settings in full.
        model: the sizes of the network.
        specials: the special token ids of the shards it was trained on.
        loader: where the loader stood.
        versions: of the libraries that wrote it, for the curious.
        best: the best checkpoint up to this one; None while none was judged.
    """

    model_config = ConfigDict(extra="forbid")
    version: int = VERSION
    step: int
    settings: dict[str, Any]
    model: ModelSettings
    specials: dict[str, int]
    loader: dict[str, Any]
    versions: dict[str, str]
    best: Best | None = None


def save(
    folder: Path,
    state: State,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    keep_last: int,
    averages: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write `folder/step-NNNNNNNN` atomically, then remove all but the newest `keep_last` and the best.

    All ranks call it, and none goes on before the checkpoint stands.

    Raises:
        OSError: the disk is full or gone; the checkpoints before it stay.
    """
    path = named(folder, state.step)
    tensors = {_MODEL: model.state_dict(), _TRAINING: {**_optimizer_tensors(model, optimizer), **_rng()}}
    if averages is not None:
        tensors[_AVERAGES] = dict(averages)
    gathered = ((name, on_host(each)) for name, each in tensors.items())
    if parallel.is_main():
        _write(path, state, gathered)
        best = state.best and named(folder, state.best.step)
        remove(old for old in checkpoints(folder)[:-keep_last] if old != best)
    else:
        deque(gathered, maxlen=0)
    parallel.barrier()
    return path


def _write(path: Path, state: State, files: Iterable[tuple[str, dict[str, Tensor]]]) -> None:
    folder = path.parent
    draft = folder / f"{TEMPORARY}{path.name}"
    sweep(folder)
    draft.mkdir(parents=True)
    try:
        for name, tensors in files:
            write_tensors(draft / name, tensors)
        (draft / _STATE).write_text(state.model_dump_json(indent=1))
    except OSError:  # a full disk: what is half-written must not fill it further
        shutil.rmtree(draft)
        raise
    for file in draft.glob("*.safetensors"):  # safetensors makes files that only their owner may read
        file.chmod((draft / _STATE).stat().st_mode)
    for file in [*draft.iterdir(), draft]:
        _sync(file)
    if path.exists():  # a run that was set back to an earlier step gets here again
        remove([path])
    draft.rename(path)
    _sync(folder)


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    draft = path.with_name(f"{TEMPORARY}{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def locate(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the newest of a run's folder, or `RUN/best`.

    Raises:
        CheckpointError: there is none, or it is a pickle.
    """
    if path.suffix in _PICKLES or (path.is_dir() and any(f.suffix in _PICKLES for f in path.iterdir())):
        raise CheckpointError(
            f"{path}: a pickle, which runs code when it is loaded; give a checkpoint folder of LCL"
        )
    if path.name == "best" and not path.exists():
        return _best_of(locate(path.parent))
    found = [path] if (path / _STATE).is_file() else checkpoints(path) or checkpoints(path / "checkpoints")
    if not found:
        raise CheckpointError(f"{path}: no checkpoint ({_STATE}, {_MODEL}) in it; give the folder of a run")
    return found[-1]


def _best_of(newest: Path) -> Path:
    best = read_state(newest).best
    if best is None or not named(newest.parent, best.step).exists():
        raise CheckpointError(f"{newest.parent}: knows no best checkpoint; give the folder of the run itself")
    return named(newest.parent, best.step)


def read_state(path: Path) -> State:
    """The state of a checkpoint folder.

    Raises:
        CheckpointError: it is torn, foreign, or of a newer LCL.
    """
    try:
        values = json.loads((path / _STATE).read_bytes())
        if values.get("version", 0) > VERSION:
            raise CheckpointError(
                f"{path}: layout {values['version']}, this LCL reads up to {VERSION}; upgrade lcl"
            )
        return State.model_validate(values)
    except (OSError, ValueError, AttributeError, ValidationError) as error:
        raise CheckpointError(
            f"{path / _STATE}: not the state of a checkpoint ({error}); take an earlier one"
        ) from error


def read_model(path: Path, prefixes: tuple[str, ...] = ("",), best: bool = False) -> dict[str, Tensor]:
    """The weights of a checkpoint whose names begin with one of `prefixes`; `best`: those of `best_weights`.

    Raises:
        CheckpointError: the file is torn or no safetensors file.
    """
    tensors = read_tensors(best_weights(path) if best else path / _MODEL)
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}


def read_averages(path: Path) -> dict[str, Tensor]:
    """The averaged weights of a checkpoint; empty where the run keeps none.

    Raises:
        CheckpointError: the file is torn or no safetensors file.
    """
    return read_tensors(path / _AVERAGES) if (path / _AVERAGES).exists() else {}


def best_weights(path: Path) -> Path:
    """The file that evals take: the averages if the run keeps them, else the weights."""
    return path / (_AVERAGES if (path / _AVERAGES).exists() else _MODEL)


def restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, sizes: ModelSettings) -> State:
    """Put model, optimiser and random generators where the checkpoint left them; return its state.

    Raises:
        CheckpointError: it is torn, or of another optimiser or other sizes, which are named.
    """
    state = read_state(path)
    if differing := differences(state.model.model_dump(), sizes.model_dump()):
        raise CheckpointError(
            f"{path}: of another network: {'; '.join(differing)}; use its settings or a new folder"
        )
    was, is_now = state.settings["optimizer"]["name"], type(optimizer).__name__.lower()
    if was != is_now:
        raise CheckpointError(
            f"{path}: optimizer.name was {was}, is {is_now}; restore it or take a new folder"
        )
    load_weights(model, read_model(path), path)
    training = read_tensors(path / _TRAINING)
    try:
        for name, parameter in model.named_parameters():
            keys = [key for key in training if key.startswith(f"{name}/")]
            optimizer.state[parameter] = {
                key.rpartition("/")[2]: parallel.laid_out(training[key], parameter) for key in keys
            }
        torch.set_rng_state(training["rng/cpu"])
        if torch.cuda.is_available() and "rng/cuda" in training:
            torch.cuda.set_rng_state(training["rng/cuda"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{path / _TRAINING}: incomplete ({error}); take an earlier checkpoint"
        ) from error
    return state


def load_weights(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Copy weights into a module that has exactly these.

    Raises:
        CheckpointError: names or shapes differ.
    """
    shapes = module.state_dict()
    fitting = {
        name: parallel.laid_out(w, shapes[name]) if name in shapes else w for name, w in weights.items()
    }
    try:
        module.load_state_dict(fitting)
    except RuntimeError as error:
        raise CheckpointError(f"{path / _MODEL}: does not fit the network: {error}") from error


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`<parameter>/<quantity>`: names survive where the optimiser's own numbers of parameters would not."""
    return {
        f"{name}/{quantity}": value
        for name, parameter in model.named_parameters()
        for quantity, value in optimizer.state[parameter].items()
    }


def _rng() -> dict[str, Tensor]:
    cuda = {"rng/cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {}
    return {"rng/cpu": torch.get_rng_state(), **cuda}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
