"""Decontamination by pictures: what is in the evaluation set goes, what only looks like it stays."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image as Pillow
from pydantic import ValidationError

from lcl_data import hamming
from lcl_data.dedupe.decontaminate_image import DecontaminateImage
from lcl_data.deduplicate import deduplicate
from lcl_data.engine import Engine
from lcl_data.evaluation_images import index, pictures_state
from lcl_data.phash import phash
from schemas.documents import Image
from schemas.errors import RecipeError
from tests.lcl_data.corpus import bytes_of, document, read_documents, rejects, write_documents
from tests.lcl_data.sharding import make_store


def photograph(seed, size=(280, 220)):
    rng = np.random.default_rng(seed)
    layers = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (3, 12, 48)]
    grown = [np.asarray(Pillow.fromarray(x).resize(size, Pillow.Resampling.BICUBIC), float) for x in layers]
    return Pillow.fromarray((0.5 * grown[0] + 0.3 * grown[1] + 0.2 * grown[2]).astype(np.uint8))


def encoded(image, quality=85, scale=1.0, form="JPEG", **options):
    file = io.BytesIO()
    size = (round(image.width * scale), round(image.height * scale))
    image.resize(size, Pillow.Resampling.LANCZOS).save(file, form, quality=quality, **options)
    return file.getvalue()


@pytest.fixture
def evaluation(tmp_path):
    """Pictures 0 to 3 in four encodings: large, small, PNG with transparency, and lying on its side."""
    folder = tmp_path / "evaluation" / "val"
    folder.mkdir(parents=True)
    (folder / "0.jpg").write_bytes(encoded(photograph(0), scale=2.5))
    (folder / "1.jpeg").write_bytes(encoded(photograph(1), 50, 0.8))
    (folder / "2.png").write_bytes(encoded(photograph(2).convert("RGBA"), form="PNG"))
    exif = Pillow.Exif()
    exif[0x0112] = 6
    turned = photograph(3).transpose(Pillow.Transpose.ROTATE_90)
    (folder / "3.JPG").write_bytes(encoded(turned, exif=exif.tobytes()))
    return folder.parent


def corpus(folder, seeds=range(8), shards=2):
    """Documents of two pictures each, and their store."""
    contents = [encoded(photograph(seed), 70) for seed in seeds]
    keys = make_store(folder / "store", contents)
    images = []
    for key, content in zip(keys, contents, strict=True):
        facts = {
            "phash": phash(Pillow.open(io.BytesIO(content))),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        images.append(Image(f"http://h/{int(key)}", key=key, **facts))
    documents = [document(at, "text", *images[at : at + 2]) for at in range(0, len(images), 2)]
    docs = write_documents(folder / "in", [documents[at::shards] for at in range(shards)])
    return docs, folder / "store"


def left(folder):
    return sorted(int(image.url[9:]) for each in read_documents(folder) for image in each.images)


def test_pictures_of_the_set_go_whatever_their_encoding(tmp_path, evaluation):
    docs, store = corpus(tmp_path, seeds=[0, 10, 1, 11, 2, 12, 3, 13])
    rule = DecontaminateImage(against=evaluation)
    ledger = deduplicate(docs, tmp_path / "out", [rule], Engine(), images=store).ledger
    assert left(tmp_path / "out") == [1, 3, 5, 7]
    assert ledger.images.rejected == {"decontaminate_image": 4}
    assert ledger.images.balances
    names = {row["detail"] for row in rejects(tmp_path / "out")}
    assert names == {"as val/0.jpg", "as val/1.jpeg", "as val/2.png", "as val/3.JPG"}


def test_files_of_the_set_that_are_no_pictures_are_said(tmp_path, evaluation):
    docs, store = corpus(tmp_path, seeds=[0, 10])
    (evaluation / "val" / "rest.parquet").write_bytes(b"pictures in a table")
    rule = DecontaminateImage(against=evaluation)
    (note,) = deduplicate(docs, tmp_path / "out", [rule], Engine(), images=store).notes
    assert "of evaluation these files were not read: 1 .parquet; it takes .jpg" in note


def test_the_document_goes_where_the_recipe_says_so(tmp_path, evaluation):
    docs, store = corpus(tmp_path, seeds=[0, 1, 10, 2, 11, 12])
    rule = DecontaminateImage(against=evaluation, remove="document")
    ledger = deduplicate(docs, tmp_path / "out", [rule], Engine(), images=store).ledger
    assert left(tmp_path / "out") == [4, 5]
    assert ledger.documents.rejected == {"decontaminate_image": 2}
    assert ledger.images.rejected == {"document_rejected": 4}


def test_pixels_decide_unless_the_hash_may(tmp_path, evaluation):
    """A picture with the hash of one of the set, and other pixels."""
    docs, store = corpus(tmp_path, seeds=[20, 21])
    held = [image for each in read_documents(docs) for image in each.images]
    bits = int(index(evaluation, 6, pictures_state(evaluation)).index.hashes[0])
    forged = [document(0, Image("http://h/0", key=held[0].key, phash=bits ^ 0b11), held[1])]
    docs = write_documents(tmp_path / "forged", [forged])
    deduplicate(docs, tmp_path / "pixels", [DecontaminateImage(against=evaluation)], Engine(), images=store)
    assert left(tmp_path / "pixels") == [0, 1]
    deduplicate(docs, tmp_path / "hash", [DecontaminateImage(against=evaluation, likeness=0)], Engine())
    assert left(tmp_path / "hash") == [1]


def test_wrong_settings_are_told_before_work_begins(tmp_path, evaluation):
    with pytest.raises(RecipeError, match="--images"):
        DecontaminateImage(against=evaluation).reading(None)
    with pytest.raises(ValidationError, match="no picture in it"):
        DecontaminateImage(against=tmp_path / "absent")
    (evaluation / "torn.jpg").write_bytes(encoded(photograph(5))[:2000])
    with pytest.raises(RecipeError, match=r"torn\.jpg: truncated"):
        index(evaluation, 5, pictures_state(evaluation))


def test_other_pictures_are_another_setting(tmp_path, evaluation):
    before = DecontaminateImage(against=evaluation).model_dump(mode="json")
    (evaluation / "more.jpg").write_bytes(encoded(photograph(9)))
    assert DecontaminateImage(against=evaluation).model_dump(mode="json") != before


def test_a_set_that_changes_between_two_runs_of_one_process_is_hashed_anew(tmp_path, evaluation):
    docs, store = corpus(tmp_path, seeds=[0, 10, 9, 11])
    rule = DecontaminateImage(against=evaluation)
    deduplicate(docs, tmp_path / "out", [rule], Engine(), images=store)
    assert left(tmp_path / "out") == [1, 2, 3]
    (evaluation / "more.jpg").write_bytes(encoded(photograph(9)))
    deduplicate(docs, tmp_path / "out", [rule], Engine(), images=store)
    assert left(tmp_path / "out") == [1, 3]


@pytest.mark.parametrize("distance", [0, 3, 6, 10])
def test_an_index_finds_what_brute_force_finds(distance):
    rng = np.random.default_rng(distance)
    held = rng.integers(0, 2**64, 300, dtype=np.uint64)
    held[:20] = held[0]
    asked = held[rng.integers(0, 300, 200)].copy()
    for _ in range(8):
        asked ^= np.uint64(1) << rng.integers(0, 64, 200).astype(np.uint64)
    apart = np.bitwise_count(asked[:, None] ^ held[None])
    found = hamming.index(held, distance).find(asked)
    assert np.array_equal(np.stack(found), np.stack(np.nonzero(apart <= distance)))
    assert len(hamming.index(held, distance).find(asked[:0])[0]) == 0


def test_workers_do_not_change_a_byte_and_a_second_run_drops_nothing(tmp_path, evaluation):
    docs, store = corpus(tmp_path, seeds=[*range(4), *range(10, 14)], shards=4)
    rule = DecontaminateImage(against=evaluation)
    one = deduplicate(docs, tmp_path / "one", [rule], Engine(), images=store)
    assert deduplicate(docs, tmp_path / "two", [rule], Engine(2), images=store) == one
    assert bytes_of(tmp_path / "two") == bytes_of(tmp_path / "one")
    again = deduplicate(tmp_path / "one", tmp_path / "again", [rule], Engine(), images=store)
    assert not again.ledger.images.rejected
