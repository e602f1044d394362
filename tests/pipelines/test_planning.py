import json

from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.console import Console
from pipelines.planning import show
from tests.lcl_train import tiny


def test_the_command_prints_one_object_and_writes_nothing(tmp_path, capsys):
    folder = tiny.write_shards(tmp_path / "shards", [tiny.document(number) for number in range(64)])
    settings = [
        f"--set=model.{part}.{name}={value}"
        for part, sizes in tiny.SETTINGS["model"].items()
        for name, value in sizes.items()
    ]
    packing = ["--set=rows=2", "--set=pack.row_tokens=64", "--set=device=cpu"]
    told = CliRunner().invoke(
        app, ["train", str(folder), str(tmp_path / "run"), "--plan", "--json", *settings, *packing]
    )
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["run"] == {"preset": "nano", "device": "cpu", "dtype": "float32"}
    assert not (tmp_path / "run").exists()
    assert "parameters" in told.stderr and "n/a" in told.stderr
    for fill, image_fill, remedy in (
        (0.9, 0.5, "more documents fit together into longer rows"),
        (0.4, 1.0, "may hold no more pictures: raise pack.row_images"),
        (0.99, 0.5, None),
    ):
        rows = {**found["rows"], "fill": fill, "image_fill": image_fill}
        show({**found, "rows": rows}, Console(as_json=False))
        told = capsys.readouterr().err
        assert ("rows are" in told) == (remedy is not None) and (remedy or "") in " ".join(told.split())
