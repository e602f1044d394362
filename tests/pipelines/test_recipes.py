"""A recipe tells every mistake before any work: nothing is written, nothing is asked of a network."""

from pathlib import Path

import pytest
import torch

from lcl_data.engine import Engine
from pipelines import training
from pipelines.console import Console
from pipelines.recipes import OURS, members, plan, read
from pipelines.road import walk
from schemas.errors import RecipeError
from schemas.members import names

FILTERS = "lcl_data.filters"


def tell(work: Path, recipe: str, *wrong: str) -> str:
    """What is said of a recipe with wrong settings; its source is there, so that nothing else is wrong."""
    src = work.parent / "dump"
    src.mkdir()
    (src / "docs_shard_0_v2.jsonl").write_text("[]\n")
    with pytest.raises(RecipeError) as caught:
        walk(recipe, [f"ingest.src={src}", f"work={work}", *wrong], Engine(), Console())
    assert not work.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("train.preset=nono", "preset nono: no such preset; did you mean nano"),
        ("train.model.vision.widht=3", "model.vision.widht: no such setting; did you mean width"),
        ("train.model.vision.visual_tokens=3", "visual_tokens 3: give a square number"),
        ("train.model.vision.heads=7", "dim should be divisible by num_heads"),
        ("train.model.language.heads=7", "model.language: width 96: not a multiple of the 7 heads"),
        ("train.objective=foo", "no member 'foo'; did you mean blip2, clip, coca"),
        ("train.objective={lcl: {weigth: 2}}", "weigth: no such setting"),
        ("train.optimizer.lr=-1", "train.optimizer.lr: Input should be greater than 0 (found -1)"),
        ("train.pack.row_tokens=4000", "pack.row_tokens 4000: at most model.language.context, 1024"),
        ("train.device=gpu", "device gpu: no such device"),
        ("shard=null", "train: needs the section shard"),
        ("download=null", "shard: needs the sections download and filters"),
        ("filters=null", "shard: needs the sections download and filters"),
        ("shard.containers=arrow", "shard.containers: write a list: [arrow]"),
        ("filters=text_length", "filters: write a list: [text_length]"),
        ("filters=[{text_length: 3}]", "filters.0: write text_length: {setting: value}"),
        ("filters=[{text_length: {min_word: 3}}]", "min_word: no such setting; did you mean min_words"),
        ("dedupe=[same_urls]", "no member 'same_urls'; did you mean same_url"),
        ("ingest.source.foo=1", "ingest.source.foo: no such setting"),
        ("ingest.format=mmc5", "no member 'mmc5'; did you mean mmc4"),
        ("ingest=5", "ingest: settings are a mapping"),
        ("eval.data=nowhere", "nowhere: no folder train"),
    ],
)
def test_every_mistake_is_told_before_any_work(tmp_path: Path, wrong: str, told: str) -> None:
    assert told in tell(tmp_path / "work", "demo", wrong)


@pytest.mark.parametrize("name", sorted(path.stem for path in OURS.glob("*.yaml")))
def test_every_recipe_of_ours_is_resolved(tmp_path: Path, name: str) -> None:
    """All its members and their settings are there, those of the trainer too."""
    recipe = read(name, [f"ingest.src={tmp_path}", f"work={tmp_path / 'work'}"])
    road = plan(recipe)
    assert recipe.name == name and names("lcl_data.sources").count(road.ingest.format) == 1
    assert len(road.filters or ()) >= len(recipe.filters or ())
    assert len(road.rules or ()) >= len(recipe.dedupe or ())
    if road.train is not None:
        training.check(road.train, None)


def test_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    told = tell(tmp_path / "work", "demo", "tokenizer=null", "shard.tokenizer=nope")
    assert "tokenizer nope: no such file" in told


def test_pixels_need_a_download(tmp_path: Path) -> None:
    without = [f"{section}=null" for section in ("download", "shard", "train", "eval", "tokenizer")]
    told = tell(tmp_path / "work", "demo", *without, "filters=[image_blur]")
    assert "filter image_blur: judges pixels" in told


def test_eval_needs_both_splits(tmp_path: Path) -> None:
    (tmp_path / "classes" / "train" / "a").mkdir(parents=True)
    told = tell(tmp_path / "work", "demo", f"eval.data={tmp_path / 'classes'}")
    assert "no folder val" in told


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has CUDA")
def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    assert "device cuda: this machine has 0 CUDA devices" in tell(
        tmp_path / "work", "demo", "train.device=cuda"
    )


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("text_length: 5", "write text_length: {setting: value}"),
        ("5", "write a name, or name: {setting: value} (found 5)"),
        ("{", "{: not YAML"),
        ("", "found None"),
        ("{5: null}", "write 5: {setting: value}"),
        ("[text_length]", r"found \['text_length'\]"),
    ],
)
def test_a_wrong_use_option_is_told_in_one_line(entry: str, told: str) -> None:
    from lcl_data.filters import Filter

    with pytest.raises(RecipeError) as caught:
        members(FILTERS, [entry], Filter)
    assert told.replace("\\", "") in str(caught.value)
    assert "\n" not in str(caught.value)
