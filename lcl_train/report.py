"""What a run tells: metrics.jsonl always, a live panel in a terminal, plain lines elsewhere.

The file is the truth: a line per logged step, cut back to the checkpoint when a run resumes, so that no step
is in it twice. Rates are means since the line before.
"""

import json
import time
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from lcl_train import parallel
from lcl_train.collate import Batch
from lcl_train.flops import Meter

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
}


@dataclass(slots=True)
class _Sums:
    """What was seen since some moment."""

    since: float = field(default_factory=time.perf_counter)
    steps: int = 0
    images: int = 0
    tokens: int = 0
    positions: int = 0
    image_budget: int = 0
    waited_s: float = 0.0
    useful: int = 0
    run: int = 0

    def add(self, batch: Batch, image_budget: int, waited_s: float, flops: tuple[int, int]) -> None:
        self.steps += 1
        self.images += batch.n_images
        self.tokens += batch.n_tokens
        self.positions += len(batch.tokens)
        self.image_budget += image_budget
        self.waited_s += waited_s
        self.useful += flops[0]
        self.run += flops[1]

    def _elapsed(self) -> float:
        return max(time.perf_counter() - self.since, 1e-9)

    def step_s(self) -> float:
        return self._elapsed() / max(self.steps, 1)

    def rates(self, meter: Meter) -> dict[str, float | None]:
        """Of all ranks together; operations per device, to stand beside the peak of one."""
        elapsed = self._elapsed()
        mine = (self.images, self.tokens, self.positions, self.useful, self.run)
        images, tokens, positions, useful, run = parallel.total(mine)
        return {
            "images_per_s": images / elapsed,
            "tokens_per_s": tokens / elapsed,
            "fill": tokens / max(positions, 1),
            "image_fill": images / max(self.image_budget, 1),
            "data_wait": min(self.waited_s / elapsed, 1.0),
            "step_s": self.step_s(),
            **meter.rates(useful // parallel.world(), run // parallel.world(), elapsed),
        }


class Report:
    """The voice of a run; use it as a context manager, so that the panel ends with it.

    Every rank has one, and all call it at the same steps; that of rank 0 speaks and writes.
    """

    def __init__(
        self, file: Path, step: int, steps: int, image_budget: int, meter: Meter, console: Console | None
    ) -> None:
        """Open metrics.jsonl, without the lines after `step`.

        Args:
            file: metrics.jsonl.
            step: steps done before this process.
            steps: of the whole run.
            image_budget: images a batch could hold.
            meter: counts operations, and knows what the device could do.
            console: where people look; None: stderr.
        """
        self.steps, self._image_budget, self._meter = steps, image_budget, meter
        speaks = parallel.is_main()
        self._console = (console or Console(stderr=True)) if speaks else Console(quiet=True)
        self._file = _opened(file, step) if speaks else None
        self._window, self._whole = _Sums(), _Sums()
        self._spoken = 0.0
        is_live = speaks and self._console.is_terminal
        self._live = Live(console=self._console, transient=True) if is_live else None

    def __enter__(self) -> "Report":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        if self._file:
            self._file.close()

    def count(self, batch: Batch, waited_s: float) -> None:
        """Take note of a batch, and of how long the step stood still for it."""
        flops = self._meter.count(batch)
        for sums in (self._window, self._whole):
            sums.add(batch, self._image_budget, waited_s, flops)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Write the line of a step (1-based: steps done) and show it."""
        line: dict[str, Any] = {"step": step, **values, **self._window.rates(self._meter)}
        self._window = _Sums()
        if self._file:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            self._show(step, line)

    def say(self, text: str) -> None:
        """One plain line, above the panel if there is one."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def rates(self) -> dict[str, float | None]:
        """Means over this process, compilation and first steps included."""
        return self._whole.rates(self._meter)

    def _show(self, step: int, line: dict[str, Any]) -> None:
        shown = {name: _formatted(form, line[name]) for name, form in _SHOWN.items() if name in line}
        left_s = (self.steps - step) * self._whole.step_s()
        shown["eta"] = str(timedelta(seconds=round(left_s)))
        if self._live:
            self._live.update(_panel(step, self.steps, shown))
        elif step == self.steps or time.monotonic() - self._spoken > _LINE_EVERY_S:
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


def _opened(file: Path, step: int) -> TextIO:
    """A file to add lines to, with those up to `step` kept; a line torn by a kill goes too."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    kept = [line for line in lines if _step(line) <= step]
    draft = file.with_name(f".tmp-{file.name}")
    draft.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    draft.replace(file)
    return file.open("a", encoding="utf-8")


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
