"""The outcomes of a shard of URLs, whoever fetched them: its table, statistics and part of the ledger."""

from lcl_data.draft import Draft
from lcl_data.store import Row, write_stats, write_table
from schemas.images import SUCCESS


def publish(draft: Draft, rows: list[Row], members: int, made_by: str = "") -> None:
    """Publish a shard whose tar is written: its table, statistics and ledger in image references.

    Args:
        draft: with `.tar` at its temporary path.
        rows: of `IMAGES`, all of them.
        members: pictures in the tar.
        made_by: the digest of the settings.
    """
    draft.rows(".tar", members)
    write_table(draft.path(".parquet"), rows, made_by)
    draft.rows(".parquet", len(rows))
    write_stats(draft.path("_stats.json"), rows)
    draft.rows("_stats.json", 1)
    count(draft, rows)
    draft.commit()


def count(draft: Draft, rows: list[Row]) -> None:
    """Enter the outcomes into the ledger: a URL counts as often as documents point at it."""
    images = draft.count("images")
    for row in rows:
        references = row["references"]
        images.read += references
        if row["status"] == SUCCESS:
            images.kept += references
        else:
            reason = row["reason"] or row["status"]
            draft.reject("images", reason, references, url=row["url"], detail=row["error_message"])
