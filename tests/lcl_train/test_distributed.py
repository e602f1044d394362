"""Two ranks with unequal shares are one process: the same losses, gradients and checkpoints.

Both ranks are real processes that meet over gloo; they are spawned once and do all that is asked below.
"""

import io
from itertools import islice

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from lcl_data.shards import Shards
from lcl_train import accumulate, parallel
from lcl_train.contrast import Bias, ContrastSettings, Pairs, begin, contrast
from lcl_train.loader import Fitting, Loader
from lcl_train.loop import train
from lcl_train.model import LCLModel
from lcl_train.objectives.lcl import Lcl
from lcl_train.optim import OptimizerSettings, build_optimizer
from lcl_train.task import Task
from tests.lcl_train import ranks, tiny

pytestmark = pytest.mark.timeout(400)  # the imports of several processes, on machines that are busy
KINDS = ("softmax", "sigmoid")
SHARES = {"unequal": (5, 2), "one_empty": (0, 7), "none": (0, 0)}
WRAPS = ("ddp", "fsdp2")
PARTS = (1, 2)  # micro-batches of a step
# A large eps: AdamW would blow up the rounding of gradients that are exactly 0 into whole steps.
SETTINGS = {
    "steps": 12,
    "save_every_steps": 3,
    "keep_last": 4,
    "rows": 3,
    "ema": 0.9,
    "optimizer": {"lr": 3e-3, "warmup_steps": 5, "eps": 1e-2},
}


def contrasted(kind, features, facts, weight):
    """Loss sums and gradients of a linear encoder over some rows of the batch."""
    settings, scale = ContrastSettings(kind=kind), torch.zeros(1)
    begin(settings, scale)
    learnt = [value.clone().requires_grad_() for value in (weight, scale, Bias().value.detach())]
    latents, contexts = features @ learnt[0], features.flip(1) @ learnt[0]
    sums = contrast(Pairs(latents, contexts, *facts.unbind(1), features[:, 0] < 1.5), settings, *learnt[1:])
    gradients = torch.autograd.grad(sums.loss, learnt, materialize_grads=True)
    return {
        f"{kind}/sums": torch.stack(sums),
        **{f"{kind}/gradient{n}": gradient for n, gradient in enumerate(gradients)},
    }


def features():
    rng = torch.Generator().manual_seed(0)
    return (
        torch.randn(7, 6, generator=rng),
        torch.randint(5, (7, 2), generator=rng),
        torch.randn(6, 4, generator=rng),
    )


def contrasts():
    """What this rank alone finds, summed over the ranks."""
    found = {}
    for name, share in SHARES.items():
        rows, facts, weight = features()
        first = sum(share[: parallel.rank()])
        own = slice(first, first + share[parallel.rank()])
        for kind in KINDS:
            here = contrasted(kind, rows[own], facts[own], weight)
            found |= {f"{name}/{key}": parallel.all_sum(value) for key, value in here.items()}
    return found


def learnt(shards, kind, wrap, parts=1):
    """Loss and gradients of a step, and the pictures and pairs of this rank's batches."""
    sizes, objective = tiny.settings().model_settings(70), Lcl(contrast=ContrastSettings(kind=kind))
    torch.manual_seed(0)
    model = LCLModel(sizes, objective.heads(sizes))
    task = Task(model, objective)
    wrapped = parallel.wrap(task, wrap, model.blocks, torch.device("cpu"))
    pack, ranks = tiny.settings().pack, {"rank": parallel.rank(), "world": parallel.world()}
    fitting = Fitting(5, pack, model.slots, 16, seed=5, accumulate=parts, **ranks)
    batches = list(islice(Loader(Shards(shards), fitting, 1), parts))
    loss = accumulate.backward(task, wrapped, batches, is_half=False)
    found = {f"loss/{name}": parallel.all_sum(value) for name, value in loss.parts.items()}
    found |= {f"count/{name}": count.float() for name, count in loss.counts.items()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[f"gradient/{name}"] = parallel.whole(parameter.grad)
    return found, torch.tensor([[batch.n_images, len(batch.pair_image)] for batch in batches])


def muons(kind):
    """The blocks' matrices before and after two steps of Muon on gradients drawn at random."""
    torch.manual_seed(0)
    model = LCLModel(tiny.settings().model_settings(70))
    parallel.wrap(model, kind, model.blocks, torch.device("cpu"))
    optimizer = build_optimizer(model, OptimizerSettings(name="muon", lr=1e-2))
    matrices = {name: p for name, p in model.named_parameters() if ".blocks." in name and p.ndim == 2}
    found = {f"before/{name}": parallel.whole(p).clone() for name, p in matrices.items()}
    for _ in range(2):
        for parameter in model.parameters():
            parameter.grad = parallel.laid_out(torch.randn(parameter.shape), parameter)
        optimizer.step()
    return found | {f"after/{name}": parallel.whole(p) for name, p in matrices.items()}


def run(shards, out, start, **changes):
    train(shards, out, tiny.settings(**SETTINGS, **changes), start, Console(file=io.StringIO()))


def on_a_rank(shards, folder):
    """All that two ranks do; the checkpoints go from one process to DDP at 3, to FSDP2 at 6."""
    found = contrasts()
    for kind in KINDS:
        for wrap in WRAPS:
            for parts in PARTS:
                values, own = learnt(shards, kind, wrap, parts)
                found |= {f"{wrap}/{kind}/{parts}/{name}": value for name, value in values.items()}
    found["numbers"] = torch.tensor([parallel.largest(3 - parallel.rank()), *parallel.total([1, 2])])
    run(shards, folder / "ddp", folder / "one/checkpoints/step-00000003")
    run(shards, folder / "fsdp2", folder / "ddp/checkpoints/step-00000006", parallel="fsdp2")
    for wrap in WRAPS:
        found |= {f"muon/{wrap}/{name}": value for name, value in muons(wrap).items()}
    return {**found, "own": own}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def shards(folder):
    """Documents of 1, 2 and 3 pictures, and some with copies."""
    documents = [tiny.document(n % 20, pictures=1 + n % 3) | {"id": f"{n:032x}"} for n in range(24)]
    return tiny.write_shards(folder / "shards", documents)


@pytest.fixture(scope="module")
def found(shards, folder):
    """What the ranks found: all of it equal, but for their shares."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run(shards, folder / "one", "never")
    here, there = ranks.run(on_a_rank, folder, shards, folder)
    assert here["own"].tolist() != there["own"].tolist()
    assert all(torch.equal(here[name], there[name]) for name in here if name != "own")
    yield here
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", SHARES)
def test_the_contrast_of_unequal_ranks_is_the_contrast_of_one_process(found, kind, share):
    rows, facts, weight = features()
    count = sum(SHARES[share])
    expected = contrasted(kind, rows[:count], facts[:count], weight)
    for name, value in expected.items():
        torch.testing.assert_close(found[f"{share}/{name}"], value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("parts", PARTS)
def test_a_step_of_unequal_ranks_is_the_step_of_one_process(found, shards, kind, wrap, parts):
    expected, _ = learnt(shards, kind, wrap)
    prefix = f"{wrap}/{kind}/{parts}/"
    assert {name for name in found if name.startswith(prefix)} == {prefix + name for name in expected}
    for name, value in expected.items():
        torch.testing.assert_close(found[prefix + name], value, rtol=1e-6, atol=1e-6)


def test_ranks_agree_on_host_numbers(found):
    assert found["numbers"].tolist() == [3, 2, 4]


def test_a_checkpoint_moves_between_one_process_ddp_and_fsdp2(found, shards, folder):
    run(shards, folder / "back", folder / "fsdp2/checkpoints/step-00000009")
    for way in ("ddp", "fsdp2", "back"):
        for file in ("model", "training", "averages"):
            expected, got = (
                load_file(folder / out / f"checkpoints/step-00000012/{file}.safetensors")
                for out in ("one", way)
            )
            torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
        losses = [tiny.losses(folder / out)[-3:] for out in ("one", way)]
        for there, here in zip(*losses, strict=True):
            assert here == pytest.approx(there, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("wrap", WRAPS)
def test_muon_turns_a_sharded_matrix_as_it_turns_a_whole_one(found, wrap):
    """To the rounding of its iterations in bfloat16; halves turned alone would be 0.37 of the way off."""
    for name, expected in muons(wrap).items():
        value, before = found[f"muon/{wrap}/{name}"], found[f"muon/{wrap}/{name.replace('after', 'before')}"]
        assert (value - expected).norm() <= 0.03 * (expected - before).norm(), name
