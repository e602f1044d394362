"""Which planted faults did a walk find? Reads a work folder and the truth of a corpus made with faults.

    python benchmarks/planted_faults.py WORK TRUTH.json [--json]

TRUTH.json maps names of faults to what carries them: image URLs, pages, pairs of pages, shard numbers. A bad
picture is found if it stands in no document of the last stage; beside it the reasons under which it went.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import polars as pl

from schemas.manifest import read_manifest

STAGES = ("documents", "images", "filtered", "deduplicated")
BAD_IMAGES = (
    "dead_links",
    "page_as_image",
    "truncated_images",
    "empty_images",
    "decompression_bombs",
    "opted_out_images",
    "too_small_images",
    "extreme_aspect_images",
    "boilerplate_images",
)
NOT_LOOKED_FOR = ("recoded_images",)
COPIES = ("exact_duplicate_documents", "near_duplicate_documents")
Row = tuple[str, int, int, str]


def rejects(work: Path) -> pl.DataFrame:
    """All rejects tables of a work folder, with the stage's folder beside each row."""
    tables = [
        pl.scan_parquet(work / stage / "rejects" / "*.parquet").with_columns(stage=pl.lit(stage))
        for stage in STAGES
        if (work / stage).is_dir()
    ]
    return pl.concat(tables).collect()


def pages(work: Path, stage: str) -> set[str]:
    return set(pl.scan_parquet(work / stage / "*.parquet").select("url").collect()["url"])


def image_urls(work: Path, stage: str) -> pl.Series:
    items = pl.scan_parquet(work / stage / "*.parquet").select("items").explode("items")
    image = pl.col("items").struct.field("image")
    return items.select(image.struct.field("url").alias("url")).drop_nulls().collect()["url"]


def of_images(truth: dict[str, Any], dropped: pl.DataFrame, left: set[str]) -> list[Row]:
    rows = []
    for fault in BAD_IMAGES:
        urls = set(truth.get(fault, ()))
        told = dropped.filter((pl.col("kind") == "images") & pl.col("url").is_in(urls))
        reasons = dict(told.group_by("reason").agg(pl.col("count").sum()).rows())
        found = len(urls) - len(urls & left)
        rows.append((fault, len(urls), found, ", ".join(f"{r} {n}" for r, n in sorted(reasons.items()))))
    return rows


def of_documents(truth: dict[str, Any], work: Path, dropped: pl.DataFrame) -> list[Row]:
    before, after = pages(work, "filtered"), pages(work, "deduplicated")
    copies = dropped.filter((pl.col("stage") == "deduplicated") & (pl.col("kind") == "documents"))
    keep = [set(pair) for pair in truth.get("partial_overlaps_to_keep", ())]
    reached = [pair & before for pair in keep]
    kept = sum(pair <= after for pair in reached)
    told = f"{len(copies)} documents dropped in all"
    rows = [of_copies(truth.get(fault, ()), fault, before, after, told) for fault in COPIES]
    return [*rows, ("partial_overlaps_to_keep", len(keep), kept, "kept, as they should be, by dedupe")]


def of_copies(planted: list[list[str]], fault: str, before: set[str], after: set[str], told: str) -> Row:
    met = [set(pair) for pair in planted if before.issuperset(pair)]
    found = sum(len(pair & after) < 2 for pair in met)
    return fault, len(met), found, f"of {len(planted)} pairs {len(met)} reached dedupe; {told}"


def of_source(truth: dict[str, Any], work: Path) -> list[Row]:
    manifest = read_manifest(work / "documents")
    urls = image_urls(work, "documents")
    absolute = set(urls.filter(urls.str.contains(r"^https?://")))
    joined = sum(any(url.endswith(raw) for url in absolute) for raw in set(truth.get("relative_urls", ())))
    lines = sum(number for _, number in truth.get("broken_lines", ()))
    told = sum(manifest.ledger.documents.rejected.values())
    missing = truth.get("missing_shards", [])
    noted = sum(str(number) in " ".join(manifest.notes) for number in missing)
    torn = truth.get("torn_shards", [])
    return [
        ("relative_urls", len(set(truth.get("relative_urls", ()))), joined, "joined to the page"),
        ("broken_lines", lines, told, str(manifest.ledger.documents.rejected)),
        ("missing_shards", len(missing), noted, "; ".join(manifest.notes)),
        ("torn_shards", len(torn), len(manifest.failed), ", ".join(manifest.failed)),
    ]


def special_tokens(truth: dict[str, Any], work: Path) -> Row:
    frame = pl.scan_parquet(work / "documents" / "*.parquet").filter(
        pl.col("url").is_in(truth.get("special_token_documents", []))
    )
    text = frame.select("url", "items").explode("items").select("url", pl.col("items").struct.field("text"))
    found = (
        text.filter(pl.col("text").str.contains("<start_of_img>", literal=True)).collect()["url"].n_unique()
    )
    return ("special_token_documents", len(truth.get("special_token_documents", ())), found, "kept as text")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    truth, dropped = json.loads(options.truth.read_text()), rejects(options.work)
    left = set(image_urls(options.work, "deduplicated"))
    rows = of_images(truth, dropped, left) + of_documents(truth, options.work, dropped)
    rows += [*of_source(truth, options.work), special_tokens(truth, options.work)]
    unsought = "no rule of this recipe looks for it"
    rows += [(fault, len(truth.get(fault, ())), 0, unsought) for fault in NOT_LOOKED_FOR]
    if options.json:
        print(json.dumps([dict(zip(("fault", "planted", "found", "how"), row, strict=True)) for row in rows]))
        return
    print("| fault | planted | found | how |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")


if __name__ == "__main__":
    main()
