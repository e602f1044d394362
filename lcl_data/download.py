"""`lcl download`: the pictures of a corpus into an image store, each distinct URL once.

One process fetches (so that limits per host hold for the whole command), others decode; a shard is published
when all its URLs have an outcome, so a killed run loses the shards in hand and no more.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lcl_data import exchange, files, img2dataset, previous, store
from lcl_data.batches import Batches
from lcl_data.carriers import Carrier
from lcl_data.decoders import Decoders, decoders
from lcl_data.draft import Draft
from lcl_data.engine import Engine, Progress
from lcl_data.fetch import Fetch, Fetched, fetch_all, is_transient
from lcl_data.foreign import refuse
from lcl_data.frames import sound_units
from lcl_data.garbage import collected_rarely
from lcl_data.pictures import Picture, Prepared, Refusal
from lcl_data.previous import Previous
from lcl_data.spool import Spool
from lcl_data.stage import DOCUMENTS_FROM, Stage, Unit, input_of
from lcl_data.urls import Urls, distinct_urls
from schemas.errors import RecipeError
from schemas.manifest import Count, Manifest, read_manifest
from schemas.recipe import Settings
from schemas.versions import release

_REPORTED = 16  # outcomes between two reports of progress
_THREADS = 64  # name look-ups wait in threads
_SHARDS = 100_000  # five digits of a key
# Settings that say how hard to try, not what to keep: a run may be continued with others.
_EFFORT = frozenset(
    {
        "concurrency",
        "per_host",
        "timeout_s",
        "retries",
        "backoff_s",
        "max_wait_s",
        "user_agent",
        "max_redirects",
    }
)


class Download(Settings):
    """How the image store is filled."""

    fetch: Fetch = Field(Fetch(), description="how URLs are fetched from the network")
    picture: Picture = Field(Picture(), description="how pictures are stored")
    images_per_shard: int = Field(10_000, ge=10, description="URLs per shard (10,000: img2dataset's own)")
    backend: Literal["lcl", "img2dataset"] = Field(
        "lcl",
        description="lcl, or img2dataset's fetcher and resizer (an extra; cannot refuse private addresses)",
    )

    @property
    def key_digits(self) -> int:
        """Digits that number a picture within its shard, as img2dataset counts them."""
        return max(1, len(str(self.images_per_shard - 1)))


def download(
    docs: Path, out: Path, settings: Download, engine: Engine, retry_failed: bool = False
) -> Manifest:
    """Fetch every distinct URL of a folder of documents into an image store.

    Args:
        docs: finished stage folder of documents.
        out: the store; finished shards in it are kept.
        settings: by which it is filled.
        engine: its `size` is the number of decoding processes.
        retry_failed: fetch again what failed for a reason that may have passed, in finished shards too.

    Returns:
        The manifest; its ledger counts image references, its `failed` names torn document shards.

    Raises:
        RecipeError: `out` is no folder of ours, or the backend cannot do what is asked.
        ShardError: `docs` is not finished.
    """
    refuse(out)
    if retry_failed and settings.backend != "lcl":
        raise RecipeError("img2dataset never tries a failed URL again; use backend lcl for --retry-failed")
    stage, found = stage_of(docs, out, settings)
    if not retry_failed and (done := stage.finished()):
        return done
    stage.prepare()
    sound = [unit for unit in found if unit.payload]
    documents, size = _rows(docs, sound), settings.images_per_shard
    if settings.backend == "img2dataset":
        urls = _urls(stage, docs, sound, engine)
        shards = shard_units(urls, documents, size)
        drafts = [_draft(stage, unit, documents) for unit in shards]
        img2dataset.run(stage, drafts, urls, settings.fetch, settings.picture, size, engine)
    else:
        with decoders(engine.local) as pool:
            urls = _urls(stage, docs, sound, engine)
            shards = shard_units(urls, documents, size)
            known = _previous(stage, shards, urls, size, engine)
            work = _Filling(stage, urls, settings, documents, known, retry_failed, engine.progress)
            with collected_rarely():
                asyncio.run(work.run(shards, pool))
    why = "not as its manifest says; run the stage that wrote it again, then this one"
    manifest = stage.finish(shards, {unit.name: why for unit in found if not unit.payload})
    previous.remove(out)
    exchange.remove(out)
    return manifest


def stage_of(docs: Path, out: Path, settings: Download) -> tuple[Stage, list[Unit]]:
    """The stage as `download` is about to fill it, and the document shards it reads."""
    units, torn = sound_units(docs)
    inputs = (input_of("documents", docs, DOCUMENTS_FROM), *torn)
    return Stage("download", out, identity(settings), inputs, leaves=(previous.FOLDER,)), units


def identity(settings: Download) -> dict[str, Any]:
    """The settings that decide what a shard holds: they enter the digest, the effort of fetching does not."""
    return settings.model_dump(mode="json", exclude={"fetch": set(_EFFORT)})


def _made_by(stage: Stage) -> str:
    return files.digest([stage.settings, release()])


def shard_units(urls: Urls, documents: int, images_per_shard: int) -> list[Unit]:
    """The shards to be: at least one, so that an empty corpus has a proof too; the first counts the
    documents.

    Raises:
        RecipeError: more than keys have room for.
    """
    count = max(1, -(-urls.count // images_per_shard))
    if count > _SHARDS:
        raise RecipeError(
            f"{urls.count} URLs in {count} shards; raise images_per_shard above {images_per_shard}"
        )
    # The list decides what a shard holds, not the documents it came from: those may change and it may not.
    digest = urls.digest
    digests = [f"{digest}-{documents}", *[digest] * (count - 1)]
    return [Unit(number, f"{number:05d}", digest=digest) for number, digest in enumerate(digests)]


def _urls(stage: Stage, docs: Path, documents: list[Unit], engine: Engine) -> Urls:
    scratch = exchange.scratch(stage.out, "urls", stage.digest)
    return distinct_urls(scratch, documents, read_manifest(docs).ledger.images.kept, engine)


def _rows(docs: Path, documents: list[Unit]) -> int:
    """How many documents the sound shards hold."""
    rows = {shard.name: shard.rows for shard in read_manifest(docs).shards}
    return sum(rows[unit.name] for unit in documents)


def _previous(stage: Stage, shards: list[Unit], urls: Urls, size: int, engine: Engine) -> Previous:
    """What shards of another list, set aside now or by a run that was killed, know of this one."""
    previous.set_aside(stage.out, _made_by(stage), [proof is not None for proof in stage.proofs_of(shards)])
    return previous.previous(stage.out, _made_by(stage), urls, size, engine)


def _draft(stage: Stage, unit: Unit, documents: int) -> Draft:
    """An empty shard; documents go through whole and are counted once, with the first."""
    draft = Draft(stage.out, unit.number, stage.digest_of(unit))
    if unit.number == 0:
        draft.ledger.documents = Count(read=documents, kept=documents)
    return draft


class _Filling:
    """One run over the shards of a store that are still to be made."""

    def __init__(
        self,
        stage: Stage,
        urls: Urls,
        settings: Download,
        documents: int,
        known: Previous,
        retry_failed: bool,
        progress: Progress,
    ) -> None:
        self._stage = stage
        self._urls = urls
        self._settings = settings
        self._documents = documents
        self._known = known
        self._retry_failed = retry_failed
        self._progress = progress
        self._places: dict[int, _Place] = {}  # of the URLs under way, by their number in this run
        self._finished: asyncio.Queue[Spool] = asyncio.Queue()
        self._waiting = 0  # URLs without an outcome
        self._open: set[Spool] = set()  # shards in hand

    async def run(self, shards: list[Unit], pool: Decoders) -> None:
        """Fetch, decode, write; returns when every shard is published."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        todo = [unit for unit in shards if self._is_wanted(unit)]
        self._waiting = sum(map(self._urls_in, todo))
        try:
            await asyncio.gather(self._gather(todo, pool), self._write(len(todo)))
        finally:  # of an error: what waits on a full disk must not fill it further
            for spool in self._open:
                spool.discard()

    async def _write(self, count: int) -> None:
        """Publish shards as they are complete, while others are fetched."""
        for _ in range(count):
            spool = await self._finished.get()
            await asyncio.to_thread(spool.write)
            self._open.remove(spool)

    def _urls_in(self, unit: Unit) -> int:
        size = self._settings.images_per_shard
        return max(0, min(size, self._urls.count - unit.number * size))

    async def _gather(self, todo: list[Unit], pool: Decoders) -> None:
        """Bring every URL to its outcome."""
        batches = Batches(pool, self._settings.picture, self._decoded)
        async with aclosing(fetch_all(self._draw(todo), self._settings.fetch)) as results:
            async for fetched in results:
                place = self._places.pop(fetched.index)
                if fetched.content is None:
                    self._failed(place, fetched)
                else:
                    await batches.add((place, fetched), fetched.content)
        await batches.finish()

    def _draw(self, todo: list[Unit]) -> Iterator[str | Carrier]:
        """What to fetch or read, shard after shard, drawn when there is room for them."""
        number = 0
        for unit in todo:
            spool = self._begin(unit)
            for index, url in spool.missing():
                self._places[number] = _Place(spool, index)
                number += 1
                yield Carrier.parse(url.carrier) if url.carrier else url.url

    def _begin(self, unit: Unit) -> Spool:
        size = self._settings.images_per_shard
        urls = self._urls.rows(unit.number * size, size)
        draft = _draft(self._stage, unit, self._documents)
        spool = Spool(draft, urls, self._settings.key_digits, _made_by(self._stage))
        self._open.add(spool)
        for index, row, content in self._outcomes(unit, len(urls)):
            if not is_transient(row["reason"]):
                spool.keep(index, row, content)
        self._waiting -= len(urls) - len(spool.missing())
        if spool.is_complete:
            self._finished.put_nowait(spool)
        return spool

    def _outcomes(self, unit: Unit, count: int) -> Iterator[tuple[int, store.Row, bytes]]:
        """What is known: by the finished shard of which some is tried again, or by those set aside."""
        if self._stage.proof_of(unit):
            return previous.outcomes(self._stage.out, unit.number, {index: index for index in range(count)})
        return self._known.outcomes(unit.number)

    def _is_wanted(self, unit: Unit) -> bool:
        if not self._stage.proof_of(unit):
            return True
        rows = store.read_rows(self._stage.out, unit.number, ["reason"]) if self._retry_failed else []
        return any(is_transient(row["reason"]) for row in rows)

    def _decoded(self, fetched: "tuple[_Place, Fetched]", outcome: Prepared | Refusal) -> None:
        place, answer = fetched
        if isinstance(outcome, Refusal):
            self._failed(place, replace(answer, reason=outcome.reason, detail=outcome.detail))
            return
        place.spool.store(place.index, outcome, answer.http_status, len(answer.content or b""))
        self._settle(place.spool)

    def _failed(self, place: "_Place", fetched: Fetched) -> None:
        place.spool.fail(place.index, fetched)
        self._settle(place.spool)

    def _settle(self, spool: Spool) -> None:
        self._waiting -= 1
        if self._waiting % _REPORTED == 0:
            self._progress(self._stage.name, self._urls.count - self._waiting, self._urls.count)
        if spool.is_complete:
            self._finished.put_nowait(spool)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the outcome of a URL belongs."""

    spool: Spool
    index: int
