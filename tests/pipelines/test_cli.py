"""The command line starts without the heavy libraries, teaches, and exits with the right code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app

HEAVY = ("torch", "polars", "ray", "pyarrow", "numpy", "PIL", "aiohttp", "tokenizers", "timm")


@pytest.mark.parametrize(
    "command", [["--help"], ["ingest", "--help"], ["train", "--help"], ["run", "--help"]]
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


def test_every_command_has_an_example_or_a_story() -> None:
    for command in app.registered_commands:
        assert command.callback is not None
        assert len(command.callback.__doc__ or "") > 60, command.callback.__name__


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
