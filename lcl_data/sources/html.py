"""A folder of saved pages, with the pictures that lie beside them: what a browser, wget or a documentation
package leaves.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from pydantic import Field

from lcl_data.carriers import Carrier, carried_url
from lcl_data.files import is_remote, opened
from lcl_data.links import resolved
from lcl_data.pages import Extraction, Located, Origin, located_on_the_net, need_libraries, row_of
from lcl_data.sources import Files, Row, Source, find, name_of
from lcl_data.stage import Unit
from schemas.documents import document_id
from schemas.errors import RecipeError, SourceError

_ENDINGS = (".html", ".htm", ".xhtml", ".shtml")
_MAX_ADDRESS = 1024  # characters of a path that can be a file


class Html(Source):
    """Pages of HTML, one document each; many files make one shard.

    A picture whose address leads to a file within the folder is carried: `download` reads it from there, and
    its URL says which file (below `base_url` where that is set). A path that leads out of the folder, by
    `..` or by a symbolic link, is never followed, and a page that is such a link is rejected. Other
    pictures keep their URL on the net, if the page says its own address: by `base_url`, `<base href>`, the
    note "saved from" of browsers, or `<link rel=canonical>`. A page that comes into the folder later is seen
    by the next run; a picture by one that reads its page anew: changed, by another setting, into another
    folder.
    """

    files_per_shard: int = Field(1000, gt=0, description="pages of one shard, in order of their names")
    base_url: str | None = Field(
        None, description="address of the folder on the net; the path of a file is added to it"
    )
    extract: Extraction = Field(default=Extraction(), description="what of a page is taken")

    def units(self, src: Path) -> list[Unit]:
        """One unit for each so many files."""
        need_libraries()
        if self.base_url is not None and resolved("", self.base_url) is None:
            raise RecipeError(f"source.base_url: {self.base_url!r} is no address; write https://host/path/")
        found = [(name_of(path, src), path) for path in find(src, _ENDINGS)]
        root = src if src.is_dir() else src.parent
        groups = [found[i : i + self.files_per_shard] for i in range(0, len(found), self.files_per_shard)]
        return [
            Unit(number, _span([name for name, _ in group]), Files(root, tuple(path for _, path in group)))
            for number, group in enumerate(groups)
        ]

    def read(self, unit: Unit) -> Iterator[Row]:
        """Every page of a group."""
        files: Files = unit.payload
        folder = _Folder(files.root, self.base_url)
        for path in files.paths:
            name = path.relative_to(files.root).as_posix()
            origin = Origin(
                "html", document_id("html", name, 0), name, folder.address_of(name), license=self.license
            )
            if not folder.holds(path):
                yield Row(name, 0, 0, SourceError("outside_folder", "a link"))
                continue
            with opened(path) as file:
                content = file.read(self.extract.max_nbytes + 1)
            yield row_of(content, origin, self.extract, _Beside(folder, name).locate)


class _Folder:
    """The folder of the pages, and where it lies on the net."""

    def __init__(self, root: Path, base_url: str | None) -> None:
        self.root = root.resolve()
        self.base_url = base_url

    def address_of(self, name: str) -> str | None:
        """The URL of a file, by its path in the folder."""
        return resolved(quote(name), self.base_url) if self.base_url else None

    def holds(self, path: Path) -> bool:
        """Whether a file is of this folder: not if a symbolic link leads out of it."""
        return path.resolve().is_relative_to(self.root)

    def file_at(self, address: str, page: str) -> str | None:
        """The path in the folder of the file that an address leads to from a page; None if there is none.

        Raises:
            SourceError: `outside_folder`.
        """
        for text in dict.fromkeys((address, address.partition("#")[0].partition("?")[0])):
            path = unquote(text)
            if not path or len(path) > _MAX_ADDRESS or "\0" in path:
                continue
            if is_remote(self.root) and ":/" in path:  # might be read as the address of another store
                continue
            start = self.root if path.startswith("/") else (self.root / page).parent
            found = self._within(start / path.lstrip("/"))
            if found:
                return found
        return None

    def _within(self, path: Path) -> str | None:
        try:
            real = path.resolve()
            if not real.is_relative_to(self.root):
                raise SourceError("outside_folder", str(path))
            str(real).encode()
            return real.relative_to(self.root).as_posix() if real.is_file() else None
        except (OSError, RuntimeError, ValueError):  # too long a name, a loop of links, a name not UTF-8
            return None


class _Beside:
    """Finds the pictures of one page."""

    def __init__(self, folder: _Folder, page: str) -> None:
        self._folder, self._page = folder, page

    def locate(self, addresses: tuple[str, ...], base: str | None) -> Located:
        """A file of the folder, else an address on the net."""
        outside = None
        for raw in addresses:
            try:
                if located := self._here(raw):
                    return located
            except SourceError as error:
                outside = error
        try:
            return located_on_the_net(addresses, base)
        except SourceError:
            first = addresses[0]
            missing = SourceError("missing_file" if _is_path(first) else "bad_url", first[:200])
            raise outside or missing from None

    def _here(self, raw: str) -> Located | None:
        path = self._path(raw)
        name = self._folder.file_at(path, self._page) if path else None
        if not name:
            return None
        # Not the address that the page means: saved pages of one site give their own pictures the same ones.
        url = self._folder.address_of(name) or carried_url(self._folder.root.name, name)
        return Located(url, str(Carrier(str(self._folder.root / name))), raw)

    def _path(self, raw: str) -> str | None:
        """The address as a path of the folder: it is one, or it begins as the folder's own address."""
        if _is_path(raw):
            return raw
        base = self._folder.base_url
        return "/" + raw.removeprefix(base).lstrip("/") if base and raw.startswith(base) else None


def _is_path(raw: str) -> bool:
    try:
        parts = urlsplit(raw)
    except ValueError:
        return False
    return not parts.scheme and not parts.netloc and bool(parts.path)


def _span(names: list[str]) -> str:
    """What a person calls a group of files."""
    return names[0] if len(names) == 1 else f"{names[0]} ... {PurePosixPath(names[-1]).name}"
