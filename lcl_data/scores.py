"""Tables of scores that models gave to pictures or documents: any model can be the judge, and none need be
installed.

A table is Parquet, CSV or JSON Lines with the columns `name`, `value` and one identifier.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lcl_data import files
from schemas.errors import RecipeError
from schemas.manifest import Input

# Of pictures, in the order in which they are believed where several score one picture; and of documents.
IDENTIFIERS = ("key", "sha256", "url", "document_id")
_SUFFIXES = (".parquet", ".csv", ".jsonl")


@dataclass(frozen=True, slots=True)
class Table:
    """One file of scores.

    Attributes:
        path: the file.
        identifier: the column that says what is scored.
        names: the scores in it, sorted.
        rows: in all.
    """

    path: Path
    identifier: str
    names: tuple[str, ...]
    rows: int


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores wanted of some tables.

    Attributes:
        tables: in the order given; folders are replaced by the tables in them.
        names: of the scores that filters cut on, sorted.
    """

    tables: tuple[Table, ...] = ()
    names: tuple[str, ...] = ()

    @property
    def inputs(self) -> list[Input]:
        """The tables by the digest of their content."""
        return [Input(name="scores", digest=files.sha256(table.path)) for table in self.tables]


def open_scores(paths: Iterable[Path], names: Iterable[str]) -> Scores:
    """Look into tables of scores before any work begins.

    Args:
        paths: files, or folders of them.
        names: of the scores that are wanted.

    Raises:
        RecipeError: a table is not readable or not one of scores; a name is in none of them; no name is
            wanted of them.
    """
    tables = tuple(_table(path) for given in paths for path in _expanded(given))
    wanted = tuple(sorted(set(names)))
    known = sorted({name for table in tables for name in table.names})
    if tables and not wanted:
        raise RecipeError(
            f"scores: no filter cuts on one; add score: {{name: ..., min: ...}} for one of {', '.join(known)}"
        )
    for name in wanted:
        if not tables:
            raise RecipeError(f"score {name}: no table of scores; give one, such as --scores scores.parquet")
        if name not in known:
            raise RecipeError(f"score {name}: in none of the tables; they have {', '.join(known) or 'none'}")
    return Scores(tables, wanted)


def _expanded(path: Path) -> list[Path]:
    if path.is_dir():
        if found := sorted(each for each in files.inside(path) if each.suffix in _SUFFIXES):
            return found
        raise RecipeError(f"{path}: holds no table of scores ({', '.join(_SUFFIXES)})")
    if path.suffix not in _SUFFIXES:
        raise RecipeError(
            f"{path}: a table of scores is a file ending in {', '.join(_SUFFIXES)}, or a folder"
        )
    if not path.is_file():
        raise RecipeError(f"{path}: no such file")
    return [path]


def scan(path: Path) -> pl.LazyFrame:
    """The table, its text columns read as text: a key of digits is no number."""
    if path.suffix == ".parquet":
        return pl.scan_parquet(path)
    texts = dict.fromkeys((*IDENTIFIERS, "name"), pl.String())
    read = pl.scan_csv if path.suffix == ".csv" else pl.scan_ndjson
    found = read(path).collect_schema().names()
    types = {name: dtype for name, dtype in {**texts, "value": pl.Float64()}.items() if name in found}
    return read(path, schema_overrides=types)


def _table(path: Path) -> Table:
    try:
        with files.at_hand(path) as copy:
            return _described(path, scan(copy))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> RecipeError:
    """What is to be said of a table that cannot be read; polars' advice is for those who call polars."""
    said = str(error).partition("\n\n")[0]
    return RecipeError(f"{path}: not readable as a table of scores ({said}); mend the table or leave it out")


def _described(path: Path, rows: pl.LazyFrame) -> Table:
    schema = rows.collect_schema()
    columns = set(schema)
    identifiers = columns & set(IDENTIFIERS)
    if len(identifiers) != 1 or not {"name", "value"} <= columns:
        raise RecipeError(
            f"{path}: its columns are {', '.join(sorted(columns))}; a table of scores has name, "
            f"value and one of {', '.join(IDENTIFIERS)}"
        )
    if not schema["value"].is_numeric():
        raise RecipeError(f"{path}: its column value holds {schema['value']}, not numbers")
    known = pl.col("name").cast(pl.String).unique().sort().implode()
    row = rows.select(known, pl.len().alias("rows")).collect(engine="streaming").row(0)
    return Table(path, identifiers.pop(), tuple(name for name in row[0] if name is not None), row[1])
