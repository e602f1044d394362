import json
from collections import Counter
from dataclasses import fields, replace
from itertools import islice

import pytest
import torch
from PIL import Image

from lcl_data.shards import Shards
from lcl_train.attend import Segments
from lcl_train.collate import key_number
from lcl_train.layout import Layout
from lcl_train.loader import Fitting, Loader
from lcl_train.pack import PackSettings
from schemas.errors import CheckpointError, RecipeError, ShardError
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


@pytest.mark.parametrize("workers", [0, 4])
def test_the_batches_do_not_depend_on_the_number_of_threads(shards, workers):
    assert_equal(take(Loader(shards, FITTING, 1), 12), take(Loader(shards, FITTING, workers), 12))


@pytest.mark.parametrize("layout", [Layout(), Layout("pairs", captions=True, mismatches=True)])
def test_tars_give_the_batches_and_states_of_arrow(shards, tmp_path, layout):
    fitting = replace(FITTING, layout=layout, holdout=0.01)
    loaders = [
        Loader(shards, fitting, 0),
        Loader(Shards(tiny.write_tars(tmp_path / "t", DOCUMENTS)), fitting, 2),
    ]
    arrow, tars = (take(loader, 20) for loader in loaders)
    assert_equal(tars, arrow)
    places = [{**loader.state_dict(), "of": None} for loader in loaders]
    assert places[0] == places[1]


def whole_ids(batches):
    return Counter(document for batch in batches for document in batch.documents if document)


def waiting_ids(shards, state):
    return Counter(shards[piece[0]].id for piece in state["packer"]["waiting"])


@pytest.mark.parametrize(
    ("world", "workers", "then"), [(1, 2, 3), (2, 0, 1), (2, 2, 3), (3, 0, 2), (3, 2, 1)]
)
@pytest.mark.parametrize("stop", [1, 5, 8])
def test_no_document_is_lost_or_seen_twice_when_the_ranks_change(shards, world, workers, then, stop):
    """Six rows a step; stopped after `stop` steps on `world` ranks, resumed on `then`; up to 3 epochs."""
    fitting = replace(FITTING, rows=6)
    seen, states = Counter(), []
    for rank in range(world):
        loader = Loader(shards, replace(fitting, rank=rank, world=world), workers)
        seen += whole_ids(take(loader, stop))
        states.append(json.dumps(loader.state_dict()))
    assert len(set(states)) == 1
    for rank in range(then):
        loader = Loader(shards, replace(fitting, rank=rank, world=then), 2 - workers)
        loader.load_state_dict(json.loads(states[0]))
        seen += whole_ids(take(loader, 10))
    state = loader.state_dict()
    epochs, into = divmod(state["draws"]["passed"][0], len(shards))
    drawn = seen + waiting_ids(shards, state)
    assert epochs >= 2
    assert set(drawn.values()) == {epochs, epochs + 1} if into else {epochs}
    assert sum(drawn.values()) == epochs * len(shards) + into


def test_ranks_share_the_rows_of_a_step(shards):
    fitting = replace(FITTING, rows=5)
    (whole,) = take(Loader(shards, fitting, 0), 1)
    parts = [take(Loader(shards, replace(fitting, rank=rank, world=2), 0), 1)[0] for rank in range(2)]
    assert [len(part.tokens) // 48 for part in parts] == [3, 2]
    assert torch.equal(
        torch.cat([part.tokens for part in parts]).view(5, 48)[[0, 3, 1, 4, 2]].flatten(), whole.tokens
    )
    walks = [list(Loader(shards, replace(fitting, rank=rank, world=2), 0).once()) for rank in range(2)]
    assert len(walks[0]) == len(walks[1])  # the last step may have one row only; nobody may wait for nobody
    assert whole_ids(walks[0] + walks[1]) == Counter(document["id"] for document in DOCUMENTS)
    with pytest.raises(RecipeError, match="3 ranks need one each"):
        Loader(shards, replace(fitting, rows=2, world=3), 0)


def test_folders_are_drawn_in_exact_proportion(tmp_path):
    """Three of the first, whose ids are small, to one of the second; each has epochs of its own."""
    few = [tiny.document(number, pictures=1 + number % 3) for number in range(100, 112)]
    folders = [tiny.write_shards(tmp_path / "a", DOCUMENTS), tiny.write_shards(tmp_path / "b", few)]
    loader = Loader(Shards(folders), replace(FITTING, weights=(3, 1)), 0)
    seen = whole_ids(take(loader, 30)) + waiting_ids(loader.shards, loader.state_dict())
    first = {d["id"]: seen[d["id"]] for d in DOCUMENTS}
    second = {d["id"]: seen[d["id"]] for d in few}
    total = sum(seen.values())
    assert abs(sum(first.values()) - 0.75 * total) < 1
    for counts in (first, second):
        assert max(counts.values()) - min(counts.values()) <= 1
    assert loader.steps(1.0) == loader.steps(10.0) // 10 or loader.steps(1.0) - 1 == loader.steps(10.0) // 10
    with pytest.raises(RecipeError, match="one above 0 for each of 2 folders"):
        Loader(Shards(folders), replace(FITTING, weights=(3, 1, 1)), 0)


def test_a_mixture_resumes_exactly(tmp_path):
    folders = [
        tiny.write_shards(tmp_path / name, DOCUMENTS[at : at + 20]) for name, at in (("a", 0), ("b", 20))
    ]
    fitting = replace(FITTING, weights=(1, 5))
    whole, first = take(Loader(Shards(folders), fitting, 0), 12), Loader(Shards(folders), fitting, 1)
    take(first, 5)
    second = Loader(Shards(folders), fitting, 2)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert_equal(take(second, 7), whole[5:])


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


def test_pictures_of_shards_go_through_the_fast_decoder(shards, monkeypatch):
    monkeypatch.setattr(Image, "open", None)  # Pillow's, which is the fallback
    assert take(Loader(shards, FITTING, 0), 1)[0].n_images


@pytest.mark.parametrize("pictures", [0, 3])
def test_pictures_lie_in_memory_as_decoders_give_them(tmp_path, pictures):
    """With channels last, a blank picture too: compiled code knows one layout."""
    shards = Shards(tiny.write_shards(tmp_path, [tiny.document(number, pictures) for number in range(9)]))
    for batch in take(Loader(shards, FITTING, 1), 2):
        assert batch.pixels.permute(0, 2, 3, 1).is_contiguous()


def test_documents_with_too_few_pictures_are_not_drawn(shards):
    picky = Loader(shards, replace(FITTING, min_images=3), 1)
    rich = {tuple(d.image_keys) for d in shards if len(d.images) == 3}
    assert picky.documents == len(rich) < len(shards)
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


def test_steps_follow_from_the_tighter_budget_and_what_rows_leave_empty(shards):
    tokens = sum(len(d["tokens"]) + 5 * len(d["images"]) for d in DOCUMENTS)
    full = 2 * tokens / (48 * 2)
    assert full <= Loader(shards, FITTING, 1).steps(2.0) <= 1.2 * full
    few = Fitting(rows=2, pack=PackSettings(row_tokens=48, row_images=1), slots=4, image_size=16, seed=0)
    assert Loader(shards, few, 1).steps(1.0) == -(-sum(len(d["images"]) for d in DOCUMENTS) // 2)


def test_rows_of_several_parts_hold_the_very_same_parts(shards):
    sizes = [{"row_tokens": 16}, {"row_tokens": 64, "part_tokens": 16}]
    packs = [PackSettings(row_images=6, lookahead=8, **each) for each in sizes]
    alone, together = (list(Loader(shards, replace(FITTING, pack=pack), 1).pieces()) for pack in packs)
    assert alone == together and len(alone) > len(shards)


def test_an_unreadable_picture_is_named(tmp_path):
    documents = [tiny.document(number) for number in range(6)]
    documents[2]["images"] = [documents[2]["images"][0][:200]]
    shards = Shards(tiny.write_shards(tmp_path, documents))
    with pytest.raises(ShardError, match=rf"00000\.arrow: document {2:032x}, image 0: no usable picture"):
        take(Loader(shards, FITTING, 1), 8)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 9}, "seed was 3, is 9"),
        ({"slots": 9}, "slots was 4, is 9"),
        ({"rows": 3}, "rows was 2, is 3"),
    ],
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
    assert len(holding.held) == 4 and holding.documents == 36
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


def test_a_rehearsal_tells_what_comes_and_leaves_the_state_as_it_is(shards):
    loader = Loader(shards, FITTING, 1)
    state = json.dumps(loader.state_dict())
    stats, starts = loader.rehearse(10)
    assert json.dumps(loader.state_dict()) == state
    coming = take(loader, 5)
    assert_equal(coming, take(Loader(shards, FITTING, 1), 5))
    assert stats.rows == 10 and stats.tokens == sum(batch.n_tokens for batch in coming)
    assert stats.images == sum(batch.n_images for batch in coming)
    assert 0 < starts <= stats.pieces == sum(batch.n_parts for batch in coming)


def test_pictures_that_no_text_belongs_to_are_no_endless_search(tmp_path):
    documents = [tiny.document(number) for number in range(6)]
    for each in documents:
        each["tokens"], each["anchors"] = [tiny.SPECIALS.sot, tiny.SPECIALS.image, tiny.SPECIALS.eot], [None]
    shards = Shards(tiny.write_shards(tmp_path, documents))
    with pytest.raises(ShardError, match="no picture of the training shards has a text"):
        take(Loader(shards, replace(FITTING, layout=Layout("pairs")), 0), 1)


@pytest.mark.parametrize("workers", [0, 2])
def test_who_iterates_again_goes_on_after_the_batch_given_last(shards, workers):
    loader = Loader(shards, FITTING, workers)
    assert_equal([*take(loader, 3), *take(loader, 2)], take(Loader(shards, FITTING, 0), 5))
