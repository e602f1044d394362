"""What all tests share: nothing but loopback is reachable, and no library calls home."""

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.storage import GoogleStorage, Storage, serve_google_storage, serve_storage

os.environ.update(
    HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1", NO_ALBUMENTATIONS_UPDATE="1"
)


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not ip_address(address[0]).is_loopback:
            raise AssertionError(f"a test connects to {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    for library in ("moto", "s3fs", "upath"):
        pytest.importorskip(library)
    with serve_storage(tmp_path_factory.mktemp("scratch")) as served:
        yield served


@pytest.fixture(scope="session")
def google_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleStorage]:
    for library in ("gcp_storage_emulator", "gcsfs", "upath"):
        pytest.importorskip(library)
    with serve_google_storage(tmp_path_factory.mktemp("scratch")) as served:
        yield served
