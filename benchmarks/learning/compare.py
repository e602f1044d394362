"""Every objective on the same documents: equal pictures, steps, sizes and seeds, random weights as a row.

    python benchmarks/learning/compare.py tune work scenes out      # a rate for each: out/rates.json
    python benchmarks/learning/compare.py run work scenes out alts  # every objective, every seed
    python benchmarks/learning/table.py out                         # means and 95 % intervals, as Markdown

`work/train` and `work/held` are roads of data.yaml over two parts of a dump (docs/learning.md), `scenes` is
train/<class>/*.jpg and val/<class>/*.jpg, `alts` holds alt texts by URL, as LAION has them. What is done is
skipped, what was killed goes on: run it again.

A step has 32 pictures whatever the objective (the budget of pictures binds, never that of tokens), so that
equal steps are equal pictures. The rate is chosen among three by a linear probe of short runs with a seed of
their own, on pictures of scenes/train alone; scenes/val has no say in it.
"""

import argparse
import json
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

RATES = (3e-4, 1e-3, 3e-3)
TUNING_SEED = 100
TUNING_PICTURES = {"train": 200, "val": 100}  # of each class, all from scenes/train
TUNED_BY = "linear patches"
BASE = {
    "preset": "nano",
    "model": {
        "vision": {"image_size": 48, "visual_tokens": 9},  # nano's 3 x 96 otherwise: 36 patches
        "language": {"width": 64, "heads": 2, "context": 1536},
    },
    "rows": 4,
    "pack": {"row_images": 8},
    "workers": 1,
    "device": "cpu",
    "save_every_steps": 250,
    "holdout": 0.03,
}


def _objective(name, row_tokens, **its):
    """An objective and the tokens of a row: enough for all its pictures, the rest is padding."""
    return {"objective": {name: its}, "pack": {"row_tokens": row_tokens}}


ARMS = {
    "lcl": _objective("lcl", 768),
    "clip": _objective("clip", 640),
    "coca": _objective("coca", 1024),
    "blip2": _objective("blip2", 1536),
    "masked": _objective("masked", 768),
    "generation": _objective("generation", 768),
    "generation_regression": _objective("generation_regression", 768),
}
# Not run unless asked for: what the first rows leave open.
ASIDE = {
    "lcl_even": _objective("lcl", 768, contrastive_weight=1.0),
    "lcl_contrast": _objective("lcl", 768, contrastive_weight=1.0, generation_weight=0.0),
    "regression_detached": _objective("generation_regression", 768, detach=True),
}


def settings(job):
    from lcl_train.settings import Train
    from schemas.overrides import laid_over, nested, settle

    own = {"optimizer": {"lr": job.rate, "warmup_steps": 50}, "seed": job.seed, "steps": job.steps}
    section = laid_over(laid_over(BASE, {**ARMS, **ASIDE}[job.arm]), own)
    return settle(Train, laid_over({**section, "validate_every_steps": job.steps}, nested(job.changes)))


class Job(NamedTuple):
    """A run to be made: where it learns from, what it is, where it goes."""

    work: Path
    scenes: Path
    out: Path
    arm: str
    rate: float
    seed: int
    steps: int
    changes: list[str]
    alts: Path | None = None  # of a final run


def learn(job):
    """Train and probe one run; its result.json is the proof that it is done."""
    from lcl_train.checkpoint import write_text

    done = job.out / "result.json"
    if not done.exists():
        write_text(done, json.dumps(_learnt(job), indent=1) + "\n")
    result = json.loads(done.read_text())
    if (result["lr"], result["steps"]) != (job.rate, job.steps):
        raise SystemExit(f"{job.out}: was run with another rate or other steps; take a new folder")
    return result


def _learnt(job):
    import probes
    import torch
    from rich.console import Console

    from lcl_train.encoder import load_encoder, random_encoder
    from lcl_train.loop import train

    torch.set_num_threads(1)
    given, started = settings(job), time.process_time()
    told = train(job.work / "train" / "shards", job.out, given, "auto", Console(quiet=True))
    if not told["is_finished"]:
        raise SystemExit(f"{job.out}: stopped at step {told['step']}; the same command goes on")
    result = {"arm": job.arm, "lr": job.rate, "seed": job.seed, "steps": told["step"]}
    result["cpu_seconds"] = time.process_time() - started
    result["measured"] = probes.measured(job.out, job.steps // 10)
    encoder, state = load_encoder(job.out)
    features = job.out / "features"
    if not job.alts:
        return {**result, "probes": probes.probe(encoder, job.scenes, features, [TUNED_BY])}
    result["probes"] = probes.probe(encoder, job.scenes, features)
    if "loss/contrastive" in result["measured"]:
        result["retrieval"] = probes.retrieval(job.out, job.work / "held", job.alts)
    if job.arm == "lcl":  # of the sizes of all
        fresh = random_encoder(state.model, job.seed)
        result["random"] = probes.probe(fresh, job.scenes, features)
    return result


def tune(work, scenes, out, arms, workers, steps, changes):
    part = _part_of(scenes, out / "scenes")
    jobs = [
        Job(work, part, out / "tune" / f"{arm}-{rate:g}", arm, rate, TUNING_SEED, steps, changes)
        for rate in RATES
        for arm in arms
    ]
    results = _all(jobs, workers)
    scores = {arm: {r["lr"]: r["probes"][TUNED_BY] for r in results if r["arm"] == arm} for arm in arms}
    rates = {arm: {"lr": max(by, key=by.get), "tried": by} for arm, by in scores.items()}
    (out / "rates.json").write_text(json.dumps(rates, indent=1) + "\n")
    print(json.dumps(rates, indent=1))


def _part_of(scenes, out):
    """The first pictures of each class of scenes/train to learn from, the next ones to be told."""
    for folder in sorted((scenes / "train").iterdir()):
        pictures = iter(sorted(folder.iterdir()))
        for split, count in TUNING_PICTURES.items():
            place = out / split / folder.name
            place.mkdir(parents=True, exist_ok=True)
            for picture in islice(pictures, count):
                link = place / picture.name
                if not link.exists():
                    link.symlink_to(picture.resolve())
    return out


def run(work, scenes, alts, out, arms, workers, steps, changes, seeds, lr):
    file = out / "rates.json"
    rates = json.loads(file.read_text()) if file.exists() else {}
    chosen = {arm: rates.get(arm, {"lr": lr})["lr"] for arm in arms}
    jobs = [
        Job(work, scenes, out / "runs" / f"{arm}-{seed}", arm, chosen[arm], seed, steps, changes, alts)
        for seed in seeds
        for arm in arms
    ]
    _all(jobs, workers)


def _all(jobs, workers):
    """Results in the order of the jobs; what is done costs nothing."""
    for job in jobs:
        job.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        results = []
        for job, result in zip(jobs, pool.map(learn, jobs), strict=True):
            print(
                job.out.name, json.dumps(result["probes"]), f"{result['cpu_seconds']:.0f} CPU-s", flush=True
            )
            results.append(result)
    return results


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for command in (tune, run):
        sub = commands.add_parser(command.__name__)
        for name in ("work", "scenes", "out"):
            sub.add_argument(name, type=Path)
        sub.add_argument("--arms", nargs="+", default=list(ARMS), choices=[*ARMS, *ASIDE], metavar="NAME")
        sub.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
        sub.add_argument("--steps", type=int, default=250, help="250: about one epoch of openstax-dev")
        sub.add_argument(
            "--set", action="append", default=[], dest="changes", help="of all, as lcl train has it"
        )
        sub.set_defaults(command=command)
    sub.add_argument("alts", type=Path, help="Parquet tables of URL and TEXT")
    sub.add_argument("--lr", type=float, default=1e-3, help="of an objective that was not tuned")
    sub.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = vars(parser.parse_args())
    options.pop("command")(**options)


if __name__ == "__main__":
    main()
