"""The commands that train and judge an encoder, and those that walk the whole road."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines import options


def train(
    shards: options.Shards,
    out: options.Out,
    preset: Annotated[str, typer.Option(help="nano, tiny, small, base, base32 or large.")] = "nano",
    objective: options.Objective = "lcl",
    resume: Annotated[str, typer.Option(help="auto, never, or a checkpoint folder.")] = "auto",
    settings: options.Set = [],  # noqa: B006
    plan: options.Plan = False,
    as_json: options.Json = False,
) -> None:
    """Pre-train a vision encoder on shards. Killed, the same command resumes at the last checkpoint.

    --plan leaves OUT alone: it shows what the run would take in parameters, memory and time on this device.
    SIGTERM or Ctrl-C saves and ends in good order (exit code 0; is_finished in the JSON tells).

    Example: lcl train work/shards work/run --preset nano --set steps=500 --set optimizer.lr=1e-3
    Three documents of A to one of B: lcl train A B work/run --set weights=[3,1]
    On 8 devices: torchrun --no-python --nproc-per-node 8 lcl train work/shards work/run --preset base
    """
    from pipelines import training

    console, _ = options.start(as_json)
    section = {"preset": preset, "objective": objective}
    if plan:
        console.result(training.plan(shards, section, settings, console))
        return
    console.result(training.train(shards, out, section, settings, resume, console))


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

    console, _ = options.start(as_json)
    report = evaluate(checkpoint, data, out, use)
    show(report, console)
    console.result(report)


def run(
    recipe: options.RecipeName,
    workers: options.Workers = 0,
    engine: options.Engine = "local",
    ray_address: options.RayAddress = "",
    settings: options.Set = [],  # noqa: B006
    dry_run: options.DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Walk the whole road of a recipe; stages whose settings and inputs have not changed are skipped.

    Example: lcl run mmc4 --set ingest.src=downloads/mmc4 --set work=work --workers 16
    """
    console, where = options.start(as_json, 1 if dry_run else workers, engine, ray_address)
    from pipelines.forecast import forecast
    from pipelines.recipes import plan, read
    from pipelines.road import walk

    if dry_run:
        raise typer.Exit(forecast(plan(read(recipe, settings)), console))
    raise typer.Exit(walk(recipe, settings, where, console))


def demo(
    out: Annotated[Path, typer.Argument(help="Folder for everything the demo makes.")] = Path("demo"),
    workers: options.Workers = 0,
    as_json: options.Json = False,
) -> None:
    """The whole road in about three minutes on two cores, offline, on a corpus the demo draws itself.

    Example: lcl demo demo --workers 2
    """
    console, engine = options.start(as_json, workers)
    from pipelines.demo import demo as run

    raise typer.Exit(run(out, engine, console))
