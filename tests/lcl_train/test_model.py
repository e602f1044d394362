"""Packed rows equal the documents alone, and both a plain loop over padded rows written from the method."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from lcl_data.shards import SpecialTokens
from lcl_train.collate import Placed, collate
from lcl_train.contrast import ContrastSettings
from lcl_train.model import LCLModel
from lcl_train.objectives.lcl import Lcl
from lcl_train.presets import PRESETS, LanguageSettings, ModelSettings, VisionSettings
from lcl_train.task import Task
from schemas.errors import RecipeError
from tests.lcl_train import tiny

torch.set_num_threads(2)
SPECIALS = SpecialTokens(sot=100, eot=101, image=102, boi=103, eoi=104, pad=105, vocab_size=106)
SOT, EOT, IMAGE = 100, 101, 102
SETTINGS = ModelSettings(
    vision=VisionSettings(image_size=16, patch_size=8, width=24, layers=1, heads=2),
    language=LanguageSettings(width=16, layers=2, heads=2, context=64, vocab_size=106),
)
DOCUMENTS = [
    [SOT, 5, 6, IMAGE, 7, EOT],
    [SOT, IMAGE, 8, 9, 10, IMAGE, EOT],
    [SOT, 11, EOT],
    [SOT, 12, IMAGE, 13, IMAGE, 14, 15, EOT],
]


def placed(tokens, first=0):
    keys = [f"{first + at:015x}{0:049x}" for at, token in enumerate(tokens) if token == IMAGE]
    return Placed(tiny.part(tokens, IMAGE), keys)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = LCLModel(SETTINGS)
    for parameter in model.parameters():
        if parameter.ndim:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def batch_of(rows, row_tokens, pixels=None):
    images = sum(tokens.count(IMAGE) for row in rows for tokens in row)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(images, 3, 16, 16, generator=generator) if pixels is None else pixels
    rows = [
        [placed(tokens, 100 * (10 * at + n)) for n, tokens in enumerate(row)] for at, row in enumerate(rows)
    ]
    return collate(rows, pixels, SPECIALS, 4, row_tokens)


def step(model, batch, objective=None):
    model.zero_grad()
    loss = Task(model, objective or Lcl())(batch)
    loss.total.backward()
    return loss, {name: parameter.grad for name, parameter in model.named_parameters()}


def plain_losses(model, documents, pixels):
    """The method as a loop: padded rows, a dense causal mask, logits for everything, terms one by one."""
    latents, visual = model.encode(pixels)
    frame = [SPECIALS.boi, *[IMAGE] * 4, SPECIALS.eoi]
    rows = [[i for token in tokens for i in (frame if token == IMAGE else [token])] for tokens in documents]
    length, images = max(map(len, rows)), iter(visual)
    ids = torch.tensor([row + [SPECIALS.pad] * (length - len(row)) for row in rows])
    x = model.language.tokens(ids) + model.language.positions.weight[:length]
    for row, tokens in enumerate(rows):
        for at in (at for at, token in enumerate(tokens) if token == SPECIALS.boi):
            x[row, at + 1 : at + 5] = next(images) + model.language.positions.weight[at + 1 : at + 5]
    mask = torch.full((length, length), -torch.inf).triu(1)
    for block in model.language.blocks:
        q, k, v = (y.unflatten(-1, (2, 8)).transpose(1, 2) for y in block.qkv(block.norm1(x)).chunk(3, -1))
        x = x + block.proj(((q @ k.mT / 8**0.5 + mask).softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = x + block.fc2(F.gelu(block.fc1(block.norm2(x))))
    logp, terms, contexts, pairs, seen = model.head(model.head_norm(x)).log_softmax(-1), [], [], [], -1
    for row, tokens in enumerate(rows):
        for at, token in enumerate(tokens):
            seen += token == SPECIALS.boi
            if token == SPECIALS.boi and at > 1:
                contexts.append(F.normalize(model.context_proj(model.context_norm(x[row, at])), dim=0))
                pairs.append(F.normalize(latents[seen], dim=0))
            if at > 0 and token not in (SPECIALS.image, SPECIALS.eoi):
                terms.append(-logp[row, at - 1, token])
    similar = model.logit_scale.exp() * torch.stack(pairs) @ torch.stack(contexts).T
    contrast = -(similar.log_softmax(0).diag() + similar.log_softmax(1).diag()).mean() / 2
    return contrast, torch.stack(terms).mean()


def test_losses_and_gradients_equal_the_plain_loop(model):
    batch = batch_of([DOCUMENTS], 64)
    loss, gradients = step(model, batch)
    model.zero_grad()
    contrast, generation = plain_losses(model, DOCUMENTS, batch.pixels)
    torch.testing.assert_close(loss.parts["contrastive"], contrast, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loss.parts["generation"], generation, atol=1e-5, rtol=1e-5)
    (0.1 * contrast + generation).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-5)
    assert loss.counts == {"contrastive": 4, "generation": 20}


@pytest.mark.parametrize("visual_tokens", [None, 1])
def test_packed_rows_equal_the_documents_alone(visual_tokens):
    vision = SETTINGS.vision.model_copy(update={"visual_tokens": visual_tokens})
    model = LCLModel(SETTINGS.model_copy(update={"vision": vision}))
    pixels = torch.randn(5, 3, 16, 16)
    documents = [placed(tokens, 100 * at) for at, tokens in enumerate(DOCUMENTS)]
    layouts = [[documents], [documents[:1], documents[1:]], [[document] for document in documents]]
    losses, gradients = zip(
        *(step(model, collate(rows, pixels, SPECIALS, model.slots, 64)) for rows in layouts), strict=True
    )
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        torch.testing.assert_close(loss.parts, losses[0].parts, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gradient, gradients[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("documents", [[[SOT, IMAGE, 4, EOT]], [[SOT, 4, EOT]]])
def test_a_batch_without_pairs_has_no_contrast_but_reaches_every_parameter(model, documents):
    loss, gradients = step(model, batch_of([documents], 20))
    assert loss.parts["contrastive"] == 0 and loss.counts["contrastive"] == 0
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["pool.query"].abs().max() == 0 and gradients["logit_scale"] == 0
    assert gradients["head.weight"].abs().max() > 0


def test_a_batch_without_anything_to_learn_from_is_exactly_zero(model):
    loss, gradients = step(model, batch_of([[[SOT]]], 4))
    assert loss.total == 0
    assert all(gradient is not None and not gradient.any() for gradient in gradients.values())


def test_copies_of_a_picture_are_no_negatives_of_each_other(model):
    pixels = torch.randn(1, 3, 16, 16).expand(2, -1, -1, -1)
    documents = [Placed(tiny.part([SOT, word, IMAGE, EOT], IMAGE), ["ab" * 32]) for word in (4, 5)]
    batch = collate([documents], pixels, SPECIALS, 4, 32)
    assert step(model, batch)[0].parts["contrastive"] == 0
    all_negatives = Lcl(contrast=ContrastSettings(mask_copies=False))
    assert step(model, batch, all_negatives)[0].parts["contrastive"] >= math.log(2) - 1e-5


def test_logits_in_chunks_give_the_same_loss(model):
    batch = batch_of([DOCUMENTS], 64)
    whole, expected = step(model, batch)
    chunked, gradients = step(model, batch, Lcl(chunk=4))
    torch.testing.assert_close(chunked.total, whole.total)
    torch.testing.assert_close(gradients, expected, atol=1e-6, rtol=1e-5)


def test_recall_counts_contexts_that_find_their_image(model):
    batch = batch_of([DOCUMENTS], 64)
    outputs = model(batch)
    terms = Lcl().terms(model, outputs, batch)
    right = replace(terms, pairs=terms.pairs._replace(contexts=outputs.latents[batch.pair_image]))
    assert Task(model, Lcl()).join(right, outputs.latents).parts["recall_at_1"] == 1


def test_the_temperature_is_clamped(model):
    for value, clamped in ((-1.0, 0.0), (9.0, math.log(100)), (2.0, 2.0)):
        model.logit_scale.data.fill_(value)
        model.clamp_logit_scale()
        assert model.logit_scale.item() == pytest.approx(clamped)


def test_impossible_visual_tokens_are_refused():
    vision = SETTINGS.vision.model_copy(update={"visual_tokens": 3})
    with pytest.raises(RecipeError, match="visual_tokens 3: give a square number below 4"):
        LCLModel(SETTINGS.model_copy(update={"vision": vision}))


def test_nano_is_under_a_million_parameters_apart_from_embeddings():
    model = LCLModel(PRESETS["nano"])
    embeddings = {"language.tokens.weight", "language.positions.weight", "head.weight"}
    assert sum(p.numel() for name, p in model.named_parameters() if name not in embeddings) < 1_000_000


@pytest.mark.parametrize(
    ("preset", "context", "size"), [("base", 280, 249_924_097), ("base32", 2048, 178_642_945)]
)
def test_base_has_the_size_of_the_paper(preset, context, size):
    """Parameter counts of the reference's configurations, with its vocabulary."""
    settings = PRESETS[preset].with_vocabulary(49_411)
    language = settings.language.model_copy(update={"context": context})
    with torch.device("meta"):
        model = LCLModel(settings.model_copy(update={"language": language}))
    assert sum(parameter.numel() for parameter in model.parameters()) == size
    assert model.slots == {"base": 196, "base32": 49}[preset]
