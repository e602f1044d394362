"""Arguments and options of the commands, told once; and the console and engine that they ask for."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lcl_data.files import place
from schemas.errors import RecipeError

if TYPE_CHECKING:
    from lcl_data import engine as engines
    from pipelines.console import Console

# Every path of the data commands may lie in object storage: `place` makes it, on this machine or there.
Source = Annotated[
    Path, typer.Argument(parser=place, help="File or folder of the dump, as it was published.")
]
Documents = Annotated[
    Path, typer.Argument(parser=place, help="Stage folder with documents (of ingest, filter or dedupe).")
]
Out = Annotated[
    Path,
    typer.Argument(parser=place, help="Folder to fill; new, empty, or of an earlier run of this command."),
]
OutOrNone = Annotated[
    Path | None, typer.Argument(parser=place, help="As for other stages; not needed with --report.")
]
Scores = Annotated[
    list[Path],
    typer.Option(
        "--scores",
        parser=place,
        metavar="PATH",
        help="Table of model scores (Parquet, CSV, JSON Lines), or a folder of them, for the filter score; "
        "repeat. Columns: name, value, and one of key, sha256, url, document_id.",
    ),
]
Report = Annotated[
    bool, typer.Option("--report", help="Write nothing: show what each filter would drop, and its facts.")
]
Images = Annotated[
    Path | None,
    typer.Option("--images", parser=place, metavar="PATH", help="Image store: OUT of `lcl download`."),
]
Workers = Annotated[int, typer.Option("--workers", "-w", min=0, help="Processes; 0 means one per core.")]
Engine = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Where the work runs: processes of this machine, or tasks of a Ray cluster."),
]
RayAddress = Annotated[
    str, typer.Option(help="host:port of the cluster; empty: RAY_ADDRESS, or one on this machine.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do nothing: say which stages would run, and why.")]
Plan = Annotated[
    bool, typer.Option("--plan", help="Do not train: show what it would take, from a few measured steps.")
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", help="Write a page: the curves of a run, the first rows of shards."
    ),
]
RowsOf = Annotated[
    str, typer.Option("--preset", help="Of the rows of --html: nano, tiny, small, base, base32 or large.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout at the end.")]
Set = Annotated[
    list[str],
    typer.Option(
        "--set", help="A setting, as name.of.setting=value; repeat. Their names: schemas/json/recipe.json."
    ),
]
Store = Annotated[Path, typer.Argument(parser=place, help="Image store: OUT of `lcl download`.")]
Retry = Annotated[bool, typer.Option(help="Fetch again only what failed and may yet succeed.")]
Folder = Annotated[
    Path, typer.Argument(parser=place, help="Any folder of ours: a stage's, a run's, a work folder.")
]
Stages = Annotated[Path, typer.Argument(parser=place, help="A stage folder, or a folder of stage folders.")]
Shards = Annotated[
    list[Path], typer.Argument(parser=place, help="Training shards: OUT of `lcl shard`, once or more.")
]
Id = Annotated[
    str,
    typer.Option("--id", help="Show what begins so: a document in reading order; of a store, a key or URL."),
]
Labelled = Annotated[
    Path, typer.Argument(help="Folder of classes: train/<class>/*.jpg and val/<class>/*.jpg.")
]


def _members(folder: str, ending: str = ".*") -> str:
    """The members of a folder by the names of its files, so that help imports no engine."""
    files = (Path(__file__).parents[1] / folder).glob(f"[a-z]*{ending}")
    return ", ".join(sorted(path.stem for path in files))


Format = Annotated[
    str, typer.Argument(help=f"Of the source: {_members('lcl_data/sources')}; or package.module:Class.")
]
RecipeName = Annotated[
    Path, typer.Argument(help=f"A YAML recipe, or the name of one of ours: {_members('pipelines', '.yaml')}.")
]
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
Objective = Annotated[
    str, typer.Option(help=f"lcl, or one of its rivals. Members: {_members('lcl_train/objectives')}.")
]


def start(
    as_json: bool, workers: int = 1, engine: str = "local", ray_address: str = ""
) -> "tuple[Console, engines.Engine]":
    """The console and the engine that the options of a command ask for. Called before a command imports what
    it runs: workers import at the same time.

    Raises:
        RecipeError: an address of a cluster, and no engine that goes there.
    """
    from lcl_data import engine as engines
    from pipelines.console import Console

    if ray_address and engine != "ray":
        raise RecipeError(f"--ray-address {ray_address}: only --engine ray goes there; name both")
    console = Console(as_json)
    where = engines.Engine(workers, console.progress)
    if engine == "ray":
        where = engines.RayEngine(workers, console.progress, ray_address)
        # Ray prints words of its own; the console keeps stdout for the one JSON object
        sys.stdout = sys.stderr
    else:
        where.warm()
    from lcl_data.no_pandas import keep_pandas_out

    keep_pandas_out()
    return console, where
