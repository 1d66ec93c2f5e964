"""Downloads: resumed, checked, tried again where that may help, and one at a time for each file."""

import hashlib
import http.server
import re
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from utils import images
from utils.config import ROOT
from utils.images import download


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` with `Range`; the first `drops` answers stop half-way."""

    def __init__(self, body):
        self.body, self.drops, self.ranges, self.failures = body, 0, [], []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.ranges.append(asked)
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        if server.failures or start >= len(server.body):
            status = server.failures.pop(0) if server.failures else 416
            if status == 0:
                return  # hangs up without a word
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        rest = server.body[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        server.drops -= 1
        self.wfile.write(rest[: len(rest) // 2] if server.drops >= 0 else rest)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server(bytes(np.random.default_rng(1).integers(0, 256, 300_000, dtype=np.uint8))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def visible(folder):
    """Without the locks, which stay."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_download_resumes_after_dropped_connections(tmp_path, server):
    server.drops = 2
    path = download(f"{server.url}/file", tmp_path / "deep" / "file", hashlib.sha256(server.body).hexdigest())
    assert path.read_bytes() == server.body
    assert server.ranges == [None, "bytes=131072-", "bytes=196608-"]  # whole pieces of 64 KB
    assert visible(path.parent) == ["file"]
    download(f"{server.url}/file", path)
    assert len(server.ranges) == 3  # what is there is not fetched again


def test_download_resumes_in_the_next_call(tmp_path, server):
    server.drops = 4
    with pytest.raises(OSError, match=re.escape(f"{server.url}/file")):
        download(f"{server.url}/file", tmp_path / "file")
    server.ranges.clear()
    assert download(f"{server.url}/file", tmp_path / "file").read_bytes() == server.body
    assert server.ranges == ["bytes=196608-"]


@pytest.mark.parametrize("extra", [b"", b"and more"])
def test_download_with_nothing_left_to_fetch(tmp_path, server, extra):
    (tmp_path / "file.part").write_bytes(server.body + extra)
    assert download(f"{server.url}/file", tmp_path / "file").read_bytes() == server.body


def test_download_with_wrong_checksum_leaves_nothing(tmp_path, server):
    with pytest.raises(OSError, match=r"not the file expected .*expected 0000.* got [0-9a-f]{64}"):
        download(f"{server.url}/file", tmp_path / "file", "0" * 64)
    assert visible(tmp_path) == []


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, 4), (429, 4), (408, 4)])
def test_only_failures_that_can_pass_are_tried_again(tmp_path, server, status, requests):
    server.failures = [status] * 9
    with pytest.raises(OSError, match=str(status)):
        download(f"{server.url}/file", tmp_path / "file")
    assert len(server.ranges) == requests


def test_download_outlives_what_passes(tmp_path, server):
    server.failures = [429, 408, 0]  # 0: the connection is reset
    assert download(f"{server.url}/file", tmp_path / "file").read_bytes() == server.body


def test_downloads_of_one_file_wait_for_each_other(tmp_path, server):
    server.drops = 2
    code = "import sys; from utils.images import Path, download; download(sys.argv[1], Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, f"{server.url}/file", str(tmp_path / "file")]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert (tmp_path / "file").read_bytes() == server.body and visible(tmp_path) == ["file"]
    assert len(server.ranges) == 3  # one of them fetched it


def test_silent_server_times_out(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OSError, match="timed out"):
        download(f"http://127.0.0.1:{silent.getsockname()[1]}/file", tmp_path / "file")
