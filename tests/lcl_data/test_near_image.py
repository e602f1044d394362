"""Near-duplicate pictures: the search finds what a comparison of all with all finds, the pixels decide."""

import hashlib
import io

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from lcl_data import hamming
from lcl_data.dedupe.near_image import NearImage
from lcl_data.deduplicate import deduplicate
from lcl_data.download import download
from lcl_data.engine import Engine
from lcl_data.filter import filter_documents
from lcl_data.likeness import likeness, thumbnail
from lcl_data.phash import phash
from lcl_data.pictures import Picture, prepare
from schemas.documents import Image
from schemas.errors import RecipeError
from tests.lcl_data.corpus import bytes_of, document, read_documents, write_documents
from tests.lcl_data.loopback import Answer, running
from tests.lcl_data.painted import diagram, jpeg, photograph, recoded
from tests.lcl_data.sharding import make_store
from tests.lcl_data.stores import SETTINGS, write_docs

HASH = NearImage(likeness=0, scope="corpus")


def corpus(folder, pictures, per_document=1, shards=2):
    """Documents of these pictures (bytes) and their store."""
    store = folder / "store"
    keys = make_store(store, pictures)
    items = []
    for key, content in zip(keys, pictures, strict=True):
        image = Pillow.open(io.BytesIO(content))
        facts = {
            "width": image.width,
            "height": image.height,
            "phash": phash(image),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        items.append(Image(f"http://h/{key}", key=key, **facts))
    groups = [items[at : at + per_document] for at in range(0, len(items), per_document)]
    documents = [document(number, *group) for number, group in enumerate(groups)]
    size = -(-len(documents) // shards)
    parts = [documents[at : at + size] for at in range(0, len(documents), size)]
    return write_documents(folder / "in", parts), store


def left(folder):
    return [image.url[-4:] for each in read_documents(folder) for image in each.images]


@given(st.integers(0, 10), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_the_search_finds_exactly_what_brute_force_finds(distance, seed):
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, 60, dtype=np.uint64)
    for _ in range(2):  # relatives at distances around the asked one, and relatives of relatives
        flips = rng.integers(0, 14, len(hashes))
        bits = [rng.choice(64, flip, replace=False).astype(np.uint64) for flip in flips]
        masks = [int(np.bitwise_or.reduce(np.uint64(1) << each, initial=0)) for each in bits]
        hashes = np.concatenate([hashes, hashes ^ np.array(masks, np.uint64)])
    keys = hamming.keys(hashes, distance)
    assert keys.shape == (len(hashes), hamming.spread(distance))
    pairs = hamming.neighbours(keys.ravel(), np.repeat(hashes, keys.shape[1]), distance)
    found = {(a, b) for a, b in np.stack(pairs, 1) // keys.shape[1] if a != b}
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None])
    assert found == {(a, b) for a, b in zip(*np.nonzero(apart <= distance), strict=True) if a < b}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=12), st.integers(0, 8))
@settings(max_examples=60)
def test_candidates_are_what_is_near_whatever_the_bytes(rows, distance):
    """Few distinct hashes and contents, so that copies, relatives and strangers meet in all ways."""
    near = [0, 0b111, 0b111 << 32 | 0b11, 2**64 - 1]
    frame = pl.DataFrame(
        {
            "document": pl.Series(range(len(rows)), dtype=pl.UInt64),
            "item": pl.Series([0] * len(rows), dtype=pl.Int32),
            "phash": pl.Series([near[a] for a, _ in rows], dtype=pl.UInt64),
            "bytes": pl.Series([b for _, b in rows], dtype=pl.UInt64),
        }
    )
    rule = NearImage(likeness=0, scope="corpus", distance=distance)
    keyed = frame[np.repeat(np.arange(len(rows)), rule.spread)].with_columns(
        key=hamming.keys(frame["phash"].to_numpy(), distance).ravel()
    )
    pairs = rule.candidates(keyed)
    linked = {frozenset(pair) for pair in pairs.select("document", "other").rows()}
    for a, (one, content) in enumerate(rows):
        for b, (two, other) in enumerate(rows[:a]):
            is_near = (near[one] ^ near[two]).bit_count() <= distance
            if frozenset((a, b)) in linked:
                assert is_near
            elif is_near:  # only a copy of what is linked may be left to its first
                earlier = rows[: max(a, b)]
                assert (one, content) in earlier[:a] or (two, other) in earlier[:b] or a == b


def test_recodings_go_and_what_only_looks_alike_stays(tmp_path):
    words = ["Motivation", "Perception", "Learning", "Culture", "Beliefs"]
    alike = [diagram(seed, word) for seed in range(3) for word in words]
    photographs = [photograph(seed) for seed in range(12)]
    originals = [jpeg(image) for image in alike + photographs]
    copies = [recoded(image, *how) for image, how in zip(alike + photographs, hows(), strict=False)]
    docs, store = corpus(tmp_path, originals + copies)
    rule = NearImage(scope="corpus")
    ledger = deduplicate(docs, tmp_path / "out", [rule], Engine(), images=store).ledger
    assert left(tmp_path / "out") == [f"{at % 20:04d}" for at in range(len(originals))]
    assert ledger.images.rejected == {"near_image": len(copies)}
    decided = pl.read_parquet(tmp_path / "out/decisions/00_near_image.parquet")
    assert decided["similarity"].is_between(0.75, 1).all()
    by_hash = deduplicate(docs, tmp_path / "hash", [HASH], Engine()).ledger
    assert by_hash.images.kept < len(originals)  # the hash alone takes words for the same


def hows():
    rng = np.random.default_rng(0)
    while True:
        yield rng.uniform(0.8, 0.95), int(rng.choice([45, 60, 75])), rng.uniform(0.95, 1.05)


def filtered(image, way):
    """The picture as a filter leaves it, of which hash and shapes know nothing."""
    pixels = np.asarray(image, float)
    if way == "canvas":
        rows, columns = np.indices(pixels.shape[:2])
        pixels = pixels + 24 * np.sin(rows)[..., None] * np.sin(columns)[..., None]
    else:
        low = pixels[: len(pixels) // 2]
        low += np.random.default_rng(0).normal(0, 40, (*low.shape[:2], 1))
    return Pillow.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("way", ["canvas", "noise on a half"])
def test_a_filtered_photograph_is_another_however_alike_from_afar(tmp_path, way):
    scenes = [photograph(seed, (320, 256)) for seed in range(6)]
    others = [filtered(scene, way) for scene in scenes]
    assert all((phash(a) ^ phash(b)).bit_count() <= 8 for a, b in zip(scenes, others, strict=True))
    docs, store = corpus(tmp_path, [*map(jpeg, scenes + others), *map(recoded, scenes + others)])
    deduplicate(docs, tmp_path / "out", [NearImage(scope="corpus")], Engine(), images=store)
    assert len(left(tmp_path / "out")) == 12
    decided = pl.read_parquet(tmp_path / "out/decisions/00_near_image.parquet")
    assert (decided["document"] == (1 << 32) + decided["kept"]).all()  # each goes for its own original


def test_what_goes_is_alike_to_what_stays_for_it(tmp_path):
    """Each picture is like the next, the first and the last are two; equal files share their fate."""
    one, other = photograph(1), photograph(2)
    steps = [Pillow.blend(one, other, share) for share in np.linspace(0, 0.5, 12)]
    thumbnails = [thumbnail(Pillow.open(io.BytesIO(jpeg(step)))) for step in steps]
    assert (likeness(thumbnails[:-1], thumbnails[1:]) > 0.75).all()
    assert likeness(thumbnails[:1], thumbnails[-1:])[0] < 0.75
    docs, store = corpus(tmp_path, [jpeg(step) for step in steps + steps[::-1]])
    deduplicate(docs, tmp_path / "out", [NearImage(scope="corpus")], Engine(), images=store)
    decided = pl.read_parquet(tmp_path / "out/decisions/00_near_image.parquet")
    kept = dict(decided.select("document", "kept").rows())
    place = [*range(12), *reversed(range(12))]
    # Documents are numbered by shard and row, twelve to a shard.
    numbered = [(shard << 32) + row for shard in range(2) for row in range(12)]
    step_of = dict(zip(numbered, place, strict=True))
    pairs = [(thumbnails[step_of[a]], thumbnails[step_of[b]]) for a, b in kept.items()]
    assert (likeness(*map(list, zip(*pairs, strict=True))) >= 0.75).all()
    assert 1 < 24 - len(kept) < 12
    assert {step_of[number] for number in numbered if number not in kept} == {
        step for step in range(12) if numbered[step] not in kept
    }


def transparent(image, hidden):
    """The drawing on nothing: what is white is transparent, of the colour `hidden`."""
    image = image.convert("RGBA")
    pixels = np.array(image)
    pixels[(pixels[..., :3] > 250).all(axis=2)] = (*hidden, 0)
    return Pillow.fromarray(pixels)


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_a_copy_that_lost_its_transparency_is_found(tmp_path):
    drawings = [transparent(diagram(seed, str(seed)), (0, 0, 0)) for seed in range(4)]
    glyphs = [Pillow.new("RGBA", (200, 200), "black") for _ in range(3)]
    for at, glyph in enumerate(glyphs):
        glyph.putalpha(diagram(at, size=(200, 200)).convert("L"))
    copies = [recoded(image.convert("RGB")) for image in drawings + glyphs[:1]]
    with running() as server:
        files = [*map(png, drawings + glyphs), *copies]
        urls = [server.serve(f"/{number:04d}", Answer(content)) for number, content in enumerate(files)]
        docs = write_docs(tmp_path / "docs", urls)
        download(docs, tmp_path / "store", SETTINGS, Engine(1))
    filter_documents(docs, tmp_path / "attached", (), Engine(), tmp_path / "store")
    rules = [NearImage(scope="corpus"), NearImage(scope="corpus", likeness=0)]
    for name, rule in zip(("pixels", "hash"), rules, strict=True):
        deduplicate(tmp_path / "attached", tmp_path / name, [rule], Engine(), images=tmp_path / "store")
    # Of a black shape on nothing a black square is left, which may be any.
    assert left(tmp_path / "pixels") == [f"{number:04d}" for number in [*range(7), 11]]
    assert not {f"{number:04d}" for number in range(7, 11)} & set(left(tmp_path / "hash"))


def test_equal_pixels_that_are_stored_in_other_bytes_are_copies(tmp_path):
    """A JPEG that keeps its bytes and a PNG of its pixels; grey, and the same grey as colours."""
    kept, grey = jpeg(photograph(1), 80), photograph(2).convert("L")
    pairs = [(kept, png(Pillow.open(io.BytesIO(kept)))), (png(grey), png(grey.convert("RGB")))]
    stored = [prepare(content, Picture()) for pair in pairs for content in pair]
    assert len({each.sha256 for each in stored}) == 4
    assert [stored[n].phash ^ stored[n + 1].phash for n in (0, 2)] == [0, 0]
    docs, store = corpus(tmp_path, [each.content for each in stored])
    deduplicate(docs, tmp_path / "out", [NearImage(scope="corpus")], Engine(), images=store)
    assert len(left(tmp_path / "out")) == 2


def test_scope_is_one_document_unless_the_recipe_says_corpus(tmp_path):
    content = [jpeg(photograph(1)), recoded(photograph(1)), jpeg(photograph(2)), recoded(photograph(1), 0.9)]
    docs, store = corpus(tmp_path, content, per_document=2)
    deduplicate(docs, tmp_path / "one", [NearImage()], Engine(), images=store)
    assert left(tmp_path / "one") == ["0000", "0002", "0003"]
    deduplicate(docs, tmp_path / "all", [NearImage(scope="corpus")], Engine(), images=store)
    assert left(tmp_path / "all") == ["0000", "0002"]


def test_without_a_store_only_the_hash_can_decide(tmp_path):
    docs, _ = corpus(tmp_path, [jpeg(photograph(1))])
    with pytest.raises(RecipeError, match="--images"):
        deduplicate(docs, tmp_path / "out", [NearImage()], Engine())


def test_a_picture_that_cannot_be_read_has_no_copies(tmp_path):
    same = photograph(1)
    docs, store = corpus(tmp_path, [jpeg(same), jpeg(same, 80), jpeg(same, 70)])
    tar = store / "00000.tar"
    spoilt = bytearray(tar.read_bytes())
    at = spoilt.find(jpeg(same, 80))
    spoilt[at : at + 400] = bytes(400)
    tar.write_bytes(bytes(spoilt))
    deduplicate(docs, tmp_path / "out", [NearImage(scope="corpus")], Engine(), images=store)
    assert left(tmp_path / "out") == ["0000", "0001"]


def test_workers_do_not_change_a_byte_and_a_second_run_drops_nothing(tmp_path):
    content = [made for seed in range(8) for made in (jpeg(photograph(seed)), recoded(photograph(seed)))]
    docs, store = corpus(tmp_path, content, shards=4)
    rule = NearImage(scope="corpus")
    one = deduplicate(docs, tmp_path / "one", [rule], Engine(), images=store)
    assert one.ledger.images.balances
    assert one.ledger.images.rejected == {"near_image": 8}
    assert deduplicate(docs, tmp_path / "two", [rule], Engine(2), images=store) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    again = deduplicate(tmp_path / "one", tmp_path / "again", [rule], Engine(), images=store)
    assert not again.ledger.images.rejected


@pytest.mark.parametrize("is_one_file", [True, False])
def test_a_hash_that_all_share_costs_no_square(is_one_file):
    """20,000 copies of a logo, or as many pictures of one colour, in one bucket."""
    count = 20_000
    number = pl.int_range(count, dtype=pl.UInt64, eager=True)
    rows = pl.DataFrame({"document": number, "phash": pl.Series([7] * count, dtype=pl.UInt64)}).with_columns(
        key=pl.lit(1, pl.UInt64),
        item=pl.lit(0, pl.Int32),
        bytes=pl.lit(1, pl.UInt64) if is_one_file else number,
    )
    assert len(HASH.candidates(rows)) == (count - 1 if is_one_file else 8 * (count - 8) + 28)


def test_likeness_does_not_depend_on_the_order_and_is_one_for_the_same():
    pictures = [thumbnail(diagram(seed % 3, str(seed))) for seed in range(9)]
    assert np.allclose(likeness(pictures, pictures), 1)
    there, back = likeness(pictures, pictures[::-1]), likeness(pictures[::-1], pictures)
    assert np.allclose(there, back, atol=1e-4)
    assert likeness([], []).shape == (0,)


def test_uniform_pictures_are_alike_by_their_colour_not_by_their_hash():
    shades = [thumbnail(Pillow.new("RGB", (200, 200), (shade, 80, 80))) for shade in (80, 82, 200)]
    near, far = likeness([shades[0]] * 2, shades[1:])
    assert near > 0.9
    assert far < 0.5
