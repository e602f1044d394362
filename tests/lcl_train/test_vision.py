"""The encoder gives patch tokens only; the pooling is the formula, with one value path for both its uses."""

import pytest
import torch

from lcl_train.presets import PRESETS, VisionSettings
from lcl_train.vision import MEAN, STD, AttentivePool, VisionEncoder
from schemas.errors import RecipeError

torch.set_num_threads(2)
NANO = PRESETS["nano"].vision


def test_patch_tokens_come_out_normed_and_without_the_class_token():
    encoder = VisionEncoder(NANO)
    patches = encoder(torch.randn(2, 3, 32, 32))
    assert patches.shape == (2, 16, 96) and encoder.grid == (4, 4)
    torch.testing.assert_close(patches.mean(-1), torch.zeros(2, 16), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "prefix"), [("vit_tiny_patch16_224", 1), ("vit_small_patch16_rope_224", 1)])
def test_other_vits_of_timm_serve(name, prefix):
    encoder = VisionEncoder(VisionSettings(name=name, image_size=64, width=48, layers=1, heads=2))
    assert encoder.vit.num_prefix_tokens == prefix
    assert encoder(torch.randn(1, 3, 64, 64)).shape == (1, 16, 48)


@pytest.mark.parametrize("name", ["vit_of_nowhere", "resnet18", "beit_base_patch16_224"])
def test_what_is_no_vit_is_refused(name):
    with pytest.raises(RecipeError, match=name):
        VisionEncoder(VisionSettings(name=name, width=48, layers=1, heads=2))


def test_a_patch_larger_than_its_image_is_refused():
    with pytest.raises(RecipeError, match=r"vision\.patch_size: larger than the image of 32 pixels"):
        VisionEncoder(NANO.model_copy(update={"patch_size": 64}))


def pool_of(patches, heads, visual_tokens):
    pool = AttentivePool(patches.shape[-1], 12, heads)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter)
    return pool, pool(patches, (4, 4), visual_tokens)


def test_pooling_is_the_formula_of_the_paper():
    torch.manual_seed(0)
    patches = torch.randn(3, 16, 10)
    pool, (pooled, tokens) = pool_of(patches, 2, 16)
    values = pool.v(pool.norm_v(patches))
    torch.testing.assert_close(tokens, values @ pool.out.weight.T)
    query, keys = pool.q(pool.norm_q(pool.query))[0, 0], pool.k(pool.norm_k(patches))
    for image in range(3):
        heads = []
        for head in (slice(0, 6), slice(6, 12)):
            weights = (keys[image, :, head] @ query[head] / 6**0.5).softmax(0)
            heads.append(weights @ values[image, :, head])
        torch.testing.assert_close(pooled[image], pool.out(torch.cat(heads)), atol=1e-5, rtol=1e-5)


def test_fewer_visual_tokens_are_means_of_neighbours():
    patches = torch.randn(2, 16, 10)
    pool, (_, tokens) = pool_of(patches, 2, 4)
    every = pool.out(pool.v(pool.norm_v(patches))).view(2, 2, 2, 2, 2, 12)
    torch.testing.assert_close(tokens, every.mean((2, 4)).view(2, 4, 12), atol=1e-5, rtol=1e-5)


def test_bytes_are_normalised_by_the_encoder():
    encoder = VisionEncoder(NANO)
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(encoder.normalise(pixels), (pixels / 255 - mean) / std)
    torch.testing.assert_close(encoder(pixels), encoder((pixels / 255 - mean) / std))
    assert not {"mean", "std"} & set(encoder.state_dict())
