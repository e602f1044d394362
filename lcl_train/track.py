"""Where the lines of metrics.jsonl go besides: TensorBoard, wandb and trackio, whichever a run asks for.

metrics.jsonl stays the truth; a tracker is a copy for people who look at many runs. Nothing leaves this
machine by itself: wandb runs offline unless WANDB_MODE says otherwise, trackio writes its own database
(TRACKIO_DIR) unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL names a place, and their telemetry is off.

A run that resumes goes on in the same run of every tracker, and no step is told twice. TensorBoard forgets
what came after the checkpoint and is told it anew. wandb and trackio forget nothing: they are told only what
lies beyond the last line that the file ever had.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol, cast, get_args
from uuid import uuid4

from lcl_train.checkpoint import write_text
from schemas.errors import RecipeError

TrackerName = Literal["tensorboard", "wandb", "trackio"]
IDENTITY = "trackers.json"
_WandbMode = Literal["online", "offline", "disabled", "shared"]
_PROJECT = "lcl"
_QUIET = {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "WANDB_ERROR_REPORTING": "false",
}


class Tracker(Protocol):
    """One place beside metrics.jsonl."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the line of a step."""

    def close(self) -> None:
        """Write what is not written yet."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a tracker must know of the run when it opens.

    Attributes:
        folder: of the run.
        id: of the run, made once for its folder.
        config: the run's settings, to be shown beside its curves.
        step: steps done: lines of later steps follow.
        told: the last step that a tracker was ever told of.
    """

    folder: Path
    id: str
    config: dict[str, Any]
    step: int
    told: int


def check(names: Sequence[TrackerName]) -> None:
    """Tell which library is missing, before any work.

    Raises:
        RecipeError: one is not installed.
    """
    for name in names:
        if find_spec(name) is None:
            raise RecipeError(
                f"track: {name} is not installed; install the extra `track` (pip install 'lcl[track]'), "
                f"or leave {name} out"
            )


def identify(folder: Path, config: dict[str, Any], step: int, last: int) -> Origin:
    """The run of this folder, as trackers know it.

    Args:
        folder: of the run; `trackers.json` in it keeps the id and the last step told.
        config: the run's settings.
        step: steps done.
        last: the last step in metrics.jsonl before it was cut back to `step`.
    """
    file = folder / IDENTITY
    if file.exists():
        known: dict[str, Any] = json.loads(file.read_text("utf-8"))
        id, told = known["id"], max(known["told"], last)
    else:  # what the file has so far no tracker was told of
        id, told = uuid4().hex[:8], 0
    write_text(file, json.dumps({"id": id, "told": told}) + "\n")
    return Origin(folder, id, config, step, told)


def open_trackers(names: Sequence[TrackerName], origin: Origin) -> list[Tracker]:
    """Open them in the order of their names.

    Raises:
        RecipeError: one is not installed.
    """
    check(names)
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    kinds: dict[str, Callable[[Origin], Tracker]] = {
        "tensorboard": TensorBoard,
        "wandb": Wandb,
        "trackio": Trackio,
    }
    return [kinds[name](origin) for name in sorted(set(names))]


class TensorBoard:
    """Event files in `tensorboard/` of the run; look with `tensorboard --logdir`."""

    def __init__(self, origin: Origin) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = str(origin.folder / "tensorboard")
        self._writer = SummaryWriter(folder, purge_step=origin.step + 1)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the line of a step; it is on the disk afterwards."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class Wandb:
    """A folder `wandb/offline-run-*` a process, all of one run id; `wandb sync --append` sends them."""

    def __init__(self, origin: Origin) -> None:
        import wandb

        quiet = wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True)
        self._told = origin.told
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=os.environ.get("WANDB_NAME", origin.folder.name),
            id=origin.id,
            dir=origin.folder,
            resume="allow",
            mode=_wandb_mode(),
            config=origin.config,
            settings=quiet,
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the line of a step it was not told of yet."""
        if step > self._told:
            self._run.log(values, step=step)

    def close(self) -> None:
        """Finish this process's part of the run."""
        self._run.finish()


def _wandb_mode() -> _WandbMode:
    asked = os.environ.get("WANDB_MODE") or "offline"
    if asked not in get_args(_WandbMode):
        raise RecipeError(f"WANDB_MODE {asked}: give {', '.join(get_args(_WandbMode))}")
    return cast(_WandbMode, asked)


class Trackio:
    """Rows of a run `<folder>-<id>` in trackio's own database; look with `trackio show --project lcl`."""

    def __init__(self, origin: Origin) -> None:
        import trackio

        self._told, self._finish = origin.told, trackio.finish
        with redirect_stdout(sys.stderr):  # stdout is for the one JSON object of `--json`
            self._run = trackio.init(
                project=_PROJECT,
                name=f"{origin.folder.name}-{origin.id}",
                config=origin.config,
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Take the line of a step it was not told of yet."""
        if step > self._told:
            self._run.log(values, step=step)

    def close(self) -> None:
        """Wait until the rows are written."""
        with redirect_stdout(sys.stderr):
            self._finish()  # type: ignore[no-untyped-call]
