"""From a recipe file to typed settings, every mistake told before any work begins.

`schemas.recipe` says which sections there are; here each section is checked by its stage's class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from lcl_data.dedupe import Rule
from lcl_data.download import Download
from lcl_data.files import must_be_copied, place
from lcl_data.filters import Filter
from lcl_data.ingest import Ingest
from lcl_data.shard import Shard
from lcl_data.tokenizer import load
from lcl_data.views import pixels_of
from pipelines.preset import expand
from schemas.errors import RecipeError
from schemas.members import build
from schemas.overrides import laid_over, nested, one_line, settle
from schemas.recipe import PRESET, EvalSection, Recipe, Settings, TokenizerSection

T = TypeVar("T", bound=Settings)
OURS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe whose every section has been checked; None where a stage does not run.

    Attributes:
        train: settings of the trainer, checked by the trainer's own class, which needs torch.
    """

    name: str
    work: Path
    src: Path
    ingest: Ingest
    download: Download | None
    filters: list[Filter] | None
    scores: list[Path]
    rules: list[Rule] | None
    tokenizer: TokenizerSection | None
    shard: Shard | None
    train: dict[str, Any] | None
    eval: EvalSection | None


def members(package: str, entries: Sequence[Any], kind: type[T]) -> list[T]:
    """The members that recipe entries or `--use` options name; an option is YAML: `'similarity: {min: 0.3}'`.

    A preset stands for its members (see `pipelines.preset`).

    Raises:
        RecipeError: an entry names no member, or settings it does not have.
    """
    listed = expand(package, [_parsed(entry) for entry in entries])
    return [build(package, entry, kind) for entry in listed]


def chosen(presets: Sequence[str]) -> list[Any]:
    """The entries that `--preset` options stand for."""
    return [{PRESET: name} for name in presets]


def rules(presets: Sequence[str], use: Sequence[str]) -> list[Rule]:
    """The rules that the options of `lcl dedupe` name; exact copies where they name none."""
    named = [*chosen(presets), *use]
    return members("lcl_data.dedupe", named or ["exact_document", "same_url", "same_image_bytes"], Rule)


def _parsed(entry: Any) -> Any:
    try:
        return yaml.safe_load(entry) if isinstance(entry, str) else entry
    except yaml.YAMLError as error:
        raise RecipeError(
            f"{entry}: not YAML ({one_line(error)}); write name, or 'name: {{a: b}}'"
        ) from error


def find_recipe(name: str | Path) -> Path:
    """A recipe by path, or one of ours by name.

    Raises:
        RecipeError: there is no such file.
    """
    ours = {path.stem: path for path in OURS.glob("*.yaml")}
    path = ours.get(str(name), Path(name))
    if not path.is_file():
        raise RecipeError(f"{name}: no such recipe; give a YAML file, or one of {', '.join(sorted(ours))}")
    return path


def read(name: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """A recipe with `a.b=c` settings laid over it.

    Raises:
        RecipeError: not YAML, or a section that does not exist.
    """
    path = find_recipe(name)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not YAML: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of sections such as ingest, download, filters")
    return settle(Recipe, laid_over(content, nested(settings)))


def plan(recipe: Recipe) -> Plan:
    """Check every section by the class it is for.

    Raises:
        RecipeError: naming the section, the setting and what is wrong.
    """
    ingest = dict(recipe.ingest or {})
    src = ingest.pop("src", None)
    if not src:
        raise RecipeError(
            "ingest.src: say which file or folder is read, for example --set ingest.src=downloads/mmc4"
        )
    road = Plan(
        name=recipe.name,
        work=place(recipe.work or f"runs/{recipe.name}"),
        src=place(src),
        ingest=settle(Ingest, ingest, "ingest"),
        download=_section(Download, recipe.download, "download"),
        filters=_members("lcl_data.filters", recipe.filters, Filter),
        scores=[place(path) for path in recipe.scores],
        rules=_members("lcl_data.dedupe", recipe.dedupe, Rule),
        tokenizer=recipe.tokenizer,
        shard=_section(Shard, recipe.shard, "shard"),
        train=None if recipe.train is None else {"seed": recipe.seed, **recipe.train},
        eval=recipe.eval,
    )
    _check(road)
    return road


def _check(road: Plan) -> None:
    """What no section can tell alone."""
    road.ingest.member("ingest.source")
    if road.train is not None and road.shard is None:
        raise RecipeError("train: needs the section shard, which writes what it reads; or --set train=null")
    if road.train is not None:
        must_be_copied(road.work)
    images = None if road.download is None else road.work / "images"
    for rule in road.rules or ():
        rule.reading(images)
    pixels_of(road.filters or (), images)
    if road.shard is None:
        return
    if road.download is None or road.filters is None:
        raise RecipeError("shard: needs the sections download and filters, which attach the pictures")
    if road.tokenizer is None:
        load(road.shard.tokenizer)


def _section(kind: type[T], section: dict[str, Any] | None, place: str) -> T | None:
    return None if section is None else settle(kind, section, place)


def _members(package: str, entries: Sequence[Any] | None, kind: type[T]) -> list[T] | None:
    return None if entries is None else members(package, entries, kind)
