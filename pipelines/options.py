"""Arguments and options that several commands share, told once."""

from pathlib import Path
from typing import Annotated

import typer

Documents = Annotated[Path, typer.Argument(help="Stage folder with documents (of ingest, filter or dedupe).")]
Out = Annotated[
    Path, typer.Argument(help="Folder to fill; new, empty, or of an earlier run of this command.")
]
Images = Annotated[Path | None, typer.Option("--images", help="Image store: OUT of `lcl download`.")]
Workers = Annotated[int, typer.Option("--workers", "-w", help="Processes; 0 means one per core.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout at the end.")]
Set = Annotated[
    list[str], typer.Option("--set", help="A setting, as name.of.setting=value; may be repeated.")
]
Members = Annotated[
    list[str],
    typer.Option("--use", "-u", help="A member and its settings, as name or 'name: {a: b}'; repeat."),
]
