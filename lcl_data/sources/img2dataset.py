"""A folder that img2dataset filled from a list with captions: its tables say what was tried, its tars or
folders hold the pictures, which stay where they lie.
"""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from pydantic import Field

from lcl_data.carriers import Carrier, carried_url
from lcl_data.draft import REJECTS_FOLDER
from lcl_data.files import inside
from lcl_data.foreign import outcome
from lcl_data.pairs import brought
from lcl_data.rows import Fields, parquet_rows
from lcl_data.sources import Files, Row, Source, find, name_of, need, numbered, rest, row
from lcl_data.stage import Unit
from lcl_data.tars import members
from schemas.documents import Document, document_id
from schemas.errors import RecipeError, ShardError, SourceError
from schemas.images import SUCCESS

_TABLE = re.compile(r"(?:.*/)?(?P<number>\d{5,9})\.(?:parquet|tar)\Z")
_NEEDED = frozenset(("url", "key", "status", "caption"))
_BESIDE = (".json", ".txt")


_Pictures = dict[str, tuple[str, Carrier]]  # name and place of the pictures of a shard, by key


class Img2dataset(Source):
    """Pairs that img2dataset fetched: the picture, then its caption, to which it belongs.

    A row it could not download or resize is rejected with the reason its message gives (http_404, timeout,
    dns, ...) and the message; one without a caption as well. Width and height are the original's; what has
    no column, columns saved from the list included, goes to the picture's meta. Formats `webdataset` and
    `files`; its `parquet` packs pictures so that they have no place in the file, `tfrecord` is not read.
    """

    batch_rows: int = Field(1000, gt=0, description="rows decoded at a time; bounds the memory of a worker")

    def units(self, src: Path) -> list[Unit]:
        """One unit per table and what lies beside it, and one per tar that has no table."""
        found = [
            path for path in find(src, (".parquet", ".tar"))
            if _TABLE.search(path.name) and path.parent.name != REJECTS_FOLDER  # of a store of ours
        ]  # fmt: skip
        stems = sorted({path.with_suffix("") for path in found})
        if not stems:
            raise RecipeError(f"{src}: no NNNNN.parquet of img2dataset in it; name its output folder")
        root = src.parent if src.is_file() else src
        named = []
        for stem in stems:
            both = (stem.with_suffix(".parquet"), stem.with_suffix(".tar"))
            paths = tuple(path for path in both if path.exists())
            named.append((name_of(paths[0], root), Files(root, paths)))
        return numbered(named, _TABLE)

    def read(self, unit: Unit) -> Iterator[Row]:
        """Every row of a table, then pictures that no row names."""
        table: Path = unit.payload.paths[0]
        pictures = _pictures(table)
        container = unit.name.removesuffix(".parquet")
        for index, found in enumerate(parquet_rows(table, _NEEDED, self.batch_rows)):
            place, id = f"{unit.name}{found.place}", document_id("img2dataset", unit.name, index)
            make = partial(self._document, found.fields, pictures, id, container)
            yield row(place, found.nbytes, 1, make)
        for name, _ in sorted(pictures.values(), key=lambda pair: pair[0]):
            yield Row(
                f"{container}!{name}", 0, 1, SourceError("not_in_table", f"no row has the key of {name}")
            )

    def _document(
        self, fields: Fields, pictures: _Pictures, id: str, container: str
    ) -> tuple[Document, tuple[SourceError, ...]]:
        if isinstance(fields, SourceError):
            raise fields
        key, status = need(fields, "key", str), need(fields, "status", str)
        found = pictures.pop(key, None)
        if status != SUCCESS:
            message = fields.get("error_message")
            words = {"status": status, "error_message": message if isinstance(message, str) else ""}
            raise SourceError(outcome(words)["reason"], f"{status}: {words['error_message']}")
        caption = fields["caption"]
        if caption is None or not need(fields, "caption", str).strip():
            raise SourceError("no_caption", f"key {key}")
        if found is None:
            raise SourceError("missing_member", f"no picture of key {key}")
        name, carrier = found
        image = brought(rest(fields, frozenset(("caption",))), carrier, carried_url(container, name))
        return Document(id, "img2dataset", (image, caption), license=self.license), ()


def _pictures(table: Path) -> _Pictures:
    """The pictures of a shard.

    Raises:
        ShardError: there is no table, or nothing that holds its pictures, or the tar is torn.
    """
    if table.suffix != ".parquet":
        raise ShardError(
            f"{table}: no {table.stem}.parquet beside it, so img2dataset was stopped in this shard; run it "
            "again, or ingest the tar as webdataset"
        )
    tar, folder = table.with_suffix(".tar"), table.with_suffix("")
    if tar.exists():
        where = str(tar.resolve())
        return _by_key((m.key, m.name, Carrier(where, m.offset, m.nbytes)) for m in members(tar))
    if folder.is_dir():
        return _by_key(
            (path.stem, path.name, Carrier(str(path.resolve()))) for path in sorted(inside(folder))
        )
    raise ShardError(
        f"{table}: neither {tar.name} nor a folder {folder.name} beside it; LCL reads img2dataset's "
        "output_format webdataset and files"
    )


def _by_key(found: Iterable[tuple[str, str, Carrier]]) -> _Pictures:
    """Of (key, name, place) of all files; of several pictures of one key only the first has it, the others
    are nobody's.
    """
    pictures: _Pictures = {}
    for key, name, carrier in found:
        if not name.endswith(_BESIDE):
            pictures[name if key in pictures else key] = name, carrier
    return pictures
