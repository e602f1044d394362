"""Verdicts and CPU time of text filters beside datatrove's (FineWeb's code) on the same documents.

    python benchmarks/filters_agreement.py PEER_PYTHON FOLDER [--limit 1000] [--json out.json] [--show 3]

FOLDER holds text files, one document each (all below it that are UTF-8 and of 200 to 200,000 characters; a
sample with seed 0 where there are more than the limit). PEER_PYTHON is the interpreter of an environment with
`datatrove[processing]` and `spacy`. One process a side, one thread; CPU seconds (user and system) for each
filter alone, tokenisation included, after a warm-up. `--show` prints so many documents a filter on which the
two sides differ.
"""

import argparse
import json
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["POLARS_MAX_THREADS"] = "1"  # before polars is imported

SIZES = (200, 200_000)
FILTERS = {
    "gopher_quality": "GopherQualityFilter",
    "gopher_repetition": "GopherRepetitionFilter",
    "c4_quality": "C4QualityFilter",
    "fineweb_quality": "FineWebQualityFilter",
}
PEER = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline import filters
texts, found = json.load(open(sys.argv[1])), {}
for name, kind in json.loads(sys.argv[3]).items():
    step = getattr(filters, kind)()
    step.filter(Document(text="A text to load the tokenizer with.", id=""))
    began, verdicts = time.process_time(), []
    for text in texts:
        verdict = step.filter(Document(text=text, id=""))
        verdicts.append(None if verdict is True else verdict[1])
    found[name] = {"seconds": time.process_time() - began, "verdicts": verdicts}
json.dump(found, open(sys.argv[2], "w"))
"""


def documents(folder: Path, limit: int) -> list[str]:
    texts = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if SIZES[0] <= len(text) <= SIZES[1] and "\0" not in text:
            texts.append(text)
    return random.Random(0).sample(texts, limit) if len(texts) > limit else texts


def theirs(python: str, texts: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "in.json"), Path(folder, "out.json")
        given.write_text(json.dumps(texts))
        subprocess.run(
            [python, "-c", PEER, given, found, json.dumps(FILTERS)],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        answer: dict[str, Any] = json.loads(found.read_text())
        return answer


def ours(texts: list[str]) -> dict[str, Any]:
    import polars as pl

    from lcl_data.filters import Filter
    from lcl_data.filters.c4_lines import C4Lines
    from lcl_data.views import measured
    from schemas.members import build

    found = {}
    for name in FILTERS:
        step, lines = build("lcl_data.filters", name, Filter), C4Lines()
        view = pl.DataFrame({"text": texts}, schema={"text": pl.String})
        began = time.process_time()
        if name == "c4_quality":
            view = measured(view, [lines]).select(text=lines.fact)
        reasons = measured(view, [step]).select(step.reason().alias("reason"))["reason"].to_list()
        seconds = time.process_time() - began
        found[name] = {"seconds": seconds, "verdicts": reasons}
    return found


def compared(mine: dict[str, Any], other: dict[str, Any], count: int) -> list[dict[str, Any]]:
    rows = []
    for name in FILTERS:
        pairs = list(zip(mine[name]["verdicts"], other[name]["verdicts"], strict=True))
        rows.append(
            {
                "filter": name,
                "equal_percent": round(100 * sum((a is None) == (b is None) for a, b in pairs) / count, 1),
                "both_reject": sum(None not in pair for pair in pairs),
                "only_ours": sum(a is not None and b is None for a, b in pairs),
                "only_theirs": sum(a is None and b is not None for a, b in pairs),
                "ours_cpu_s_per_1000": round(1000 * mine[name]["seconds"] / count, 2),
                "theirs_cpu_s_per_1000": round(1000 * other[name]["seconds"] / count, 2),
            }
        )
    return rows


def show(mine: dict[str, Any], other: dict[str, Any], texts: list[str], count: int) -> None:
    for name in FILTERS:
        pairs = zip(texts, mine[name]["verdicts"], other[name]["verdicts"], strict=True)
        differing = [(text, a, b) for text, a, b in pairs if (a is None) != (b is None)]
        for text, a, b in differing[:count]:
            print(f"{name}: ours {a}, theirs {b}: {text[:100]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", help="python of an environment with datatrove and spacy")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", type=int, default=0)
    given = parser.parse_args()
    texts = documents(given.folder, given.limit)
    ours(texts[:1])  # imports
    mine, other = ours(texts), theirs(given.peer, texts)
    rows = compared(mine, other, len(texts))
    show(mine, other, texts, given.show)
    answer = {"documents": len(texts), "characters": sum(map(len, texts)), "filters": rows}
    print(json.dumps(answer, indent=1))
    if given.json:
        given.json.write_text(json.dumps(answer, indent=1) + "\n")


if __name__ == "__main__":
    main()
