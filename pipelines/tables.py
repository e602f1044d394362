"""Which tables tell of an image store, whoever made it: we, or img2dataset, indexed or not."""

from pathlib import Path

from lcl_data import store


def store_tables(folder: Path) -> list[Path]:
    """A table per shard, one row per URL tried; none where the folder is no image store.

    A folder that img2dataset made has its own tables until it is indexed; those lack hashes and places.

    Raises:
        ShardError: a table is no whole Parquet file.
    """
    tables = store.table_paths(folder) if folder.is_dir() else []
    foreign = [table for table in tables if store.is_foreign(table)]
    if all(store.index_path(table).exists() for table in foreign):
        return [store.index_path(table) if table in foreign else table for table in tables]
    return tables
