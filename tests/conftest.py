"""What all tests share: nothing but loopback is reachable, and no library calls home."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import settings

from tests.storage import serve_google_storage, serve_storage

os.environ.update(
    HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1", NO_ALBUMENTATIONS_UPDATE="1"
)

settings.register_profile("patient", deadline=None)  # a law holds on a busy machine too
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not ip_address(address[0]).is_loopback:
            raise AssertionError(f"a test connects to {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    yield


def _served(serve: Callable[[Path], AbstractContextManager[object]], *libraries: str) -> object:
    """A server for all tests of a session that want it, where what it needs is installed."""

    @pytest.fixture(scope="session")
    def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
        for library in libraries:
            pytest.importorskip(library)
        with serve(tmp_path_factory.mktemp("scratch")) as server:
            yield server

    return served


storage = _served(serve_storage, "moto", "s3fs", "upath")
google_storage = _served(serve_google_storage, "gcp_storage_emulator", "gcsfs", "upath")
