"""Each objective against plain loops over its segments one by one; and what all of them promise."""

import math
from contextlib import closing

import pytest
import torch
from torch.nn import functional as F

from lcl_data.shards import Shards
from lcl_train.collate import Placed, collate
from lcl_train.layout import Draw, Layout, lay_out
from lcl_train.model import LCLModel
from lcl_train.objectives import Objective
from lcl_train.pack import PackSettings
from lcl_train.presets import LanguageSettings, ModelSettings, VisionSettings
from lcl_train.run import Run
from lcl_train.task import Task
from schemas.errors import RecipeError
from schemas.members import build, names
from tests.lcl_train import tiny

NAMES = names("lcl_train.objectives")
PAIRED = ("clip", "coca", "blip2")
SIZES = ModelSettings(
    vision=VisionSettings(image_size=16, patch_size=4, width=24, layers=1, heads=2, visual_tokens=4),
    language=LanguageSettings(width=16, layers=2, heads=2, context=64, vocab_size=70),
)
SLOTS, PACK = 4, PackSettings(row_tokens=64, row_images=8, lookahead=8)
OF_TERMS = {
    "lcl": ("contrastive", "generation"),
    "clip": ("contrastive",),
    "coca": ("contrastive", "generation"),
    "blip2": ("contrastive", "generation", "matching"),
    "generation": ("generation",),
    "generation_regression": ("generation", "regression"),
    "masked": ("generation", "pixels"),
}


def objective(name, **settings):
    return build("lcl_train.objectives", {name: settings}, Objective)


def task_of(objective_):
    torch.manual_seed(0)
    model = LCLModel(SIZES, objective_.heads(SIZES))
    for parameter in model.parameters():
        if parameter.ndim:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return Task(model, objective_)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    documents = [tiny.document(number, pictures=number % 3) for number in range(32)]
    return Shards(tiny.write_shards(tmp_path_factory.mktemp("tiny"), documents))


def batch_of(shards, layout, rows=(1, 2, 4, 5)):
    """A row of each document; documents 3, 6, 9, ... have no pictures."""
    placed, count = [], 0
    for at in rows:
        own = shards[at]
        parts = lay_out(Draw(own, shards[at - 1], 0, 0), layout, tiny.SPECIALS, SLOTS, PACK)
        placed.append([Placed(part, [own.image_keys[k] for k in part.pictures], own.id) for part in parts])
        count += sum(len(part.pictures) for part in parts)
    pixels = torch.randint(0, 256, (count, 3, 16, 16), generator=torch.Generator().manual_seed(1))
    return collate(placed, pixels.to(torch.uint8), tiny.SPECIALS, SLOTS, PACK.row_tokens)


def streams(model, batch):
    """The stream by plain attention, a segment at a time, and the place of each segment's first token."""
    shown = model.vision.normalise(batch.pixels).clone()
    for image, squares in enumerate(batch.hidden):
        for slot in squares.nonzero().flatten().tolist():
            shown[image, :, 8 * (slot // 2) :, 8 * (slot % 2) :][:, :8, :8] = 0
    latents, visual = model.encode(shown)
    found, start = [], 0
    for length in batch.segments.lengths:
        places = range(start, start + length)
        x = torch.stack([_embedding(model, visual, batch, at, at - start) for at in places])
        for block in model.language.blocks:
            x = _through(block, x, batch.segments.causal)
        found.append(x)
        start += length
    return latents, visual, torch.cat(found)


def _embedding(model, visual, batch, at, position):
    slot = batch.visual_index[at]
    own = model.language.tokens.weight[batch.tokens[at]] if slot < 0 else visual.flatten(0, 1)[slot]
    return own + model.language.positions.weight[position if batch.positions[at] else 0]


def _through(block, x, causal):
    q, k, v = (y.unflatten(-1, (2, 8)).transpose(0, 1) for y in block.qkv(block.norm1(x)).chunk(3, -1))
    mask = torch.full((len(x), len(x)), -torch.inf).triu(1) if causal else torch.zeros(len(x), len(x))
    x = x + block.proj(((q @ k.mT / 8**0.5 + mask).softmax(-1) @ v).transpose(0, 1).flatten(1))
    return x + block.fc2(F.gelu(block.fc1(block.norm2(x))))


def plain_contrast(model, batch, latents, stream):
    """Every pair against every other that neither shows the same picture nor has the same words."""
    images, contexts = [latents[i] for i in batch.pair_image], [stream[at] for at in batch.pair_position]
    contexts = [model.context_proj(model.context_norm(context)) for context in contexts]
    keys, words = batch.image_keys[batch.pair_image].tolist(), batch.pair_context.tolist()
    terms = []
    for i in range(len(images)):
        others = [j for j in range(len(images)) if j == i or (keys[i] != keys[j] and words[i] != words[j])]
        own, scale = others.index(i), model.logit_scale.exp()
        for one, many in ((images[i], contexts), (contexts[i], images)):
            logits = torch.stack([scale * F.cosine_similarity(one, many[j], dim=0) for j in others])
            terms.append(-logits.log_softmax(0)[own])
    return torch.stack(terms).mean()


def plain_generation(model, batch, stream):
    """The labels of the batch, one at a time."""
    return torch.stack(
        [
            -model.head(model.head_norm(stream[at])).log_softmax(-1)[label]
            for at, label in zip(batch.label_position.tolist(), batch.labels.tolist(), strict=True)
        ]
    ).mean()


def plain_matching(model, batch, stream):
    """A caption is true if its words are those of the context before it, which ends in `<BoI>`."""
    terms, own, end = [], [], 0
    for length in batch.segments.lengths:
        tokens, end = batch.tokens[end : end + length].tolist(), end + length
        words = [token for token in tokens if token < tiny.SPECIALS.sot]
        if tokens[-1] == tiny.SPECIALS.boi:
            own = words
        elif tokens[-1] == tiny.SPECIALS.eot:
            probability = torch.sigmoid(model.heads["match"](stream[end - 1])).squeeze()
            terms.append(-torch.log(probability if words == own else 1 - probability))
    return torch.stack(terms).mean()


def plain_regression(model, batch, visual, stream):
    """Slots in reading order are the visual tokens in their order: documents come one after another."""
    slots = [at for at, token in enumerate(batch.tokens.tolist()) if token == tiny.SPECIALS.image]
    terms = []
    for target, at in zip(
        visual[batch.visual_index[slots] // SLOTS, torch.arange(len(slots)) % SLOTS], slots, strict=True
    ):
        terms.append((model.heads["regress"](stream[at - 1]) - target).square().mean())
    return torch.stack(terms).mean()


def plain_pixels(model, batch, stream):
    """Hidden squares of 8 pixels a side, 2 by 2 of them, each normalised."""
    pixels, terms = model.vision.normalise(batch.pixels), []
    for at, index in enumerate(batch.visual_index.tolist()):
        image, slot = divmod(index, SLOTS)
        if index < 0 or not batch.hidden[image, slot]:
            continue
        top, left = 8 * (slot // 2), 8 * (slot % 2)
        square = pixels[image, :, top : top + 8, left : left + 8]
        square = (square - square.mean()) / (square.var(correction=0) + 1e-6).sqrt()
        terms.append((model.heads["paint"](stream[at]) - square.flatten()).square().mean())
    return torch.stack(terms).mean()


@pytest.mark.parametrize("name", sorted(OF_TERMS))
def test_terms_and_gradients_equal_plain_loops(shards, name):
    own = objective(name)
    task = task_of(own)
    model, batch = task.model, batch_of(shards, own.layout)
    loss = task(batch)
    loss.total.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    latents, visual, stream = streams(model, batch)
    plain = {
        "contrastive": lambda: plain_contrast(model, batch, latents, stream),
        "generation": lambda: plain_generation(model, batch, stream),
        "matching": lambda: plain_matching(model, batch, stream),
        "regression": lambda: plain_regression(model, batch, visual, stream),
        "pixels": lambda: plain_pixels(model, batch, stream),
    }
    total = torch.zeros(())
    for term in OF_TERMS[name]:
        value = plain[term]()
        torch.testing.assert_close(loss.parts[term], value.detach(), atol=1e-5, rtol=1e-5)
        total = total + own.weights[term] * value
    total.backward()
    for parameter, theirs in model.named_parameters():
        torch.testing.assert_close(gradients[parameter], theirs.grad, atol=1e-5, rtol=1e-4)


def test_every_objective_is_tested():
    assert sorted(OF_TERMS) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [[3], [6, 9]])
def test_a_batch_without_pictures_reaches_every_parameter(shards, name, rows):
    own = objective(name)
    task, batch = task_of(own), batch_of(shards, own.layout, rows)
    assert not batch.n_images
    loss = task(batch)
    loss.total.backward()
    gradients = {at: p.grad for at, p in task.named_parameters() if p.requires_grad}
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    for term in OF_TERMS[name]:
        assert (loss.parts[term] == 0) == (term != "generation" or not len(batch.labels))
    if name in PAIRED:
        assert loss.total == 0 and not any(gradient.any() for gradient in gradients.values())


SWITCHED = [(name, term) for name, terms in OF_TERMS.items() for term in terms if len(terms) > 1]


@pytest.mark.parametrize(("name", "term"), SWITCHED)
def test_a_term_of_weight_0_is_left_out_and_leaves_no_idle_parameter(shards, name, term):
    own = objective(name, **{f"{term}_weight": 0})
    task = task_of(own)
    loss = task(batch_of(shards, own.layout))
    loss.total.backward()
    assert term not in loss.parts and all(loss.parts[other] > 0 for other in OF_TERMS[name] if other != term)
    idle = [at for at, p in task.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle


def test_blip2_without_matching_is_coca_of_other_weights(shards):
    first, second = objective("blip2", matching_weight=0), objective("coca", generation_weight=1)
    assert first.layout == second.layout
    batch = batch_of(shards, first.layout)
    assert task_of(first)(batch).total == task_of(second)(batch).total


def test_a_detached_target_moves_the_forecast_only(shards):
    batch = batch_of(shards, Layout())
    gradients = {}
    for detach in (False, True):
        task = task_of(objective("generation_regression", generation_weight=0, detach=detach))
        loss = task(batch)
        loss.total.backward()
        gradients[detach] = {at: p.grad for at, p in task.named_parameters() if p.requires_grad}
    head = "model.heads.regress.1.weight"
    torch.testing.assert_close(gradients[False][head], gradients[True][head])
    encoder = "model.vision.vit.patch_embed.proj.weight"
    assert not torch.allclose(gradients[False][encoder], gradients[True][encoder])


@pytest.mark.parametrize("name", NAMES)
def test_every_term_falls_on_a_corpus_that_fits_in_the_head(tmp_path, name):
    steps = 150 if name == "blip2" else 60  # to judge a text needs words bound to colours first
    folder = tiny.write_shards(tmp_path / "shards", [tiny.document(number) for number in range(4)])
    run = Run(Shards(folder), tmp_path, tiny.settings(objective=name, steps=steps, rows=1))
    with closing(iter(run.loader)) as batches:
        told = [{k: float(v) for k, v in run.advance(next(batches)).values.items()} for _ in range(steps)]
    for term in OF_TERMS[name]:
        values = [line[f"loss/{term}"] for line in told]
        assert all(map(math.isfinite, values))
        assert sum(values[-10:]) < 0.7 * sum(values[:10]), term


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(RecipeError, match="nothing is told"):
        objective("masked", text_mask=0, image_mask=0)
    vision = SIZES.vision.model_copy(update={"image_size": 20, "visual_tokens": 9})
    with pytest.raises(RecipeError, match="3 slots on a side do not divide 20 pixels"):
        objective("masked").heads(SIZES.model_copy(update={"vision": vision}))
