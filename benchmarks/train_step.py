"""One training step beside the reference implementation's plain padded path, on the same documents.

    python benchmarks/train_step.py SHARDS [--preset base32] [--rows 2] [--steps 2] [--dtype float32]

The plain path is written from the description of the reference implementation (arXiv 2406.07543 and its
code): a document per row, padded to the context; a boolean scatter of the visual tokens; an additive float
mask over the whole row; logits of all targets at once. Both sides have the same weights, parts of documents,
pictures and optimiser, and a run stops if their losses or gradient norms differ. So that they can be equal,
copies of a picture are negatives on both sides, and an image without a context is left out of the contrast.

Each figure is that of a process of its own with one untimed step first; sides take turns. `plain, recomputed`
is the plain path with gradient checkpointing, which the reference's script for interleaved documents uses.
Useful tokens are positions that hold no padding. Memory is the peak of the resident set of the process, of
which weights, gradients and the optimiser's averages are 16 bytes a parameter on both sides.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lcl_data.shards import Shards, SpecialTokens
from lcl_train.collate import Batch
from lcl_train.loader import Fitting, Loader
from lcl_train.memory import keep_freed_memory
from lcl_train.model import LCLModel
from lcl_train.objectives.lcl import Lcl
from lcl_train.optim import build_optimizer
from lcl_train.settings import Train
from lcl_train.speed import SpeedSettings, hasten
from lcl_train.step import Step
from lcl_train.task import Task
from schemas.overrides import settle

SEED, RATE = 0, 1e-4
SIDES = ("ours", "plain", "ours, recomputed", "plain, recomputed")
LCL = Lcl.model_validate({"contrast": {"mask_copies": False}})


@dataclass(frozen=True)
class Padded:
    """The documents of a packed batch, each in a row of its own.

    Attributes:
        tokens: int64 [documents, context], padded.
        pixels: as packed.
    """

    tokens: Tensor
    pixels: Tensor


def padded(batch: Batch, specials: SpecialTokens, context: int) -> Padded:
    """Each document or part that shares a packed row with others, in a row of its own."""
    parts = [
        part
        for part, document in zip(batch.tokens.split(batch.segments.lengths), batch.documents, strict=True)
        if document
    ]
    tokens = torch.full((len(parts), context), specials.pad)
    for row, part in zip(tokens, parts, strict=True):
        row[: len(part)] = part
    return Padded(tokens, batch.pixels)


def plain_loss(model: LCLModel, batch: Padded, specials: SpecialTokens, recompute: bool = False) -> Tensor:
    """The method as the reference implementation computes it, from our weights."""
    latents, visual = model.encode(model.vision.normalise(batch.pixels))
    x = plain_stream(model, batch.tokens, visual, specials, recompute)
    contrast = plain_contrast(model, x, latents, batch.tokens, specials)
    return 0.1 * contrast + plain_generation(model, x, batch.tokens, specials)


def plain_stream(
    model: LCLModel, tokens: Tensor, visual: Tensor, specials: SpecialTokens, recompute: bool
) -> Tensor:
    """The language model over padded rows: [documents, context, width]."""
    x = model.language.tokens(tokens)
    is_image = tokens == specials.image
    x = x.masked_scatter(is_image[..., None], visual.to(x.dtype)[: int(is_image.sum()) // visual.shape[1]])
    x = x + model.language.positions.weight[: tokens.shape[1]]
    mask = torch.full((tokens.shape[1],) * 2, -torch.inf, dtype=x.dtype).triu(1)
    for block in model.language.blocks:
        x = (
            checkpoint(plain_block, block, x, mask, use_reentrant=False)
            if recompute
            else plain_block(block, x, mask)
        )
    return x


def plain_block(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    """Attention through an additive float mask over the whole row."""
    q, k, v = (
        y.unflatten(-1, (block.heads, -1)).transpose(1, 2) for y in block.qkv(block.norm1(x)).chunk(3, -1)
    )
    attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
    x = x + block.proj(attended.transpose(1, 2).flatten(2))
    return x + block.fc2(functional.gelu(block.fc1(block.norm2(x))))


def plain_contrast(
    model: LCLModel, x: Tensor, latents: Tensor, tokens: Tensor, specials: SpecialTokens
) -> Tensor:
    """Symmetric InfoNCE between images and the stream at their `<BoI>`, in fp32."""
    is_boi = tokens == specials.boi
    has_context = is_boi.clone()
    has_context[:, 0] = False
    has_context[:, 1] &= tokens[:, 0] != specials.sot
    contexts = model.context_proj(model.context_norm(x[has_context]))
    with torch.autocast(x.device.type, enabled=False):
        contexts = functional.normalize(contexts.float(), dim=-1)
        images = functional.normalize(latents[: int(is_boi.sum())][has_context[is_boi]].float(), dim=-1)
        logits = model.logit_scale.exp() * images @ contexts.T
        own = torch.arange(len(logits))
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def plain_generation(model: LCLModel, x: Tensor, tokens: Tensor, specials: SpecialTokens) -> Tensor:
    """Next-token cross-entropy over text, end of text and `<BoI>`; all logits at once."""
    targets = tokens[:, 1:]
    left_out = torch.tensor([specials.image, specials.eoi, specials.sot, specials.pad])
    kept = ~torch.isin(targets, left_out)
    logits = model.head(model.head_norm(x[:, :-1][kept]))
    return functional.cross_entropy(logits.float(), targets[kept])


class PlainStep:
    """A step of the plain path, with our optimiser."""

    def __init__(self, model: LCLModel, settings: Train, specials: SpecialTokens, recompute: bool) -> None:
        self.model, self.specials, self.recompute = model, specials, recompute
        self.is_half = settings.dtype == "bfloat16"
        self.optimizer = build_optimizer(Task(model, LCL), settings.optimizer)

    def __call__(self, batches: Sequence[Padded], rate: float) -> dict[str, Tensor]:
        """Learn from the one batch of a step."""
        (batch,) = batches
        self.optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.is_half):
            loss = plain_loss(self.model, batch, self.specials, self.recompute)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.model.clamp_logit_scale()
        return {"loss/total": loss.detach(), "grad_norm": norm}


def prepared(shards: Shards, settings: Train) -> tuple[LCLModel, list[Batch]]:
    """Fresh weights, and the packed batches of a run."""
    torch.manual_seed(SEED)
    model = LCLModel(settings.model_settings(shards.special_tokens.vocab_size))
    fitting = Fitting(
        rows=settings.rows,
        pack=settings.pack,
        slots=model.slots,
        image_size=model.settings.vision.image_size,
        seed=SEED,
        min_images=settings.min_images,
        layout=LCL.layout,
    )
    batches = iter(Loader(shards, fitting, workers=1))
    found = [next(batches) for _ in range(1 + (settings.steps or 1))]
    batches.close()
    return model, found


def measure(side: str, shards: Shards, settings: Train) -> dict[str, Any]:
    """Time the steps of one side in this process."""
    keep_freed_memory()
    model, batches = prepared(shards, settings)
    context, recompute = settings.pack.row_tokens, side.endswith("recomputed")
    is_half = settings.dtype == "bfloat16"
    if side.startswith("ours"):
        hasten(model, SpeedSettings(compile=False, checkpoint_blocks=recompute))
        task = Task(model, LCL)
        ours = Step(task, task, build_optimizer(task, settings.optimizer), settings.optimizer, is_half)
        step: Any = lambda batches, rate: ours(batches, rate).values  # noqa: E731
        inputs: list[Any] = list(batches)
        positions = [len(batch.tokens) for batch in batches]
    else:
        step = PlainStep(model, settings, shards.special_tokens, recompute)
        inputs = [padded(batch, shards.special_tokens, context) for batch in batches]
        positions = [batch.tokens.numel() for batch in inputs]
    told = [{name: float(value) for name, value in step(inputs[:1], RATE).items()}]
    wall, cpu = time.perf_counter(), time.process_time()
    told += [{name: float(value) for name, value in step([batch], RATE).items()} for batch in inputs[1:]]
    timed = batches[1:]
    return {
        "side": side,
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "tokens": sum(batch.n_tokens for batch in timed),
        "images": sum(batch.n_images for batch in timed),
        "documents": sum(batch.n_parts for batch in timed),
        "positions": sum(positions[1:]),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "losses": [each["loss/total"] for each in told],
        "norms": [each["grad_norm"] for each in told],
    }


def settings_of(arguments: argparse.Namespace) -> Train:
    pack = {"row_tokens": arguments.row_tokens, "row_images": 24}
    section = {"preset": arguments.preset, "rows": arguments.rows, "steps": arguments.steps, "pack": pack}
    return settle(Train, {**section, "dtype": arguments.dtype, "min_images": 1})


def alternate(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All sides in turn, each in a process of its own; they must agree."""
    found: list[dict[str, Any]] = []
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    for _ in range(arguments.runs):
        for side in arguments.sides:
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout
            found.append(json.loads(answer))
            check_equal(found[0], found[-1], 1e-2 if arguments.dtype == "bfloat16" else 1e-3)
            show(found[-1], found[0])
    return found


def check_equal(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    """Stop where losses or gradient norms differ: then one side does something else."""
    for name in ("losses", "norms"):
        for a, b in zip(one[name], other[name], strict=True):
            if abs(a - b) > tolerance * abs(a):
                raise SystemExit(f"{name} differ: {one['side']} {one[name]}, {other['side']} {other[name]}")


def show(found: dict[str, Any], first: dict[str, Any]) -> None:
    padding = 1 - found["tokens"] / found["positions"]
    rate = found["tokens"] / found["cpu_s"]
    print(
        f"{found['side']:18} {found['documents']} documents, {found['images']} images, "
        f"{found['tokens']} tokens, padding {padding:.1%}; {found['tokens'] / found['wall_s']:.1f} tokens/s, "
        f"{found['images'] / found['wall_s']:.2f} images/s; {rate:.1f} tokens a CPU second "
        f"({rate / (first['tokens'] / first['cpu_s']):.2f} of the first); {found['peak_mb']} MB "
        f"({found['peak_mb'] / first['peak_mb']:.2f}); losses {[round(x, 4) for x in found['losses']]}; "
        f"load {os.getloadavg()[0]:.1f}",
        file=sys.stderr,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", type=Path)
    parser.add_argument("--preset", default="base32")
    parser.add_argument("--rows", type=int, default=2, help="packed rows of a step")
    parser.add_argument("--row-tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of a run")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", nargs="+", default=SIDES[:2], choices=SIDES)
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, Shards(arguments.shards), settings_of(arguments))))
        return
    found = alternate(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
