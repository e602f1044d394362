"""The training loop: shards in, a vision encoder out; stopped at any moment it resumes, on a CPU bit-exactly.

A run is a folder: settings.json, metrics.jsonl and checkpoints/step-NNNNNNNN.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from lcl_data.shards import Shards
from lcl_train import checkpoint, parallel, track
from lcl_train.devices import find_device
from lcl_train.model import LCLModel
from lcl_train.report import Report
from lcl_train.run import CHECKPOINTS, Run, find_objective
from lcl_train.settings import Train
from lcl_train.task import Task


def train(
    shards: str | Path | Iterable[str | Path],
    out: Path,
    settings: Train,
    resume: str | Path = "auto",
    console: Console | None = None,
    begin: Callable[[], object] | None = None,
) -> dict[str, Any]:
    """Pre-train a vision encoder; SIGTERM or Ctrl-C saves and returns. Under torchrun every rank calls it.

    Args:
        shards: folder or folders of training shards.
        out: folder of the run.
        settings: all that decides it.
        resume: auto (the newest checkpoint of `out`, else begin), never, or the path of a checkpoint; what
            `out` holds of later steps goes then.
        console: where people look; None: stderr.
        begin: called by rank 0 before the first step, when nothing can be refused any more.

    Returns:
        `step`, `steps`, `is_finished`, `checkpoint` (below `out`), `parameters`, the last `losses`, and the
        `rates` since this call: None where there was no step to do.

    Raises:
        RecipeError: settings that do not fit, or `never` where a run stands already.
        ShardError: shards that are unfinished, torn, or hold an unreadable picture.
        CheckpointError: a checkpoint that is torn, or of another network or other shards.
        LclError: the loss is no number any more.
    """
    track.check(settings.track)
    with parallel.joined(parallel.own_device(find_device(settings.device))):
        run = Run(Shards(shards), out, settings)
        run.resume(resume)
        if begin is not None and parallel.is_main():
            begin()
        report = Report(out, settings, run.meter, (run.step, run.steps), console)
        with report, _asked_to_stop() as stop:
            report.say(run.describe())
            if run.changes:
                report.say(f"goes on under other settings: {'; '.join(run.changes)}")
            _walk(run, report, stop)
            return {
                "step": run.step,
                "steps": run.steps,
                "is_finished": run.step >= run.steps,
                "checkpoint": checkpoint.locate(out / CHECKPOINTS).relative_to(out).as_posix(),
                "parameters": run.parameters,
                "losses": report.losses,
                "rates": report.rates(),
            }


def check(settings: Train) -> None:
    """Tell what of a run is wrong whatever its shards hold; no weight is made.

    Raises:
        RecipeError: no such preset, size, objective, device or tracker, or settings at odds with one another.
    """
    find_device(settings.device)
    track.check(settings.track)
    objective, sizes = find_objective(settings), settings.model_settings(1)
    with torch.device("meta"):
        Task(LCLModel(sizes, objective.heads(sizes)), objective)


def _walk(run: Run, report: Report, stop: threading.Event) -> None:
    """Step to the end, or until a rank is asked to stop; log and save on the way, and at the end."""
    settings, saved_at, saved_step, is_stopped = run.settings, time.monotonic(), run.step, False
    with closing(iter(run.loader)) as batches:
        while run.step < run.steps and not is_stopped:
            asked_at = time.perf_counter()
            step = [next(batches) for _ in range(settings.accumulate)]
            report.count(step, time.perf_counter() - asked_at)
            is_due = parallel.is_main() and time.monotonic() - saved_at > 60 * settings.save_every_minutes
            is_stopped, is_due = map(bool, parallel.total([stop.is_set(), is_due]))  # all ranks do the same
            taken = run.advance(*step)
            is_asked = run.step % settings.validate_every_steps == 0 or run.step == run.steps
            is_best = False
            if is_asked or run.step % settings.log_every == 0:
                told = run.measure(taken)
                if is_asked:
                    with report.aside():
                        told |= run.validate()
                    is_best = run.judge(told)
                report.log(run.step, told)
            if run.step % settings.save_every_steps == 0 or is_due or is_best:
                run.save()
                saved_at, saved_step = time.monotonic(), run.step
    if run.step > saved_step or run.step == 0:
        run.save()
    if is_stopped and run.step < run.steps:
        report.say(f"stopped and saved at step {run.step}; the same command goes on from there")


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM or Ctrl-C sets, where signals can be caught: in the main thread.

    Ctrl-C once more interrupts at once, as ever.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(*_: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in before:
        signal.signal(number, stop)
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
