"""`lcl demo`: the whole road, offline, on a corpus drawn here and served on loopback.

The address of the host is part of every document, so it is chosen once and kept: a second run finds all done.
"""

import socket
import time
from pathlib import Path
from typing import Any

from lcl_data import files
from lcl_data.engine import Engine
from pipelines.console import Console
from pipelines.corpus import draw_corpus
from pipelines.host import LOOPBACK, serve
from pipelines.road import walk

_PORT = "port"
_TRUTH = "truth.json"


def demo(out: Path, engine: Engine, console: Console) -> int:
    """Draw, serve, and walk the recipe `demo`.

    Args:
        out: folder for everything: corpus, stages, run, tables.
        engine: where shard functions run.
        console: what tells of it.

    Returns:
        The exit code of the road; the drawn corpus has a torn file, which is told and does not count.
    """
    began = time.monotonic()
    corpus = out / "corpus"
    port = _port(corpus)
    if not (corpus / _TRUTH).exists():
        console.say(f"drawing a corpus into {corpus}: documents about scenes, with faults to find")
        draw_corpus(corpus, f"http://{LOOPBACK}:{port}", workers=engine.local)
    with serve(corpus / "www", port):
        code = walk("demo", _settings(out), engine, console, excused=("ingest",))
    _where_next(out, time.monotonic() - began, console)
    return code


def _port(corpus: Path) -> int:
    path = corpus / _PORT
    if not path.exists():
        corpus.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind((LOOPBACK, 0))
            files.write(path, str(free.getsockname()[1]).encode())
    return int(path.read_text())


def _settings(out: Path) -> list[str]:
    values: dict[str, Any] = {
        "work": out,
        "ingest.src": out / "corpus" / "mmc4" / "data",
        "download.fetch.allow_private": "true",
        "eval.data": out / "corpus" / "scenes",
    }
    return [f"{name}={value}" for name, value in values.items()]


def _where_next(out: Path, seconds: float, console: Console) -> None:
    console.say(f"\nthe whole road took {seconds:.0f} s; everything is in {out}/. Look next:")
    for command, story in (
        (f"lcl inspect {out}", "what each stage kept"),
        (f"lcl verify {out}", "proof that nothing was lost"),
        (f"lcl inspect {out}/shards --html rows.html", "a page: what the encoder was shown"),
        (f"lcl inspect {out}/run --html run.html", "a page: the losses"),
        (f"less {out}/eval/eval.md", "the probes, with intervals"),
        ("lcl run mmc4 --help", "the same road on your own data"),
    ):
        console.say(f"  {command:44} {story}")
