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

from lcl_data import exchange, img2dataset, store
from lcl_data.carriers import Carrier
from lcl_data.decoders import Decoders, decoders
from lcl_data.draft import Draft, proof_of
from lcl_data.engine import Engine, Progress
from lcl_data.fetch import Fetch, Fetched, fetch_all, is_transient
from lcl_data.pictures import Picture, Prepared
from lcl_data.spool import Spool
from lcl_data.stage import DOCUMENTS_FROM, Stage, Unit, document_units, input_of
from lcl_data.urls import Urls, distinct_urls
from schemas.errors import RecipeError
from schemas.manifest import Count, Manifest, read_manifest
from schemas.recipe import Settings

_BATCH_PICTURES = 16
_BATCH_BYTES = 4 << 20
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
        The manifest; its ledger counts image references.

    Raises:
        RecipeError: `out` is no folder of ours, or the backend cannot do what is asked.
        ShardError: `docs` is not finished or torn.
    """
    refuse_foreign_tables(out)
    stage = Stage("download", out, identity(settings), (input_of("documents", docs, DOCUMENTS_FROM),))
    if not retry_failed and (done := stage.finished()):
        return done
    if retry_failed and settings.backend != "lcl":
        raise RecipeError("img2dataset never tries a failed URL again; use backend lcl for --retry-failed")
    stage.prepare()
    if settings.backend == "img2dataset":
        shards = _fill_by_img2dataset(stage, docs, settings, engine)
    else:
        with decoders(engine.size) as pool:
            urls = _urls(stage, docs, engine)
            shards = shard_units(urls, settings.images_per_shard)
            work = _Filling(stage, urls, settings, _documents(docs), retry_failed, engine.progress)
            asyncio.run(work.run(shards, pool))
    manifest = stage.finish(shards, {})
    exchange.remove(out)
    return manifest


def identity(settings: Download) -> dict[str, Any]:
    """The settings that decide what a shard holds: they enter the digest, the effort of fetching does not."""
    return settings.model_dump(mode="json", exclude={"fetch": set(_EFFORT)})


def refuse_foreign_tables(out: Path) -> None:
    """Refuse a folder with shards of img2dataset, which would be overwritten.

    Raises:
        RecipeError: naming one of them.
    """
    for table in store.table_paths(out) if out.is_dir() else ():
        if store.is_foreign(table):
            raise RecipeError(f"{table}: made by img2dataset; name another folder, or filter with this one")


def shard_units(urls: Urls, images_per_shard: int) -> list[Unit]:
    """The shards to be: at least one, so that an empty corpus has a proof too.

    Raises:
        RecipeError: more than keys have room for.
    """
    count = max(1, -(-urls.count // images_per_shard))
    if count > _SHARDS:
        raise RecipeError(
            f"{urls.count} URLs in {count} shards; raise images_per_shard above {images_per_shard}"
        )
    return [Unit(number, f"{number:05d}") for number in range(count)]


def _urls(stage: Stage, docs: Path, engine: Engine) -> Urls:
    scratch = exchange.scratch(stage.out, "urls", stage.digest)
    return distinct_urls(scratch, document_units(docs), read_manifest(docs).ledger.images.kept, engine)


def _documents(docs: Path) -> int:
    return read_manifest(docs).ledger.documents.kept


def _draft(stage: Stage, number: int, documents: int) -> Draft:
    """An empty shard; documents go through whole and are counted once, with the first."""
    draft = Draft(stage.out, number, stage.digest)
    if number == 0:
        draft.ledger.documents = Count(read=documents, kept=documents)
    return draft


def _fill_by_img2dataset(stage: Stage, docs: Path, settings: Download, engine: Engine) -> list[Unit]:
    urls = _urls(stage, docs, engine)
    shards = shard_units(urls, settings.images_per_shard)
    drafts = [_draft(stage, unit.number, _documents(docs)) for unit in shards]
    img2dataset.run(stage, drafts, urls, settings.fetch, settings.picture, settings.images_per_shard, engine)
    return shards


class _Filling:
    """One run over the shards of a store that are still to be made."""

    def __init__(
        self,
        stage: Stage,
        urls: Urls,
        settings: Download,
        documents: int,
        retry_failed: bool,
        progress: Progress,
    ) -> None:
        self._stage = stage
        self._urls = urls
        self._settings = settings
        self._documents = documents
        self._retry_failed = retry_failed
        self._progress = progress
        self._places: dict[int, _Place] = {}  # of the URLs under way, by their number in this run
        self._batch: list[tuple[_Place, Fetched]] = []
        self._sent: set[asyncio.Task[None]] = set()  # batches that are being decoded
        self._finished: asyncio.Queue[Spool] = asyncio.Queue()
        self._waiting = 0  # URLs without an outcome

    async def run(self, shards: list[Unit], pool: Decoders) -> None:
        """Fetch, decode, write; returns when every shard is published."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        todo = [unit for unit in shards if self._is_wanted(unit)]
        self._waiting = sum(map(self._urls_in, todo))
        await asyncio.gather(self._gather(todo, pool), self._write(len(todo)))

    async def _write(self, count: int) -> None:
        """Publish shards as they are complete, while others are fetched."""
        for _ in range(count):
            spool = await self._finished.get()
            await asyncio.to_thread(spool.write)

    def _urls_in(self, unit: Unit) -> int:
        size = self._settings.images_per_shard
        return max(0, min(size, self._urls.count - unit.number * size))

    async def _gather(self, todo: list[Unit], pool: Decoders) -> None:
        """Bring every URL to its outcome."""
        async with aclosing(fetch_all(self._draw(todo), self._settings.fetch)) as results:
            async for fetched in results:
                place = self._places.pop(fetched.index)
                if fetched.content is None:
                    self._failed(place, fetched)
                    continue
                self._batch.append((place, fetched))
                if self._is_batch_full():
                    await self._send(pool)
        await self._send(pool)
        await asyncio.gather(*self._sent)

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
        draft = _draft(self._stage, unit.number, self._documents)
        spool = Spool(draft, self._urls.rows(unit.number * size, size), self._settings.key_digits)
        if proof_of(self._stage.out, unit.number, self._stage.digest):
            self._keep(unit, spool)
        self._waiting -= self._urls_in(unit) - len(spool.missing())
        if spool.is_complete:
            self._finished.put_nowait(spool)
        return spool

    def _keep(self, unit: Unit, spool: Spool) -> None:
        """Take over what needs no second attempt from the finished shard."""
        table = store.read_rows(self._stage.out, unit.number)
        rows = {
            row["key"]: (index, row) for index, row in enumerate(table) if not is_transient(row["reason"])
        }
        pictures = store.read_pictures(self._stage.out, rows)
        for key, (index, row) in rows.items():
            spool.keep(index, row, pictures.get(key, b""))

    def _is_wanted(self, unit: Unit) -> bool:
        if not proof_of(self._stage.out, unit.number, self._stage.digest):
            return True
        rows = store.read_rows(self._stage.out, unit.number, ["reason"]) if self._retry_failed else []
        return any(is_transient(row["reason"]) for row in rows)

    def _is_batch_full(self) -> bool:
        nbytes = sum(len(fetched.content or b"") for _, fetched in self._batch)
        return len(self._batch) >= _BATCH_PICTURES or nbytes >= _BATCH_BYTES

    async def _send(self, pool: Decoders) -> None:
        """Hand the batch to a decoding process, but let none queue up more than it needs to stay busy."""
        while len(self._sent) > 2 * pool.size:
            done, self._sent = await asyncio.wait(self._sent, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        self._sent.add(asyncio.create_task(self._decode(pool, self._batch)))
        self._batch = []

    async def _decode(self, pool: Decoders, batch: list[tuple["_Place", Fetched]]) -> None:
        """Settle a batch as soon as it is decoded: a slow host must not hold up what others have sent."""
        contents = [fetched.content or b"" for _, fetched in batch]
        outcomes = await pool.prepare(contents, self._settings.picture)
        for (place, fetched), outcome in zip(batch, outcomes, strict=True):
            nbytes = len(fetched.content or b"")
            if isinstance(outcome, Prepared):
                place.spool.store(place.index, outcome, fetched.http_status, nbytes)
                self._settle(place.spool)
            else:
                self._failed(place, replace(fetched, reason=outcome.reason, detail=outcome.detail))

    def _failed(self, place: "_Place", fetched: Fetched) -> None:
        place.spool.fail(place.index, fetched)
        self._settle(place.spool)

    def _settle(self, spool: Spool) -> None:
        self._waiting -= 1
        if self._waiting % _BATCH_PICTURES == 0:
            self._progress(self._stage.name, self._urls.count - self._waiting, self._urls.count)
        if spool.is_complete:
            self._finished.put_nowait(spool)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the outcome of a URL belongs."""

    spool: Spool
    index: int
