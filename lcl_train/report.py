"""What a run tells: metrics.jsonl always, a live panel in a terminal, plain lines elsewhere, and trackers.

The file is the truth: a line per logged step, cut back to the checkpoint when a run resumes, so that no step
is in it twice. Rates are means since the line before, of all ranks together; only rank 0 speaks and writes.
"""

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from lcl_train import parallel, track
from lcl_train.checkpoint import write_text
from lcl_train.collate import Batch
from lcl_train.flops import Meter
from lcl_train.settings import Train

METRICS = "metrics.jsonl"
_LINE_EVERY_S = 10.0
_SHOWN: dict[str, str] = {
    "loss/total": "{:.4f}",
    "loss/generation": "{:.4f}",
    "loss/contrastive": "{:.4f}",
    "loss/recall_at_1": "{:.1%}",
    "lr": "{:.2e}",
    "grad_norm": "{:.2f}",
    "images_per_s": "{:,.0f}",
    "tokens_per_s": "{:,.0f}",
    "fill": "{:.1%}",
    "image_fill": "{:.1%}",
    "data_wait": "{:.1%}",
    "mfu": "{:.1%}",
    "memory_gb": "{:.1f}",
    "val/total": "{:.4f}",
    "val/recall_at_1": "{:.1%}",
}


@dataclass(slots=True)
class _Sums:
    """What this rank saw since some moment."""

    since: float = field(default_factory=time.perf_counter)
    steps: int = 0
    images: int = 0
    tokens: int = 0
    positions: int = 0
    waited_s: float = 0.0
    useful: int = 0
    run: int = 0

    def add(self, batch: Batch, flops: tuple[int, int]) -> None:
        self.images += batch.n_images
        self.tokens += batch.n_tokens
        self.positions += len(batch.tokens)
        self.useful += flops[0]
        self.run += flops[1]

    def step_s(self) -> float:
        return max(time.perf_counter() - self.since, 1e-9) / max(self.steps, 1)

    def rates(self, settings: Train, meter: Meter) -> dict[str, float | None]:
        """Of all ranks together, operations of one; each rank must ask."""
        elapsed = self.step_s() * max(self.steps, 1)
        mine = [self.images, self.tokens, self.positions, self.waited_s, self.useful, self.run]
        images, tokens, positions, waited_s, useful, run = _over_ranks(mine)
        budget = max(self.steps, 1) * settings.rows * settings.pack.row_images
        ranks = parallel.world()
        return {
            "images_per_s": images / elapsed,
            "tokens_per_s": tokens / elapsed,
            "fill": tokens / max(positions, 1),
            "image_fill": images / budget,
            "data_wait": min(waited_s / elapsed / ranks, 1.0),
            "step_s": self.step_s(),
            "memory_gb": memory_gb(),
            **meter.rates(round(useful / ranks), round(run / ranks), elapsed),
        }


def _over_ranks(numbers: Sequence[float]) -> list[float]:
    return [float(number) for number in parallel.all_sum(torch.tensor(numbers, dtype=torch.float64))]


def memory_gb() -> float:
    """The most that this process had: of the GPU's memory if it uses one, else of the machine's."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class Report:
    """The voice of a run; use it as a context manager, so that the panel ends with it.

    Every rank has one, and all call it at the same steps; that of rank 0 speaks and writes.

    Attributes:
        steps: of the whole run.
        losses: as logged last, by whatever process of the run.
    """

    def __init__(
        self, out: Path, settings: Train, meter: Meter, steps: tuple[int, int], console: Console | None
    ) -> None:
        """Open metrics.jsonl, without the lines after the steps done, and the trackers.

        Args:
            out: folder of the run.
            settings: of the run.
            meter: counts operations, and knows what the device could do.
            steps: done before this process, and of the whole run.
            console: where people look; None: stderr.

        Raises:
            RecipeError: a tracker is not installed.
        """
        self._settings, self._meter = settings, meter
        done, self.steps = steps
        self._speaks = parallel.is_main()
        self._console = (console or Console(stderr=True)) if self._speaks else Console(quiet=True)
        self._window, self._whole, self._spoken = _Sums(), _Sums(), 0.0
        self._live = Live(console=self._console, transient=True) if self._console.is_terminal else None
        self._held: dict[str, float] = {}
        self._trackers: list[track.Tracker] = []
        kept, last = _told(out / METRICS, done)
        self.losses = _losses(json.loads(kept[-1])) if kept else {}
        if self._speaks:
            write_text(out / METRICS, "".join(f"{line}\n" for line in kept))
            self._file = (out / METRICS).open("a", encoding="utf-8")
            if settings.track:
                origin = track.identify(out, settings.model_dump(mode="json"), done, last)
                self._trackers = track.open_trackers(settings.track, origin)

    def __enter__(self) -> "Report":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as closing:  # all are closed, whichever fails
            if self._live:
                closing.callback(self._live.stop)
            if self._speaks:
                closing.callback(self._file.close)
            for tracker in self._trackers:
                closing.callback(tracker.close)

    def count(self, batches: Sequence[Batch], waited_s: float) -> None:
        """Take note of the batches of a step, and of how long it stood still for them."""
        counted = [(batch, self._meter.count(batch)) for batch in batches]
        for sums in (self._window, self._whole):
            sums.steps += 1
            sums.waited_s += waited_s
            for batch, flops in counted:
                sums.add(batch, flops)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Time that is no training and counts in no rate."""
        began = time.perf_counter()
        yield
        for sums in (self._window, self._whole):
            sums.since += time.perf_counter() - began

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write the line of a step (1-based: steps done) and show it; every rank calls it."""
        line: dict[str, Any] = {"step": step, **values, **self._window.rates(self._settings, self._meter)}
        self._window, self.losses = _Sums(), _losses(values)
        if not self._speaks:
            return
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        known = {name: value for name, value in line.items() if value is not None and name != "step"}
        for tracker in self._trackers:
            tracker.log(step, known)
        self._show(step, line)

    def say(self, text: str) -> None:
        """One plain line, above the panel if there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def rates(self) -> dict[str, float | None]:
        """Means over this process, compilation and first steps included; None where it made no step."""
        found = self._whole.rates(self._settings, self._meter)
        return found if self._whole.steps else dict.fromkeys(found)

    def _show(self, step: int, line: dict[str, Any]) -> None:
        self._held |= {name: value for name, value in line.items() if name.startswith("val/")}
        seen = {**self._held, **line} if self._live else line  # the panel keeps what was found last
        shown = {name: _formatted(form, seen[name]) for name, form in _SHOWN.items() if name in seen}
        left_s = (self.steps - step) * self._whole.step_s()
        shown["eta"] = str(timedelta(seconds=round(left_s)))
        if self._live:
            self._live.update(_panel(step, self.steps, shown))
        elif step == self.steps or time.monotonic() - self._spoken > _LINE_EVERY_S or "val/total" in line:
            self._spoken = time.monotonic()
            facts = " · ".join(f"{name.removeprefix('loss/')} {value}" for name, value in shown.items())
            self.say(f"step {step}/{self.steps} · {facts}")


def _formatted(form: str, value: float | None) -> str:
    return "n/a" if value is None else form.format(value)


def _panel(step: int, steps: int, shown: dict[str, str]) -> Panel:
    table = Table.grid(padding=(0, 2))
    for _ in range(4):
        table.add_column()
    cells = [cell for name, value in shown.items() for cell in (f"[dim]{name}[/]", f"[bold]{value}[/]")]
    for start in range(0, len(cells), 4):
        table.add_row(*cells[start : start + 4])
    return Panel(table, title=f"step {step}/{steps}", expand=False)


def _told(file: Path, step: int) -> tuple[list[str], int]:
    """The lines up to `step`, without one torn by a kill, and the last step that there is a line of."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    steps = [_step(line) for line in lines]
    kept = [line for line, at in zip(lines, steps, strict=True) if at is not None and at <= step]
    return kept, max((at for at in steps if at is not None), default=0)


def _losses(line: dict[str, Any]) -> dict[str, float]:
    return {name.removeprefix("loss/"): v for name, v in line.items() if name.startswith("loss/")}


def _step(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
