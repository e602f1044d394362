"""`lcl ingest mmc4` beside the plain loop that people write: zipfile, json, pyarrow.

    python benchmarks/ingest.py FOLDER_OF_ZIPS [--runs 3] [--json out.json]
    python benchmarks/ingest.py --draw 12000           # zips drawn from a seed, if no dump is at hand

Two peers, both one process and a whole program. `parse`: unzip, parse every line, collect what our Document
holds (texts and pictures in reading order), count what fails, write nothing. `write`: the same, then
`pa.Table.from_pylist` to Parquet (zstd) of our schema, a file per zip. Ours does what neither does: it keeps
every upstream field, resolves URLs, writes rejects, checksums and a ledger. Runs alternate; medians of wall
and of CPU time (user + system, children and imports included). Goal: 3 times the plain loop on two cores.
"""

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

PLAIN = """
import json, sys, zipfile
from pathlib import Path
src, out = Path(sys.argv[1]), sys.argv[2]
if out:
    import pyarrow as pa, pyarrow.parquet as pq
    from schemas.documents import DOCUMENTS, IMAGE_STRUCT
    blank = dict.fromkeys(field.name for field in IMAGE_STRUCT)
count = bad = 0
for number, path in enumerate(sorted(src.rglob("*.zip"))):
    documents = []
    try:
        with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as lines:
            for line in lines:
                try:
                    row = json.loads(line)
                    at = {}
                    for info in row["image_info"]:
                        image = (info["raw_url"], info["matched_text_index"], info["matched_sim"])
                        at.setdefault(image[1], []).append(image)
                    items = []
                    for index, text in enumerate(row["text_list"]):
                        items += at.get(index, [])
                        items.append(text)
                    documents.append((row["url"], items))
                except (ValueError, KeyError, TypeError):
                    bad += 1
    except zipfile.BadZipFile:
        continue
    count += len(documents)
    if out:
        rows = [
            {"id": f"{number}-{n}", "source": "mmc4", "url": url, "license": None, "meta": None, "items": [
                {"text": item, "image": None} if isinstance(item, str) else
                {"text": None, "image": blank | {"url": item[0], "anchor": item[1], "similarity": item[2]}}
                for item in items]}
            for n, (url, items) in enumerate(documents)
        ]
        table = pa.Table.from_pylist(rows, schema=DOCUMENTS)
        pq.write_table(table, f"{out}/{number:05d}.parquet", compression="zstd", row_group_size=1000)
print(count)
"""
OURS = "import sys; from pipelines.cli import app; app(sys.argv[1:])"


def draw(folder: Path, documents: int) -> None:
    """Zips of 250 documents with about 40 sentences and 4 pictures each, and a similarity matrix."""
    chance = random.Random(0)
    words = [f"w{chance.randrange(10**6)}" for _ in range(5000)]
    for shard in range(-(-documents // 250)):
        lines = []
        for _ in range(250):
            texts = [" ".join(chance.choices(words, k=chance.randint(5, 25))) for _ in range(40)]
            matrix = [[chance.random() for _ in texts] for _ in range(chance.randint(1, 7))]
            infos = [
                {"image_name": "0" * 12 + ".jpg", "raw_url": f"http://h.example/{chance.random()}.jpg",
                 "matched_text_index": (index := chance.randrange(40)), "matched_sim": row[index],
                 "face_detections": None}
                for row in matrix
            ]  # fmt: skip
            lines.append(json.dumps({"text_list": texts, "image_info": infos, "similarity_matrix": matrix,
                                     "url": f"http://p.example/{chance.random()}"}))  # fmt: skip
        name = f"docs_no_face_shard_{shard}_v2.jsonl"
        with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, "\n".join(lines))


def timed(command: list[str]) -> tuple[float, float, str]:
    """Wall seconds, CPU seconds with all children, and what was printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = subprocess.run(
        command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"},
    ).stdout  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu, said


def runs(src: Path, work: Path, number: int) -> dict[str, dict[str, float]]:
    """Medians of every contender."""
    out = work / "out"
    found: dict[str, list[tuple[float, float, int]]] = {}
    for _ in range(number):
        for name in ("parse", "write", "lcl, 1 worker", "lcl, 2 workers"):
            shutil.rmtree(out, ignore_errors=True)
            if name in ("parse", "write"):
                out.mkdir()
                wall, cpu, said = timed(
                    [sys.executable, "-c", PLAIN, str(src), str(out) if name == "write" else ""]
                )
                documents = int(said)
            else:
                command = ["ingest", "mmc4", str(src), str(out), "-w", name[5], "--json"]
                wall, cpu, said = timed([sys.executable, "-c", OURS, *command])
                documents = json.loads(said)["ledger"]["documents"]["kept"]
            found.setdefault(name, []).append((wall, cpu, documents))
    return {name: _median(rows) for name, rows in found.items()}


def _median(rows: list[tuple[float, float, int]]) -> dict[str, float]:
    wall, cpu, documents = (statistics.median(column) for column in zip(*rows, strict=True))
    return {"documents": documents, "wall_s": wall, "cpu_s": cpu, "docs_per_s": documents / wall,
            "docs_per_cpu_s": documents / cpu}  # fmt: skip


def main() -> None:
    """Run and report on stderr; --json writes the numbers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("src", nargs="?", type=Path)
    parser.add_argument("--draw", type=int, default=12_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        src = said.src or Path(folder) / "zips"
        if said.src is None:
            src.mkdir()
            draw(src, said.draw)
        found = runs(src, Path(folder), said.runs)
    for name, row in found.items():
        sys.stderr.write(
            f"{name:>15}: {row['documents']:.0f} documents, {row['wall_s']:.2f} s wall, "
            f"{row['cpu_s']:.2f} s CPU, {row['docs_per_s']:.0f} a second, "
            f"{row['docs_per_cpu_s']:.0f} a CPU second\n"
        )
    if said.json:
        said.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
