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
from lcl_train.by_source import means_by_source
from lcl_train.contrast import Bias, ContrastSettings, Pairs, begin, contrast
from lcl_train.loader import Fitting, Loader
from lcl_train.loop import train
from lcl_train.model import LCLModel
from lcl_train.objectives import Objective
from lcl_train.optim import OptimizerSettings, build_optimizer
from lcl_train.task import Task
from schemas.members import build, names
from tests.lcl_train import ranks, tiny

pytestmark = pytest.mark.timeout(400)  # the imports of several processes, on machines that are busy
KINDS = ("softmax", "sigmoid")
SHARES = {"unequal": (5, 2), "one_empty": (0, 7), "none": (0, 0)}
WRAPS = ("ddp", "fsdp2")
SIGMOID = {"lcl": {"contrast": {"kind": "sigmoid"}}}
# What is trained for, how it is wrapped, and in how many micro-batches a step is taken.
CASES = {
    f"{objective if isinstance(objective, str) else 'sigmoid'}-{wrap}-{parts}": (objective, wrap, parts)
    for objective in (*names("lcl_train.objectives"), SIGMOID)
    for wrap, parts in (("ddp", 1), ("ddp", 2), ("fsdp2", 1), ("fsdp2", 2))
    if objective in ("lcl", SIGMOID) or (wrap, parts) in (("ddp", 1), ("fsdp2", 2))
}
# A large eps: AdamW would blow up the rounding of gradients that are exactly 0 into whole steps.
SETTINGS = {
    "steps": 12,
    "save_every_steps": 3,
    "keep_last": 9,
    "rows": 3,
    "ema": 0.9,
    "validate_every_steps": 4,
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
        f"{kind}/sums": torch.stack(sums[:-1]),
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


def prepared(objective, wrap):
    """A task as it begins, and as it is called."""
    objective, sizes = build("lcl_train.objectives", objective, Objective), tiny.settings().model_settings(70)
    torch.manual_seed(0)
    model = LCLModel(sizes, objective.heads(sizes))
    task = Task(model, objective)
    return task, parallel.wrap(task, wrap, model.blocks, torch.device("cpu"))


def batches(shards, task, parts=1, **ranks):
    fitting = {"pack": tiny.settings().pack, "slots": task.model.slots, "image_size": 16, "seed": 5}
    layout = task.objective.layout
    loader = Loader(Shards(shards), Fitting(rows=5, **fitting, layout=layout, accumulate=parts, **ranks), 0)
    return list(islice(loader, parts))


def learnt(task, wrapped, given):
    """Loss and gradients of a step, all of it as one process would have it."""
    loss = accumulate.backward(task, wrapped, given, is_half=False)
    parts = means_by_source(given, loss.each)
    found = {f"loss/{name}": parallel.all_sum(value) for name, value in loss.parts.items()}
    found |= {f"count/{name}": count.float() for name, count in loss.counts.items()}
    found |= {f"loss/{name}": torch.tensor(value) for name, value in parts.items()}
    for name, parameter in task.model.named_parameters():
        if parameter.grad is not None:
            found[f"gradient/{name}"] = parallel.whole(parameter.grad)
    return found


def steps(shards):
    """A step of every case on the rows of this rank, and the pictures and pairs it had there."""
    found, own, ranks = {}, [], {"rank": parallel.rank(), "world": parallel.world()}
    for case, (objective, wrap, parts) in CASES.items():
        task, wrapped = prepared(objective, wrap)
        given = batches(shards, task, parts, **ranks)
        own += [[batch.n_images, len(batch.pair_image)] for batch in given]
        found |= {f"{case}/{name}": value for name, value in learnt(task, wrapped, given).items()}
    return found, torch.tensor(own)


def bare_steps(shards, texts):
    """A step where rank 0 has pictures and rank 1 has none; or both as micro-batches of one process."""
    found = {}
    for wrap in WRAPS:
        task, wrapped = prepared("lcl", wrap)
        given = [batch for each in (shards, texts) for batch in batches(each, task)]
        mine = given if parallel.world() == 1 else given[parallel.rank() :][:1]
        found |= {f"{wrap}/{name}": value for name, value in learnt(task, wrapped, mine).items()}
    return found


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


def on_a_rank(shards, texts, folder):
    """All that two ranks do; the checkpoints go from one process to DDP at 3, to FSDP2 at 6."""
    found, own = steps(shards)
    found |= contrasts() | {f"bare/{name}": value for name, value in bare_steps(shards, texts).items()}
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
    """Documents of 1, 2 and 3 pictures, and some with copies, of three sources."""
    documents = [
        tiny.document(n % 20, pictures=1 + n % 3) | {"id": f"{n:032x}", "source": "abc"[n // 2 % 3]}
        for n in range(24)
    ]
    return tiny.write_shards(folder / "shards", documents)


@pytest.fixture(scope="module")
def texts(folder):
    return tiny.write_shards(folder / "texts", [tiny.document(n, pictures=0) for n in range(9)])


@pytest.fixture(scope="module")
def found(shards, texts, folder):
    """What the ranks found: all of it equal, but for their shares."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    run(shards, folder / "one", "never")
    here, there = ranks.run(on_a_rank, folder, shards, texts, folder)
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


def assert_learnt(found, prefix, expected):
    """Losses agree to 1e-6; gradients too, of the norm of the whole."""
    assert {name for name in found if name.startswith(prefix)} == {prefix + name for name in expected}
    gradients = [value for name, value in expected.items() if name.startswith("gradient/")]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm().item()
    for name, value in expected.items():
        room = (
            {"rtol": 0, "atol": 1e-6 * norm} if name.startswith("gradient/") else {"rtol": 1e-6, "atol": 1e-6}
        )
        torch.testing.assert_close(found[prefix + name], value, **room)


@pytest.mark.parametrize("case", CASES)
def test_a_step_of_unequal_ranks_is_the_step_of_one_process(found, shards, case):
    objective, wrap, _ = CASES[case]
    task, wrapped = prepared(objective, wrap)
    assert_learnt(found, f"{case}/", learnt(task, wrapped, batches(shards, task)))


def test_a_rank_may_have_no_pictures(found, shards, texts):
    alone = bare_steps(shards, texts)
    for wrap in WRAPS:
        prefix = f"{wrap}/"
        expected = {name.removeprefix(prefix): v for name, v in alone.items() if name.startswith(prefix)}
        assert expected["count/contrastive"] > 0
        assert_learnt(found, f"bare/{prefix}", expected)


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
        for told, n in ((tiny.losses, 3), (tiny.validations, 1)):
            there, here = (told(folder / out)[-n:] for out in ("one", way))
            assert len(there) == n and here == [pytest.approx(each, rel=1e-5, abs=1e-6) for each in there]


@pytest.mark.parametrize("wrap", WRAPS)
def test_muon_turns_a_sharded_matrix_as_it_turns_a_whole_one(found, wrap):
    """To the rounding of its iterations in bfloat16; halves turned alone would be 0.37 of the way off."""
    for name, expected in muons(wrap).items():
        value, before = found[f"muon/{wrap}/{name}"], found[f"muon/{wrap}/{name.replace('after', 'before')}"]
        assert (value - expected).norm() <= 0.03 * (expected - before).norm(), name
