"""Devices by name, and what they can do at best: dense half-precision matrix products, from data sheets.

An unknown device has no peak, so that its utilisation is told as `n/a` rather than against another's. Figures
with structured sparsity are halved. bfloat16 with fp32 sums, but for Volta and Turing, which only have fp16.
"""

import re

import torch

from schemas.errors import RecipeError

_TERA = 1e12
# Words that a device's name holds, and TFLOP/s; the first line whose words are all there is taken. Figures of
# the makers' data sheets and (RTX) white papers; those that torchtitan, nanochat or Lightning list
# are the same there.
# Of an MI250X torch shows half as a device.
_PEAKS: dict[str, float] = {
    "gb200": 2500,
    "b200": 2250,
    "gh200": 989.4,
    "h200 nvl": 835.5,
    "h200": 989.4,
    "h100 pcie": 756.5,
    "h100 nvl": 835.5,
    "h100": 989.4,
    "h20": 148,
    "a100": 312,
    "a800": 312,
    "a30": 165,
    "a40": 149.7,
    "a10": 125,
    "l40s": 362.05,
    "l40": 181.05,
    "l4": 121,
    "rtx a6000": 154.8,
    "rtx 6000 ada": 364.25,
    "rtx 5090": 209.5,
    "rtx 4090": 165.2,
    "rtx 3090": 71,
    "v100 pcie": 112,
    "v100": 125,
    "v100s": 130,
    "t4": 65,
    "mi355x": 2500,
    "mi325x": 1307.4,
    "mi300x": 1307.4,
    "mi250x": 191.5,
}
_LESS_THAN_ITS_NAME = {"laptop", "mig", "d", "ti"}  # other chips, and slices of one


def find_device(name: str) -> torch.device:
    """The device that a setting names; `auto` is CUDA if there is one.

    Raises:
        RecipeError: it is not here, or nothing is called so.
    """
    has_cuda = torch.cuda.is_available()
    try:
        device = torch.device(("cuda" if has_cuda else "cpu") if name == "auto" else name)
    except RuntimeError as error:
        raise RecipeError(f"device {name}: no such device; give auto, cpu, cuda or cuda:1") from error
    if device.type not in ("cpu", "cuda"):
        raise RecipeError(f"device {name}: LCL trains on cpu and cuda; give auto, cpu, cuda or cuda:1")
    count = torch.cuda.device_count() if has_cuda else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise RecipeError(f"device {name}: this machine has {count} CUDA devices; give auto or cpu")
    return device


def peak_flops(device: torch.device) -> float | None:
    """Operations a second of a device at best; None where that is not known, as of a CPU."""
    return named_peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def named_peak(name: str) -> float | None:
    """The same by the name that the device's driver gives it."""
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    if words & _LESS_THAN_ITS_NAME:
        return None
    found = (peak for needed, peak in _PEAKS.items() if words.issuperset(needed.split()))
    return next((peak * _TERA for peak in found), None)
