"""The drawn corpus: equal bytes for a seed, a truth that the files bear out, every fault as named."""

import io
import json
import random
import zipfile
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from pipelines.corpus import draw_corpus
from pipelines.faults import PICTURE_FAULTS, SHARES_PER_1000, SPECIAL_TOKENS, intact, plant
from pipelines.scenes import SHAPES, draw_scene, render
from schemas.errors import RecipeError

BASE = "http://127.0.0.1:9"
DOCUMENTS = 400
PROBE = {"train": 40, "val": 20}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp("corpus")
    return out, draw_corpus(out, BASE, DOCUMENTS, seed=1, workers=2, probe=PROBE)


def _lines(path):
    with zipfile.ZipFile(path) as archive:
        (name,) = archive.namelist()
        assert path.name == f"{name}.zip"
        return archive.read(name).decode().splitlines()


def _rows(out, truth):
    whole = [p for p in sorted((out / "mmc4/data").iterdir()) if p.name not in truth.faults["torn_shards"]]
    lines = [line for path in whole for line in _lines(path)]
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("text_list"), list):
            rows.append(row)
    assert len(lines) == len(rows) + len(truth.faults["broken_lines"])
    return rows


def _bytes(out, url):
    return (out / "www" / url.removeprefix(BASE).lstrip("/")).read_bytes()


def _tree(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_equal_seeds_give_equal_bytes_in_any_number_of_processes(drawn, tmp_path):
    out, truth = drawn
    assert draw_corpus(tmp_path, BASE, DOCUMENTS, seed=1, workers=1, probe=PROBE) == truth
    assert _tree(out) == _tree(tmp_path)


def test_another_seed_draws_another_corpus(tmp_path):
    trees = []
    for seed in (1, 2):
        draw_corpus(tmp_path / str(seed), BASE, 60, seed=seed, workers=1, probe={"val": 10})
        trees.append(_tree(tmp_path / str(seed)))
    assert trees[0].keys() & trees[1].keys()
    assert not {
        name for name in trees[0] if name.startswith("mmc4/") and trees[0][name] == trees[1].get(name)
    }


def test_counts_of_the_truth_are_those_of_the_files(drawn):
    out, truth = drawn
    rows = _rows(out, truth)
    files = [p for p in (out / "www/img").iterdir() if p.suffix != ".headers"]
    assert (truth.documents, truth.files) == (len(rows), len(files)) and truth.documents == DOCUMENTS
    assert truth.images == sum(len(row["image_info"]) for row in rows)
    assert json.loads((out / "truth.json").read_text())["faults"] == truth.faults
    for part, pictures in PROBE.items():
        folders = sorted((out / "scenes" / part).iterdir())
        assert tuple(f.name for f in folders) == truth.classes == tuple(sorted(SHAPES))
        assert {len(list(f.glob("*.jpg"))) for f in folders} == {pictures // len(SHAPES)}


def test_every_row_keeps_the_rules_of_mmc4(drawn):
    shuffled = 0
    for row in _rows(*drawn):
        matches = [info["matched_text_index"] for info in row["image_info"]]
        shuffled += matches != sorted(matches)
        assert len(row["similarity_matrix"]) == len(matches)
        for info, similarities in zip(row["image_info"], row["similarity_matrix"], strict=True):
            assert len(similarities) == len(row["text_list"])
            assert info["matched_sim"] == similarities[info["matched_text_index"]] == max(similarities)
            assert info["face_detections"] is None or isinstance(info["face_detections"], list)
            assert Path(info["image_name"]).stem.isalnum() and len(Path(info["image_name"]).stem) == 12
    assert shuffled > 20


def test_low_similarities_are_those_of_the_truth(drawn):
    out, truth = drawn
    low = {
        url if url.startswith("http:") else ("http:" if url.startswith("//") else BASE) + url
        for row in _rows(out, truth)
        for url in (i["raw_url"] for i in row["image_info"] if i["matched_sim"] < 0.24)
    }
    assert low == set(truth.faults["low_similarity_images"])


def test_faulty_documents_are_as_named(drawn):
    out, truth = drawn
    rows = _rows(out, truth)
    by_url = {}
    for row in rows:
        by_url.setdefault(row["url"], []).append(row)
    contents = [json.dumps({**row, "url": "", "could_have_url_duplicate": 0}) for row in rows]
    assert len(contents) - len(set(contents)) == len(truth.faults["exact_duplicate_documents"])
    assert {url for url, same in by_url.items() if len(same) > 1} == set(truth.faults["same_url_documents"])
    assert {r["url"] for r in rows if r["could_have_url_duplicate"]} == set(
        truth.faults["same_url_documents"]
    )
    special = {row["url"] for row in rows if SPECIAL_TOKENS in row["text_list"]}
    assert special == set(truth.faults["special_token_documents"])
    for url in truth.faults["shared_sentence_documents"]:
        matches = [info["matched_text_index"] for info in by_url[url][0]["image_info"]]
        assert len(set(matches)) == len(matches) - 1
    raw = [info["raw_url"] for row in rows for info in row["image_info"]]
    assert sum(url.startswith("/img/") for url in raw) == len(truth.faults["relative_urls"])
    assert sum(url.startswith("//") for url in raw) == len(truth.faults["schemeless_urls"])


def test_unusable_pictures_are_as_named(drawn):
    out, truth = drawn
    assert not any(
        (out / "www" / url.removeprefix(BASE + "/")).exists() for url in truth.faults["dead_links"]
    )
    assert all(_bytes(out, url) == b"" for url in truth.faults["empty_images"])
    assert all(_bytes(out, url).startswith(b"<!doctype html>") for url in truth.faults["pages_as_images"])
    assert all(b"noai" in _bytes(out, url + ".headers") for url in truth.faults["opted_out_images"])
    for url in truth.faults["truncated_images"]:
        with pytest.raises(OSError):
            Image.open(io.BytesIO(_bytes(out, url))).load()
    (bomb,) = truth.faults["decompression_bombs"]
    assert len(_bytes(out, bomb)) < 100_000 and int.from_bytes(_bytes(out, bomb)[16:20]) == 20_000


def test_odd_but_usable_pictures_are_as_named(drawn):
    out, truth = drawn

    def opened(name):
        return [Image.open(io.BytesIO(_bytes(out, url))) for url in truth.faults[name]]

    assert all(picture.size == (16, 16) for picture in opened("too_small_images"))
    assert all(picture.size == (480, 60) for picture in opened("extreme_aspect_images"))
    assert all(picture.is_animated and picture.n_frames == 2 for picture in opened("animated_images"))
    assert all(picture.getexif()[0x0112] == 6 for picture in opened("exif_rotated_images"))
    assert all("/logo-" in url for url in truth.faults["logo_urls"])
    assert all("/button-" in url for url in truth.faults["button_urls"])
    pictures = [p.read_bytes() for p in (out / "www/img").glob("*.jpg") if p.stat().st_size > 200]
    assert len(pictures) - len(set(pictures)) == len(truth.faults["copied_images"])


def test_exif_sets_a_turned_picture_upright():
    picture = render(draw_scene(random.Random(0), "house"))
    turned, upright = (
        Image.open(io.BytesIO(f(picture).data)) for f in (PICTURE_FAULTS["exif_rotated_images"], intact)
    )
    difference = (
        ImageOps.exif_transpose(turned).convert("L").reduce(8).tobytes(),
        upright.convert("L").reduce(8).tobytes(),
    )
    assert max(abs(a - b) for a, b in zip(*difference, strict=True)) < 12


def test_the_torn_shard_cannot_be_opened_and_the_missing_one_is_not_there(drawn):
    out, truth = drawn
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(out / "mmc4/data" / truth.faults["torn_shards"][0])
    assert not (out / "mmc4/data" / truth.faults["missing_shards"][0]).exists()


def test_every_fault_is_planted_at_most_once_per_document():
    planted = plant(3000, seed=0)
    assert {p.fault for p in planted.values()} == set(SHARES_PER_1000)
    assert not {p.origin for p in planted.values()} & set(planted)
    with pytest.raises(RecipeError, match="draw 38 or more"):
        plant(20, seed=0)
