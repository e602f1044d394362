import json
from collections import Counter
from dataclasses import fields, replace
from itertools import islice

import pytest
import torch

from lcl_data.shards import Shards
from lcl_train.attend import Segments
from lcl_train.collate import key_number
from lcl_train.loader import Fitting, Loader
from lcl_train.pack import PackSettings
from schemas.errors import CheckpointError, ShardError
from tests.lcl_train import tiny

PACK = PackSettings(row_tokens=48, row_images=6, lookahead=8)
FITTING = Fitting(rows=2, pack=PACK, slots=4, image_size=16, seed=3)
DOCUMENTS = [tiny.document(number, pictures=1 + number % 3) for number in range(40)]


@pytest.fixture
def shards(tmp_path):
    return Shards(tiny.write_shards(tmp_path / "shards", DOCUMENTS))


def take(loader, count):
    return list(islice(iter(loader), count))


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        for field in fields(batch):
            value, expected = getattr(batch, field.name), getattr(other, field.name)
            if isinstance(value, Segments):
                value, expected = value.bounds, expected.bounds
            same = torch.equal(value, expected) if isinstance(value, torch.Tensor) else value == expected
            assert same, field.name


def test_the_batches_do_not_depend_on_the_number_of_threads(shards):
    assert_equal(take(Loader(shards, FITTING, 1), 12), take(Loader(shards, FITTING, 4), 12))


@pytest.mark.parametrize("done", [1, 4, 9])
def test_a_run_resumes_in_the_middle_of_an_epoch_exactly(shards, done):
    whole = take(Loader(shards, FITTING, 2), 12)
    first = Loader(shards, FITTING, 2)
    batches = iter(first)
    for _ in range(done):
        next(batches)
    state = json.loads(json.dumps(first.state_dict()))
    batches.close()
    second = Loader(shards, FITTING, 3)
    second.load_state_dict(state)
    assert_equal(take(second, 12 - done), whole[done:])


def test_every_picture_is_drawn_once_an_epoch(shards):
    expected = Counter(key_number(key) for document in DOCUMENTS for key in document["image_keys"])
    seen = Counter()
    for batch in take(Loader(shards, FITTING, 2), 60):
        seen.update(batch.image_keys.tolist())
    epochs = sum(seen.values()) / sum(expected.values())
    assert epochs > 5
    for key, count in expected.items():  # the look-ahead is all that may be missing or early
        assert abs(seen[key] - epochs * count) <= 2 * count


def test_documents_with_too_few_pictures_are_not_drawn(shards):
    picky = Loader(shards, replace(FITTING, min_images=3), 1)
    rich = {tuple(d.image_keys) for d in shards if len(d.images) == 3}
    assert len(picky.drawn) == len(rich) < len(shards)
    drawn = {int(key) for batch in take(picky, 8) for key in batch.image_keys}
    assert drawn == {key_number(key) for keys in rich for key in keys}
    with pytest.raises(ShardError, match="4 pictures or more"):
        Loader(shards, replace(FITTING, min_images=4), 1)


def test_a_picture_stands_before_its_text_in_about_half_of_the_epochs(shards):
    batches = take(Loader(shards, FITTING, 2), 60)
    with_context = sum(len(batch.pair_image) for batch in batches)
    singles = sum(len(batch.image_keys) for batch in batches)
    assert 0.4 < with_context / singles < 0.95


def test_another_seed_is_another_order(shards):
    other = Fitting(rows=2, pack=PACK, slots=4, image_size=16, seed=4)
    (mine,), (theirs,) = take(Loader(shards, FITTING, 1), 1), take(Loader(shards, other, 1), 1)
    assert not torch.equal(mine.tokens, theirs.tokens)


def test_documents_without_pictures_make_batches_too(tmp_path):
    shards = Shards(tiny.write_shards(tmp_path, [tiny.document(number, pictures=0) for number in range(9)]))
    (batch,) = take(Loader(shards, FITTING, 1), 1)
    assert batch.pixels.shape == (1, 3, 16, 16) and batch.n_images == 0


def test_steps_follow_from_the_tighter_budget(shards):
    tokens = sum(len(d["tokens"]) + 5 * len(d["images"]) for d in DOCUMENTS)
    assert Loader(shards, FITTING, 1).steps(2.0) == -(-2 * tokens // (48 * 2))
    few = Fitting(rows=2, pack=PackSettings(row_tokens=48, row_images=1), slots=4, image_size=16, seed=0)
    assert Loader(shards, few, 1).steps(1.0) == -(-sum(len(d["images"]) for d in DOCUMENTS) // 2)


def test_an_unreadable_picture_is_named(tmp_path):
    documents = [tiny.document(number) for number in range(6)]
    documents[2]["images"] = [documents[2]["images"][0][:200]]
    shards = Shards(tiny.write_shards(tmp_path, documents))
    with pytest.raises(ShardError, match=f"document {2:032x}, image 0"):
        take(Loader(shards, FITTING, 1), 8)


@pytest.mark.parametrize(
    ("changes", "named"), [({"seed": 9}, "seed was 3, is 9"), ({"slots": 9}, "slots was 4, is 9")]
)
def test_a_state_of_another_run_is_refused(shards, changes, named):
    state = Loader(shards, FITTING, 1).state_dict()
    sizes = {"rows": 2, "pack": PACK, "slots": 4, "image_size": 16, "seed": 3, **changes}
    with pytest.raises(CheckpointError, match=named):
        Loader(shards, Fitting(**sizes), 1).load_state_dict(state)


def test_a_state_of_other_shards_is_refused(shards, tmp_path):
    fewer = Shards(tiny.write_shards(tmp_path / "fewer", DOCUMENTS[:20]))
    with pytest.raises(CheckpointError, match="documents was 40, is 20"):
        Loader(fewer, FITTING, 1).load_state_dict(Loader(shards, FITTING, 1).state_dict())


def test_what_is_held_out_is_never_drawn_and_can_be_walked_once(shards):
    holding = Loader(shards, replace(FITTING, holdout=0.01), 1)
    assert len(holding.held) == 4 and len(holding.drawn) == 36
    drawn = {document for batch in take(holding, 40) for document in batch.documents}
    held = Loader(shards, replace(FITTING, seed=0), 2, holding.held)
    told = Counter(document for batch in held.once() for document in set(batch.documents) - {""})
    assert set(told) == {shards[int(row)].id for row in holding.held}
    assert not drawn & set(told)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_walk_shows_every_picture_once_and_leaves_the_state_alone(shards, rows):
    loader = Loader(shards, replace(FITTING, rows=rows), 2)
    before = loader.state_dict()
    seen = Counter()
    for batch in loader.once():
        seen.update(batch.image_keys[: batch.n_images].tolist())
    assert seen == Counter(key_number(key) for document in DOCUMENTS for key in document["image_keys"])
    assert loader.state_dict() == before
    assert_equal(list(loader.once()), list(Loader(shards, replace(FITTING, rows=rows), 1).once()))
