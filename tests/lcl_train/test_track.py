import json
import os
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
from itertools import count

import pytest
from rich.console import Console

from lcl_train import track
from lcl_train.loop import check, train
from schemas.errors import RecipeError
from tests.lcl_train import tiny

for _library in ("tensorboard", "wandb", "trackio"):
    pytest.importorskip(_library)

# It logs steps to all three, session by session, and writes down what it looks up or calls beyond loopback.
CHILD = """
import json, socket, sys, time
from ipaddress import ip_address
from pathlib import Path

folder, calls, sessions = Path(sys.argv[1]), [], json.loads(sys.argv[2])
connect, lookup = socket.socket.connect, socket.getaddrinfo

def is_far(host):
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host not in ("localhost", None, "")

def connects(self, address):
    if isinstance(address, tuple) and is_far(address[0]):
        calls.append(repr(address))
        raise OSError("refused by the test")
    return connect(self, address)

def looks_up(host, *rest, **more):
    if is_far(host):
        calls.append(repr(host))
        raise OSError("refused by the test")
    return lookup(host, *rest, **more)

socket.socket.connect, socket.getaddrinfo = connects, looks_up
from lcl_train import track

for step, last, until, told in sessions:
    origin = track.identify(folder, {"preset": "nano", "pack": {"row_tokens": 64}}, step, last)
    assert origin.told == told, origin
    trackers = track.open_trackers(["wandb", "trackio", "tensorboard"], origin)
    for at in range(step + 1, until + 1):
        for tracker in trackers:
            tracker.log(at, {"loss/total": at + step / 100, "val/source/a b": 1.0})
    for tracker in trackers:
        tracker.close()
    time.sleep(1)  # wandb names its folders by the second
assert not calls, calls
"""
# Ten steps with a checkpoint of step 4; a kill after step 7 with a checkpoint of step 5; then to the end.
SESSIONS = [[0, 0, 10, 0], [4, 10, 7, 10], [5, 7, 12, 10]]
FIRST_TOLD = {**{at: float(at) for at in range(1, 11)}, 11: 11.05, 12: 12.05}
TOLD_LAST = {**{at: float(at) for at in range(1, 5)}, 5: 5.04, **{at: at + 0.05 for at in range(6, 13)}}


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A run's folder after three beginnings, and the connections that were made to a proxy on the way."""
    folder = tmp_path_factory.mktemp("work") / "run"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        seen = []
        threading.Thread(target=_note, args=(proxy, seen), daemon=True).start()
        argv = [sys.executable, "-c", CHILD, str(folder), json.dumps(SESSIONS)]
        child = subprocess.run(argv, env=_environment(folder, address), capture_output=True, text=True)
        assert child.returncode == 0, child.stderr
        assert child.stdout == ""
    return folder, seen


def _note(proxy, seen):
    while True:
        try:
            connection, _ = proxy.accept()
        except OSError:
            return
        seen.append(connection.recv(200))
        connection.close()


def _environment(folder, proxy):
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    kept = {name: value for name, value in os.environ.items() if name.upper() not in (*names, "NO_PROXY")}
    unlike_tests = ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE")  # users set none of these
    kept = {name: value for name, value in kept.items() if name not in unlike_tests}
    return {**kept, **dict.fromkeys(names, proxy), "TRACKIO_DIR": str(folder.parent / "trackio")}


def test_nobody_calls_home(logged):
    assert logged[1] == []


def test_tensorboard_reads_every_step_once_as_it_was_told_last(logged):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logged[0] / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["loss/total", "val/source/a b"]
    found = [(event.step, event.value) for event in events.Scalars("loss/total")]
    assert [step for step, _ in found] == list(range(1, 13))
    assert dict(found) == pytest.approx(TOLD_LAST)


def test_wandb_holds_every_step_once_in_offline_folders_of_one_run(logged):
    folders = sorted((logged[0] / "wandb").glob("offline-run-*"))
    assert len(folders) == len(SESSIONS)
    (name,) = {folder.name.rsplit("-", 1)[1] for folder in folders}
    assert name == json.loads((logged[0] / track.IDENTITY).read_text())["id"]
    found = [line for folder in folders for line in _history(folder / f"run-{name}.wandb")]
    assert [line["_step"] for line in found] == list(range(1, 13))
    assert {line["_step"]: line["loss/total"] for line in found} == FIRST_TOLD


def test_trackio_has_one_run_with_every_step_once(logged):
    name = json.loads((logged[0] / track.IDENTITY).read_text())["id"]
    with sqlite3.connect(logged[0].parent / "trackio" / "lcl.db") as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY id").fetchall()
        (config,) = database.execute("SELECT config FROM configs").fetchall()
    assert {row[0] for row in rows} == {f"run-{name}"}
    assert [row[1] for row in rows] == list(range(1, 13))
    assert {row[1]: json.loads(row[2])["loss/total"] for row in rows} == FIRST_TOLD
    assert json.loads(config[0])["pack"] == {"row_tokens": 64}


def test_a_run_that_goes_back_tells_tensorboard_what_its_file_says(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shards = tiny.write_shards(tmp_path / "shards", [tiny.document(n) for n in range(40)])
    settings, out = tiny.settings(steps=10, keep_last=9, track=["tensorboard"]), tmp_path / "run"
    train(shards, out, settings, "never", Console(quiet=True))
    train(shards, out, settings, out / "checkpoints/step-00000005", Console(quiet=True))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    told = {
        tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]
    }
    kept = [(key, line["step"], value) for line in lines for key, value in line.items() if value is not None]
    written = {(key, step): value for key, step, value in kept if key != "step"}
    found = {(tag, step): value for tag, values in told.items() for step, value in values.items()}
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert found == pytest.approx(written, rel=1e-6)


def test_what_is_not_installed_is_told_before_any_work(monkeypatch):
    monkeypatch.setattr(track, "find_spec", lambda name: None if name == "wandb" else name)
    track.check(["tensorboard", "trackio"])
    for told in (track.check, lambda names: check(tiny.settings(track=names))):
        with pytest.raises(RecipeError, match=r"track: wandb is not installed; .*lcl\[track\]"):
            told(["tensorboard", "wandb"])


def test_a_tracker_that_comes_late_is_told_what_follows_the_checkpoint(tmp_path):
    first = track.identify(tmp_path, {}, step=90, last=100)
    assert first.told == 0
    later = track.identify(tmp_path, {}, step=95, last=110)
    assert (later.id, later.told) == (first.id, 110)
    assert track.identify(tmp_path, {}, step=95, last=99).told == 110


def test_a_misspelt_mode_of_wandb_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(RecipeError, match="WANDB_MODE ofline"):
        track.open_trackers(["wandb"], track.identify(tmp_path, {}, 0, 0))


def _history(file):
    """The lines of a .wandb file: LevelDB's log format after 7 bytes, each record a protobuf."""
    from wandb.proto import wandb_internal_pb2

    for record in _records(file.read_bytes()):
        message = wandb_internal_pb2.Record()
        message.ParseFromString(record)
        if message.WhichOneof("record_type") == "history":
            items = message.history.item
            yield {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in items}


def _records(content, block=32768):
    whole, first, middle, last = 1, 2, 3, 4
    at, parts = 7, []
    for _ in count():
        at += (block - at % block) if block - at % block < 7 else 0
        if at + 7 > len(content):
            return
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts.append(content[at + 7 : at + 7 + length])
        at += 7 + length
        assert kind in (whole, first, middle, last)
        if kind in (whole, last):
            yield b"".join(parts)
            parts = []
