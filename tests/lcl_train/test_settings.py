import pytest

from lcl_train.settings import Train
from schemas.errors import RecipeError
from schemas.overrides import laid_over, nested, settle


def test_a_preset_brings_what_follows_its_size():
    nano, base = Train(preset="nano"), Train(preset="base")
    assert nano.rows < base.rows
    assert nano.pack.row_tokens < base.pack.row_tokens
    assert 4 * base.pack.longest == base.pack.row_tokens
    assert base.optimizer.lr == 3e-4


def test_what_is_given_stands_above_the_preset():
    given = settle(Train, laid_over({"preset": "nano"}, nested(["rows=3", "optimizer.lr=3e-4"])))
    assert (given.rows, given.optimizer.lr) == (3, 3e-4)
    assert given.optimizer.warmup_steps == Train(preset="nano").optimizer.warmup_steps


def test_resolved_settings_validate_to_themselves():
    given = Train(preset="nano", rows=3)
    assert Train.model_validate(given.model_dump(mode="json")) == given


def test_model_sizes_are_the_presets_but_for_what_is_given():
    sizes = Train(model={"vision": {"image_size": 48}}).model_settings(123)
    assert sizes.vision.image_size == 48
    assert sizes.vision.patch_size == 8
    assert sizes.language.vocab_size == 123


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"optimizer": {"lrr": 1}}, "optimizer.lrr: no such setting; did you mean lr"),
        ({"rows": "many"}, "rows"),
        ({"preset": "nanno"}, "did you mean nano"),
        ({"model": {"vision": {"imagesize": 3}}}, "model.vision.imagesize: no such setting"),
        ({"model": {"vision": {"heads": 0}}}, r"model\.vision\.heads: Input should be greater than 0"),
        ({"model": {"vision": {"visual_tokens": -4}}}, r"visual_tokens: Input should be greater than 0"),
        ({"model": {"language": {"vocab_size": 9}}}, r"vocab_size: the shards decide it; leave it out"),
        ({"optimizer": {"momentum": 0.9}}, r"momentum: nothing comes of it with name=adamw; leave it out"),
        ({"optimizer": {"schedule": "cosine", "decay_share": 0.5}}, r"decay_share: nothing comes of it with"),
        ({"optimizer": {"betas": [1.5, 0.9]}}, r"optimizer\.betas\.0: Input should be less than 1"),
        ({"epochs": float("inf")}, "epochs: Input should be a finite number"),
        ({"weights": [1, float("nan")]}, r"weights\.1: Input should be a finite number"),
    ],
)
def test_a_mistake_is_named_with_its_remedy(section, message):
    with pytest.raises(RecipeError, match=message):
        settle(Train, section).model_settings(10)


def test_a_setting_of_the_objective_needs_no_name():
    train = Train.settled({"objective": "lcl"}, {"objective": {"contrastive_weight": 0.3}})
    assert train.objective == {"lcl": {"contrastive_weight": 0.3}}
    named = Train.settled({"objective": {"lcl": {"chunk": 8}}}, {"objective": {"lcl": {"chunk": 9}}})
    assert named.objective == {"lcl": {"chunk": 9}}
    assert Train.settled({}, {"objective": "lcl"}).objective == Train.settled({}, {}).objective == "lcl"
    with pytest.raises(RecipeError, match=r"train\.objective: write a name"):
        Train.settled({"objective": "clip"}, {"objective": None})
    third = Train.settled({}, {"objective": {"mine.here:Mine": {"x": 1}}})
    assert third.objective == {"mine.here:Mine": {"x": 1}}
