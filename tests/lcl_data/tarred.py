"""Tars of samples, and what the source `webdataset` reads in them."""

import io
import tarfile

from lcl_data.carriers import Carrier
from lcl_data.sources.webdataset import Webdataset
from tests.lcl_data.sharding import picture

PICTURES = [picture(seed) for seed in range(6)]


def write(path, members, kind=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, tarfile.TarInfo):
                info = content
                content = b""
            data = content.encode() if isinstance(content, str) else content
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def read(tmp_path, *members, source=None, kind=tarfile.PAX_FORMAT):
    source = source or Webdataset()
    (unit,) = source.units(write(tmp_path / "00007.tar", members, kind))
    return list(source.read(unit))


def content(image):
    return Carrier.parse(image.carrier).read(1 << 20)
