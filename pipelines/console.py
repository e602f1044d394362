"""What a person sees: progress bars in a terminal or plain lines, on stderr; one JSON object on stdout.

Rich is imported when something is drawn, never at start-up.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from schemas.manifest import Count, Manifest

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_LINE_EVERY_S = 10.0


@dataclass
class Console:
    """One command's voice.

    Attributes:
        as_json: print the result as one JSON object on stdout at the end.
        is_mute: say nothing, because another process speaks for this one.
    """

    as_json: bool = False
    is_mute: bool = False
    _out: TextIO = field(default_factory=lambda: sys.stdout)
    _bars: "RichProgress | None" = None
    _tasks: "dict[str, TaskID]" = field(default_factory=dict)
    _spoken: dict[str, float] = field(default_factory=dict)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Show that `done` of `total` units of a stage are finished."""
        if sys.stderr.isatty():
            self._bar(stage, done, total)
        elif done == total or time.monotonic() - self._spoken.get(stage, 0.0) > _LINE_EVERY_S:
            self._spoken[stage] = time.monotonic()
            self.say(f"{stage}: {done}/{total}")

    def say(self, line: str) -> None:
        """Print one line for a person."""
        self.rich.print(line, markup=False, highlight=False, soft_wrap=True)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table for a person, brackets as they are; columns after the first are set right."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title), title_justify="left")
        for index, name in enumerate(header):
            table.add_column(Text(name), justify="right" if index else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(value)) for value in row))
        self.rich.print(table)

    def ledger(self, manifest: Manifest) -> None:
        """Show what a stage read, kept and rejected, and its notes."""
        self.stop()
        counts = {kind: count for kind, count in manifest.ledger if isinstance(count, Count) and count.read}
        if counts:
            self.table(manifest.stage, ("", "read", "kept", "rejected"), _ledger_rows(counts))
        for note in manifest.notes:
            self.say(f"note: {note}")

    def failures(self, failed: dict[str, str]) -> None:
        """Name what failed, and why."""
        for name, error in failed.items():
            self.say(f"FAILED {name}: {error}")

    def manifest(self, manifest: Manifest) -> int:
        """Show a finished stage; returns the exit code, 1 where units failed."""
        self.ledger(manifest)
        self.failures(manifest.failed)
        self.result(manifest.model_dump(exclude={"shards", "settings", "inputs"}, exclude_none=True))
        return 1 if manifest.failed else 0

    def result(self, value: dict[str, Any]) -> None:
        """Print the one JSON object, if asked for."""
        if self.as_json and not self.is_mute:
            self._out.write(json.dumps(value, sort_keys=True) + "\n")

    def stop(self) -> None:
        """End the progress bars, so that plain output can follow."""
        if self._bars:
            self._bars.stop()
        self._bars, self._tasks = None, {}

    @property
    def rich(self) -> "RichConsole":
        """Where people read: stderr."""
        from rich.console import Console as RichConsole

        if self._bars:
            return self._bars.console
        return RichConsole(stderr=True, quiet=self.is_mute, width=None if sys.stderr.isatty() else 120)

    def _bar(self, stage: str, done: int, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bars is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bars = Progress(*columns, console=self.rich)
            self._bars.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)


def _ledger_rows(counts: dict[str, Count]) -> list[tuple[object, ...]]:
    """A ledger as table rows: one per kind, and one per reason below it."""
    rows: list[tuple[object, ...]] = []
    for kind, count in counts.items():
        rows.append((kind, count.read, count.kept, sum(count.rejected.values())))
        rows.extend((f"  {reason}", "", "", number) for reason, number in count.rejected.items())
        rows.extend(
            (f"  changed by {name}", "", number, "") for name, number in (count.changed or {}).items()
        )
    return rows


def _cell(value: object) -> str:
    if value is None:
        return "n/a"
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
