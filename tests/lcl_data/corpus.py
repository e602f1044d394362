"""Small corpora for the tests of curation: folders of document shards and image stores, written as the stages
write them.
"""

from functools import partial

from hypothesis import strategies as st

from lcl_data import files, store
from lcl_data.draft import DocumentWriter
from lcl_data.engine import Engine
from lcl_data.stage import Stage, Unit
from schemas.documents import Document, Image, document_id, from_row, to_table
from schemas.images import IMAGES, SUCCESS
from schemas.manifest import Input, read_manifest


def write_documents(folder, shards, name="ingest"):
    """A stage folder with a shard per list of documents."""
    units = [Unit(number, f"{number}", documents) for number, documents in enumerate(shards)]
    digest = files.digest([repr(shards)])
    Stage(name, folder, {}, (Input(name="upstream", digest=digest),)).run(_write, units, Engine())
    return folder


def _write(unit, draft):
    for kind, count in (("documents", len(unit.payload)), ("images", _images(unit.payload))):
        draft.count(kind).read += count
    with DocumentWriter(draft) as writer:
        writer.write(to_table(unit.payload), _images(unit.payload))


def _images(documents):
    return sum(len(document.images) for document in documents)


def read_documents(folder):
    """Every document of a stage folder, in order."""
    import pyarrow.parquet as pq

    names = [shard.name for shard in read_manifest(folder).shards]
    return [from_row(row) for name in names for row in pq.read_table(folder / name).to_pylist()]


def rejects(folder):
    """Every row of a stage's rejects tables."""
    import pyarrow.parquet as pq

    paths = sorted((folder / "rejects").glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def document(row, *items, url=None):
    """A document of the given items."""
    return Document(document_id("test", "corpus", row), "test", items, url)


def write_store(folder, *rows):
    """An image store of one shard whose table says what `rows` (dicts) say; it holds no picture."""
    full = [
        {
            **dict.fromkeys(IMAGES.names),
            "key": f"00000{number:04d}",
            "status": SUCCESS if row.get("reason") is None else "failed_to_download",
            **row,
        }
        for number, row in enumerate(rows)
    ]
    Stage("download", folder, {}, ()).run(_write_facts, [Unit(0, "0", full)], Engine())
    return folder


def _write_facts(unit, draft):
    store.write_table(draft.path(".parquet"), unit.payload)


def bytes_of(folder):
    """Every file below a folder, by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


_words = st.lists(st.sampled_from(["a", "b", "long", "é"]), max_size=4).map(" ".join)
_images_strategy = st.builds(
    partial(Image),
    url=st.sampled_from([f"http://h/{n}.jpg" for n in range(4)] + ["http://h/logo.png"]),
    similarity=st.none() | st.sampled_from([0.125, 0.5]),
    width=st.none() | st.sampled_from([10, 200]),
    height=st.none() | st.sampled_from([10, 200]),
    sha256=st.none() | st.sampled_from(["aa", "bb"]),
)


@st.composite
def shards(draw):
    """One to three shards of up to four documents each, with few distinct values, so that copies occur."""
    items = st.lists(_words | _images_strategy, max_size=5)
    row, made = 0, []
    for size in draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)):
        documents = []
        for _ in range(size):
            url = draw(st.none() | st.sampled_from(["http://p/1", "http://p/2"]))
            documents.append(document(row, *draw(items), url=url))
            row += 1
        made.append(documents)
    return made
