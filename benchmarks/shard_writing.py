"""`lcl shard` beside webdataset's ShardWriter: the same documents, texts and JPEGs, the same tokenizer.

    python benchmarks/shard_writing.py [--documents 3000] [--runs 5]

Ours reads document shards and the tars of an image store; the peer reads lines of JSON and loose
files, as its users do. Both tokenize every text with the same tokenizer.json and write
WebDataset tars (`<id>.json`, `<id>.0.jpg`, ...) of 500 documents; one process each, and two for ours, because
ShardWriter has one. Whole processes in turn, medians; the samples of both are compared, texts and bytes.
Goal: 2 times ShardWriter.
"""

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as Pixels

from lcl_data import store
from lcl_data.draft import DocumentWriter
from lcl_data.engine import Engine
from lcl_data.stage import Stage, Unit
from lcl_data.tokenizer import train
from schemas.documents import Document, Image, document_id, to_table
from schemas.images import IMAGES, SUCCESS

PER_SHARD, PICTURES = 500, 512
PEER = """
import json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import webdataset
from tokenizers import Tokenizer
work = Path(sys.argv[1])
tokenizer = Tokenizer.from_file(str(work / "tokenizer.json"))
tokenizer.no_padding(); tokenizer.no_truncation()
with webdataset.ShardWriter(str(work / "peer" / "%05d.tar"), maxcount=int(sys.argv[2]), verbose=0) as writer:
    for line in (work / "documents.jsonl").open():
        document = json.loads(line)
        tokens = [tokenizer.encode(text, add_special_tokens=False).ids for text in document["texts"] if text]
        sample = {"__key__": document["id"], "json": {**document, "tokens": tokens}}
        names = [name for name in document["images"] if name]
        for number, name in enumerate(names):
            sample[f"{number}.jpg"] = (work / "loose" / name).read_bytes()
        writer.write(sample)
"""
OURS = """
import sys
from pathlib import Path
from lcl_data.engine import Engine
from lcl_data.shard import Shard, shard
if __name__ == "__main__":
    work = Path(sys.argv[1])
    settings = Shard(tokenizer=str(work / "tokenizer.json"), containers=["webdataset"], max_tokens=1 << 16)
    shard(work / "docs", work / "store", work / "ours", settings, Engine(int(sys.argv[2])))
"""


def pictures() -> list[bytes]:
    """JPEGs of 256 x 192, about 20 kB each."""
    random = np.random.default_rng(0)
    return [jpeg(random) for _ in range(PICTURES)]


def jpeg(random: np.random.Generator) -> bytes:
    coarse = Pixels.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((256, 192), Pixels.Resampling.BICUBIC), dtype=np.int16)
    noise = random.integers(-14, 15, smooth.shape, dtype=np.int16)
    file = io.BytesIO()
    Pixels.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=88)
    return file.getvalue()


def make(work: Path, count: int) -> None:
    """The same corpus three times: document shards, lines of JSON, and the pictures in a store and loose."""
    contents, random = pictures(), np.random.default_rng(1)
    vocabulary = ["".join(random.choice(list("etaoinshrdlu"), random.integers(2, 9))) for _ in range(5000)]
    documents = [document(number, vocabulary, random) for number in range(count)]
    train((item for item in documents[0].items if isinstance(item, str)), 1000, work / "tokenizer.json")
    (work / "loose").mkdir()
    for number, content in enumerate(contents):
        (work / "loose" / f"00000{number:04d}.jpg").write_bytes(content)
    Stage("download", work / "store", {}, ()).run(write_store, [Unit(0, "0", contents)], Engine())
    starts = range(0, count, PER_SHARD)
    units = [Unit(n, f"{n}", documents[start : start + PER_SHARD]) for n, start in enumerate(starts)]
    Stage("ingest", work / "docs", {}, ()).run(write_documents, units, Engine())
    with (work / "documents.jsonl").open("w") as file:
        for each in documents:
            texts = [item if isinstance(item, str) else None for item in each.items]
            images = [f"{item.key}.jpg" if isinstance(item, Image) else None for item in each.items]
            file.write(json.dumps({"id": each.id, "texts": texts, "images": images}) + "\n")


def document(number: int, vocabulary: list[str], random: np.random.Generator) -> Document:
    items = []
    for _ in range(3):
        items.append(" ".join(vocabulary[n] for n in random.integers(0, 5000, 80)))
        key = f"00000{random.integers(0, PICTURES):04d}"
        items.append(Image(f"http://a/{key}", key))
    return Document(document_id("b", "b", number), "b", tuple(items))


def write_documents(unit: Unit, draft) -> None:
    for kind, many in (("documents", 1), ("images", 3)):
        draft.count(kind).read = many * len(unit.payload)
    with DocumentWriter(draft) as writer:
        writer.write(to_table(unit.payload), 3 * len(unit.payload))


def write_store(unit: Unit, draft) -> None:
    rows = []
    with draft.path(".tar").open("wb") as file:
        tar = store.TarWriter(file)
        for number, content in enumerate(unit.payload):
            key = f"00000{number:04d}"
            place = {"offset": tar.add(f"{key}.jpg", content), "nbytes": len(content), "references": 1}
            row = {"url": f"http://a/{key}", "key": key, "status": SUCCESS}
            rows.append(dict.fromkeys(IMAGES.names) | place | row)
        tar.close()
    store.write_table(draft.path(".parquet"), rows)
    for suffix in (".tar", ".parquet"):
        draft.rows(suffix, len(rows))
    draft.count("images").read = draft.count("images").kept = len(rows)


def timed(program: str, work: Path, out: str, argument: int) -> dict[str, float]:
    shutil.rmtree(work / out, ignore_errors=True)
    (work / out).mkdir()
    path = work / f"{out}.py"
    path.write_text(program)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    subprocess.run([sys.executable, path, work, str(argument)], check=True)
    seconds, after = time.time() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
    return {"seconds": seconds, "cpu_s": cpu}


def samples(folder: Path) -> dict[str, tuple[list, list[bytes]]]:
    """Texts and pictures of every sample, by key."""
    found: dict[str, tuple[list, list[bytes]]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, name = member.name.partition(".")
                content = archive.extractfile(member).read()
                if name == "json":
                    found.setdefault(key, ([], []))[0].extend(json.loads(content)["texts"])
                else:
                    found.setdefault(key, ([], []))[1].append(content)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="shard writing beside webdataset's ShardWriter")
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make(work, options.documents)
        sides = {
            "ShardWriter": (PEER, "peer", PER_SHARD),
            "ours, 1": (OURS, "ours", 1),
            "ours, 2": (OURS, "ours", 2),
        }
        runs = [
            {name: timed(program, work, out, n) for name, (program, out, n) in sides.items()}
            for _ in range(options.runs)
        ]
        assert samples(work / "ours") == samples(work / "peer"), "the samples differ"
    base = statistics.median(run["ShardWriter"]["seconds"] for run in runs)
    for name in sides:
        seconds, cpu = (statistics.median(run[name][part] for run in runs) for part in ("seconds", "cpu_s"))
        rate = options.documents / seconds
        print(f"{name:12s} {rate:7,.0f} documents/s  {cpu:5.2f} CPU-s  {base / seconds:4.2f} x")
    load = os.getloadavg()[0]
    print(f"medians of {options.runs} runs, {options.documents} documents; load {load:.1f}; goal 2 x")


if __name__ == "__main__":
    main()
