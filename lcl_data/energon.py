"""The sidecar that lets Megatron-Energon read our WebDataset shards: `.nv-meta/` beside the tars.

What `energon prepare` would ask for and write, without its SQLite index (wanted only for joins; `energon
prepare --tar-index-only` adds it). Source: Energon's documentation of custom sample loaders and data on disk.
"""

import json
from pathlib import Path

import yaml

from lcl_data import files
from lcl_data.shards import SUFFIX
from schemas.manifest import Manifest

FOLDER = ".nv-meta"
_DATASET = {
    "sample_type": {"__module__": "megatron.energon", "__class__": "InterleavedSample"},
    "part_filter": "sample_loader.py:part_filter",
    "sample_loader": "sample_loader.py:sample_loader",
}
_SAMPLE_LOADER = '''\
"""Turns a raw sample of these shards into the fields of Energon's InterleavedSample."""


def sample_loader(raw):
    """The document as one list: a string for a text, the decoded picture for an image."""
    texts, images = raw["json"]["texts"], raw["json"]["images"]
    sequence = [raw[image] if text is None else text for text, image in zip(texts, images)]
    return {"__key__": raw["__key__"], "sequence": sequence}


def part_filter(part):
    """Every part is wanted: the JSON and all pictures."""
    return True
'''


def write_sidecar(out: Path, manifest: Manifest) -> None:
    """Write `.nv-meta/` for the tars of a finished shard folder; empty tars are left out, as Energon does."""
    rows = {shard.name: shard.rows for shard in manifest.shards if shard.name.endswith(SUFFIX["webdataset"])}
    filled = {name: count for name, count in rows.items() if count}
    folder = out / FOLDER
    if not rows:
        _remove(folder)
        return
    files.make(folder)
    files.sweep(folder)
    splits = {"split_parts": {"train": list(filled), "val": [], "test": []}, "exclude": []}
    files.write(folder / "dataset.yaml", yaml.safe_dump(_DATASET).encode())
    files.write(folder / "sample_loader.py", _SAMPLE_LOADER.encode())
    files.write(folder / "split.yaml", yaml.safe_dump(splits).encode())
    files.write(folder / ".info.json", json.dumps({"shard_counts": filled}, indent=2).encode())


def _remove(folder: Path) -> None:
    """Drop the sidecar of an earlier run that wrote tars."""
    if folder.is_dir():
        for name in ("dataset.yaml", "sample_loader.py", "split.yaml", ".info.json"):
            (folder / name).unlink(missing_ok=True)
