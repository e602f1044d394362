"""The stage: every row accounted for, equal bytes however it ran, memory flat, torn files alone."""

import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
from schemas.documents import DOCUMENTS, Document, from_row
from schemas.errors import RecipeError
from schemas.manifest import read_manifest
from schemas.versions import check

MMC4 = Ingest(format="mmc4")
RUN = """
import sys
from pathlib import Path
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
if __name__ == "__main__":
    ingest(Path(sys.argv[1]), Path(sys.argv[2]), Ingest(format="mmc4"), Engine(workers=int(sys.argv[3])))
"""
PEAKS = """
import sys
from pathlib import Path
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest
for rows in ("1500", "9000"):
    ingest(Path(sys.argv[1]) / f"src{rows}", Path(sys.argv[1]) / rows, Ingest(format="mmc4"), Engine())
    status = Path("/proc/self/status").read_text().splitlines()
    print(*(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def row(number, images=2, texts=4, length=10):
    return {
        "text_list": [f"Sentence {i} of page {number}. " * length for i in range(texts)],
        "image_info": [
            {"raw_url": f"/{number}/{i}.jpg", "image_name": f"{i}.jpg", "matched_text_index": i % texts,
             "matched_sim": 0.25, "face_detections": None} for i in range(images)
        ],
        "similarity_matrix": [[0.25] * texts for _ in range(images)],
        "url": f"http://site.example/{number}.html",
        "could_have_url_duplicate": 0,
    }  # fmt: skip


def write_shard(folder, number, lines):
    folder.mkdir(parents=True, exist_ok=True)
    name = f"docs_shard_{number}_v2.jsonl"
    with zipfile.ZipFile(folder / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, "\n".join(lines))


def corpus(folder, shards=6, rows=60):
    for number in range(shards):
        lines = [json.dumps(row(number * rows + i)) for i in range(rows)]
        if number % 2:
            lines[3:3] = ["[]", '{"text_list": ["cut', json.dumps(row(0) | {"text_list": None})]
        bad = row(-1)
        bad["image_info"][1]["matched_text_index"] = 99
        write_shard(folder, number, [*lines, json.dumps(bad)])
    return folder


def content(out):
    return {path.relative_to(out): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def documents(out):
    shards = [out / shard.name for shard in read_manifest(out).shards]
    return [from_row(found) for path in shards for found in pq.read_table(path).to_pylist()]


def test_every_row_and_image_is_accounted_for(tmp_path):
    out = tmp_path / "out"
    manifest = ingest(corpus(tmp_path / "src"), out, MMC4, Engine())
    ledger = manifest.ledger
    assert ledger.documents.model_dump(exclude_none=True) == {
        "read": 6 * 61 + 9, "kept": 6 * 61,
        "rejected": {"bad_type": 3, "broken_json": 3, "not_an_object": 3},
    }  # fmt: skip
    assert ledger.images.model_dump(exclude_none=True) == {
        "read": 6 * 61 * 2 + 6, "kept": 6 * 61 * 2 - 6,
        "rejected": {"anchor_out_of_range": 6, "document_rejected": 6},
    }  # fmt: skip
    assert (ledger.files.read, ledger.files.kept, manifest.failed, manifest.notes) == (6, 6, {}, [])
    rejects = pq.read_table(out / "rejects" / "00001.parquet").to_pylist()
    assert sum(found["count"] for found in rejects) == 6
    assert rejects[1]["place"] == "docs_shard_1_v2.jsonl.zip!docs_shard_1_v2.jsonl:5"
    found = documents(out)
    assert len({document.id for document in found}) == len(found) == 6 * 61
    assert found[0].images[0].url == "http://site.example/0/0.jpg"
    check(pq.read_schema(out / "00000.parquet").metadata, DOCUMENTS, out)


def test_equal_bytes_with_one_and_four_workers_and_a_second_run_does_nothing(tmp_path):
    src = corpus(tmp_path / "src")
    ingest(src, tmp_path / "one", MMC4, Engine(workers=1))
    ingest(src, tmp_path / "four", MMC4, Engine(workers=4))
    assert content(tmp_path / "one") == content(tmp_path / "four")
    before = (tmp_path / "one" / "00000.parquet").stat().st_mtime_ns
    ingest(src, tmp_path / "one", MMC4, Engine(workers=1))
    assert (tmp_path / "one" / "00000.parquet").stat().st_mtime_ns == before


def test_a_run_killed_in_the_middle_is_completed_to_the_same_bytes(tmp_path):
    src = corpus(tmp_path / "src", shards=8, rows=400)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    ingest(src, whole, MMC4, Engine())
    run = subprocess.Popen([sys.executable, "-c", RUN, src, killed, "1"])
    while run.poll() is None and not (killed / "00002.parquet").exists():
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    assert not (killed / "manifest.json").exists()
    kept = (killed / "00001.parquet").stat().st_mtime_ns
    ingest(src, killed, MMC4, Engine())
    assert content(killed) == content(whole)
    assert (killed / "00001.parquet").stat().st_mtime_ns == kept


def test_what_is_said_of_a_torn_file_is_the_same_wherever_the_source_lies(tmp_path):
    manifests = []
    for place in ("here", "some/where/else"):
        src, out = tmp_path / place / "dump", tmp_path / place / "out"
        write_shard(src / "part", 0, [json.dumps(row(0))])
        whole = (src / "part" / "docs_shard_0_v2.jsonl.zip").read_bytes()
        (src / "part" / "docs_shard_1_v2.jsonl.zip").write_bytes(whole[: len(whole) // 2])
        ingest(src, out, MMC4, Engine())
        manifests.append((out / "manifest.json").read_bytes())
    assert manifests[0] == manifests[1]
    assert b"part/docs_shard_1_v2.jsonl.zip: torn" in manifests[0]


def test_a_torn_file_fails_alone_and_is_made_once_repaired(tmp_path):
    src, out = corpus(tmp_path / "src", shards=3), tmp_path / "out"
    path = src / "docs_shard_1_v2.jsonl.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    manifest = ingest(src, out, MMC4, Engine())
    assert list(manifest.failed) == ["docs_shard_1_v2.jsonl.zip"]
    assert [shard.name for shard in manifest.shards] == ["00000.parquet", "00002.parquet"]
    assert manifest.ledger.documents.balances
    assert manifest.ledger.files
    assert manifest.ledger.files.model_dump(exclude_none=True) == {
        "read": 3,
        "kept": 2,
        "rejected": {"failed": 1},
    }
    untouched = (out / "00000.parquet").stat().st_mtime_ns
    path.write_bytes(whole)
    assert not ingest(src, out, MMC4, Engine()).failed
    assert (out / "00000.parquet").stat().st_mtime_ns == untouched
    assert len(documents(out)) == 3 * 61


def test_peak_memory_does_not_grow_with_the_file(tmp_path):
    line = json.dumps(row(0, images=3, texts=12, length=20))
    for rows in (1500, 9000):
        write_shard(tmp_path / f"src{rows}", 0, [line] * rows)
    small, large = (
        int(peak)
        for peak in subprocess.run(
            [sys.executable, "-c", PEAKS, tmp_path], check=True, capture_output=True
        ).stdout.split()
    )
    assert large - small < 20_000, (small, large)  # KiB; the larger file holds 45 MB more


def test_a_file_of_garbage_is_counted_but_not_listed_for_ever(tmp_path):
    write_shard(tmp_path / "src", 0, ["garbage"] * 12_345 + [json.dumps(row(0))])
    manifest = ingest(tmp_path / "src", tmp_path / "out", MMC4, Engine())
    assert manifest.ledger.documents.model_dump(exclude_none=True) == {
        "read": 12_346, "kept": 1, "rejected": {"broken_json": 12_345}
    }  # fmt: skip
    rejects = pq.read_table(tmp_path / "out" / "rejects" / "00000.parquet")
    assert rejects.num_rows == 10_001
    assert sum(rejects["count"].to_pylist()) == 12_345


def test_wrong_orders_are_told_before_work(tmp_path):
    src = corpus(tmp_path / "src", shards=1)
    with pytest.raises(RecipeError, match="did you mean mmc4"):
        ingest(src, tmp_path / "out", Ingest(format="mmc5"), Engine())
    with pytest.raises(RecipeError, match="did you mean max_line_nbytes"):
        ingest(src, tmp_path / "out", Ingest(format="mmc4", source={"max_lines": 3}), Engine())
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.docx").write_text("mine")
    with pytest.raises(RecipeError, match=r"thesis\.docx"):
        ingest(src, tmp_path / "taken", MMC4, Engine())
    for inside in (src, src / "out", src / "a" / ".." / "out"):
        with pytest.raises(RecipeError, match="name one outside it"):
            ingest(src, inside, MMC4, Engine())
    assert not (tmp_path / "out").exists()


def test_one_file_is_a_source_too(tmp_path):
    src = corpus(tmp_path / "src", shards=2) / "docs_shard_1_v2.jsonl.zip"
    manifest = ingest(
        src, tmp_path / "out", Ingest(format="mmc4", source={"license": "ODC-BY-1.0"}), Engine()
    )
    assert [shard.name for shard in manifest.shards] == ["00001.parquet"]
    first: Document = documents(tmp_path / "out")[0]
    assert first.license == "ODC-BY-1.0"
    assert Path(manifest.inputs[0].name) == Path("docs_shard_1_v2.jsonl.zip")
