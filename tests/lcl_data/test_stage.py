"""The laws of a stage folder: resume at the shard, skip by digest, refuse what is foreign, fail alone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from lcl_data import deduplicate, files, filter, ingest
from lcl_data.dedupe import Rule
from lcl_data.draft import Draft, proof_path
from lcl_data.engine import Engine
from lcl_data.filters import Filter
from lcl_data.ingest import Ingest
from lcl_data.stage import Stage, Unit, code_of, input_of
from schemas.errors import RecipeError, ShardError
from schemas.manifest import MANIFEST, Input
from schemas.members import build
from tests.lcl_data.corpus import document, write_documents

UNITS = [Unit(number, f"unit-{number}", number) for number in range(6)]


def write_number(unit: Unit, draft: Draft) -> None:
    draft.count("documents").read += 2
    draft.count("documents").kept += 1
    draft.reject("documents", "odd", id=str(unit.number))
    draft.path(".json").write_text(json.dumps(unit.payload))
    draft.rows(".json", 1)


def write_all_but_three(unit: Unit, draft: Draft) -> None:
    if unit.number == 3:
        draft.path(".json").write_text("half")
        raise ShardError(f"{unit.name}: torn; fetch it again")
    write_number(unit, draft)


def a_stage(out: Path, settings: dict[str, int] | None = None) -> Stage:
    return Stage("test", out, settings or {}, (Input(name="numbers", digest="0"),))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_equal_bytes_with_one_and_four_workers(tmp_path: Path) -> None:
    for workers in (1, 4):
        manifest = a_stage(tmp_path / str(workers)).run(write_number, UNITS, Engine(workers))
        assert manifest.ledger.documents.balances
        assert manifest.ledger.documents.model_dump(exclude_none=True) == {
            "read": 12,
            "kept": 6,
            "rejected": {"odd": 6},
        }
    assert contents(tmp_path / "1") == contents(tmp_path / "4")


def test_finished_stage_is_known_by_settings_and_inputs(tmp_path: Path) -> None:
    manifest = a_stage(tmp_path).run(write_number, UNITS, Engine())
    assert a_stage(tmp_path).finished() == manifest
    assert a_stage(tmp_path, {"other": 1}).finished() is None


def test_only_missing_shards_are_made_again(tmp_path: Path) -> None:
    a_stage(tmp_path).run(write_number, UNITS, Engine())
    before = contents(tmp_path)
    kept = (tmp_path / "00001.json").stat().st_mtime_ns
    (tmp_path / "00004.json").unlink()
    assert a_stage(tmp_path).finished() is None
    seen: list[int] = []
    a_stage(tmp_path).run(write_number, UNITS, Engine(progress=lambda stage, done, total: seen.append(done)))
    assert seen == [6]
    assert contents(tmp_path) == before
    assert (tmp_path / "00001.json").stat().st_mtime_ns == kept


def test_shards_of_other_settings_are_made_again_and_leftovers_go(tmp_path: Path) -> None:
    a_stage(tmp_path).run(write_number, UNITS, Engine())
    a_stage(tmp_path, {"other": 1}).run(write_number, UNITS[:2], Engine())
    assert sorted(p.name for p in tmp_path.glob("*.json")) == ["00000.json", "00001.json", MANIFEST]
    assert not proof_path(tmp_path, 5).exists()


def test_a_torn_unit_fails_alone_and_is_tried_again(tmp_path: Path) -> None:
    manifest = a_stage(tmp_path).run(write_all_but_three, UNITS, Engine())
    assert manifest.failed == {"unit-3": "unit-3: torn; fetch it again"}
    assert manifest.ledger.documents.kept == 5
    assert not list(tmp_path.glob(f"{files.TEMPORARY}*"))
    assert a_stage(tmp_path).finished() is None
    assert a_stage(tmp_path).run(write_number, UNITS, Engine()).ledger.documents.kept == 6


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RecipeError, match=r"thesis\.tex"):
        a_stage(tmp_path).run(write_number, UNITS, Engine())


def test_the_folder_of_another_stage_is_refused_even_unfinished(tmp_path: Path) -> None:
    a_stage(tmp_path).run(write_number, UNITS, Engine())
    before = contents(tmp_path)
    other = Stage("other", tmp_path, {}, ())
    with pytest.raises(RecipeError, match="filled by `test`"):
        other.finished()
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(RecipeError, match="filled by `test`"):
        other.run(write_number, UNITS, Engine())
    a_stage(tmp_path).run(write_number, UNITS, Engine())
    assert contents(tmp_path) == before


def test_an_input_is_of_the_right_stage(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such folder"):
        input_of("documents", tmp_path / "nowhere", ("ingest",))
    with pytest.raises(RecipeError, match="not a folder that lcl filled"):
        input_of("documents", tmp_path, ("ingest",))
    a_stage(tmp_path).run(write_number, UNITS, Engine())
    with pytest.raises(RecipeError, match="give the folder of ingest or filter"):
        input_of("documents", tmp_path, ("ingest", "filter"))


def slow_write(unit: Unit, draft: Draft) -> None:
    write_number(unit, draft)
    time.sleep(0.05)


@pytest.mark.parametrize("delay", [0.02, 0.12])
def test_kill_loses_at_most_the_shard_in_hand(tmp_path: Path, delay: float) -> None:
    code = (
        "import sys; from pathlib import Path; from lcl_data.engine import Engine\n"
        "from tests.lcl_data.test_stage import *\n"
        "print('ready', flush=True); a_stage(Path(sys.argv[1])).run(slow_write, UNITS, Engine())\n"
    )
    out = tmp_path / "killed"
    command = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
    a_stage(out).run(slow_write, UNITS, Engine())
    a_stage(tmp_path / "whole").run(slow_write, UNITS, Engine())
    assert contents(out) == contents(tmp_path / "whole")


def test_changed_code_of_a_third_party_is_another_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "site" / "their_members.py"
    module.parent.mkdir()
    bases = ("dedupe.same_url", "SameUrl"), ("sources.obelics", "Obelics"), ("filters.url_words", "UrlWords")
    lines = [
        f"from lcl_data.{place} import {name}\nclass Their{name}({name}): pass\n" for place, name in bases
    ]
    module.write_text("".join(lines))
    monkeypatch.syspath_prepend(module.parent)
    docs = write_documents(tmp_path / "docs", [[document(0, "a")]])
    dump = tmp_path / "dump.parquet"
    pl.DataFrame({"texts": [["a"]]}).write_parquet(dump)
    rules = [build("lcl_data.dedupe", "their_members:TheirSameUrl", Rule)]
    filters = [build("lcl_data.filters", "their_members:TheirUrlWords", Filter)]

    def digests() -> list[str]:
        read, units = ingest.stage_of(dump, tmp_path, Ingest(format="their_members:TheirObelics"))
        cut, _ = filter.stage_of(docs, tmp_path, filters, None, filter.sources_of(filters, None, ()))
        found, _ = deduplicate.stage_of(docs, tmp_path, rules)
        return [read.digest, *map(read.digest_of, units), cut.digest, found.digest]

    before = digests()
    assert before == digests()
    module.write_text("".join([*lines, "# changed\n"]))
    assert all(one != other for one, other in zip(before, digests(), strict=True))
    assert code_of([build("lcl_data.dedupe", "same_url", Rule)]) == []
