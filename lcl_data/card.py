"""The dataset card of a shard folder: README.md for people, croissant.json (Croissant 1.0, JSON-LD) for
machines.

Both follow from the manifest and the documents' own licences, so equal shards have equal cards.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lcl_data import files
from lcl_data.shards import SUFFIX, SpecialTokens
from schemas.manifest import Manifest, Shard

_FORMATS = {".arrow": "application/vnd.apache.arrow.file", ".tar": "application/x-tar"}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
# Name, type, whether it is a list, what it is; of what both containers hold.
_FIELDS = (
    ("id", "sc:Text", False, "Id of the document; part k >= 1 of an over-long one is <id>-<k>."),
    ("tokens", "sc:Integer", True, "Token ids; one position token per picture."),
    ("image_keys", "sc:Text", True, "SHA-256 of each picture's encoded bytes, in the order of their tokens."),
    ("source", "sc:Text", False, "Name of the corpus."),
    ("url", "sc:URL", False, "Address of the page."),
)

Origins = dict[tuple[str, str], int]  # (source, licence) -> documents read


def write_cards(out: Path, manifest: Manifest, special: SpecialTokens, name: str, origins: Origins) -> None:
    """Write README.md and croissant.json of a finished shard folder."""
    files.write(out / "README.md", readme(manifest, special, name, origins).encode())
    content = json.dumps(croissant(manifest, name, origins), indent=2, ensure_ascii=False)
    files.write(out / "croissant.json", content.encode() + b"\n")


def readme(manifest: Manifest, special: SpecialTokens, name: str, origins: Origins) -> str:
    """The card for people."""
    ids = ", ".join(f"{role} {number}" for role, number in json.loads(special.to_json()).items())
    read = "\n".join(f"| {source} | {licence} | {count:,} |" for (source, licence), count in origins.items())
    return f"""# {name}

{_description(manifest)}

| container | shards | rows | bytes |
|---|---|---|---|
{chr(10).join(_table(manifest.shards))}

Rows hold `id`, `tokens` (each picture is ONE position token), `images` (encoded), `image_keys` (SHA-256),
`anchors` (the token span each picture belongs to, or null), `source` and `url`. Read them with
`lcl_data.shards.Shards`, `pyarrow`, plain `webdataset`, or Energon (`.nv-meta/`).

Special ids: {ids}. Tokenizer: `{manifest.settings["tokenizer"]}`, in `tokenizer.json`; the text was cleaned
before it was encoded if the tokenizer is `clip` (ftfy, HTML unescaped, white space collapsed, lower case).

## Where it comes from

| source | licence | documents read |
|---|---|---|
{read}

The ledger of what was kept and why the rest was not is in `manifest.json` and `rejects/`. Pictures remain
under the terms of the pages they were found on.
"""


def croissant(manifest: Manifest, name: str, origins: Origins) -> dict[str, Any]:
    """The card for machines."""
    shards = [shard for shard in manifest.shards if Path(shard.name).suffix in _FORMATS]
    card = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": _description(manifest),
        "license": sorted({licence for _, licence in origins}),
        "version": "1.0.0",
        "distribution": [*map(_file_object, shards), *_file_sets(shards)],
        "recordSet": _record_sets(shards),
    }
    return {key: value for key, value in card.items() if value}


def _description(manifest: Manifest) -> str:
    ledger = manifest.ledger
    return (
        f"Interleaved image-text documents as token sequences: {ledger.documents.kept:,} documents with "
        f"{ledger.images.kept:,} pictures in reading order, for pre-training."
    )


def _table(shards: Iterable[Shard]) -> Iterable[str]:
    for container, suffix in SUFFIX.items():
        chosen = [shard for shard in shards if shard.name.endswith(suffix)]
        rows, nbytes = sum(shard.rows for shard in chosen), sum(shard.nbytes for shard in chosen)
        if chosen:
            yield f"| {container} (`*{suffix}`) | {len(chosen):,} | {rows:,} | {nbytes:,} |"


def _file_object(shard: Shard) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": shard.name,
        "name": shard.name,
        "contentUrl": shard.name,
        "contentSize": f"{shard.nbytes} B",
        "encodingFormat": _FORMATS[Path(shard.name).suffix],
        "sha256": shard.sha256,
    }


def _file_sets(shards: list[Shard]) -> list[dict[str, Any]]:
    """The JSON members of the tars: what Croissant's readers can open."""
    tars = [{"@id": shard.name} for shard in shards if shard.name.endswith(SUFFIX["webdataset"])]
    json_files = {
        "@type": "cr:FileSet",
        "@id": "samples",
        "name": "samples",
        "containedIn": tars,
        "encodingFormat": "application/json",
        "includes": "*.json",
    }
    return [json_files] if tars else []


def _record_sets(shards: list[Shard]) -> list[dict[str, Any]]:
    has_tars = bool(_file_sets(shards))
    if not shards:
        return []
    fields = [_field(*field, has_tars=has_tars, first=shards[0].name) for field in _FIELDS]
    return [{"@type": "cr:RecordSet", "@id": "sequences", "name": "sequences", "field": fields}]


def _field(name: str, kind: str, repeated: bool, text: str, *, has_tars: bool, first: str) -> dict[str, Any]:
    from_tar = {"fileSet": {"@id": "samples"}, "extract": {"jsonPath": f"$.{name}"}}
    from_arrow = {"fileObject": {"@id": first}, "extract": {"column": name}}
    return {
        "@type": "cr:Field",
        "@id": f"sequences/{name}",
        "name": name,
        "description": text,
        "dataType": kind,
        **({"repeated": True} if repeated else {}),
        "source": from_tar if has_tars else from_arrow,
    }
