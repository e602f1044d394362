"""Arguments and options of the commands, told once."""

from pathlib import Path
from typing import Annotated

import typer

Documents = Annotated[Path, typer.Argument(help="Stage folder with documents (of ingest, filter or dedupe).")]
Out = Annotated[
    Path, typer.Argument(help="Folder to fill; new, empty, or of an earlier run of this command.")
]
OutOrNone = Annotated[Path | None, typer.Argument(help="As for other stages; not needed with --report.")]
Scores = Annotated[
    list[Path],
    typer.Option(
        "--scores",
        help="Table of model scores (Parquet, CSV, JSON Lines), or a folder of them, for the filter score; "
        "repeat. Columns: name, value, and one of key, sha256, url, document_id.",
    ),
]
Report = Annotated[
    bool, typer.Option("--report", help="Write nothing: show what each filter would drop, and its facts.")
]
Images = Annotated[Path | None, typer.Option("--images", help="Image store: OUT of `lcl download`.")]
Workers = Annotated[int, typer.Option("--workers", "-w", help="Processes; 0 means one per core.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout at the end.")]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", help="A setting, as name.of.setting=value; repeat. Their names: schemas/json/recipe.json."
    ),
]
Store = Annotated[Path, typer.Argument(help="Image store: OUT of `lcl download`.")]
Retry = Annotated[bool, typer.Option(help="Fetch again only what failed and may yet succeed.")]
Folder = Annotated[Path, typer.Argument(help="Any folder of ours: a stage's, a run's, a work folder.")]
Id = Annotated[
    str,
    typer.Option("--id", help="Show what begins so: a document in reading order; of a store, a key or URL."),
]
Labelled = Annotated[
    Path, typer.Argument(help="Folder of classes: train/<class>/*.jpg and val/<class>/*.jpg.")
]
RecipeName = Annotated[
    Path, typer.Argument(help="A YAML recipe, or the name of one of ours: mmc4, obelics, demo.")
]


def _members(folder: str) -> str:
    """The members of a folder by the names of its files, so that help imports no engine."""
    files = (Path(__file__).parents[1] / folder).glob("[a-z]*.*")
    return ", ".join(sorted(path.stem for path in files))


_USE = "As name or 'name: {setting: value}'; repeat. Settings: schemas/json/recipe.json. Members:"
Filters = Annotated[
    list[str],
    typer.Option(
        "--use",
        "-u",
        help=f"{_USE} {_members('lcl_data/filters')}.",
    ),
]
Rules = Annotated[
    list[str],
    typer.Option(
        "--use",
        "-u",
        help=f"{_USE} {_members('lcl_data/dedupe')}. Where nothing is named: exact_document, same_url, "
        "same_image_bytes.",
    ),
]
_PRESET = (
    f"Of a published pipeline: {_members('pipelines/presets')}. --use lays its settings over it, or adds."
)
FilterPreset = Annotated[list[str], typer.Option("--preset", help=_PRESET)]
RulePreset = Annotated[list[str], typer.Option("--preset", help=_PRESET)]
Evals = Annotated[list[str], typer.Option("--use", "-u", help=f"{_USE} {_members('lcl_train/evals')}.")]
