"""What the dedupe rules find of planted copies, and what they drop besides: recall and precision.

    python benchmarks/dedupe_quality.py MAKE_SOURCES.py CORPUS [--seeds 0 1 2] [--work FOLDER] [--json]

MAKE_SOURCES.py turns CORPUS (docs.jsonl and images/) into MMC4 and OBELICS dumps with planted faults, and
says in truth.json what it planted. Every dump is ingested; every rule runs by itself, over every threshold.
For the rules on pictures, those of the MMC4 dump are fetched from loopback.

A planted pair is found if not both documents stay; of the planted partial overlaps (rows `overlaps`), those
that stay are found, and each that is dropped is wrong. A dropped document is right if it was planted as a
copy, or reads like what was kept in its stead (`difflib` on words, at least 0.8: corpora hold copies that
nobody planted); a planted partial overlap that is dropped for its other half is wrong however it reads.

A re-encoded picture is found if not both it and its original stay; one of which the store has only half does
not count. A dropped picture is right if its bytes are those of what was kept, if the two are originals or
copies of one picture, or if they look alike by another measure than the rule's (mean SSIM of at least 0.8 at
192 x 192). The banner is found where it is dropped, and right is any picture of more than ten documents.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from dedupe_pictures import BASE, Pictures, families

from lcl_data.dedupe import Rule
from lcl_data.dedupe.boilerplate_image import BoilerplateImage
from lcl_data.dedupe.decontaminate_text import DecontaminateText
from lcl_data.dedupe.exact_document import ExactDocument
from lcl_data.dedupe.near_document import NearDocument
from lcl_data.dedupe.near_image import NearImage
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
from lcl_data.ingest import Ingest, ingest

FORMATS = {"mmc4": "mmc4/data", "obelics": "obelics"}
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
# (distance of the hashes, likeness of the pixels); the first is the default.
LOOKS = (
    (8, 0.75),
    (8, 0.5),
    (8, 0.6),
    (8, 0.7),
    (8, 0.8),
    (8, 0.9),
    (4, 0.75),
    (6, 0.75),
    (10, 0.75),
    (8, 0),
)
ALIKE = 0.8
RUN = 13
WORD = re.compile(r"[^\W_]+")
Pair = frozenset[str]
Place = tuple[int, int]  # document, item


@dataclass(frozen=True)
class Row:
    """One rule on one dump."""

    rule: str
    setting: str
    format: str
    seed: int
    planted: int
    found: int
    dropped: int
    right: int
    wrong: str = ""

    @property
    def recall(self) -> float:
        """Found of what was planted."""
        return self.found / self.planted if self.planted else 1.0

    @property
    def precision(self) -> float:
        """Right of what was dropped."""
        return self.right / self.dropped if self.dropped else 1.0


@dataclass(frozen=True)
class Dump:
    """A dump, ingested, and what was planted in it."""

    format: str
    seed: int
    docs: Path
    truth: dict[str, Any]
    work: Path

    def pairs(self, fault: str) -> set[Pair]:
        """The planted pairs of documents, by URL."""
        return {frozenset(pair) for pair in self.truth.get(fault, ())}

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """The words of every document, by id."""
        frame = pl.read_parquet(self.docs / "*.parquet", columns=["id", "items"])
        return {
            id: " ".join(item["text"] for item in items if item["text"]).split()
            for id, items in frame.iter_rows()
        }

    @cached_property
    def urls(self) -> dict[str, str]:
        """The URL of every document, by id."""
        return dict(pl.read_parquet(self.docs / "*.parquet", columns=["id", "url"]).iter_rows())

    @cached_property
    def pictures(self) -> Pictures:
        """Its pictures, fetched."""
        return Pictures(
            self.docs, self.work / f"sources-{self.seed}" / "www", self.work / f"pictures-{self.seed}"
        )

    def decisions(self, rule: Rule, looks: bool = False) -> pl.DataFrame:
        """What the rule, by itself, decides; `looks`: it compares pictures."""
        out = self.work / "out"
        shutil.rmtree(out, ignore_errors=True)
        docs, store = (self.pictures.docs, self.pictures.store) if looks else (self.docs, None)
        deduplicate(docs, out, [rule], Engine(), store)
        return pl.read_parquet(out / "decisions" / "*.parquet")


def documents(dump: Dump) -> Iterator[Row]:
    """Exact copies by `exact_document`; exact and near ones by `near_document`, over thresholds."""
    yield from _of(dump, "exact_document", "", ExactDocument(), ("exact_duplicate_documents",))
    both = ("exact_duplicate_documents", "near_duplicate_documents")
    for threshold in THRESHOLDS:
        rule = NearDocument(threshold=threshold)
        yield from _of(dump, "near_document", f"threshold {threshold}", rule, both)


def _of(dump: Dump, name: str, setting: str, rule: Rule, faults: tuple[str, ...]) -> Iterator[Row]:
    decided = dump.decisions(rule).select("id", "kept_id").rows()
    dropped = {dump.urls[id] for id, _ in decided}
    planted = {pair for fault in faults for pair in dump.pairs(fault)}
    copies = dump.pairs("exact_duplicate_documents") | dump.pairs("near_duplicate_documents")
    overlaps = dump.pairs("partial_overlaps_to_keep")
    wrong = [(id, kept) for id, kept in decided if not _is_right(dump, id, kept, copies, overlaps)]
    said = ", ".join(dump.urls[id] for id, _ in wrong[:3])
    found = sum(not pair.isdisjoint(dropped) for pair in planted)
    right = len(decided) - len(wrong)
    yield Row(name, setting, dump.format, dump.seed, len(planted), found, len(decided), right, said)
    halves = [half for _, half in dump.truth.get("partial_overlaps_to_keep", ())]
    gone = [half for half in halves if half in dropped]
    kept, said = len(halves) - len(gone), ", ".join(gone[:3])
    yield Row(f"{name}, overlaps", setting, dump.format, dump.seed, len(halves), kept, len(gone), 0, said)


def _is_right(dump: Dump, id: str, kept: str, copies: set[Pair], overlaps: set[Pair]) -> bool:
    pair = frozenset((dump.urls[id], dump.urls[kept]))
    if pair in copies or pair in overlaps:
        return pair in copies
    words = dump.texts[id], dump.texts[kept]
    return SequenceMatcher(None, *words, autojunk=False).ratio() >= ALIKE


def evaluation_texts(dump: Dump) -> Iterator[Row]:
    """Runs of words out of at most 50 documents as an evaluation set: who holds 13 words of one in a row?"""
    rng = random.Random(dump.seed)
    texts = {id: WORD.findall(" ".join(words).lower()) for id, words in dump.texts.items()}
    long = sorted(id for id, words in texts.items() if len(words) > 200)
    chosen = rng.sample(long, min(50, len(long)))
    held = [texts[id][at : at + 30] for id in chosen for at in [rng.randrange(150)]]
    if not held:
        return
    path = dump.work / "held.jsonl"
    path.write_text("\n".join(json.dumps(" ".join(run)) for run in held))
    runs = {run for words in held for run in _runs(words)}
    holders = {id for id, words in texts.items() if not runs.isdisjoint(_runs(words))}
    dropped = set(dump.decisions(DecontaminateText(against=path, ngram=RUN))["id"])
    right = len(holders & dropped)
    yield Row("decontaminate_text", "", dump.format, dump.seed, len(holders), right, len(dropped), right)


def recoded_pictures(dump: Dump) -> Iterator[Row]:
    """Re-encoded pictures by `near_image` over the corpus, over its two thresholds."""
    if dump.format != "mmc4":
        return
    had = {url for url, key, _ in dump.pictures.items.values() if key}
    planted = {pair for pair in dump.pairs("recoded_images") if pair <= had}
    for distance, least in LOOKS:
        rule = NearImage(scope="corpus", distance=distance, likeness=least)
        decided = dump.decisions(rule, looks=True).select("document", "item", "kept", "kept_item").rows()
        named = f"distance {distance}, likeness {least}"
        yield _of_pictures(dump, named, planted, [(row[:2], row[2:]) for row in decided])


def _of_pictures(dump: Dump, setting: str, planted: set[Pair], decided: list[tuple[Place, Place]]) -> Row:
    items = dump.pictures.items
    gone = {place for place, _ in decided}
    stay = {url for place, (url, *_) in items.items() if place not in gone}
    names = families(planted)
    # Equal bytes are no feat: only pairs of different files are counted as dropped.
    unequal = [(items[one], items[other]) for one, other in decided if items[one][2] != items[other][2]]
    wrong = [
        f"{one[1]}={other[1]}"
        for one, other in unequal
        if names.get(one[0], one[0]) != names.get(other[0], other[0])
        and dump.pictures.ssim(one[1], other[1]) < ALIKE
    ]
    found = sum(not pair <= stay for pair in planted)
    right, said = len(unequal) - len(wrong), ", ".join(wrong[:3])
    return Row("near_image", setting, dump.format, dump.seed, len(planted), found, len(unequal), right, said)


def banners(dump: Dump) -> Iterator[Row]:
    """One banner in many documents, by `boilerplate_image`."""
    if dump.format != "mmc4":
        return
    pictures = dump.pictures
    planted = {
        place for place, (url, *_) in pictures.items.items() if url in dump.truth["boilerplate_images"]
    }
    decided = dump.decisions(BoilerplateImage(), looks=True).select("document", "item").rows()
    right = sum(
        pictures.documents[pictures.items[place][2]] > BoilerplateImage().documents for place in decided
    )
    found = len(planted.intersection(decided))
    yield Row("boilerplate_image", "", dump.format, dump.seed, len(planted), found, len(decided), right)


def _runs(words: list[str]) -> set[tuple[str, ...]]:
    return {tuple(words[at : at + RUN]) for at in range(len(words) - RUN + 1)}


MEASURES = (documents, evaluation_texts, recoded_pictures, banners)


def dumps(script: Path, corpus: Path, seed: int, work: Path) -> Iterator[Dump]:
    """The dumps that a seed makes, ingested."""
    sources = work / f"sources-{seed}"
    if not (sources / "truth.json").exists():
        options = ["--faults", "--seed", str(seed), "--base-url", BASE]
        command = [sys.executable, script, corpus, sources, *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    truth = json.loads((sources / "truth.json").read_text())
    for format, folder in FORMATS.items():
        docs = work / f"{format}-{seed}"
        ingest(sources / folder, docs, Ingest(format=format), Engine())
        yield Dump(format, seed, docs, truth, work)


def table(rows: list[Row]) -> Iterator[str]:
    """The rows as Markdown, one for each rule, setting and format, seeds added up."""
    yield "| rule | setting | dump | planted | found | recall | dropped | right | precision |"
    yield "|---|---|---|---|---|---|---|---|---|"
    grouped: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.rule, row.setting, row.format), []).append(row)
    for names, group in grouped.items():
        planted, found, dropped, right = (
            sum(getattr(row, name) for row in group) for name in ("planted", "found", "dropped", "right")
        )
        whole = Row(*names, seed=-1, planted=planted, found=found, dropped=dropped, right=right)
        figures = f"{planted} | {found} | {whole.recall:.4f} | {dropped} | {right} | {whole.precision:.4f}"
        yield f"| {' | '.join(names)} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("script", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--work", type=Path, help="where dumps stay from run to run; a temporary folder if absent"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        every = (dump for seed in options.seeds for dump in dumps(options.script, options.corpus, seed, work))
        rows = [row for dump in every for measure in MEASURES for row in measure(dump)]
    if options.json:
        print(json.dumps([asdict(row) | {"recall": row.recall, "precision": row.precision} for row in rows]))
        return
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
