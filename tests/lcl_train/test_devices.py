import pytest
import torch

from lcl_train.devices import find_device, named_peak, peak_flops
from schemas.errors import RecipeError


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H100 NVL", 835.5),
        ("NVIDIA GH200 480GB", 989.4),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100-PCIE-40GB", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", 181.05),
        ("NVIDIA L40S", 362.05),
        ("NVIDIA RTX A6000", 154.8),
        ("NVIDIA RTX 6000 Ada Generation", 364.25),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("Tesla V100-PCIE-32GB", 112),
        ("Tesla V100-SXM2-16GB", 125),
        ("Tesla T4", 65),
        ("AMD Instinct MI300X", 1307.4),
    ],
)
def test_a_device_is_known_by_the_name_its_driver_gives(name, tera):
    assert named_peak(name) == pytest.approx(tera * 1e12)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
        "NVIDIA GeForce GTX 1080",
        "NVIDIA A1000",
        "Some Accelerator 9000",
        "",
    ],
)
def test_what_is_not_known_has_no_peak(name):
    assert named_peak(name) is None


def test_a_cpu_has_no_peak():
    assert peak_flops(torch.device("cpu")) is None


def test_a_device_that_is_not_here_is_told():
    assert find_device("cpu").type == "cpu" and find_device("auto").type in ("cpu", "cuda")
    with pytest.raises(RecipeError, match="device gpu: no such device; give auto, cpu, cuda or cuda:1"):
        find_device("gpu")
    with pytest.raises(RecipeError, match=r"device cuda:99: this machine has \d+ CUDA devices"):
        find_device("cuda:99")
    with pytest.raises(RecipeError, match="device meta: LCL trains on cpu and cuda; give auto"):
        find_device("meta")
