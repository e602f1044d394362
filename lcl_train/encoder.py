"""The encoder alone, out of a checkpoint or with fresh weights: what evals look at."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from lcl_train import checkpoint
from lcl_train.presets import ModelSettings
from lcl_train.vision import AttentivePool, VisionEncoder

_PARTS = ("vision.", "pool.")


class Encoder(nn.Module):
    """The vision transformer and its attentive pooling."""

    def __init__(self, sizes: ModelSettings) -> None:
        super().__init__()
        self.image_size = sizes.vision.image_size
        self.vision = VisionEncoder(sizes.vision)
        self.pool = AttentivePool(self.vision.width, sizes.language.width, sizes.language.heads)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """[N, 3, H, W] to the mean of the patch tokens [N, vision width] and the pooled vector [N, width]."""
        patches = self.vision(pixels)
        pooled, _ = self.pool(patches, self.vision.grid, patches.shape[1])
        return patches.mean(1), pooled

    def digest(self) -> str:
        """Hex SHA-256 of the sizes and weights: what features are cached under."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def load_encoder(path: Path) -> tuple[Encoder, checkpoint.State]:
    """The trained encoder of a checkpoint, or of the newest one of a run, and what the checkpoint says.

    Its weights are the averages where the run keeps them (`ema`).

    Raises:
        CheckpointError: there is none, it is torn, or it would need a pickle to be loaded.
    """
    path = checkpoint.locate(path)
    state = checkpoint.read_state(path)
    encoder = Encoder(state.model)
    checkpoint.load_weights(encoder, checkpoint.read_model(path, _PARTS, best=True), path)
    return encoder.eval(), state


def random_encoder(sizes: ModelSettings, seed: int) -> Encoder:
    """The same network at random initialisation; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Encoder(sizes).eval()
