"""How memory and time grow with the corpus: stages on n and 10 n documents, exchanges on 10k to 1M.

    python benchmarks/scale.py [--work FOLDER] [--sizes 10000 100000 1000000] [--stages 10000] [--json FILE]

The corpus is made here: documents of about 200 words of a Zipf vocabulary and three image URLs, with facts,
without bytes; 5 % are near copies (3 % of the words replaced), 2 % exact ones, pictures repeat as a power law
has it. Every figure is that of a process of its own with two workers: seconds, CPU seconds, and the peak of
the resident memory of all its processes together, sampled twenty times a second (shared pages count in each).
Goals: a stage's peak on ten times the documents below 1.3 times; an exchange's time near-linear.
"""

import argparse
import hashlib
import io
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
import orjson
import psutil
from PIL import Image as Pixels

from lcl_data import store
from lcl_data.draft import DocumentWriter
from lcl_data.engine import Engine
from lcl_data.stage import Stage, Unit, document_units
from schemas.documents import Document, Image, document_id, to_table
from schemas.images import IMAGES, SUCCESS

SEED, WORKERS, PER_STORE_SHARD = 0, 2, 10_000
RULES = [  # the first four are the road's
    "exact_document",
    "same_url",
    {"same_image_bytes": {"scope": "corpus"}},
    "near_document",
    "paragraph",
    "boilerplate_image",
    "image_set",
    {"near_image": {"scope": "corpus", "likeness": 0, "distance": 5}},
]
ROAD = ("ingest", "filter", "dedupe", "shard")


@cache
def vocabulary() -> list[str]:
    random = np.random.default_rng(SEED)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    return ["".join(random.choice(letters, random.integers(2, 11))) for _ in range(20_000)]


def words_of(number: int) -> list[str]:
    """The words of a document; every twentieth is a near copy of the one before, some repeat an early one."""
    origin = number - 1 if number % 20 == 1 else number // 2 if number % 50 == 7 else number
    random = np.random.default_rng([SEED, origin])
    places = np.minimum(random.zipf(1.3, random.integers(100, 300)), 20_000) - 1
    if number % 20 == 1:
        change = np.random.default_rng([SEED, number])
        hit = change.random(len(places)) < 0.03
        places[hit] = change.integers(0, 20_000, hit.sum())
    return [vocabulary()[place] for place in places]


def picture_of(number: int, corpus: int) -> Image:
    """One of 2 pictures a document, the first ones far more often; three in a row look alike."""
    url = f"http://host{number % 997}.example/{number}.jpg"
    sha = hashlib.sha256(b"%d" % number).hexdigest()
    alike = int.from_bytes(hashlib.blake2b(b"%d" % (number // 3), digest_size=8).digest(), "big")
    size = {"width": 400, "height": 300, "nbytes": 30_000, "format": "jpeg"}
    shard, row = divmod(number, PER_STORE_SHARD)
    return Image(url, f"{shard:05d}{row:04d}", sha256=sha, phash=alike ^ (1 << number % 3), **size)


def document(number: int, corpus: int) -> Document:
    words = words_of(number)
    random = np.random.default_rng([SEED, number, 1])
    pictures = [picture_of(int(2 * corpus * u**3), corpus) for u in random.random(3)]
    items = [" ".join(words[at : at + 40]) for at in range(0, len(words), 40)]
    for place, picture in zip((1, 2, len(items)), pictures, strict=True):
        items.insert(place, picture)
    host = f"http://site{number % 10_007}.example"
    return Document(
        document_id("b", "b", number), "b", tuple(items), f"{host}/{number % 97 * 1000 + number // 3}"
    )


def write_documents(corpus: int, unit: Unit, draft) -> None:
    with DocumentWriter(draft) as writer:
        for start in range(unit.payload, min(unit.payload + per_shard(corpus), corpus), 1000):
            end = min(start + 1000, unit.payload + per_shard(corpus), corpus)
            documents = [document(number, corpus) for number in range(start, end)]
            images = 3 * len(documents)
            draft.count("documents").read += len(documents)
            draft.count("images").read += images
            writer.write(to_table(documents), images)


def per_shard(corpus: int) -> int:
    """Documents of a shard: also the smallest corpus has several, so that all sizes use as many processes."""
    return max(1000, min(10_000, corpus // 4))


def make_documents(folder: Path, corpus: int) -> Path:
    starts = range(0, corpus, per_shard(corpus))
    units = [Unit(number, f"{number}", start) for number, start in enumerate(starts)]
    Stage("ingest", folder, {"corpus": corpus}, ()).run(
        partial(write_documents, corpus), units, Engine(WORKERS)
    )
    return folder


def write_store(corpus: int, are_read: bool, unit: Unit, draft) -> None:
    """A shard of the store; with pictures of one colour in its tar where `shard` shall read them."""
    rows = []
    with draft.path(".tar").open("wb") as file:
        tar = store.TarWriter(file)
        for number in range(unit.payload, min(unit.payload + PER_STORE_SHARD, 2 * corpus)):
            image = picture_of(number, corpus)
            content = jpeg(number % 64)
            facts = {name: getattr(image, name) for name in ("url", "key", "sha256", "phash", "format")}
            sizes = {"original_width": 400, "original_height": 300, "original_nbytes": 30_000}
            offset = tar.add(f"{image.key}.jpg", content) if are_read else None
            place = {"offset": offset, "nbytes": len(content), "references": 1}
            rows.append(dict.fromkeys(IMAGES.names) | facts | sizes | place | {"status": SUCCESS})
        tar.close()
    store.write_table(draft.path(".parquet"), rows)
    for suffix in (".tar", ".parquet"):
        draft.rows(suffix, len(rows))
    draft.count("images").read = draft.count("images").kept = len(rows)


@cache
def jpeg(colour: int) -> bytes:
    file = io.BytesIO()
    Pixels.new("RGB", (64, 48), (4 * colour, 128, 255 - 4 * colour)).save(file, "JPEG")
    return file.getvalue()


def make_store(folder: Path, corpus: int, are_read: bool) -> Path:
    starts = range(0, 2 * corpus, PER_STORE_SHARD)
    units = [Unit(number, f"{number}", start) for number, start in enumerate(starts)]
    Stage("download", folder, {"corpus": corpus}, ()).run(
        partial(write_store, corpus, are_read), units, Engine(WORKERS)
    )
    return folder


def evaluation_sets(work: Path) -> list[dict]:
    """The rules that ask for sets: a thousand texts of the corpus, and 64 pictures."""
    texts, pictures = work / "evaluation.jsonl", work / "evaluation"
    texts.write_bytes(b"\n".join(orjson.dumps({"text": " ".join(words_of(97 * n))}) for n in range(1000)))
    pictures.mkdir(exist_ok=True)
    for number, pixels in enumerate(np.random.default_rng(SEED).integers(0, 255, (64, 8, 8, 3), np.uint8)):
        Pixels.fromarray(pixels).resize((64, 64)).save(pictures / f"{number}.png")
    by_hash = {"decontaminate_image": {"against": str(pictures), "likeness": 0}}
    return [{"decontaminate_text": {"against": str(texts)}}, by_hash]


def write_mmc4(corpus: int, files: int, folder: Path) -> Path:
    """The same documents as `files` zips of MMC4's layout: larger files, not more of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        path = folder / f"docs_shard_{number}_v2.jsonl.zip"
        if path.exists():
            continue
        packed = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        with packed as archive, archive.open(f"docs_shard_{number}_v2.jsonl", "w") as file:
            for n in range(number, corpus, files):
                file.write(orjson.dumps(mmc4_row(document(n, corpus))) + b"\n")
    return folder


def mmc4_row(made: Document) -> dict:
    infos = [
        {"image_name": f"{n}.jpg", "raw_url": image.url, "matched_text_index": n, "matched_sim": 0.3}
        for n, image in enumerate(made.images)
    ]
    return {"text_list": list(made.texts), "url": made.url, "image_info": infos}


def ask(name: str, work: Path, corpus: int) -> None:
    """Run one question or stage; the process that does it is measured by its parent."""
    engine = Engine(WORKERS)
    docs, images, out = work / f"docs{corpus}", work / f"store{corpus}", work / "out"
    if name == "distinct_urls":
        from lcl_data.urls import distinct_urls

        distinct_urls(out, document_units(docs), 3 * corpus, engine)
    elif name == "attach":
        from lcl_data.attach import attach

        attach(out, document_units(docs), images, 3 * corpus, engine)
    elif name == "ingest":
        from lcl_data.ingest import Ingest, ingest

        ingest(work / f"mmc4_{corpus}", out, Ingest(format="mmc4"), engine)
    elif name == "filter":
        from lcl_data.filter import filter_documents
        from lcl_data.filters import Filter
        from pipelines.recipes import members

        cuts = members("lcl_data.filters", ["image_size", "text_length", "character_repetition"], Filter)
        filter_documents(docs, out, cuts, engine)
    elif name == "shard":
        from lcl_data.shard import Shard, shard
        from lcl_data.tokenizer import train

        if not (path := work / "tokenizer.json").exists():
            train((" ".join(words_of(n)) for n in range(2000)), 4096, path)
        shard(docs, images, out, Shard(tokenizer=str(path)), engine)
    else:
        from lcl_data.dedupe import Rule
        from lcl_data.deduplicate import deduplicate
        from pipelines.recipes import members

        asked = RULES[:4] if name == "dedupe" else [json.loads(name)]
        deduplicate(docs, out, members("lcl_data.dedupe", asked, Rule), engine)


def measured(name: str, work: Path, corpus: int) -> dict:
    shutil.rmtree(work / "out", ignore_errors=True)
    command = [sys.executable, __file__, "--work", work, "--ask", name, "--corpus", corpus]
    start, before, peak = time.time(), cpu_s(), 0
    with subprocess.Popen([str(part) for part in command]) as process:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, resident(tree))
            time.sleep(0.05)
    assert process.returncode == 0, name
    seconds, used = time.time() - start, cpu_s() - before
    return {"seconds": seconds, "cpu_s": used, "documents_per_cpu_s": corpus / used, "peak_gb": peak / 1e9}


def cpu_s() -> float:
    """Of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def resident(tree: psutil.Process) -> int:
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in [tree, *tree.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total


def compare(work: Path, names: list[str], sizes: list[int]) -> dict:
    found = {}
    for name in names:
        found[name] = {size: measured(name, work, size) for size in sizes}
        for size, one in found[name].items():
            spent = f"{one['seconds']:7.1f} s {one['cpu_s']:7.1f} CPU-s"
            rate, peak = one["documents_per_cpu_s"], one["peak_gb"]
            print(f"{name:45s} {size:9,d} documents {spent} {rate:9,.0f}/CPU-s {peak:6.2f} GB", flush=True)
        memory, cpu = (found[name][sizes[-1]][of] / found[name][sizes[0]][of] for of in ("peak_gb", "cpu_s"))
        print(f"{name:45s} memory x {memory:.2f}, CPU x {cpu:.1f}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="memory and time against the size of the corpus")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--stages", type=int, default=10_000, help="documents of the road's smaller corpus")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(options.ask, options.work, options.corpus)
        return
    with tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        work.mkdir(exist_ok=True)
        stages = [options.stages, 10 * options.stages] if options.stages else []
        for size in sorted({*options.sizes, *stages}):
            make_documents(work / f"docs{size}", size)
            make_store(work / f"store{size}", size, size in stages)
        for size in stages:
            write_mmc4(size, 2, work / f"mmc4_{size}")
        result = {"road": compare(work, list(ROAD), stages) if stages else {}}
        questions = ["distinct_urls", "attach", *map(json.dumps, [*RULES, *evaluation_sets(work)])]
        result["exchanges"] = compare(work, questions, options.sizes) if options.sizes else {}
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
