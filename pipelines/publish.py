"""Writes the contracts as JSON Schema into schemas/json, for editors and for other languages.

The truth is the code; `python -m pipelines.publish --check` fails when the published form has drifted.
Here and not in `schemas`, because a recipe's schema names every member of the rooms below.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from lcl_data.dedupe import Rule
from lcl_data.download import Download
from lcl_data.filters import Filter
from lcl_data.ingest import Ingest
from lcl_data.shard import Shard
from pipelines.preset import Choice, preset_names
from schemas.decisions import DECISIONS
from schemas.documents import DOCUMENTS
from schemas.images import IMAGES
from schemas.manifest import Manifest
from schemas.members import find, names
from schemas.pixels import PIXELS
from schemas.recipe import Recipe, Settings
from schemas.rejects import REJECTS
from schemas.sequences import SEQUENCES
from schemas.versions import SCHEMA_KEY

FOLDER = Path(__file__).parents[1] / "schemas" / "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]


def published() -> dict[str, Json]:
    """Every schema by file name."""
    tables = {"documents": DOCUMENTS, "images": IMAGES, "sequences": SEQUENCES}
    tables |= {"rejects": REJECTS, "decisions": DECISIONS, "pixels": PIXELS}
    schemas = {f"{name}.json": _table(schema) for name, schema in tables.items()}
    schemas["manifest.json"] = {"$schema": DIALECT, **Manifest.model_json_schema()}
    schemas["recipe.json"] = {"$schema": DIALECT, **_recipe()}
    return schemas


def main() -> int:
    """Write the schemas, or with --check say which have drifted."""
    drifted = []
    for name, schema in published().items():
        path, text = FOLDER / name, json.dumps(schema, indent=1, sort_keys=True) + "\n"
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            drifted.append(name)
    if drifted:
        sys.stderr.write(f"schemas/json: {', '.join(drifted)} differ from the code; run `make schemas`\n")
    return 1 if drifted else 0


def _table(schema: pa.Schema) -> Json:
    row = _struct(list(schema))
    return {
        "$schema": DIALECT,
        "title": schema.metadata[SCHEMA_KEY].decode(),
        "description": "one row",
        **row,
    }


def _struct(fields: list[pa.Field]) -> Json:
    properties = {field.name: _nullable(_type(field.type), field.nullable) for field in fields}
    required = [field.name for field in fields if not field.nullable]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _type(kind: pa.DataType) -> Json:
    if pa.types.is_list(kind):
        return {"type": "array", "items": _nullable(_type(kind.value_type), kind.value_field.nullable)}
    if pa.types.is_struct(kind):
        return _struct([kind.field(index) for index in range(kind.num_fields)])
    if pa.types.is_binary(kind):
        return {"type": "string", "contentEncoding": "base64", "description": "binary"}
    if pa.types.is_string(kind):
        return {"type": "string"}
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    return {"type": "integer" if pa.types.is_integer(kind) else "number", "description": str(kind)}


def _nullable(schema: Json, nullable: bool) -> Json:
    return {"anyOf": [schema, {"type": "null"}]} if nullable else schema


def _recipe() -> Json:
    schema = Recipe.model_json_schema()
    definitions: Json = schema.setdefault("$defs", {})
    sections: dict[str, type[Settings]] = {"ingest": Ingest, "download": Download, "shard": Shard}
    sections["train"] = _train()
    for name, kind in sections.items():
        told = schema["properties"][name]["description"]
        schema["properties"][name] = {**_inlined(kind, definitions), "description": told}
    src = {"type": "string", "description": "file or folder of the dump"}
    schema["properties"]["ingest"]["properties"]["src"] = src
    lists = {"filters": _members("lcl_data.filters", Filter, definitions)}
    lists["dedupe"] = _members("lcl_data.dedupe", Rule, definitions)
    for name, entries in lists.items():
        schema["properties"][name] = {
            **entries,
            "description": schema["properties"][name]["description"],
        }
    return schema


def _train() -> type[Settings]:
    from lcl_train.settings import Train

    return Train


def _inlined(kind: type[Settings], definitions: Json) -> Json:
    schema = kind.model_json_schema(ref_template="#/$defs/{model}")
    definitions.update(schema.pop("$defs", {}))
    return schema


def _members(package: str, kind: type[Settings], definitions: Json) -> Json:
    """A list of `name` or `{name: settings}`; a name with a colon is a third party's member."""
    members = {name: _inlined(find(package, name, kind), definitions) for name in names(package)}
    bare = {"anyOf": [{"enum": sorted(members)}, {"type": "string", "pattern": ":"}]}
    members["preset"] = _preset()
    ours = {"type": "object", "properties": members, "maxProperties": 1, "minProperties": 1}
    return {"type": "array", "items": {"anyOf": [bare, ours]}}


def _preset() -> Json:
    """The entry that stands for the list of a published pipeline."""
    named: Json = Choice.model_json_schema()
    named["properties"]["name"]["enum"] = preset_names()
    told = "the list of a published pipeline; later entries lay their settings over its members, or add"
    return {"anyOf": [{"enum": preset_names()}, named], "description": told}


if __name__ == "__main__":
    sys.exit(main())
