"""`lcl download` beside img2dataset: the same 2,000 loopback JPEGs, reduced alike to a short side of 256.

    python benchmarks/download.py [--runs 3] [--json out.json]

Both run as whole processes, in turn (ours, theirs, ours, ...), each with 2 processes, 64 requests at once to
the one host, shards of 500, area filter, JPEG quality 95, sha256; both from compiled bytecode. Measured:
images/s of the whole command and its start-up; images/s inside the shards (ours: from the first request the
server saw to the last tar; img2dataset: by the times in its own statistics, which leave out its start); CPU
seconds of all processes, which other work on the machine bends less than it does times.

Medians of the runs, beside two floors of this machine: CPU-milliseconds that our libraries, and Pillow, need
to decode, reduce and encode one of these pictures and nothing else. From ours follows a ratio of whole
commands that no start-up, fetching and writing could exceed. Goals: 10 times the whole command, 1.5 times the
window; benchmarks/README.md says what was measured and where the time goes.
"""

import argparse
import ctypes
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import simplejpeg
from PIL import Image as Pixels

from lcl_data.draft import DocumentWriter
from lcl_data.engine import Engine
from lcl_data.freed_memory import keep_freed_memory
from lcl_data.reduction import reduced
from lcl_data.stage import Stage, Unit
from schemas.documents import Document, Image, document_id, to_table

COUNT, SHARD, PROCESSES, THREADS = 2000, 500, 2, 64
QUIET = os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1", "DO_NOT_TRACK": "1", "WANDB_MODE": "disabled"}
SERVER = """
import asyncio, sys, time
from pathlib import Path
answers, first = {}, []
for path in Path(sys.argv[1]).iterdir():
    body = path.read_bytes()
    head = b"HTTP/1.1 200 OK\\r\\nContent-Type: image/jpeg\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
    answers[b"/" + path.name.encode()] = head + body
class Http(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""
    def data_received(self, data):
        self.buffer += data
        while b"\\r\\n\\r\\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\\r\\n\\r\\n", 1)
            path = head.split(b" ", 2)[1]
            if path == b"/first":
                body = b"%.6f" % (first[0] if first else 0)
                first.clear()
                head = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
                self.transport.write(head + body)
                continue
            first or first.append(time.time())
            self.transport.write(answers[path])
            if b"onnection: close" in head:
                self.transport.close()
async def main():
    server = await asyncio.get_running_loop().create_server(Http, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
PR_SET_CHILD_SUBREAPER = 36  # of prctl.h: whom a command leaves behind becomes our child
LCL = Path(sys.executable).with_name("lcl")
THEIRS = "import json, sys, img2dataset; img2dataset.download(**json.loads(sys.argv[1]))"


def write_pictures(folder: Path) -> None:
    """JPEGs of 400 x 300 at quality 85, about 39 kB each."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(COUNT):
        coarse = Pixels.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((400, 300), Pixels.Resampling.BICUBIC), dtype=np.int16)
        noise = random.integers(-18, 19, smooth.shape, dtype=np.int16)
        file = io.BytesIO()
        Pixels.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
        (folder / f"{number:05d}.jpg").write_bytes(file.getvalue())


@contextmanager
def serving(folder: Path):
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, folder], stdout=subprocess.PIPE, text=True
    ) as server:
        yield int(server.stdout.readline())
        server.terminate()


def write_documents(folder: Path, urls: list[str]) -> None:
    def write(unit: Unit, draft) -> None:
        documents = [Document(document_id("b", "b", n), "b", (Image(url),)) for n, url in enumerate(urls)]
        for kind in ("documents", "images"):
            draft.count(kind).read = len(urls)
        with DocumentWriter(draft) as writer:
            writer.write(to_table(documents), len(urls))

    Stage("ingest", folder, {}, ()).run(write, [Unit(0, "b")], Engine())


def first_request(port: int) -> float:
    from urllib.request import urlopen

    with urlopen(f"http://127.0.0.1:{port}/first") as answer:
        return float(answer.read())


def timed(command: list, log: Path) -> dict[str, float]:
    start, before = time.time(), cpu_seconds()
    with log.open("wb") as file:
        subprocess.run(command, env=QUIET, stdout=file, stderr=file, check=True)
    end = time.time()
    return {"whole": COUNT / (end - start), "cpu_s": cpu_seconds() - before, "load": os.getloadavg()[0]}


def cpu_seconds() -> float:
    """Of all processes that have ended, those included whose parent did not wait for them."""
    until = time.time() + 5
    while len(psutil.Process().children()) > 1 and time.time() < until:  # one is the server
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(0.01)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def run_ours(work: Path, port: int) -> dict[str, float]:
    shutil.rmtree(work / "ours", ignore_errors=True)
    # One host stands for many here: the limit per host is set to the other's number of threads.
    settings = [f"fetch.per_host={THREADS}", f"fetch.concurrency={THREADS}", f"images_per_shard={SHARD}"]
    settings += ["picture.short_side=256", "picture.quality=95", "picture.resample=box"]  # box: its area
    flags = [part for setting in settings for part in ("--set", setting)]
    command = [LCL, "download", work / "docs", work / "ours", "--allow-private", "-w", str(PROCESSES), *flags]
    result = timed(command, work / "ours.log")
    stats = [json.loads(path.read_text()) for path in (work / "ours").glob("*_stats.json")]
    assert sum(one["successes"] for one in stats) == COUNT
    end = max(path.stat().st_mtime for path in (work / "ours").glob("*.tar"))
    return result | {"window": COUNT / (end - first_request(port))}


def run_theirs(work: Path, port: int) -> dict[str, float]:
    shutil.rmtree(work / "theirs", ignore_errors=True)
    options = {
        "url_list": str(work / "urls.txt"),
        "output_folder": str(work / "theirs"),
        "output_format": "webdataset",
        "processes_count": PROCESSES,
        "thread_count": THREADS,
        "number_sample_per_shard": SHARD,
        "image_size": 256,
        "resize_mode": "keep_ratio",
        "resize_only_if_bigger": True,
        "encode_quality": 95,
        "enable_wandb": False,
        "compute_hash": "sha256",
    }
    result = timed([sys.executable, "-c", THEIRS, json.dumps(options)], work / "theirs.log")
    first_request(port)
    stats = [json.loads(path.read_text()) for path in (work / "theirs").glob("*_stats.json")]
    assert sum(one["successes"] for one in stats) == COUNT
    window = max(one["end_time"] for one in stats) - min(one["start_time"] for one in stats)
    return result | {"window": COUNT / window}


def main() -> None:
    parser = argparse.ArgumentParser(description="ours beside img2dataset, on loopback")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_pictures(work / "pictures")
        with serving(work / "pictures") as port:
            urls = [f"http://127.0.0.1:{port}/{number:05d}.jpg" for number in range(COUNT)]
            (work / "urls.txt").write_text("\n".join(urls))
            write_documents(work / "docs", urls)
            runs = [(run_ours(work, port), run_theirs(work, port)) for _ in range(options.runs)]
        report(runs, [floor_ms(work / "pictures", one) for one in (by_ours, by_pillow)], options.json)


def by_ours(content: bytes) -> None:
    pixels = reduced(simplejpeg.decode_jpeg(content, "RGBA"), (341, 256), "box", False)
    simplejpeg.encode_jpeg(pixels, 95, "RGBA", "420")


def by_pillow(content: bytes) -> None:
    with Pixels.open(io.BytesIO(content)) as image:
        image.resize((341, 256), Pixels.Resampling.BOX).save(io.BytesIO(), "JPEG", quality=95)


def floor_ms(folder: Path, one: Callable[[bytes], None]) -> float:
    """CPU-milliseconds of decoding, reducing and encoding a picture, and nothing else; the best of five."""
    keep_freed_memory()
    contents, times = [path.read_bytes() for path in sorted(folder.iterdir())[:100]], []
    for _ in range(5):
        start = time.process_time()
        for content in contents:
            one(content)
        times.append((time.process_time() - start) / len(contents) * 1000)
    return min(times)


Runs = list[tuple[dict[str, float], dict[str, float]]]


def report(runs: Runs, floors: list[float], path: Path | None) -> None:
    result: dict[str, object] = {"images": COUNT, "processes": PROCESSES, "floors_ms": floors, "runs": runs}
    loads = [side["load"] for run in runs for side in run]
    cpu = [statistics.median(run[side]["cpu_s"] for run in runs) for side in (0, 1)]
    for part, goal in (("whole", 10.0), ("window", 1.5)):
        ours, theirs = (statistics.median(run[side][part] for run in runs) for side in (0, 1))
        result[part] = {"ours": ours, "img2dataset": theirs, "ratio": ours / theirs, "goal": goal}
        ratio = f"{ours / theirs:4.1f} x, goal {goal:g}"
        print(f"{part:6s} ours {ours:5.0f}/s  img2dataset {theirs:5.0f}/s  {ratio}")
    print(f"CPU    ours {cpu[0]:5.1f} s   img2dataset {cpu[1]:5.1f} s   {cpu[1] / cpu[0]:4.1f} x")
    cores = os.cpu_count()
    print(f"medians of {len(runs)} runs; load average {min(loads):.1f} to {max(loads):.1f}, {cores} cores")
    bound = PROCESSES * 1000 / floors[0]
    print(f"floor: {floors[0]:.2f} CPU-ms an image (Pillow alone {floors[1]:.2f})")
    most = bound / statistics.median(run[1]["whole"] for run in runs)
    print(f"so at most {bound:.0f}/s on {PROCESSES} idle cores: {most:.1f} x img2dataset's whole command")
    if path:
        path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
