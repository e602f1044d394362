"""`near_document` beside datatrove and Daft: the same documents in, the copies found out.

    python benchmarks/near_documents.py CORPUS [--docs 20000] [--runs 3] [--workers 2] [--json]
        [--datatrove PYTHON] [--daft PYTHON] [--sides SIDE ...]

CORPUS/docs.jsonl holds documents of items (text or image). Their words, in lower case and without
punctuation, are cut into passages of 200 to 399; every tenth one has a copy, 1 % of whose words are others.
PYTHON is an interpreter that has the peer (datatrove 0.10, Daft 0.7: their pins need environments of their
own; datatrove's hashing needs xxhash<4). SIDE is a row of the table; without any, all whose interpreter is
named.

All use n-grams of 5 words between spaces and 14 bands of 8 values (FineWeb's). Each run is a process of its
own, the sides in turn. `ours` is the whole stage: bands, exact verification of every candidate, sets, and
the documents that stay written anew; `ours_decisions` ends with the table of what goes. datatrove's is its
four stages, the last of which writes what it drops, with its own tokenizer of English and again with words
split at spaces; Daft's ends with the sets, in memory, band by band. Neither verifies. Medians: wall and CPU
seconds (with child processes), documents a second, share of planted copies found, others dropped.
"""

import argparse
import ctypes
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

NGRAM, BANDS, ROWS, THRESHOLD = 5, 14, 8, 0.7
SHARDS = 16
_SET_CHILD_SUBREAPER = 36  # of Linux's prctl: orphans become children of this process
PEERS = ("ours", "ours_decisions", "datatrove", "datatrove_split", "daft")
QUIET = os.environ | {"DO_NOT_TRACK": "1", "DAFT_ANALYTICS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
WORD = re.compile(r"[^\W_]+")


def passages(corpus: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """(id, text) of `count` passages; the id of a copy is that of its original with `copy`."""
    rng = random.Random(seed)
    words: list[str] = []
    with (corpus / "docs.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            texts = (item["text"] for item in json.loads(line)["items"] if item["type"] == "text")
            words += WORD.findall(" ".join(texts).lower())
    made: list[tuple[str, str]] = []
    vocabulary, at = rng.sample(words, 10_000), 0
    while len(made) < count:
        size = rng.randrange(200, 400)
        part = words[at : at + size]
        at += size
        if at > len(words):  # from the start again, with every fifth word another: no copies
            at = 0
            words = [rng.choice(vocabulary) if rng.random() < 0.2 else word for word in words]
            continue
        made.append((f"{len(made):08d}", " ".join(part)))
        if len(made) % 10 == 0:
            copy = [rng.choice(vocabulary) if rng.random() < 0.01 else word for word in part]
            made.append((f"{made[-1][0]}copy", " ".join(copy)))
    rng.shuffle(made)
    return made[:count]


def write(rows: list[tuple[str, str]], folder: Path) -> None:
    """The passages as a stage folder, and as Parquet of id and text for the peers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from lcl_data.draft import DocumentWriter
    from lcl_data.engine import Engine
    from lcl_data.stage import Stage, Unit
    from schemas.documents import Document, to_table

    def shard(unit: Unit, draft: Any) -> None:
        part = rows[unit.number :: SHARDS]
        draft.count("documents").read += len(part)
        with DocumentWriter(draft) as writer:
            writer.write(to_table([Document(id, "bench", (text,)) for id, text in part]), 0)
        ids, texts = zip(*part, strict=True)
        pq.write_table(pa.table({"id": ids, "text": texts}), folder / f"plain/{unit.number:05d}.parquet")

    (folder / "plain").mkdir()
    units = [Unit(n, f"{n}") for n in range(SHARDS)]
    Stage("ingest", folder / "documents", {}, ()).run(shard, units, Engine())


def ours(folder: Path, out: Path, workers: int) -> list[str]:
    """Ids that `near_document` drops."""
    from lcl_data.deduplicate import deduplicate
    from lcl_data.engine import Engine

    deduplicate(folder / "documents", out, [_rule()], Engine(workers))
    return _dropped(out / "decisions/00_near_document.parquet")


def ours_decisions(folder: Path, out: Path, workers: int) -> list[str]:
    """The same, without the documents that stay."""
    from lcl_data.engine import Engine
    from lcl_data.exchange import scratch
    from lcl_data.frames import read_frames
    from lcl_data.neighbours import Question, neighbours
    from lcl_data.stage import document_units

    rule, units = _rule(), document_units(folder / "documents")
    read, step = partial(read_frames, columns=rule.reads), partial(scratch, out, digest="bench")
    rows = len(json.loads((folder / "ids.json").read_text()))
    (decided,) = neighbours(rule, Question(units, read, rows, step), Engine(workers))
    return _dropped(decided)


def _rule() -> Any:
    from lcl_data.dedupe.near_document import NearDocument
    from lcl_data.no_pandas import keep_pandas_out

    keep_pandas_out()  # as the command `lcl` does
    return NearDocument(ngram=NGRAM, bands=BANDS, rows=ROWS, threshold=THRESHOLD)


def _dropped(decisions: Path) -> list[str]:
    import pyarrow.parquet as pq

    return list(pq.read_table(decisions)["id"].to_pylist())


def datatrove(folder: Path, out: Path, workers: int) -> list[str]:
    """Ids that datatrove's four stages drop, with its normalisation and tokenizer of English."""
    from datatrove.utils.text import TextNormConfig

    return _datatrove(folder, out, workers, TextNormConfig(), "eng")


def datatrove_split(folder: Path, out: Path, workers: int) -> list[str]:
    """The same without normalisation, words split at spaces: datatrove at its quickest."""
    from datatrove.utils.text import TextNormConfig
    from datatrove.utils.word_tokenizers import WordTokenizer

    class Spaces(WordTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

        def sent_tokenize(self, text: str) -> list[str]:
            raise NotImplementedError

        def span_tokenize(self, text: str) -> list[tuple[int, int]]:
            raise NotImplementedError

    plain = TextNormConfig(**dict.fromkeys(TextNormConfig.__dataclass_fields__, False))
    return _datatrove(folder, out, workers, plain, Spaces())


def _datatrove(folder: Path, out: Path, workers: int, plain: Any, language: Any) -> list[str]:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import minhash
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    config = minhash.MinhashConfig(NGRAM, BANDS, ROWS, norm_config=plain)
    step = [str(out / name) for name in ("signatures", "buckets", "removed", "dropped")]
    reader = ParquetReader(str(folder / "plain"))
    signing = minhash.MinhashDedupSignature(step[0], config=config, language=language)
    excluded = JsonlWriter(step[3], compression=None)
    stages: list[tuple[list[Any], int]] = [
        ([reader, signing], SHARDS),
        ([minhash.MinhashDedupBuckets(step[0], step[1], config=config)], BANDS),
        ([minhash.MinhashDedupCluster(step[1], step[2], config=config)], 1),
        ([reader, minhash.MinhashDedupFilter(step[2], exclusion_writer=excluded)], SHARDS),
    ]
    for number, (pipeline, tasks) in enumerate(stages):
        logs = str(out / f"logs{number}")
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=logs).run()
    return [document.id for document in JsonlReader(step[3])()]


def daft(folder: Path, out: Path, workers: int) -> list[str]:
    """Ids that Daft's signatures, grouped band by band, drop."""
    import daft as df
    from daft import col
    from daft.functions import minhash

    frame = df.read_parquet(str(folder / "plain/*.parquet"))
    values = minhash(col("text"), num_hashes=BANDS * ROWS, ngram_size=NGRAM)
    signed = frame.select(col("id"), values.alias("mh"))
    listed = col("mh").cast(df.DataType.list(df.DataType.uint32()))
    hashed = [listed.slice(ROWS * band, ROWS * (band + 1)).hash().alias(f"b{band}") for band in range(BANDS)]
    bands = signed.select(col("id"), *hashed).collect()
    root: dict[str, str] = {}

    def find(id: str) -> str:
        while root.setdefault(id, id) != id:
            root[id] = root[root[id]]
            id = root[id]
        return id

    for band in range(BANDS):
        groups = bands.groupby(f"b{band}").agg(col("id").list_agg()).to_pydict()["id"]
        for first, *others in (group for group in groups if len(group) > 1):
            for other in others:
                low, high = sorted((find(first), find(other)))
                root[high] = low
    return [id for id in root if find(id) != id]


def measure(peer: str, python: str, folder: Path, workers: int) -> dict[str, float]:
    """One run of a peer in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as out:
        command = [python, __file__, str(folder), "--run", peer, "--out", out, "--workers", str(workers)]
        paths = {"PYTHONPATH": str(Path(__file__).parents[1])} if peer.startswith("ours") else {}
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(command, env=QUIET | paths, check=True, capture_output=True, text=True)
        wall = time.perf_counter() - start
        _reap()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = json.loads(done.stdout.splitlines()[-1])
    return {"wall_s": wall, "cpu_s": cpu, "work_s": told["work_s"], **_quality(folder, told["dropped"])}


def _reap() -> None:
    """Wait for workers that outlived their parent: only then do their CPU seconds count."""
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _quality(folder: Path, dropped: list[str]) -> dict[str, float]:
    ids = json.loads((folder / "ids.json").read_text())
    copies = {id for id in ids if id.endswith("copy") and id[:-4] in ids}
    gone = {id.removesuffix("copy") for id in dropped}
    found = sum(id[:-4] in gone for id in copies)
    return {"recall": found / len(copies), "others": len(dropped) - found, "dropped": len(dropped)}


def compare(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Medians over runs taken in turn."""
    pythons = {peer: getattr(options, peer.partition("_")[0], sys.executable) for peer in PEERS}
    runs: dict[str, list[dict[str, float]]] = {peer: [] for peer in options.sides if pythons[peer]}
    for _ in range(options.runs):
        for peer, measured in runs.items():
            measured.append(measure(peer, pythons[peer], folder, options.workers))
    return {
        peer: {name: statistics.median(run[name] for run in measured) for name in measured[0]}
        for peer, measured in runs.items()
    }


def table(medians: dict[str, dict[str, float]], docs: int) -> str:
    """The medians as Markdown, with the rate of the first side over each."""
    lines = ["| | wall s | docs/s | ours / it | CPU s | docs per CPU s | ours / it | recall | others |"]
    lines.append("|---" * 9 + "|")
    ours = next(iter(medians.values()))
    for peer, row in medians.items():
        rates = [
            f"{row[name]:.1f} | {docs / row[name]:,.0f} | {row[name] / ours[name]:.1f}"
            for name in ("wall_s", "cpu_s")
        ]
        lines.append(f"| {peer} | {' | '.join(rates)} | {row['recall']:.4f} | {row['others']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--docs", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--datatrove", help="interpreter that has datatrove")
    parser.add_argument("--daft", help="interpreter that has Daft")
    parser.add_argument("--sides", nargs="+", choices=PEERS, default=PEERS, help="the first against each")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        start = time.perf_counter()
        dropped = globals()[options.run](options.corpus, options.out / "out", options.workers)
        print(json.dumps({"work_s": time.perf_counter() - start, "dropped": dropped}))
        return
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows = passages(options.corpus, options.docs, options.seed)
        write(rows, folder)
        (folder / "ids.json").write_text(json.dumps([id for id, _ in rows]))
        medians = compare(options, folder)
    print(json.dumps(medians) if options.json else table(medians, options.docs))


if __name__ == "__main__":
    main()
