import json

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from rich.console import Console

from lcl_train import features
from lcl_train.encoder import load_encoder, random_encoder
from lcl_train.evals import Eval
from lcl_train.evals.knn import Knn
from lcl_train.evals.linear_probe import LinearProbe
from lcl_train.evaluate import bootstrap, evaluate
from lcl_train.features import Folder, Labelled, Subject
from lcl_train.loop import train
from schemas.errors import ImageError, RecipeError
from schemas.members import build, key
from tests.lcl_train import tiny

SIZES = tiny.settings().model_settings(70)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    return tiny.write_classes(tmp_path_factory.mktemp("data") / "colours")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    shards = tiny.write_shards(out / "shards", [tiny.document(number) for number in range(16)])
    train(shards, out, tiny.settings(steps=4), "never", Console(quiet=True))
    return out


class Clusters:
    """Stands where a subject does: features drawn around one centre per class."""

    def __init__(self, spread, width=8, classes=3, seed=0):
        self.folder = self
        self.classes = tuple(f"class{k}" for k in range(classes))
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(classes, width))
        self.splits = {}
        for split, count in (("train", 60), ("val", 40)):
            labels = np.arange(count * classes) % classes
            drawn = centres[labels] + spread * rng.normal(size=(len(labels), width))
            self.splits[split] = Labelled(torch.tensor(drawn, dtype=torch.float32), torch.tensor(labels))

    def labelled(self, split, kind):
        return self.splits[split]


@pytest.mark.parametrize("eval_", [Knn(k=5), LinearProbe()])
def test_classes_apart_are_told_and_noise_is_not(eval_):
    assert eval_(Clusters(0.1)).values.mean() == 1.0
    noise = eval_(Clusters(100.0)).values
    assert len(noise) == 120
    assert 0.15 < noise.mean() < 0.55


def test_knn_lets_the_nearer_weigh_more():
    class Two(Clusters):
        def __init__(self):
            super().__init__(0.0)
            bank = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8]])
            query = torch.tensor([[1.0, 0.1]])
            self.splits = {
                "train": Labelled(bank, torch.tensor([0, 1, 1])),
                "val": Labelled(query, torch.tensor([0])),
            }

    assert Knn(k=3)(Two()).values.tolist() == [1.0]
    assert Knn(k=3, temperature=100.0)(Two()).values.tolist() == [0.0]


def test_the_probe_equals_an_independent_solution():
    """Its optimum has no gradient: mean of (softmax - one-hot) x = -weights / (C n)."""
    subject, probe = Clusters(1.0), LinearProbe(max_iterations=500)
    x, labels = subject.splits["train"].features, subject.splits["train"].labels
    weights = probe._fit(x, labels, torch.zeros(3, 9), 0.5)
    error = torch.softmax(x @ weights[:, :-1].T + weights[:, -1], 1) - torch.eye(3)[labels]
    gradient = error.T @ x / len(x) + weights[:, :-1] / (0.5 * len(x))
    assert gradient.abs().max() < 1e-4
    assert error.mean(0).abs().max() < 1e-4


def test_the_probe_chooses_its_penalty_on_held_out_pictures():
    scores = LinearProbe(c_low=1e-9, c_high=1.0, c_count=2)(Clusters(0.5))
    assert scores.notes == {"c": 1.0}


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(50):
        interval = bootstrap((rng.random(200) < 0.7).astype(float), seed)
        held += interval.low <= 0.7 <= interval.high
        assert 0.08 < interval.high - interval.low < 0.17
    assert 42 <= held <= 50
    assert bootstrap(np.ones(50)).low == 1.0


def test_a_checkpoint_stands_beside_random_weights(run, classes, tmp_path):
    report = evaluate(run, classes, tmp_path, [Knn(k=3), LinearProbe()])
    assert report["step"] == 4
    assert report["data"]["items"] == {"train": 48, "val": 24}
    assert report["data"]["ignored"] == {"train": 0, "val": 0}
    for found in report["evals"].values():
        assert found["trained"]["mean"] > 0.9  # colours: seen without any training
        gain = found["trained"]["mean"] - found["random"]["mean"]
        assert found["gain"]["mean"] == pytest.approx(gain)
        assert all(part["low"] <= part["mean"] <= part["high"] for part in (found["trained"], found["gain"]))
    assert json.loads((tmp_path / "eval.json").read_text()) == report
    table = (tmp_path / "eval.md").read_text()
    assert "| knn k=3 |" in table and "| linear_probe |" in table
    written = (tmp_path / "eval.json").read_bytes()
    evaluate(run, classes, tmp_path, [Knn(k=3), LinearProbe()])
    assert (tmp_path / "eval.json").read_bytes() == written


def test_features_are_computed_once(run, classes, tmp_path, monkeypatch):
    encoder, state = load_encoder(run)
    first = Subject(encoder, Folder(classes), tmp_path).labelled("val", "patches")
    assert first.features.shape == (24, 32)
    files = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = Subject(load_encoder(run)[0], Folder(classes), tmp_path)
    monkeypatch.setattr(features.Subject, "_encode", None)  # calling it would fail
    assert torch.equal(again.labelled("val", "patches").features, first.features)
    assert again.labelled("val", "pooled").features.shape == (24, 32)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == files
    monkeypatch.undo()
    other = Subject(random_encoder(state.model, 1), Folder(classes), tmp_path).labelled("val", "patches")
    assert not torch.equal(other.features, first.features)


def test_a_torn_cache_is_made_anew(run, classes, tmp_path):
    subject = Subject(load_encoder(run)[0], Folder(classes), tmp_path)
    first = subject.labelled("val", "patches").features
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(subject.labelled("val", "patches").features, first)


def test_random_weights_are_those_training_began_with_and_disturb_nobody():
    before = torch.get_rng_state()
    first, second = random_encoder(SIZES, 0), random_encoder(SIZES, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.digest() == second.digest() != random_encoder(SIZES, 1).digest()


def test_evals_resolve_by_name():
    assert build("lcl_train.evals", {"knn": {"k": 3}}, Eval) == Knn(k=3)
    assert key(build("lcl_train.evals", "linear_probe", Eval)) == "linear_probe"
    with pytest.raises(RecipeError, match="did you mean knn"):
        build("lcl_train.evals", "kn", Eval)


def test_a_folder_that_is_none_of_classes_is_refused(classes, tmp_path):
    with pytest.raises(RecipeError, match="no folder train"):
        Folder(tmp_path)
    for split, name in (("train", "cats"), ("val", "dogs")):
        (tmp_path / split / name).mkdir(parents=True)
    with pytest.raises(RecipeError, match="cats, dogs is not a class of both"):
        Folder(tmp_path)
    (tmp_path / "train/dogs").mkdir()
    (tmp_path / "val/cats").mkdir()
    with pytest.raises(RecipeError, match="val/cats: no pictures"):
        Folder(tmp_path).pictures("val")


def test_a_class_without_pictures_is_refused_and_other_files_are_counted(run, tmp_path):
    folder = tiny.write_classes(tmp_path / "data", classes=2, train=3, val=2)
    (folder / "train/class0/notes.txt").write_text("of the class")
    report = evaluate(run, folder, tmp_path / "out", [Knn(k=1)])
    assert report["data"]["ignored"] == {"train": 1, "val": 0}
    assert "1 files of other kinds left out" in (tmp_path / "out/eval.md").read_text()
    for picture in (folder / "val/class1").iterdir():
        picture.rename(picture.with_suffix(".gif"))
    with pytest.raises(RecipeError, match=r"val/class1: no pictures \(\.jpeg, .*remove the class from both"):
        Folder(folder).pictures("val")


def test_pictures_are_seen_upright(tmp_path):
    """One that lies on its side and says so is the same picture to an encoder."""
    folder = tiny.write_classes(tmp_path / "data", classes=2, train=1, val=1)
    upright = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.fromarray(upright).save(folder / "val/class0/0.png")
    Image.fromarray(np.rot90(upright)).save(folder / "val/class1/0.png", exif=turned)
    for path in folder.glob("val/*/0.jpg"):
        path.unlink()
    found = Subject(random_encoder(SIZES, 0), Folder(folder), tmp_path).labelled("val", "patches")
    torch.testing.assert_close(found.features[0], found.features[1])


def test_an_unreadable_picture_is_named(tmp_path):
    folder = tiny.write_classes(tmp_path / "data", classes=2, train=2, val=1)
    (folder / "val/class1/0.jpg").write_bytes(b"<html>")
    with pytest.raises(ImageError, match=r"val/class1/0\.jpg"):
        Subject(random_encoder(SIZES, 0), Folder(folder), tmp_path).labelled("val", "patches")
