"""The `lcl` command: each command parses, calls one function and shows what it returned.

Everything heavy is imported inside the command that needs it, so that `lcl --help` answers at once.
Exit codes: 0 done; 1 not whole: shards failed (named; the rest is complete) or the training was stopped;
2 wrong usage or recipe.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines import options
from schemas.errors import CheckpointError, LclError, RecipeError

if TYPE_CHECKING:
    from lcl_data.engine import Engine
    from pipelines.console import Console

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it would eat [brackets]
    help="""From dumps of interleaved image-text documents to a pre-trained vision encoder.

    The road: ingest, download, filter, dedupe, shard, train, eval. Every stage reads folders and fills one:
    shards, a manifest with its ledger (read = kept + rejected), and a table of what it rejected and why.
    A killed command is simply run again: it goes on at the shard it was writing.

    First time here? `lcl demo` walks the whole road in about three minutes, offline.""",
)
tokenizer = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Train a tokenizer on documents.")
app.add_typer(tokenizer, name="tokenizer")


@app.command()
def ingest(
    format: Annotated[str, typer.Argument(help="Of the source: mmc4 or obelics.")],
    src: Annotated[Path, typer.Argument(help="File or folder of the dump, as it was published.")],
    out: options.Out,
    workers: options.Workers = 0,
    settings: options.Set = [],  # noqa: B006 - typer copies it
    as_json: options.Json = False,
) -> None:
    """Turn a source dump into documents. Nothing upstream is lost; what cannot be read is counted and named.

    Example: lcl ingest mmc4 downloads/mmc4/ work/documents
    """
    from lcl_data.ingest import Ingest
    from lcl_data.ingest import ingest as run
    from schemas.overrides import nested, settle

    console, engine = _start(workers, as_json)
    step = settle(Ingest, {"format": format, **nested(settings)})
    raise typer.Exit(console.manifest(run(src, out, step, engine)))


@app.command()
def download(
    docs: options.Documents,
    out: options.Out,
    retry_failed: options.Retry = False,
    backend: Annotated[str, typer.Option(help="lcl, or img2dataset (needs the extra of that name).")] = "lcl",
    allow_private: Annotated[bool, typer.Option(help="Permit private and loopback addresses.")] = False,
    workers: options.Workers = 0,
    settings: options.Set = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Fetch the pictures of documents into an image store (img2dataset's layout). Every distinct URL once.

    Example: lcl download work/documents work/images --set fetch.per_host=8 --set picture.short_side=256
    """
    from lcl_data.forks import start_server

    start_server()  # imports while we do
    from lcl_data.download import Download
    from lcl_data.download import download as run
    from schemas.overrides import laid_over, nested, settle

    console, engine = _start(workers, as_json)
    flags = {"backend": backend, **({"fetch": {"allow_private": True}} if allow_private else {})}
    step = settle(Download, laid_over(flags, nested(settings)))
    raise typer.Exit(console.manifest(run(docs, out, step, engine, retry_failed=retry_failed)))


@app.command("filter")
def filter_(
    docs: options.Documents,
    out: options.OutOrNone = None,
    use: options.Filters = [],  # noqa: B006
    preset: options.FilterPreset = [],  # noqa: B006
    images: options.Images = None,
    scores: options.Scores = [],  # noqa: B006
    report: options.Report = False,
    workers: options.Workers = 0,
    as_json: options.Json = False,
) -> None:
    """Cut documents and pictures by filters, in the order given; --images attaches what the store measured.

    Example: lcl filter docs filtered --images images -u 'image_size: {min_side_px: 150}' -u image_aspect
    """
    from pipelines.filtering import Filtering

    console, engine = _start(workers, as_json)
    step = Filtering(preset, use, images, scores)
    raise typer.Exit(step.report(docs, engine, console) if report else step.cut(docs, out, engine, console))


@app.command()
def dedupe(
    docs: options.Documents,
    out: options.Out,
    use: options.Rules = [],  # noqa: B006
    preset: options.RulePreset = [],  # noqa: B006
    workers: options.Workers = 0,
    as_json: options.Json = False,
) -> None:
    """Drop copies over the whole corpus, rule by rule; every decision is written down as a table.

    Example: lcl dedupe work/filtered work/deduplicated -u exact_document -u 'same_url: {keep: last}'
    """
    from lcl_data.deduplicate import deduplicate
    from pipelines.recipes import rules

    console, engine = _start(workers, as_json)
    raise typer.Exit(console.manifest(deduplicate(docs, out, rules(preset, use), engine)))


@app.command()
def shard(
    docs: options.Documents,
    images: options.Store,
    out: options.Out,
    workers: options.Workers = 0,
    settings: options.Set = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Tokenize documents and write training shards (Arrow and/or WebDataset), one token per picture.

    Example: lcl shard work/deduplicated work/images work/shards --set 'containers=[arrow]'
    """
    from lcl_data.shard import Shard
    from lcl_data.shard import shard as run
    from schemas.overrides import nested, settle

    console, engine = _start(workers, as_json)
    raise typer.Exit(console.manifest(run(docs, images, out, settle(Shard, nested(settings)), engine)))


@tokenizer.command("train")
def tokenizer_train(
    docs: options.Documents,
    out: options.Out,
    vocab_size: Annotated[int, typer.Option(help="Tokens of text; the special ones come on top.")] = 32768,
    as_json: options.Json = False,
) -> None:
    """Train a byte-level BPE tokenizer on the text of documents.

    Example: lcl tokenizer train work/deduplicated work/tokenizer --vocab-size 16384
    """
    from pipelines.vocabulary import train_tokenizer
    from schemas.overrides import settle
    from schemas.recipe import TokenizerSection

    console, _ = _start(1, as_json)
    path = train_tokenizer(docs, out, settle(TokenizerSection, {"vocab_size": vocab_size}))
    console.say(f"wrote {path}; use it with `lcl shard ... --set tokenizer={path}`")
    console.result({"tokenizer": str(path)})


@app.command()
def inspect(
    path: options.Folder,
    id: options.Id = "",
    as_json: options.Json = False,
) -> None:
    """Show what is in a folder: counts, columns, ledger; or one document in reading order.

    Example: lcl inspect work/filtered --id 5f1c
    """
    from pipelines.inspection import inspect as run

    console, _ = _start(1, as_json)
    run(path, id, console)


@app.command()
def verify(
    path: Annotated[Path, typer.Argument(help="A stage folder, or a folder of stage folders.")],
    workers: options.Workers = 0,
    as_json: options.Json = False,
) -> None:
    """Prove that nothing was lost: schema, checksums, read = kept + rejected in and between stages.

    Example: lcl verify work
    """
    from lcl_data.verify import verify as run
    from pipelines.inspection import show_report

    console, engine = _start(workers, as_json)
    report = run(path, engine)
    show_report(report, console)
    raise typer.Exit(1 if report.problems else 0)


@app.command()
def train(
    shards: Annotated[Path, typer.Argument(help="Training shards: OUT of `lcl shard`.")],
    out: options.Out,
    preset: Annotated[str, typer.Option(help="nano, tiny, small, base or base32.")] = "nano",
    objective: Annotated[str, typer.Option(help="What is optimised; lcl is the paper's.")] = "lcl",
    resume: Annotated[str, typer.Option(help="auto, never, or a checkpoint folder.")] = "auto",
    settings: options.Set = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Pre-train a vision encoder on shards. Killed, the same command resumes at the last checkpoint.

    Example: lcl train work/shards work/run --preset nano --set steps=500 --set optimizer.lr=1e-3
    """
    from pipelines.training import train as run

    console, _ = _start(1, as_json)
    section = {"preset": preset, "objective": objective}
    summary = run(shards, out, section, settings, resume, console)
    console.result(summary)
    raise typer.Exit(0 if summary["is_finished"] else 1)


@app.command("eval")
def eval_(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a run, or one checkpoint in it.")],
    data: options.Labelled,
    out: options.Out,
    use: options.Evals = ["knn", "linear_probe"],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Probe a frozen encoder, always beside the same network at random initialisation.

    Example: lcl eval work/run scenes/ work/eval -u knn -u linear_probe
    """
    from pipelines.training import evaluate, show

    console, _ = _start(1, as_json)
    report = evaluate(checkpoint, data, out, use)
    show(report, console)
    console.result(report)


@app.command()
def run(
    recipe: options.RecipeName,
    workers: options.Workers = 0,
    settings: options.Set = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Walk the whole road of a recipe; stages whose settings and inputs have not changed are skipped.

    Example: lcl run mmc4 --set ingest.src=downloads/mmc4 --set work=work --workers 16
    """
    from pipelines.road import walk

    console, engine = _start(workers, as_json)
    raise typer.Exit(walk(recipe, settings, engine, console))


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="Folder for everything the demo makes.")] = Path("demo"),
    workers: options.Workers = 0,
    as_json: options.Json = False,
) -> None:
    """The whole road in about three minutes on two cores, offline, on a corpus the demo draws itself.

    Example: lcl demo demo --workers 2
    """
    from pipelines.demo import demo as run

    console, engine = _start(workers, as_json)
    raise typer.Exit(run(out, engine, console))


def _start(workers: int, as_json: bool) -> "tuple[Console, Engine]":
    from lcl_data.engine import Engine
    from lcl_data.no_pandas import keep_pandas_out
    from pipelines.console import Console

    keep_pandas_out()
    console = Console(as_json)
    return console, Engine(workers, console.progress)


def main() -> None:
    """Run the command line; say what LCL knows to be wrong in one line and the right exit code."""
    try:
        app()
    except (LclError, OSError) as error:
        sys.stderr.write(f"lcl: {error}\n")
        sys.exit(2 if isinstance(error, RecipeError | CheckpointError) else 1)
