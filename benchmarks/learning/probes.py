"""What an encoder is worth, in numbers between 0 and 1: probes on labelled pictures, and finding alt texts.

Retrieval is of pictures that no run has trained on, and of texts that are in no sequence: among 1,000 pairs,
by the cosine of the pooled vector and of what the language model foretells at `<BoI>` after the alt text.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from lcl_data.stage import document_units, open_documents
from lcl_data.store import read_pictures
from lcl_data.tokenizer import load
from lcl_train import checkpoint
from lcl_train.collate import Placed, collate
from lcl_train.encoder import load_encoder, random_encoder
from lcl_train.evals.knn import Knn
from lcl_train.evals.linear_probe import LinearProbe
from lcl_train.features import Folder, Subject
from lcl_train.layout import Part, Segment
from lcl_train.model import LCLModel
from lcl_train.objectives import Contrastive
from lcl_train.transform import centre_crop, decode

PAIRS, TEXT_TOKENS, AT_ONCE = 1000, 77, 50
PROBES = {
    f"{name} {features}": kind(features=features)
    for name, kind in (("k-NN", Knn), ("linear", LinearProbe))
    for features in ("patches", "pooled")
}


def probe(encoder, scenes, cache_folder, names=tuple(PROBES)):
    """Accuracy of each probe, and how many directions the features of the validation pictures take."""
    subject = Subject(encoder, Folder(scenes), cache_folder)
    found = {name: PROBES[name](subject).values.mean().item() for name in names}
    return {**found, "effective rank": effective_rank(subject.labelled("val", "patches").features)}


def effective_rank(features):
    """Roy and Vetterli 2007, the entropy of the spectrum as a number of directions: 1 where all are alike."""
    spectrum = torch.linalg.svdvals(features - features.mean(0))
    share = spectrum / spectrum.sum().clamp(min=1e-12)
    return float(torch.exp(-(share * share.clamp(min=1e-12).log()).sum()))


def trained(run):
    """The encoder of a finished run."""
    return load_encoder(run)[0]


def untrained(run, seed):
    """The same network with fresh weights."""
    return random_encoder(checkpoint.read_state(checkpoint.locate(run)).model, seed)


@torch.inference_mode()
def retrieval(run, held, alts):
    """How often a text finds its picture and a picture its text, among the first and the first ten."""
    path = checkpoint.locate(run)
    model = LCLModel(checkpoint.read_state(path).model)
    weights = {k: v for k, v in checkpoint.read_model(path).items() if not k.startswith("heads.")}
    checkpoint.load_weights(model.eval(), weights, path)
    return ranks(model, *held_out(held, alts))


@torch.inference_mode()
def ranks(model, pictures, texts, special):
    side, found = model.settings.vision.image_size, []
    for first in range(0, len(texts), AT_ONCE):
        rows = [[_pair(text, special)] for text in texts[first : first + AT_ONCE]]
        pixels = torch.stack([centre_crop(decode(each), side) for each in pictures[first : first + AT_ONCE]])
        batch = collate(rows, pixels, special, model.slots, TEXT_TOKENS + 2)
        found.append(Contrastive().pairs(model, model(batch), batch))
    images, contexts = (
        torch.nn.functional.normalize(torch.cat([getattr(each, name) for each in found]), dim=-1)
        for name in ("latents", "contexts")
    )
    cosine = contexts @ images.T
    own = cosine.diag()
    by_text, by_image = (cosine > own[:, None]).sum(1), (cosine > own[None]).sum(0)
    return {
        "text to image R@1": (by_text < 1).double().mean().item(),
        "text to image R@10": (by_text < 10).double().mean().item(),
        "image to text R@1": (by_image < 1).double().mean().item(),
        "image to text R@10": (by_image < 10).double().mean().item(),
        "median rank": float(torch.cat([by_text, by_image]).double().median()) + 1,
    }


def _pair(text, special):
    context = np.array([special.sot, *text[:TEXT_TOKENS], special.boi], np.int32)
    return Placed(
        Part((Segment(context, np.zeros(1, np.intp), generates=False),), np.zeros(1, np.intp)), ["0"]
    )


@cache
def held_out(held, alts):
    """Pictures and ids of alt texts, no two of them equal, none among the training pictures.

    Args:
        held: folder of the road that the held-out documents went; `train` stands beside it.
        alts: folder of Parquet tables with columns URL and TEXT, as LAION's.
    """
    table = pq.read_table(alts, columns=["URL", "TEXT"])
    texts = dict(zip(table["URL"].to_pylist(), table["TEXT"].to_pylist(), strict=True))
    known = {image["sha256"] for image in _images(held.parent / "train")}
    tokenizer = load(str(held.parent / "train" / "shards" / "tokenizer.json"))
    chosen = {}
    for image in sorted(_images(held), key=lambda image: image["sha256"]):
        if image["url"] in texts and image["sha256"] not in known:
            known.add(image["sha256"])
            chosen.setdefault(texts[image["url"]], image["key"])
    chosen = dict(list(chosen.items())[:PAIRS])
    if len(chosen) < PAIRS:
        raise SystemExit(f"{held}: {len(chosen)} pictures with alt texts; hold out more documents")
    pictures = read_pictures(held / "images", chosen.values())
    ids = tokenizer.encode([tokenizer.clean(alt) for alt in chosen])
    return [pictures[key] for key in chosen.values()], ids, tokenizer.special


def _images(road):
    for unit in document_units(road / "filtered"):
        for batch in open_documents(unit.payload).iter_batches(columns=["items"]):
            for items in batch.column("items").to_pylist():
                yield from (item["image"] for item in items if item["image"])


def measured(run, last):
    """Of metrics.jsonl: the means of the training losses over the last steps, and the last validation."""
    lines = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    late = [line for line in lines if line["step"] >= lines[-1]["step"] - last]
    names = [name for name in late[-1] if name.startswith("loss/")]
    means = {name: float(np.mean([line[name] for line in late])) for name in names}
    return {**means, **{name: value for name, value in lines[-1].items() if name.startswith("val/")}}
