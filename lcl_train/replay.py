"""Tries a step again that went wrong: its batch through the weights of before, and where it first breaks."""

import json
import math
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from lcl_train import accumulate, checkpoint
from lcl_train.guard import FACTS, WEIGHTS, kept_batches
from lcl_train.model import LCLModel
from lcl_train.presets import ModelSettings
from lcl_train.run import find_objective
from lcl_train.settings import Train
from lcl_train.task import Task


def replay(folder: Path) -> dict[str, Any]:
    """Forward and backward of kept batches, on this machine's CPU and in the precision of the run.

    Args:
        folder: `nan-step-NNNNNNNN/rank-N` of a run.

    Returns:
        `weights`: the file they came from: those of before the step or, where these could not be held, the
        newest checkpoint's; `values`: losses and `grad_norm`; `first`: the module whose output is the
        first with something that is no number, or None.

    Raises:
        CheckpointError: the weights are torn, or there are none.
    """
    facts = json.loads((folder / FACTS).read_bytes())
    settings, sizes = Train.model_validate(facts["settings"]), ModelSettings.model_validate(facts["model"])
    objective = find_objective(settings)
    task = Task(LCLModel(sizes, objective.heads(sizes)), objective)
    own = folder.parent / "rank-0" / WEIGHTS  # the only one who keeps them
    where = own if own.exists() else checkpoint.locate(folder.parents[1])
    weights = load_file(own) if own.exists() else checkpoint.read_model(where)
    checkpoint.load_weights(task.model, weights, where)
    broken: list[str] = []
    for name, module in task.model.named_modules():
        module.register_forward_hook(lambda _, __, made, name=name: broken.extend([name] * _is_broken(made)))
    loss = accumulate.backward(task, task, kept_batches(folder), facts["is_half"])
    norm = nn.utils.clip_grad_norm_(task.parameters(), math.inf)
    values = {f"loss/{name}": value.item() for name, value in loss.parts.items()}
    values["grad_norm"] = norm.item()
    return {"weights": str(where), "values": values, "first": next(iter(broken), None)}


def _is_broken(made: Any) -> bool:
    tensors = made if isinstance(made, tuple) else (made,)
    return any(isinstance(each, Tensor) and not each.isfinite().all() for each in tensors)
