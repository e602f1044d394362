"""A small road: settings of the recipe `demo` for the drawn corpus of the tests."""

from pathlib import Path

# As `lcl` itself, in this interpreter; the arguments are one JSON list.
LCL = """
import json, sys, warnings
warnings.simplefilter("ignore")
sys.argv = ["lcl", *json.loads(sys.argv[1])]
from pipelines.cli import main
main()
"""


def settings(root: Path, work: Path, *more: str) -> list[str]:
    wide = "[url_words, {similarity: {min: 0.24}}, {image_size: {min_side_px: 64}}, {image_aspect: {max: 2}}]"
    return [
        f"work={work}",
        f"ingest.src={root / 'mmc4' / 'data'}",
        "download.fetch.allow_private=true",
        f"filters={wide}",
        "tokenizer.vocab_size=400",
        *more,
    ]


def tiny(root: Path) -> list[str]:
    model = (
        "train.model={vision: {layers: 1, width: 32, heads: 1}, language: {layers: 1, width: 32, heads: 1}}"
    )
    return [model, "train.steps=2", "train.rows=2", f"eval={{data: {root / 'scenes'}, use: [knn]}}"]
