"""The `lcl` command: each command parses, calls one function and shows what it returned.

Everything heavy is imported inside the command that needs it, so that `lcl --help` answers at once.
Exit codes: 0 done, or a training that was stopped and saved; 1 not whole: shards failed (named; the rest is
complete) or a road ended with its training stopped; 2 wrong usage or recipe.
"""

import os
import re
import sys
from errno import EDQUOT, ENOSPC

import typer

from lcl_data.files import is_storage_fault
from pipelines import data_commands, road_commands
from schemas.errors import CheckpointError, LclError, RecipeError

_RUST_SAYS = re.compile(r"\(os error (\d+)\)")
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
tokenizer.command("train")(data_commands.tokenizer_train)
for command in (
    data_commands.ingest,
    data_commands.download,
    data_commands.filter_,
    data_commands.dedupe,
    data_commands.shard,
    data_commands.inspect,
    data_commands.verify,
    road_commands.train,
    road_commands.eval_,
    road_commands.run,
    road_commands.demo,
):
    app.command(command.__name__.rstrip("_"))(command)


def is_full_disk(error: Exception) -> bool:
    """Whether there was no room left; libraries in Rust (polars, safetensors) say it in words alone."""
    said = _RUST_SAYS.search(str(error))
    return (int(said[1]) if said else getattr(error, "errno", None)) in (ENOSPC, EDQUOT)


def explained(error: Exception) -> str:
    """An error in one line, with the remedy where the machine is at fault."""
    if is_full_disk(error):
        return (
            f"the disk is full ({error}); free space and run the same command again: finished shards are kept"
        )
    return str(error)


def main() -> None:
    """Run the command line; say what LCL knows to be wrong in one line and the right exit code."""
    # Threads of torch that wait for one another sleep instead of spinning: beside two other busy processes on
    # two cores the demo trains at 250 to 310 images/s, else 34 to 68; alone at 444 to 468, else 474 to 482.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        app()
    except Exception as error:
        if isinstance(error, LclError | OSError) or is_full_disk(error):
            sys.stderr.write(f"lcl: {explained(error)}\n")
            sys.exit(2 if isinstance(error, RecipeError | CheckpointError) else 1)
        if not is_storage_fault(error):
            raise
        sys.stderr.write(f"lcl: object storage: {error}; see docs/scale.md for credentials and endpoints\n")
        sys.exit(1)
