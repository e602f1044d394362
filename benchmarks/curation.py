"""Whole curation, from zips of MMC4 to training shards, beside the same steps in datatrove.

    python benchmarks/curation.py ZIPS STORE [--documents 3000] [--runs 3] [--datatrove PYTHON]

ZIPS is a folder of MMC4 zips, STORE the image store that `lcl ingest` and `lcl download` made of them:
nothing is downloaded here. Broken lines and torn zips are left out (an array instead of an object ends
datatrove's reader). More documents than there are get every fifth word replaced in each further copy.
PYTHON has datatrove 0.10, orjson and xxhash<4.

Each side is one process with two workers that runs its steps in turn; a step's CPU seconds are those of all
its processes (the first step pays for the start of ours). Equal settings: words between spaces (datatrove's
own tokenizer of English takes several times as long: `near_documents.py`), zstd, one tokenizer.json.
datatrove handles texts only, while ours carries along image references, similarities and the lists of items,
and ends with rows that hold the pictures. Compared: which documents each keeps after steps that both have,
by their text as published, and the number of tokens. `recipe` is ours as a recipe runs it, in fewer stages.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

PER_ZIP, WORKERS = 250, 2
NGRAM, BANDS, ROWS = 5, 14, 8  # FineWeb's
QUIET = {"DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
TEXT = ["gopher_repetition", "gopher_quality", "c4_lines", "c4_quality: {min_sentences: 0}"]
FACTS = ["similarity: {min: 0.15}", "image_bytes: {min: 1000}", "image_size: {min_side_px: 50}"]
PICTURES = ["url_words", *FACTS, "image_aspect: {max: 3.0}"]
EXACT, NEAR = "exact_document", f"near_document: {{ngram: {NGRAM}, bands: {BANDS}, rows: {ROWS}}}"
COPIES = ["same_image_bytes", "near_image: {scope: document}", "boilerplate_image: {documents: 10}"]
STAGES = {
    "ours": {
        "text filters": TEXT,
        "exact copies": [EXACT],
        "near copies": [NEAR],
        "picture filters": PICTURES,
        "picture copies": COPIES,
    },
    "recipe": {"all filters": TEXT + PICTURES, "all copies": [EXACT, NEAR, *COPIES]},
}
BOTH = ("read", "text filters", "exact copies", "near copies")
SIDES = (*STAGES, "datatrove")
Steps = dict[str, Callable[[], object]]


def rows_of(zips: Path) -> Iterator[dict[str, Any]]:
    """The sound rows of all sound zips."""
    for path in sorted(zips.glob("*.zip")):
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            for line in archive.read(archive.namelist()[0]).splitlines():
                with suppress(json.JSONDecodeError):
                    if isinstance(row := json.loads(line), dict):
                        yield row


def documents(zips: Path, count: int) -> Iterator[dict[str, Any]]:
    """As many rows, from the start again with other words where there are too few."""
    rng, base = random.Random(0), list(rows_of(zips))
    vocabulary = sorted({word for row in base for text in row["text_list"][:5] for word in text.split()})
    for number in range(count):
        turn, place = divmod(number, len(base))
        row = dict(base[place])
        if turn:
            row["url"] = f"{row['url']}?{turn}"
            row["text_list"] = [
                " ".join(rng.choice(vocabulary) if rng.random() < 0.2 else word for word in text.split(" "))
                for text in row["text_list"]
            ]
        yield row


def make(zips: Path, count: int, work: Path) -> dict[str, str]:
    """Zips and tokenizer; returns the text of each document, by our id and by file/line."""
    from lcl_data.tokenizer import train
    from schemas.documents import document_id

    (work / "zips").mkdir()
    rows, texts = list(documents(zips, count)), {}
    for start in range(0, count, PER_ZIP):
        part, name = rows[start : start + PER_ZIP], f"docs_shard_{start // PER_ZIP:05d}_v2.jsonl"
        with zipfile.ZipFile(work / "zips" / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part))
        for line, row in enumerate(part):
            text = "\n".join(row["text_list"])
            texts |= {document_id("mmc4", f"{name}.zip", line): text, f"{name}.zip/{line}": text}
    train((text for row in rows[::12] for text in row["text_list"]), 8192, work / "tokenizer.json")
    return texts


def ours(side: str, work: Path, store: Path, out: Path) -> Steps:
    """Every step a stage of its own, or as a recipe runs them."""
    from lcl_data.dedupe import Rule
    from lcl_data.deduplicate import deduplicate
    from lcl_data.engine import Engine
    from lcl_data.filter import filter_documents
    from lcl_data.filters import Filter
    from lcl_data.ingest import Ingest, ingest
    from lcl_data.no_pandas import keep_pandas_out
    from lcl_data.shard import Shard, shard
    from pipelines.recipes import members

    def step(last: str, name: str, entries: list[str]) -> object:
        if "copies" in name:
            rules = members("lcl_data.dedupe", entries, Rule)
            return deduplicate(out / last, out / name, rules, engine, store)
        cuts, images = members("lcl_data.filters", entries, Filter), store if FACTS[0] in entries else None
        return filter_documents(out / last, out / name, cuts, engine, images)

    keep_pandas_out()  # as the command `lcl` does
    engine, last = Engine(WORKERS), "read"
    settings = Shard(tokenizer=str(work / "tokenizer.json"), containers=("arrow",))
    steps: Steps = {"read": lambda: ingest(work / "zips", out / "read", Ingest(format="mmc4"), engine)}
    for name, entries in STAGES[side].items():
        steps[name], last = partial(step, last, name, entries), name
    return steps | {"tokenise": lambda: shard(out / last, store, out / "tokenise", settings, engine)}


def datatrove(work: Path, out: Path) -> Steps:
    """The steps that datatrove has."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline import filters
    from datatrove.pipeline.dedup import exact_dedup, minhash
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.text import TextNormConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Spaces(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        sent_tokenize = span_tokenize = word_tokenize

    def adapter(self: Any, row: dict[str, Any], path: str, line: int) -> dict[str, Any]:
        return {"text": "\n".join(row["text_list"]), "id": f"{path}/{line}", "metadata": {"url": row["url"]}}

    def spaced(data: Any, rank: int, world_size: int) -> Any:
        for document in data:  # texts follow one another as they do for ours
            document.text = document.text.replace("\n", " ")
            yield document

    tasks = len(list(work.glob("zips/*")))
    plain = TextNormConfig(**dict.fromkeys(TextNormConfig.__dataclass_fields__, False))
    config = minhash.MinhashConfig(NGRAM, BANDS, ROWS, norm_config=plain)
    exact = exact_dedup.ExactDedupConfig(lambda document: document.text)
    at = {name: str(out / name) for name in (*BOTH, "tokenise", "e1", "e2", "m1", "m2", "m3")}
    written = {name: ParquetWriter(at[name], compression="zstd") for name in BOTH}

    def run(*pipelines: tuple[list[Any], int]) -> None:
        for pipeline, many in pipelines:
            logs = str(out / f"logs{len(list(out.iterdir()))}")
            LocalPipelineExecutor(pipeline, many, WORKERS, logging_dir=logs).run()

    read, cut, unique, left = (ParquetReader(at[name]) for name in BOTH)
    zips = JsonlReader(str(work / "zips"), compression="zip", adapter=adapter)
    gopher = (filters.GopherRepetitionFilter, filters.GopherQualityFilter)
    wording = [*(each(language=Spaces()) for each in gopher), filters.C4QualityFilter(min_num_sentences=-1)]
    same = [
        ([cut, exact_dedup.ExactDedupSignature(at["e1"], exact)], tasks),
        ([exact_dedup.ExactFindDedups(at["e1"], at["e2"], exact)], 1),
        ([cut, exact_dedup.ExactDedupFilter(at["e2"], exact), written["exact copies"]], tasks),
    ]
    alike = [
        ([unique, minhash.MinhashDedupSignature(at["m1"], config, language=Spaces())], tasks),
        ([minhash.MinhashDedupBuckets(at["m1"], at["m2"], config=config)], BANDS),
        ([minhash.MinhashDedupCluster(at["m2"], at["m3"], config=config)], 1),
        ([unique, minhash.MinhashDedupFilter(at["m3"]), written["near copies"]], tasks),
    ]
    tokens = DocumentTokenizer(at["tokenise"], str(work / "tokenizer.json"), shuffle_documents=False)
    return {
        "read": lambda: run(([zips, written["read"]], tasks)),
        "text filters": lambda: run(([read, *wording, written["text filters"]], tasks)),
        "exact copies": lambda: run(*same),
        "near copies": lambda: run(*alike),
        "tokenise": lambda: run(([left, spaced, tokens], tasks)),
    }


def cpu_seconds() -> float:
    """Of this process and everything below it, also of what has ended and was waited for."""
    seconds, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
            seconds[int(stat.parent.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    found, each = set(), {os.getpid()}
    while each:
        found |= each
        each = {process for process, parent in parents.items() if parent in each} - found
    return sum(seconds[process] for process in found)


def walk(side: str, work: Path, store: Path, out: Path) -> None:
    """Run the steps of a side; a line of JSON for each."""
    steps = ours(side, work, store, out) if side in STAGES else datatrove(work, out)
    for name, step in steps.items():
        cpu, start = cpu_seconds(), time.perf_counter()
        step()
        told = {"step": name, "wall_s": time.perf_counter() - start, "cpu_s": cpu_seconds() - cpu}
        print(json.dumps(told), flush=True)


def run(side: str, python: str, work: Path, store: Path, out: Path) -> list[dict[str, Any]]:
    """One run of a side in a process of its own: seconds of each step, and the ids it kept."""
    command = [python, __file__, work, store, "--side", side, "--out", out]
    paths = {} if side == "datatrove" else {"PYTHONPATH": str(Path(__file__).parents[1])}
    out.mkdir()
    done = subprocess.run(command, env=os.environ | QUIET | paths, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    steps = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"step"')]
    return [step | {"kept": kept(out / step["step"])} for step in steps]


def kept(folder: Path) -> list[str]:
    """Ids of the documents in a folder of Parquet files; none where a step writes other files."""
    import pyarrow.parquet as pq

    paths = sorted(folder.glob("*.parquet"))
    return [id for path in paths for id in pq.read_table(path, columns=["id"])["id"].to_pylist()]


def token_count(side: str, out: Path) -> int:
    """Tokens of texts in the last step's files."""
    if side == "datatrove":
        return sum(path.stat().st_size for path in out.glob("tokenise/*.ds")) // 2
    from lcl_data.shards import Shards

    rows = Shards(out / "tokenise")
    return int(rows.lengths.sum() - rows.image_counts.sum()) - 2 * len(rows)  # of each row start and end


def table(runs: dict[str, list[list[dict[str, Any]]]], count: int) -> str:
    """Medians as Markdown."""
    names = ("side", "step", "wall s", "CPU s", "documents a CPU second", "share of CPU", "kept")
    lines = [f"| {' | '.join(names)} |", "|---" * 7 + "|"]
    for side, walks in runs.items():
        medians = [
            [statistics.median(step[name] for step in same) for name in ("wall_s", "cpu_s")]
            for same in zip(*walks, strict=True)
        ]
        whole = [sum(column) for column in zip(*medians, strict=True)]
        steps = [*((step["step"], len(step["kept"]) or "") for step in walks[0]), ("whole", "")]
        for (name, left), (wall, cpu) in zip(steps, [*medians, whole], strict=True):
            figures = f"{wall:.1f} | {cpu:.1f} | {count / cpu:,.0f} | {cpu / whole[1]:.0%}"
            lines.append(f"| {side} | {name} | {figures} | {left} |")
    return "\n".join(lines)


def agreement(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], texts: dict[str, str]) -> str:
    """Texts that one side alone keeps after each step that both have: of two copies it may be either."""
    left, right = ({s["step"]: {texts[id] for id in s["kept"]} for s in side} for side in (ours, theirs))
    alone = {name: (len(left[name] - right[name]), len(right[name] - left[name])) for name in BOTH}
    return f"texts that ours alone and datatrove alone keeps: {alone}"


def main() -> None:
    parser = argparse.ArgumentParser(description="whole curation beside datatrove")
    parser.add_argument("zips", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--datatrove", help="interpreter that has datatrove")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        walk(options.side, options.zips, options.store, options.out)
        return
    pythons = dict.fromkeys(STAGES, sys.executable)
    pythons |= {"datatrove": options.datatrove} if options.datatrove else {}
    runs: dict[str, list[list[dict[str, Any]]]] = {side: [] for side in pythons}
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        texts = make(options.zips, options.documents, work)
        for number in range(options.runs):
            for side, python in pythons.items():
                runs[side].append(run(side, python, work, options.store.resolve(), work / f"{side}{number}"))
        tokens = {side: token_count(side, work / f"{side}0") for side in pythons}
    print(f"{table(runs, options.documents)}\ntokens of texts: {tokens}; load {os.getloadavg()[0]:.1f}")
    if options.datatrove:
        print(agreement(runs["ours"][0], runs["datatrove"][0], texts))


if __name__ == "__main__":
    main()
