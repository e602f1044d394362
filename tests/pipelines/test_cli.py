"""The command line starts without the heavy libraries, teaches, and exits with the right code."""

import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lcl_train.loop import train
from pipelines.cli import app
from pipelines.recipes import OURS
from schemas.members import names
from tests.lcl_data.corpus import document, write_documents
from tests.lcl_train import tiny as drawn
from tests.pipelines.small import tiny

HEAVY = ("torch", "polars", "ray", "pyarrow", "numpy", "PIL", "aiohttp", "tokenizers", "timm")


@pytest.mark.parametrize(
    "command", [["--help"], ["ingest", "--help"], ["filter", "--help"], ["train", "--help"]]
)
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['lcl', *{command!r}]\n"
        "from pipelines.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print('HEAVY', [m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stderr
    assert "Usage: lcl" in done.stdout


def test_every_command_has_an_example() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert "Example: lcl " in (command.callback.__doc__ or ""), command.callback.__name__


@pytest.mark.parametrize(
    ("command", "package"),
    [
        ("filter", "lcl_data.filters"),
        ("dedupe", "lcl_data.dedupe"),
        ("eval", "lcl_train.evals"),
        ("train", "lcl_train.objectives"),
    ],
)
def test_help_lists_the_members(command: str, package: str) -> None:
    shown = " ".join(CliRunner().invoke(app, [command, "--help"]).output.split())
    assert f"Members: {', '.join(names(package))}." in shown


def test_help_lists_the_sources_and_the_recipes() -> None:
    shown = " ".join(CliRunner().invoke(app, ["ingest", "--help"]).output.split())
    assert f"Of the source: {', '.join(names('lcl_data.sources'))};" in shown
    shown = " ".join(CliRunner().invoke(app, ["run", "--help"]).output.split())
    ours = sorted(path.stem for path in OURS.glob("*.yaml"))
    assert f"one of ours: {', '.join(ours)}." in shown


def test_help_shows_brackets() -> None:
    assert "'containers=[arrow]'" in CliRunner().invoke(app, ["shard", "--help"]).output


def lcl(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = "from pipelines.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ingest", "mmc5", "src", "out"), "mmc4"),
        (("ingest", "mmc4", "nowhere", "out"), "nowhere"),
        (("run", "nothing"), "mmc4, obelics"),
        (("run", "mmc4"), "ingest.src"),
        (("inspect", "."), "no stage folder"),
        (("tokenizer", "train", "docs", "out", "--vocab-size", "10"), "vocab_size: Input should be greater"),
        (("ingest", "mmc4", "src", "out", "--set", "source.foo=1"), "source.foo: no such setting"),
        (("ingest", "mmc4", "src", "out", "--workers", "-1"), "--workers"),
        (("ingest", "mmc4", "src", "out", "--ray-address", "head:6379"), "--engine ray"),
        (("filter", "docs", "out", "-u", "text_length: 5"), "text_length: {setting: value}"),
    ],
)
def test_wrong_usage_is_told_before_any_work(arguments: tuple[str, ...], told: str, tmp_path: Path) -> None:
    done = lcl(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_json_is_one_object_on_stdout(tmp_path: Path) -> None:
    shard = tmp_path / "docs_shard_0_v2.jsonl"
    row = {"text_list": ["A sentence."], "image_info": [], "similarity_matrix": [], "url": "http://a.org/"}
    shard.write_text(json.dumps(row) + "\n[]\n")
    done = lcl("ingest", "mmc4", str(shard), str(tmp_path / "out"), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    documents = json.loads(done.stdout)["ledger"]["documents"]
    assert documents["read"] == documents["kept"] + sum(documents["rejected"].values()) == 2


def test_runner_shows_the_story() -> None:
    shown = CliRunner().invoke(app, ["--help"])
    assert "lcl demo" in shown.output


def result(*arguments: object) -> Any:
    """The one object on stdout of a command with --json, run in this process."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def options_of(sets: list[str], section: str) -> list[str]:
    """`--set` options of a command from those of a recipe."""
    mine = [each.removeprefix(f"{section}.") for each in sets if each.startswith(f"{section}.")]
    return [part for each in mine for part in ("--set", each)]


def test_every_command_prints_one_object(corpus: tuple[Path, object], walked: Path, tmp_path: Path) -> None:
    docs, images = walked / "documents", walked / "images"
    for name in ("", "images", "filtered", "shards", "run", "tokenizer", "eval"):
        assert result("inspect", walked / name)
    assert result("verify", walked)["problems"] == []
    assert result("filter", docs, tmp_path / "f", "--images", images, "-u", "similarity: {min: 0.3}")[
        "ledger"
    ]
    assert result("dedupe", tmp_path / "f", tmp_path / "d")["ledger"]
    learnt = result("tokenizer", "train", tmp_path / "d", tmp_path / "t", "--vocab-size", 300)["tokenizer"]
    shards = tmp_path / "s"
    assert result("shard", tmp_path / "d", images, shards, "--set", f"tokenizer={learnt}")["ledger"]
    trained = result("train", shards, tmp_path / "run", *options_of(tiny(corpus[0]), "train"))
    assert trained["checkpoint"] == "checkpoints/step-00000002"
    mixed = [*options_of(tiny(corpus[0]), "train"), "--set", "weights=[3,1]", "--set", "workers=0"]
    same = f"tokenizer={walked / 'shards' / 'tokenizer.json'}"
    assert result("shard", tmp_path / "d", images, tmp_path / "m", "--set", same)["ledger"]
    assert result("train", walked / "shards", tmp_path / "m", tmp_path / "two", *mixed)["is_finished"]
    state = json.loads((tmp_path / "two/checkpoints/step-00000002/state.json").read_text())["loader"]
    first, second = state["draws"]["drawn"]
    assert abs(first - 3 * second) < 4
    assert result("eval", tmp_path / "run", corpus[0] / "scenes", tmp_path / "e", "-u", "knn")["evals"]


def test_a_stopped_training_ends_in_good_order_and_goes_on(
    corpus: tuple[Path, object], walked: Path, tmp_path: Path
) -> None:
    tiny_steps = [*options_of(tiny(corpus[0]), "train"), "--set", "log_every=1", "--set"]
    command = ["train", str(walked / "shards"), str(tmp_path / "run"), *tiny_steps]
    metrics = tmp_path / "run" / "metrics.jsonl"

    def stop() -> None:
        while not (metrics.exists() and metrics.read_text()):  # by then it listens to the signal
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=stop, daemon=True)
    killer.start()
    stopped = CliRunner().invoke(app, [*command, "steps=1000000", "--json"])
    killer.join()
    summary = json.loads(stopped.stdout)
    assert (stopped.exit_code, summary["is_finished"]) == (0, False)
    assert "the same command goes on" in stopped.stderr
    assert result(*command, f"steps={summary['step'] + 1}")["step"] == summary["step"] + 1


def test_a_report_needs_no_folder_and_writes_none(tmp_path: Path) -> None:
    docs = write_documents(tmp_path / "docs", [[document(0, "one"), document(1, "one two")]])
    use = ["-u", "text_length: {min_words: 2}", "-u", "image_count"]
    done = lcl("filter", str(docs), *use, "--report", "--json", "-w", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["filters"][0]["reasons"]["too_short"] == {"alone": 1, "in_sequence": 1}
    assert told["filters"][1]["reasons"]["too_few"] == {"alone": 2, "in_sequence": 1}
    assert told["facts"]["document"]["words"]["quantiles"]["p99"] == 2
    for shown in ("text_length", "too_few", "100.00%", "in sequence", "documents: 2 read, 0 would be kept"):
        assert shown in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
    without = lcl("filter", str(docs), *use, cwd=tmp_path)
    assert without.returncode == 2
    assert "name a folder to fill" in without.stderr


def example(heading: str) -> str:
    """The indented Python below a heading of docs/extending.md."""
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    block = page.partition(f"## {heading}\n")[2].lstrip("\n")
    lines = itertools.takewhile(lambda line: not line or line.startswith("    "), block.splitlines())
    return textwrap.dedent("\n".join(lines))


def test_the_example_runs_in_spawned_workers_and_again_once_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "site" / "my_package" / "my_module.py"
    module.parent.mkdir(parents=True)
    docs = write_documents(
        tmp_path / "docs", [[document(n, "aa x"), document(n + 9, "bcd")] for n in range(3)]
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(module.parents[1]), *sys.path]))
    used = ("filter", str(docs), "out", "-u", "my_package.my_module:Vowels: {min: 0.2}", "-w", "2", "--json")
    for vowels, dropped in (("aeiou", 3), ("u", 6)):
        module.write_text(example("A filter").replace("aeiou", vowels))
        done = lcl(*used, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rejected = json.loads(done.stdout)["ledger"]["documents"]["rejected"]
        assert rejected == {"my_package.my_module:Vowels:too_few": dropped}
    breaking = "text.map_elements(int, return_dtype=pl.Int64)"
    module.write_text(example("A filter").replace("text.str.len_chars()", breaking))
    broken = lcl(*used, cwd=tmp_path)
    assert broken.returncode == 1
    assert "lcl: filter my_package.my_module:Vowels: broke on documents (ValueError" in broken.stderr
    assert "Traceback" not in broken.stderr


def test_the_example_of_an_objective_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_objectives.py").write_text(example("An objective"))
    monkeypatch.syspath_prepend(tmp_path)
    shards = drawn.write_shards(tmp_path / "shards", [drawn.document(number) for number in range(8)])
    settings = drawn.settings(objective="my_objectives:Short", steps=2)
    losses = train(shards, tmp_path / "run", settings, console=Console(quiet=True))["losses"]
    assert losses["total"] == pytest.approx(losses["generation"] + 1e-3 * losses["length"])
