"""What benchmarks/loader.py measures: our loader and five others over the same documents, as iterators.

A side is a function of the shards, a folder for files of its own, a number of workers and a kind of crop; its
batches are (tokens of each document, uint8 [N, 3, 224, 224]).
"""

import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch

SIDE, BATCH, SLOTS = 224, 8, 64
Sample = dict[str, object]


def crop_of(kind: str) -> Callable[[bytes], torch.Tensor]:
    """From bytes to uint8 [3, 224, 224]."""
    if kind == "same":
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from lcl_train.transform import decode, random_crop

        return lambda encoded: random_crop(decode(encoded), SIDE, os.urandom(8))
    from PIL import Image
    from torchvision.transforms import InterpolationMode, RandomResizedCrop

    cut = RandomResizedCrop(SIDE, (0.9, 1.0), interpolation=InterpolationMode.BICUBIC)

    def crop(encoded: bytes) -> torch.Tensor:
        picture = cut(Image.open(io.BytesIO(encoded)).convert("RGB"))
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()

    return crop


class Cropped:
    """Makes (tokens, pixels) of a sample; pickles to workers."""

    def __init__(self, kind: str) -> None:
        self.kind, self._crop = kind, None

    def __call__(self, sample: Sample) -> tuple[np.ndarray, torch.Tensor]:  # noqa: D102
        self._crop = self._crop or crop_of(self.kind)
        pictures = [self._crop(encoded) for encoded in pictures_of(sample)]
        return tokens_of(sample), torch.stack(pictures) if pictures else torch.zeros(0, 3, SIDE, SIDE).byte()

    def __getstate__(self) -> dict[str, object]:
        return {"kind": self.kind, "_crop": None}


def pictures_of(sample: Sample) -> list[bytes]:
    """A sample of webdataset and Energon has a member a picture; of the others all bytes end to end."""
    if "sizes" in sample:
        ends = list(accumulate(np.frombuffer(sample["sizes"], np.int64).tolist(), initial=0))
        return [sample["images"][start:end] for start, end in pairwise(ends)]
    return [sample[name] for name in sorted(sample) if name.split(".")[-1] in ("jpg", "png", "webp")]


def tokens_of(sample: Sample) -> np.ndarray:
    if "tokens" in sample:
        return np.frombuffer(sample["tokens"], np.int32)
    return np.array(json.loads(sample["json"])["tokens"], np.int32)


def listed(samples: list) -> tuple[list, torch.Tensor]:
    """Pictures flat, as a model wants them."""
    return [tokens for tokens, _ in samples], torch.cat([pixels for _, pixels in samples])


def flat(shards: Path) -> Iterator[dict[str, bytes]]:
    """The samples of the tars for formats that want equal fields in all."""
    for path in sorted(shards.glob("*.tar")):
        sample: dict[str, bytes] = {}
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member).read()
                if member.name.endswith(".json"):
                    yield from [packed(sample)] if sample else []
                    sample = {}
                sample[member.name.partition(".")[2]] = content
        yield from [packed(sample)] if sample else []


def packed(sample: Sample) -> dict[str, bytes]:
    pictures = pictures_of(sample)
    sizes = np.array([len(each) for each in pictures], np.int64).tobytes()
    return {"tokens": tokens_of(sample).tobytes(), "sizes": sizes, "images": b"".join(pictures)}


def torch_loader(dataset, workers: int, **options) -> Iterator:
    from torch.utils.data import DataLoader

    ahead = {"prefetch_factor": 2, "persistent_workers": True} if workers else {}
    return iter(DataLoader(dataset, BATCH, num_workers=workers, collate_fn=listed, **ahead, **options))


def ours(shards: Path, work: Path, workers: int, crop: str, container: str = "arrow") -> Iterator:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from lcl_data.shards import Shards
    from lcl_train.loader import Fitting, Loader
    from lcl_train.memory import keep_freed_memory
    from lcl_train.pack import PackSettings

    keep_freed_memory()  # as `lcl train` does
    fitting = Fitting(BATCH, PackSettings(), SLOTS, SIDE, seed=0)
    loader = Loader(Shards(shards, container), fitting, workers)
    return (([], batch.pixels[: batch.n_images]) for batch in loader)


def tars(shards: Path, work: Path, workers: int, crop: str) -> Iterator:
    return ours(shards, work, workers, crop, "webdataset")


def alone(shards: Path, work: Path, workers: int, crop: str) -> Iterator:
    """Our decoder and crop over the pictures in a row, in one thread and nothing else: the floor."""
    make = crop_of("same")
    from lcl_data.shards import Shards
    from lcl_train.memory import keep_freed_memory

    keep_freed_memory()
    return (([], make(image)[None]) for document in Shards(shards) for image in document.images)


def webdataset(shards: Path, work: Path, workers: int, crop: str) -> Iterator:
    import webdataset as wds

    urls = sorted(map(str, shards.glob("*.tar")))
    dataset = (
        wds.WebDataset(urls, shardshuffle=100, empty_check=False).shuffle(1000).map(Cropped(crop)).repeat()
    )
    return torch_loader(dataset, workers)


def energon(shards: Path, work: Path, workers: int, crop: str) -> Iterator:
    from megatron.energon import (
        Cooker,
        DefaultTaskEncoder,
        WorkerConfig,
        get_savable_loader,
        get_train_dataset,
        stateless,
    )

    if not work.exists():
        shutil.copytree(shards, work, copy_function=os.link)
        (work / ".nv-meta" / "dataset.yaml").unlink()
        kind = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"
        (work / ".nv-meta" / "dataset.yaml").write_text(kind)
    cropped = Cropped(crop)

    @stateless
    def cook(sample):
        return {**{k: v for k, v in sample.items() if k.startswith("__")}, "made": cropped(sample)}

    class Encoder(DefaultTaskEncoder):
        cookers, decoder = [Cooker(cook)], None

        def batch(self, samples):
            return listed([sample["made"] for sample in samples])

    here = WorkerConfig(rank=0, world_size=1, num_workers=workers)
    sizes = {"batch_size": BATCH, "shuffle_buffer_size": 1000, "max_samples_per_sequence": 100}
    dataset = get_train_dataset(work, worker_config=here, task_encoder=Encoder(), **sizes)
    return iter(get_savable_loader(dataset))


def litdata(shards: Path, work: Path, workers: int, crop: str) -> Iterator:
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    if not work.exists():
        writer = BinaryWriter(str(work), chunk_bytes="64MB")
        for number, sample in enumerate(flat(shards)):
            writer.add_item(number, sample)
        writer.done()
        writer.merge(num_workers=1)
    transform = Cropped(crop)
    dataset = StreamingDataset(str(work), shuffle=True, transform=transform)
    return iter(StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, collate_fn=listed))


def mosaicml(shards: Path, work: Path, workers: int, crop: str) -> Iterator:
    from streaming import MDSWriter, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    if not work.exists():
        columns = dict.fromkeys(("tokens", "sizes", "images"), "bytes")
        with MDSWriter(out=str(work), columns=columns) as writer:
            for sample in flat(shards):
                writer.write(sample)
    clean_stale_shared_memory()
    cropped = Cropped(crop)

    class Documents(StreamingDataset):
        def __getitem__(self, number):
            return cropped(super().__getitem__(number))

    return torch_loader(Documents(local=str(work), shuffle=True, batch_size=BATCH), workers)


def reference(shards: Path, work: Path, workers: int, crop: str) -> Iterator:
    loose = work / "images"
    if not work.exists():
        loose.mkdir(parents=True)
        with (work / "documents.jsonl").open("w") as file:
            for number, sample in enumerate(flat(shards)):
                names = [f"{number}.{k}.jpg" for k in range(len(pictures_of(sample)))]
                for name, content in zip(names, pictures_of(sample), strict=True):
                    (loose / name).write_bytes(content)
                file.write(json.dumps({"tokens": tokens_of(sample).tolist(), "names": names}) + "\n")

    class Documents(torch.utils.data.Dataset):
        def __init__(self):
            self.rows = [json.loads(line) for line in (work / "documents.jsonl").open()]

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, number):
            row = self.rows[number]
            members = {name: (loose / name).read_bytes() for name in row["names"][:6]}
            return cropped({"tokens": np.array(row["tokens"], np.int32), **members})

    cropped = Cropped(crop)
    return torch_loader(Documents(), workers, shuffle=True)


OURS = ("ours", "tars", "alone")
SIDES = {
    side.__name__: side for side in (ours, tars, alone, webdataset, energon, litdata, mosaicml, reference)
}
