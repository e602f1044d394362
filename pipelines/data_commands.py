"""The commands that make, curate and look at data: each parses, calls one function, shows what it returned.

Everything heavy is imported inside the command that needs it, so that `lcl --help` answers at once.
"""

from typing import Annotated

import typer

from pipelines import options


def ingest(
    format: options.Format,
    src: options.Source,
    out: options.Out,
    workers: options.Workers = 0,
    engine: options.Engine = "local",
    ray_address: options.RayAddress = "",
    settings: options.Set = [],  # noqa: B006 - typer copies it
    as_json: options.Json = False,
) -> None:
    """Turn a source dump into documents. Nothing upstream is lost; what cannot be read is counted and named.

    Example: lcl ingest mmc4 downloads/mmc4/ work/documents
    """
    console, where = options.start(as_json, workers, engine, ray_address)
    from lcl_data.ingest import Ingest
    from lcl_data.ingest import ingest as run
    from schemas.overrides import nested, settle

    step = settle(Ingest, {"format": format, **nested(settings)})
    raise typer.Exit(console.manifest(run(src, out, step, where)))


def download(
    docs: options.Documents,
    out: options.Out,
    retry_failed: options.Retry = False,
    backend: Annotated[str, typer.Option(help="lcl, or img2dataset (needs the extra of that name).")] = "lcl",
    allow_private: Annotated[bool, typer.Option(help="Permit private and loopback addresses.")] = False,
    workers: options.Workers = 0,
    engine: options.Engine = "local",
    ray_address: options.RayAddress = "",
    settings: options.Set = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Fetch the pictures of documents into an image store (img2dataset's layout). Every distinct URL once.

    Example: lcl download work/documents work/images --set fetch.per_host=8 --set picture.short_side=256
    """
    from lcl_data.forks import start_server

    start_server()  # a decoder is a process of its own, even if there is only one
    console, where = options.start(as_json, workers, engine, ray_address)
    from lcl_data.download import Download
    from lcl_data.download import download as run
    from schemas.overrides import laid_over, nested, settle

    flags = {"backend": backend, **({"fetch": {"allow_private": True}} if allow_private else {})}
    step = settle(Download, laid_over(flags, nested(settings)))
    raise typer.Exit(console.manifest(run(docs, out, step, where, retry_failed=retry_failed)))


def filter_(
    docs: options.Documents,
    out: options.OutOrNone = None,
    use: options.Filters = [],  # noqa: B006
    preset: options.FilterPreset = [],  # noqa: B006
    images: options.Images = None,
    scores: options.Scores = [],  # noqa: B006
    report: options.Report = False,
    workers: options.Workers = 0,
    engine: options.Engine = "local",
    ray_address: options.RayAddress = "",
    as_json: options.Json = False,
) -> None:
    """Cut documents and pictures by filters, in the order given; --images attaches what the store measured.

    Example: lcl filter docs filtered --images images -u 'image_size: {min_side_px: 150}' -u image_aspect
    """
    console, where = options.start(as_json, workers, engine, ray_address)
    from pipelines.filtering import Filtering

    step = Filtering(preset, use, images, scores)
    raise typer.Exit(step.report(docs, where, console) if report else step.cut(docs, out, where, console))


def dedupe(
    docs: options.Documents,
    out: options.Out,
    use: options.Rules = [],  # noqa: B006
    preset: options.RulePreset = [],  # noqa: B006
    images: options.Images = None,
    workers: options.Workers = 0,
    engine: options.Engine = "local",
    ray_address: options.RayAddress = "",
    as_json: options.Json = False,
) -> None:
    """Drop copies over the whole corpus, rule by rule; every decision is written down as a table. --images
    is read by rules that compare pixels; bytes and hashes of pictures must be attached before (lcl filter
    --images), or nothing is compared, which is said.

    Example: lcl dedupe work/filtered work/deduplicated -u exact_document -u 'same_url: {keep: last}'
    """
    console, where = options.start(as_json, workers, engine, ray_address)
    from lcl_data.deduplicate import deduplicate
    from pipelines.recipes import rules

    raise typer.Exit(console.manifest(deduplicate(docs, out, rules(preset, use), where, images)))


def shard(
    docs: options.Documents,
    images: options.Store,
    out: options.Out,
    workers: options.Workers = 0,
    engine: options.Engine = "local",
    ray_address: options.RayAddress = "",
    settings: options.Set = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Tokenize documents and write training shards (Arrow and/or WebDataset), one token per picture.

    Example: lcl shard work/deduplicated work/images work/shards --set 'containers=[arrow]'
    """
    console, where = options.start(as_json, workers, engine, ray_address)
    from lcl_data.shard import Shard
    from lcl_data.shard import shard as run
    from schemas.overrides import nested, settle

    raise typer.Exit(console.manifest(run(docs, images, out, settle(Shard, nested(settings)), where)))


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

    console, _ = options.start(as_json)
    path = train_tokenizer(docs, out, settle(TokenizerSection, {"vocab_size": vocab_size}))
    console.say(f"wrote {path}; use it with `lcl shard ... --set tokenizer={path}`")
    console.result({"tokenizer": str(path)})


def inspect(
    path: options.Folder,
    id: options.Id = "",
    html: options.Html = None,
    preset: options.RowsOf = "nano",
    settings: options.Set = [],  # noqa: B006
    as_json: options.Json = False,
) -> None:
    """Show what is in a folder: counts, columns, ledger; one document in reading order; a page to look at.

    Example: lcl inspect work/filtered --id 5f1c
    The curves of a run: lcl inspect work/run --html run.html
    What a run would learn from: lcl inspect work/shards --html rows.html --preset small
    """
    from pipelines.inspection import inspect as run

    console, _ = options.start(as_json)
    run(path, id, console, html, preset, settings)


def verify(
    path: options.Stages,
    workers: options.Workers = 0,
    engine: options.Engine = "local",
    ray_address: options.RayAddress = "",
    as_json: options.Json = False,
) -> None:
    """Prove that nothing was lost: schema, checksums, read = kept + rejected in and between stages.

    Example: lcl verify work
    """
    console, where = options.start(as_json, workers, engine, ray_address)
    from lcl_data.verify import verify as run
    from pipelines.inspection import show_report

    report = run(path, where)
    show_report(report, console)
    raise typer.Exit(1 if report.problems else 0)
