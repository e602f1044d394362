"""A tiny corpus, drawn: documents whose words name the colours of their pictures, as real training shards."""

import hashlib
import io
import json

import numpy as np
import pyarrow as pa
from PIL import Image

from lcl_data.containers import WebdatasetWriter
from lcl_data.sequence import Row
from lcl_data.shards import Sequence, SpecialTokens
from lcl_train.layout import Part, Segment
from lcl_train.settings import Train
from schemas.overrides import laid_over, settle
from schemas.sequences import SEQUENCES, TOKENS_KEY

SPECIALS = SpecialTokens(sot=64, eot=65, image=66, boi=67, eoi=68, pad=69, vocab_size=70)
SETTINGS = {
    "preset": "nano",
    "model": {
        "vision": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "heads": 2},
        "language": {"width": 32, "layers": 1, "heads": 2, "context": 64},
    },
    "rows": 2,
    "pack": {"row_tokens": 64, "row_images": 8, "lookahead": 8},
    "optimizer": {"lr": 3e-3, "warmup_steps": 5},
    "steps": 20,
    "log_every": 1,
    "save_every_steps": 5,
    "device": "cpu",
}


def part(tokens, image):
    """A document of these ids as one part, its images numbered from 0."""
    ids = np.array(tokens, np.int32)
    images = np.arange(np.count_nonzero(ids == image))
    return Part((Segment(ids, images),), images)


def settings(**changes):
    return settle(Train, laid_over(SETTINGS, changes))


def colour(number):
    """32 colours far apart."""
    return (number % 4 * 85, number // 4 % 4 * 85, number // 16 % 2 * 255)


def picture(number, noise=0, side=24):
    rng = np.random.default_rng([number, noise])
    pixels = np.clip(np.array(colour(number)) + rng.normal(0, 8, (side, side, 3)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def document(number, pictures=1):
    """sot, then per picture its name in two words and the picture, which belongs to them; a word, eot."""
    tokens, images, anchors = [SPECIALS.sot], [], []
    for k in range(pictures):
        shown = (number + 7 * k) % 32
        anchors.append({"start": len(tokens), "end": len(tokens) + 2})
        tokens += [shown % 8, 8 + shown // 8, SPECIALS.image]
        images.append(picture(shown, number))
    tokens += [16 + number % 32, SPECIALS.eot]
    return {
        "id": f"{number:032x}",
        "tokens": tokens,
        "images": images,
        "image_keys": [hashlib.sha256(image).hexdigest() for image in images],
        "anchors": anchors,
        "source": "tiny",
        "url": None,
    }


def write_shards(folder, documents, per_shard=16):
    schema = SEQUENCES.with_metadata({**SEQUENCES.metadata, TOKENS_KEY: SPECIALS.to_json().encode()})
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(documents), per_shard)):
        table = pa.Table.from_pylist(documents[start : start + per_shard], schema)
        with (
            pa.OSFile(str(folder / f"{number:05d}.arrow"), "wb") as file,
            pa.ipc.new_file(file, schema) as out,
        ):
            out.write_table(table)
    return folder


def write_tars(folder, documents, per_shard=16):
    """The same rows in the other container."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(documents), per_shard)):
        path = folder / f"{number:05d}.tar"
        writer = WebdatasetWriter(path, path.with_suffix(".tar.idx"), SPECIALS)
        for document in documents[start : start + per_shard]:
            anchors = [each and (each["start"], each["end"]) for each in document["anchors"]]
            ids = np.array(document["tokens"], np.int32)
            texts = ["text", *[None] * len(anchors)]
            sequence = Sequence(**{**document, "tokens": ids, "anchors": anchors})
            writer.write(Row(sequence, texts, [None] * len(anchors)))
        writer.close()
    return folder


def write_classes(folder, classes=4, train=12, val=6):
    """A folder of classes that differ in colour."""
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for k in range(count):
                (place / f"{k}.jpg").write_bytes(picture(label * 5, k + 1000 * (split == "val")))
    return folder


def metrics(out):
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def losses(out):
    """What must be bit-equal of metrics.jsonl: everything but rates."""
    kept = ("step", "lr", "grad_norm")
    return [{k: v for k, v in line.items() if k in kept or k.startswith("loss/")} for line in metrics(out)]


def validations(out):
    """What was found on documents held out, each time."""
    found = [{k: v for k, v in line.items() if k.startswith("val/")} for line in metrics(out)]
    return [each for each in found if each]
