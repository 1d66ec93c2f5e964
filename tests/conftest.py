"""Fixtures that more than one test file uses."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

import run

ROOT = Path(__file__).resolve().parent.parent
# What takes longest begins first, so that no worker is left alone with it in the end.
FIRST = ("test_book.py", "test_widgets.py", "test_playground.py", ".ipynb", "test_autograde.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run what is marked `long`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {name: i for i, name in enumerate(FIRST)}
    suffix = {item: item.path.name if item.path.suffix == ".py" else item.path.suffix for item in items}
    items.sort(key=lambda item: places.get(suffix[item], len(FIRST)))
    if not config.getoption("--long"):
        why = pytest.mark.skip(reason="takes minutes: python run.py test --long")
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(why)


@pytest.fixture(scope="session")
def image_source() -> Path | None:
    """Folder with `cifar10/`: `COURSE_IMAGES`, else `../shared/data`; None if neither has it."""
    pointed = os.environ.get("COURSE_IMAGES")
    folder = ROOT / Path(pointed).expanduser() if pointed else ROOT.parent / "shared" / "data"
    return folder.resolve() if (folder / "cifar10").is_dir() else None


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="not installed (extra `dev`): playwright")
    with api.sync_playwright() as playwright:
        installed = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
        try:
            browser = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no browser (playwright install chromium): {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Address of a server as `run.py lab` starts it; its token is x."""
    pytest.importorskip("jupyterlab", reason="not installed: jupyterlab")
    with socket.socket() as free, pytest.MonkeyPatch.context() as patch:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        started = []
        patch.setattr(run, "run", lambda *command, **_: started.append(command) or 0)
        options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root"]
        run.lab([*options, "--IdentityProvider.token=x", "--ServerApp.disable_check_xsrf=True"])
    own = str(tmp_path_factory.mktemp("jupyter"))  # not the user's settings and open tabs
    variables = os.environ | {"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_CONFIG_DIR": own}
    command = [sys.executable, *started[0]]
    server = subprocess.Popen(command, cwd=ROOT, env=variables, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urlopen(f"{address}/api/status?token=x", timeout=10).close()
                break
            except OSError:
                time.sleep(0.2)
        yield address
    finally:
        server.kill()  # asked to stop, it may wait for ever for a page that has gone; its kernels end with it
        server.wait()
