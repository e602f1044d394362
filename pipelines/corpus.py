"""Draws the demo's corpus: articles about rendered scenes in MMC4 layout, their pictures, a labelled folder.

Every document is a function of (seed, number), so shards are drawn in any number of processes with equal
bytes, and a copy can be written without having seen its original.
"""

import hashlib
import json
import multiprocessing
import random
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pipelines.faults import (
    ADDRESS_FAULTS,
    ARTICLE_FAULTS,
    BROKEN_LINES,
    PAGE_FAULTS,
    PICTURE_FAULTS,
    Planted,
    Served,
    intact,
    plant,
)
from pipelines.prose import Article, Figure, write_article
from pipelines.scenes import SHAPES, draw_labelled, render

SHARD_DOCUMENTS = 250
MISSING_SHARD = 1
BROKEN_EVERY = 3
PROBE_PICTURES = {"train": 1500, "val": 500}
FACE_SHARE = 0.05
ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Truth:
    """What was drawn and planted: what a pipeline must find.

    Attributes:
        documents: readable documents over all whole shards, copies included.
        images: image references in them.
        files: picture files that the host serves, unusable ones included.
        classes: names of the probe's classes.
        probe: pictures of each part of the labelled folder.
        faults: planted faults, each with the addresses (pages, pictures) or file names that carry it.
    """

    documents: int
    images: int
    files: int
    classes: tuple[str, ...]
    probe: dict[str, int]
    faults: dict[str, list[str]]


@dataclass(frozen=True)
class Corpus:
    """What all jobs of one corpus share."""

    out: Path
    base_url: str
    documents: int
    seed: int
    planted: dict[int, Planted]

    @cached_property
    def repeated_addresses(self) -> frozenset[int]:
        """The documents whose page address another document has too."""
        return frozenset(p.origin for p in self.planted.values() if p.fault == "same_url_documents")

    def random(self, *names: object) -> random.Random:
        """Random numbers for one purpose."""
        return random.Random("/".join(map(str, (self.seed, *names))))


@dataclass(frozen=True)
class Page:
    """A document as it is published: `owner` is the document whose number its pictures carry."""

    url: str
    owner: int
    article: Article
    fault: str
    is_repeated_url: bool


@dataclass(frozen=True)
class Drawn:
    """What one job drew."""

    documents: int = 0
    images: int = 0
    files: int = 0
    faults: tuple[tuple[str, str], ...] = ()


def draw_corpus(
    out: Path,
    base_url: str,
    documents: int = 3000,
    seed: int = 0,
    workers: int = 2,
    probe: Mapping[str, int] = PROBE_PICTURES,
) -> Truth:
    """Draw the corpus into `out`: `www/img`, `mmc4/data`, `scenes/{train,val}/{class}` and `truth.json`.

    Args:
        out: a new or empty folder.
        base_url: where `out/www` will be served, without a slash at its end.
        documents: documents in the whole shards, copies included; about twice as many pictures.
        seed: equal seeds and addresses give equal bytes.
        workers: processes; 1 draws in this one.
        probe: pictures of each part of the labelled folder.

    Raises:
        RecipeError: there are too few documents for the faults.
    """
    corpus = Corpus(out, base_url.rstrip("/"), documents, seed, plant(documents, seed))
    for folder in ("www/img", "mmc4/data"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    drawn = _run_all(_jobs(corpus, probe), workers)
    faults = defaultdict(list)
    for name, where in [fault for part in drawn for fault in part.faults] + _tear_and_skip(corpus):
        faults[name].append(where)
    truth = Truth(
        documents=sum(part.documents for part in drawn),
        images=sum(part.images for part in drawn),
        files=sum(part.files for part in drawn),
        classes=tuple(sorted(SHAPES)),
        probe=dict(probe),
        faults={name: faults[name] for name in sorted(faults)},
    )
    (out / "truth.json").write_text(json.dumps(asdict(truth), indent=1) + "\n", encoding="utf-8")
    return truth


def _jobs(corpus: Corpus, probe: Mapping[str, int]) -> list[Callable[[], Drawn]]:
    """One job per shard and per part of the labelled folder."""
    for folder in ("www/img", "mmc4/data"):
        (corpus.out / folder).mkdir(parents=True, exist_ok=True)
    jobs: list[Callable[[], Drawn]] = [
        partial(_draw_shard, corpus, number, start)
        for number, start in zip(
            _shard_numbers(corpus), range(0, corpus.documents, SHARD_DOCUMENTS), strict=True
        )
    ]
    return jobs + [partial(_draw_probe, corpus, part, pictures) for part, pictures in probe.items()]


def _run_all(jobs: list[Callable[[], Drawn]], workers: int) -> list[Drawn]:
    if workers <= 1:
        return [job() for job in jobs]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [future.result() for future in [pool.submit(job) for job in jobs]]


def _shard_numbers(corpus: Corpus) -> list[int]:
    """Numbers of the whole shards: one number is missing, as upstream lacks fourteen."""
    count = -(-corpus.documents // SHARD_DOCUMENTS)
    return [number for number in range(count + 1) if number != MISSING_SHARD]


def _shard_path(corpus: Corpus, number: int) -> Path:
    return corpus.out / "mmc4" / "data" / f"docs_shard_{number}_v2.jsonl.zip"


def _tear_and_skip(corpus: Corpus) -> list[tuple[str, str]]:
    """Leave half of a copy of the last shard behind it; report it and the missing number."""
    last = _shard_numbers(corpus)[-1]
    whole = _shard_path(corpus, last).read_bytes()
    torn = _shard_path(corpus, last + 1)
    torn.write_bytes(whole[: len(whole) // 2])
    return [("torn_shards", torn.name), ("missing_shards", _shard_path(corpus, MISSING_SHARD).name)]


def _draw_shard(corpus: Corpus, number: int, start: int) -> Drawn:
    """Write the documents from `start` on as one zip, and their pictures."""
    path = _shard_path(corpus, number)
    lines: list[str] = []
    images = files = 0
    faults: list[tuple[str, str]] = []
    for index in range(start, min(start + SHARD_DOCUMENTS, corpus.documents)):
        page = _page(corpus, index)
        served = _served(corpus, page)
        files += sum(_publish(corpus, page, index, name, data) for name, data in served)
        lines.append(json.dumps(_row(corpus, page, [name for name, _ in served]), ensure_ascii=False))
        faults += _told(corpus, page, [name for name, _ in served])
        images += len(served)
    documents = len(lines)
    if number % BROKEN_EVERY == 0:
        lines[documents // 2 : documents // 2] = BROKEN_LINES
        faults += [("broken_lines", path.name)] * len(BROKEN_LINES)
    with zipfile.ZipFile(path, "w") as archive:
        member = zipfile.ZipInfo(path.name.removesuffix(".zip"), ZIP_DATE)
        archive.writestr(member, "\n".join(lines) + "\n", zipfile.ZIP_DEFLATED)
    return Drawn(documents, images, files, tuple(faults))


def _page(corpus: Corpus, index: int) -> Page:
    """The document of this number with its fault worked in."""
    fault, origin = "", index
    if index in corpus.planted:
        fault, origin = corpus.planted[index].fault, corpus.planted[index].origin
    owner = origin if fault == "exact_duplicate_documents" else index
    article = write_article(corpus.random("article", owner))
    if fault in ARTICLE_FAULTS:
        other = write_article(corpus.random("article", origin))
        article = ARTICLE_FAULTS[fault](article, other, corpus.random("fault", index))
    address = origin if fault == "same_url_documents" else index
    url = f"{corpus.base_url}/page/{address:05d}.html"
    return Page(url, owner, article, fault, address in corpus.repeated_addresses)


def _served(corpus: Corpus, page: Page) -> list[tuple[str, Served]]:
    """File name and content of every picture of a page, in the order of its figures."""
    spoil = PICTURE_FAULTS.get(page.fault, intact)
    parts = [(spoil if k == 0 else intact)(render(f.scene)) for k, f in enumerate(page.article.figures)]
    return [(f"{part.prefix}{page.owner:05d}-{k}{part.suffix}", part) for k, part in enumerate(parts)]


def _publish(corpus: Corpus, page: Page, index: int, name: str, served: Served) -> int:
    """Write a picture where the host serves it, unless its owner does; how many files that makes."""
    if served.data is None or page.owner != index:
        return 0
    path = corpus.out / "www" / "img" / name
    path.write_bytes(served.data)
    if served.headers:
        path.with_name(f"{name}.headers").write_text(served.headers, encoding="utf-8")
    return 1


def _row(corpus: Corpus, page: Page, names: list[str]) -> dict[str, Any]:
    """The document as a line of MMC4; its images are not in the order of its texts."""
    rng = corpus.random("row", page.owner)
    matrix = [_similarities(figure, len(page.article.texts), rng) for figure in page.article.figures]
    infos = [
        {
            "image_name": f"{hashlib.sha1(name.encode()).hexdigest()[:12]}{Path(name).suffix}",
            "raw_url": _raw_url(corpus, page, name) if k == 0 else _url(corpus, name),
            "matched_text_index": figure.anchor,
            "matched_sim": matrix[k][figure.anchor],
            "face_detections": [[0.2, 0.1, 0.4, 0.3]] if rng.random() < FACE_SHARE else None,
        }
        for k, (figure, name) in enumerate(zip(page.article.figures, names, strict=True))
    ]
    order = rng.sample(range(len(infos)), len(infos))
    return {
        "image_info": [infos[k] for k in order],
        "similarity_matrix": [matrix[k] for k in order],
        "text_list": list(page.article.texts),
        "url": page.url,
        "could_have_url_duplicate": int(page.is_repeated_url),
    }


def _similarities(figure: Figure, texts: int, rng: random.Random) -> list[float]:
    """A stand-in for CLIP's cosines of a picture with every text, on CLIP's scale."""
    row = [round(rng.uniform(0.10, 0.15), 6) for _ in range(texts)]
    row[figure.anchor] = round(rng.uniform(0.26, 0.36) if figure.described else rng.uniform(0.16, 0.23), 6)
    return row


def _url(corpus: Corpus, name: str) -> str:
    return f"{corpus.base_url}/img/{name}"


def _raw_url(corpus: Corpus, page: Page, name: str) -> str:
    """The address of a page's first picture, as the page writes it."""
    url = _url(corpus, name)
    return ADDRESS_FAULTS[page.fault](corpus.base_url, url) if page.fault in ADDRESS_FAULTS else url


def _told(corpus: Corpus, page: Page, names: list[str]) -> Iterator[tuple[str, str]]:
    """Fault and address, for the truth."""
    for figure, name in zip(page.article.figures, names, strict=True):
        if not figure.described:
            yield "low_similarity_images", _url(corpus, name)
    if page.fault in PICTURE_FAULTS or page.fault in ADDRESS_FAULTS:
        yield page.fault, _url(corpus, names[0])
    elif page.fault == "copied_images":
        yield page.fault, _url(corpus, names[-1])
    elif page.fault in ARTICLE_FAULTS or page.fault in PAGE_FAULTS:
        yield page.fault, page.url


def _draw_probe(corpus: Corpus, part: str, pictures: int) -> Drawn:
    """Write one part of the labelled folder; none of its pictures is in a document."""
    draw_labelled(corpus.out / "scenes" / part, pictures, f"{corpus.seed}/probe/{part}")
    return Drawn()
