"""`lcl download`: the pictures of a corpus into an image store, each distinct URL once.

One process fetches (so that limits per host hold for the whole command), others decode; a shard is published
when all its URLs have an outcome, so a killed run loses the shards in hand and no more.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lcl_data import exchange, files, img2dataset, previous, store
from lcl_data.answers import is_transient
from lcl_data.decoders import Decoders, decoders
from lcl_data.draft import Draft
from lcl_data.engine import Engine, Progress
from lcl_data.fetch import Fetch
from lcl_data.filling import Filling, Known
from lcl_data.foreign import refuse
from lcl_data.frames import sound_units
from lcl_data.garbage import collected_rarely
from lcl_data.pictures import Picture
from lcl_data.previous import Previous
from lcl_data.spool import Spool
from lcl_data.stage import DOCUMENTS_FROM, Stage, Unit, input_of
from lcl_data.urls import Urls, distinct_urls
from schemas.errors import RecipeError
from schemas.manifest import Count, Manifest, read_manifest
from schemas.recipe import Settings
from schemas.versions import release

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
        description="lcl, or img2dataset's fetcher and resizer (an extra; it cannot refuse private addresses "
        "and has no limit per host and no cap on bytes)",
    )

    in_hand: int = Field(
        32,
        ge=1,
        description="shards under way at once: more let a run pass by slower hosts, and a kill lose more",
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
        _clear(out, settings)
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
            making = _Shards(stage, urls, documents, known, settings)
            making.fill(shards, pool, retry_failed, engine.progress)
    why = "not as its manifest says; run the stage that wrote it again, then this one"
    manifest = stage.finish(shards, {unit.name: why for unit in found if not unit.payload})
    _clear(out, settings)
    return manifest


def _clear(out: Path, settings: Download) -> None:
    """Remove what a finished store has no use for; a run killed after its manifest leaves it to the next."""
    previous.remove(out)
    exchange.remove(out)
    if settings.backend == "img2dataset":
        files.remove(out / img2dataset.FOLDER)


def stage_of(docs: Path, out: Path, settings: Download) -> tuple[Stage, list[Unit]]:
    """The stage as `download` is about to fill it, and the document shards it reads."""
    units, torn = sound_units(docs)
    inputs = (input_of("documents", docs, DOCUMENTS_FROM), *torn)
    leaves = (previous.FOLDER, *([img2dataset.FOLDER] if settings.backend == "img2dataset" else []))
    return Stage("download", out, identity(settings), inputs, leaves=leaves), units


def identity(settings: Download) -> dict[str, Any]:
    """The settings that decide what a shard holds: they enter the digest, the effort of fetching does not."""
    return settings.model_dump(mode="json", exclude={"fetch": set(_EFFORT), "in_hand": True})


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


@dataclass(frozen=True, slots=True)
class _Shards:
    """The shards of a store: what each is made of, and what is known of it already."""

    stage: Stage
    urls: Urls
    documents: int
    known: Previous
    settings: Download

    def begin(self, unit: Unit) -> tuple[Spool, Known]:
        """An empty shard, and what is known of its URLs: by the finished shard of which some is tried again,
        or by those set aside.
        """
        size = self.settings.images_per_shard
        urls = self.urls.rows(unit.number * size, size)
        draft = _draft(self.stage, unit, self.documents)
        spool = Spool(draft, urls, self.settings.key_digits, _made_by(self.stage))
        if self.stage.proof_of(unit):
            every = {index: index for index in range(len(urls))}
            return spool, previous.outcomes(self.stage.out, unit.number, every)
        return spool, self.known.outcomes(unit.number)

    def fill(self, units: list[Unit], pool: Decoders, retry_failed: bool, progress: Progress) -> None:
        """Bring every URL of the shards that are still to be made to its outcome."""
        todo = [unit for unit in units if self._is_wanted(unit, retry_failed)]
        done = self.urls.count - sum(map(self._count, todo))

        def report(settled: int) -> None:
            progress(self.stage.name, done + settled, self.urls.count)

        with collected_rarely():
            Filling(self.begin, self.settings.fetch, self.settings.in_hand, report).run(
                todo, pool, self.settings.picture
            )

    def _count(self, unit: Unit) -> int:
        size = self.settings.images_per_shard
        return max(0, min(size, self.urls.count - unit.number * size))

    def _is_wanted(self, unit: Unit, retry_failed: bool) -> bool:
        if not self.stage.proof_of(unit):
            return True
        rows = store.read_rows(self.stage.out, unit.number, ["reason"]) if retry_failed else []
        return any(is_transient(row["reason"]) for row in rows)
