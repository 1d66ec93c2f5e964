"""The frame's own code: run.py, the set-up cell, executing and synchronising notebooks."""

import base64
import importlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path, PureWindowsPath
from urllib.request import urlopen

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

import run
from notebooks.tools import execute
from notebooks.tools import shuffle as shuffle_notebooks
from notebooks.tools import sync as sync_setup_cells
from notebooks.tools.sync import setup_cell, with_badge
from utils import config, image_files, setup


def test_lock_without_gpu():
    lock = "cuda-toolkit==13 ; sys_platform == 'linux'\nnumpy==2.1\nnvidia-nccl==2\ntorch==2\ntriton==3\n"
    assert run.without_gpu(lock) == "numpy==2.1\ntorch==2\n"
    kept = run.without_gpu(run.LOCK.read_text())
    assert "torchvision==" in kept and "nvidia" not in kept


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """run.py with an empty environment folder; calls are recorded, not made."""
    calls = []
    monkeypatch.setattr(run, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(run, "STAMP", tmp_path / "installed.txt")
    monkeypatch.setattr(run.venv, "create", lambda *_, **__: calls.append(("venv",)))
    monkeypatch.setattr(run, "run", lambda *command, **_: calls.append(command) or 0)
    return calls


def test_set_up_happens_once_and_again_for_a_new_lock(environment, tmp_path, monkeypatch):
    run.set_up(cpu=False)
    assert [call[0] for call in environment] == ["venv", "-m", "-m"]
    run.set_up(cpu=False)
    assert len(environment) == 3
    with pytest.raises(SystemExit, match="delete that folder"):
        run.set_up(cpu=True)
    (tmp_path / "lock").write_text("numpy==2.0\n")
    monkeypatch.setattr(run, "LOCK", tmp_path / "lock")
    run.set_up(cpu=False)
    assert [call[0] for call in environment[3:]] == ["-m", "-m"]


def test_cpu_environment_stays_one(environment, tmp_path, monkeypatch):
    run.set_up(cpu=True)
    assert environment[-1][-2:] == ("--torch-backend", "cpu")
    assert "nvidia" not in (tmp_path / "requirements.txt").read_text()
    run.set_up(cpu=False)
    assert len(environment) == 3


def test_failed_set_up_is_not_recorded(environment, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "run", lambda *_, **__: 1)
    with pytest.raises(SystemExit, match="cannot be reached"):
        run.set_up(cpu=False)
    assert not run.STAMP.exists()


@pytest.mark.parametrize("budget, commands", [("demo", ["execute", "gifs"]), ("fast", ["execute"])])
def test_fast_leaves_the_gif_alone(budget, commands, environment, monkeypatch):
    monkeypatch.setenv("COURSE_BUDGET", budget)
    assert run.cifar10([]) == 0
    assert [call[1].split(".")[-1] for call in environment] == commands


JOBS = {
    "test --cpu -k links -x": "pytest -n",
    "gifs cifar10 --steps 3": "gifs cifar10 --steps 3",
    "book --help": "notebooks.tools.book --help",
    "store a.ipynb": "notebooks.tools.execute --in-place a.ipynb",
    "store": "notebooks.tools.execute --in-place",
    "lint": "ruff check",
    "lock --upgrade": "uv pip compile",
    "shuffle --seed 2": "notebooks.tools.shuffle --seed 2",
    "python -m gifs --help": "gifs --help",
}


@pytest.mark.parametrize("line, command", JOBS.items())
def test_what_follows_a_job_goes_on_to_its_program(line, command, environment, monkeypatch):
    monkeypatch.setattr(run, "set_up", lambda cpu: None)
    run.STAMP.touch()
    assert run.main(line.split()) == 0
    assert " ".join(environment[0]).startswith(f"-m {command}")
    passed = set(line.split()[1:]) - {"--cpu", "-m"}
    assert passed <= set(environment[0])


def test_help_needs_no_environment(environment, capsys):
    for job in run.JOBS.keys() - {"python"}:
        with pytest.raises(SystemExit) as status:
            run.main([job, "--help"])
        assert status.value.code == 0 and "usage:" in capsys.readouterr().out
    assert not environment


def test_memory_of_training_is_kept_unless_the_user_says_otherwise(monkeypatch):
    given = []
    monkeypatch.setattr(run, "run", lambda *_, **variables: given.append(variables) or 0)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "0")
    for platform in "linux", "darwin":
        monkeypatch.setattr(run.sys, "platform", platform)
        run.python([])
    assert given[0].keys() == {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} and given[1] == {}


@pytest.mark.parametrize("tool", ["book", "execute", "playground", "shuffle", "slides", "student", "sync"])
def test_each_tool_says_what_it_does(tool, capsys):
    with pytest.raises(SystemExit) as status:
        importlib.import_module(f"notebooks.tools.{tool}").main(["--help"])
    assert status.value.code == 0 and "usage:" in capsys.readouterr().out


def test_lab_serves_what_the_notebooks_link_to(lab):
    for file in ("gifs/gaussians_chains.gif", "NOTATION.md", "notebooks/00_start_here.ipynb"):
        with urlopen(f"{lab}/files/{file}?token=x", timeout=10) as answer:
            assert answer.read() == (config.ROOT / file).read_bytes(), file
    with urlopen(f"{lab}/?token=x", timeout=10) as answer:
        assert answer.url.split("?")[0] == f"{lab}/lab/tree/notebooks/00_start_here.ipynb"


def test_begin_says_where_it_runs_and_seeds_everything(capsys, monkeypatch):
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    monkeypatch.setenv("COURSE_BUDGET", "demo")
    draws = []
    for _ in range(2):
        assert setup.begin(seed=3) == torch.device("cpu")
        draws.append((random.random(), np.random.rand(), torch.rand(()).item()))  # noqa: NPY002
    assert draws[0] == draws[1]
    assert f"torch {torch.__version__} | device: cpu" in (line := capsys.readouterr().out)
    assert "budget: demo | seed: 3" in line


def test_missing_package_is_named_or_installed_in_colab(monkeypatch):
    monkeypatch.setattr(setup, "is_installed", lambda name: name not in ("torcheval", "jupyter"))
    with pytest.raises(ModuleNotFoundError, match="torcheval"):
        setup.begin()
    asked, kept = [], []

    def pip(command, check):
        at = command.index("--constraint")
        asked.extend(command[at + 2 :])
        kept.extend(Path(command[at + 1]).read_text().split())

    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setattr(setup.subprocess, "run", pip)
    setup.begin()
    assert [line.startswith("torcheval") for line in asked] == [True]
    assert f"torch=={version('torch')}" in kept  # never reinstalled


FIND = setup_cell().split("from utils.setup import")[0]  # the set-up cell without its slow imports


def run_setup_cell(folder: Path, cell: str, first: str = "") -> subprocess.CompletedProcess:
    """Run the set-up cell in a new Python whose working directory is `folder`."""
    code = f"{first}\n{cell}\nprint(utils.__file__)"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("folder", ["notebooks", "notebooks/exercises", ".", "utils/models"])
def test_setup_cell_finds_this_repository(folder: str):
    result = run_setup_cell(config.ROOT / folder, FIND)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(config.ROOT / "utils" / "__init__.py")


def test_setup_cell_finds_this_repository_from_any_folder_inside():
    (config.ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=config.ROOT / "build") as folder:
        (deep := Path(folder) / "not the course" / "at all").mkdir(parents=True)
        result = run_setup_cell(deep, FIND)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(config.ROOT / "utils" / "__init__.py")


def test_setup_cell_finds_this_repository_in_vs_code(tmp_path):
    first = f"__vsc_ipynb_file__ = {str(config.ROOT / 'notebooks' / 'x.ipynb')!r}"
    result = run_setup_cell(tmp_path, FIND, first)
    assert result.stdout.splitlines()[-1] == str(config.ROOT / "utils" / "__init__.py"), result.stderr


def test_setup_cell_refuses_another_utils(tmp_path):
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "__init__.py").touch()
    first = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import utils"
    assert "restart the kernel" in run_setup_cell(config.ROOT, FIND, first).stderr


def test_setup_cell_without_an_address_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(sync_setup_cells, "repository", lambda: "")
    assert f"{tmp_path} is not in the course's repository: get all of it" in (
        run_setup_cell(tmp_path, setup_cell()).stderr
    )


def test_setup_cell_fetches_the_repository_where_there_is_none(tmp_path, monkeypatch):
    origin, empty = tmp_path / "course", tmp_path / "empty"
    (origin / "utils").mkdir(parents=True)
    empty.mkdir()
    begin = "def begin(seed): print('begun', seed)"
    for file, text in {"__init__": "", "config": "", "setup": begin}.items():
        (origin / "utils" / f"{file}.py").write_text(text)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(origin)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        subprocess.run(git + command, check=True)
    monkeypatch.setattr(sync_setup_cells, "repository", origin.as_uri)
    for _ in range(2):  # the second time it is there
        result = run_setup_cell(empty, setup_cell())
        assert "begun 0" in result.stdout, result.stderr
        assert str(empty / "course" / "utils") in result.stdout


COLAB = """
import importlib.metadata, json, shutil, subprocess, sys, types
from pathlib import Path

sys.modules["google.colab"] = types.ModuleType("google.colab")
calls, version = [], importlib.metadata.version

def run(command, check):
    if "git" in command[0]:
        calls.append(command)
        target = Path(command[-1])
        shutil.copytree({root!r} + "/utils", target / "utils", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy({root!r} + "/pyproject.toml", target)
    else:
        constraints = Path(command[command.index("--constraint") + 1])
        calls.append([*command[1:], *constraints.read_text().split()])

def without_two(name):
    if name in ("torcheval", "imageio"):
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

subprocess.run = run
importlib.metadata.version = without_two
exec(compile(Path("cell.py").read_text(), "cell", "exec"))
calls.append("again")
importlib.metadata.version = version
exec(compile(Path("cell.py").read_text(), "cell", "exec"))
calls.append(str(Path(utils.__file__).parent))
print(json.dumps(calls))
"""


def test_in_colab_only_what_is_missing_is_installed_and_torch_never(tmp_path, monkeypatch):
    """An empty Colab with an older torch: the repository is cloned once, pip asked for two packages once."""
    address = "https://github.com/someone/course"
    monkeypatch.setattr(sync_setup_cells, "repository", lambda: address)
    metadata, content = tmp_path / "site", tmp_path / "content"
    for name, number in {"torch": "2.6.0+cu124", "torchvision": "0.21.0+cu124"}.items():
        folder = metadata / f"{name}-{number}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    content.mkdir()
    (content / "cell.py").write_text(setup_cell())
    result = subprocess.run(
        [sys.executable, "-c", COLAB.format(root=str(config.ROOT))],
        cwd=content, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(metadata)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    *lines, calls = result.stdout.splitlines()
    git, pip, again, package = json.loads(calls)
    place = content / "course"
    assert git == ["git", "clone", "--quiet", "--depth", "1", address, str(place)]
    declared = setup.read_project()["dependencies"]
    wanted = [line for line in declared if line.split(">")[0] in ("imageio", "torcheval")]
    assert pip[:5] == ["-m", "pip", "install", "--quiet", "--constraint"]
    assert pip[6:8] == wanted and len(wanted) == 2  # pip[5] is the file of constraints
    assert pip[8:] == ["torch==2.6.0+cu124", "torchvision==0.21.0+cu124", f"numpy=={version('numpy')}"]
    assert again == "again" and package == str(place / "utils")  # the second time neither git nor pip
    assert [line.startswith("Python") and "seed: 0" in line for line in lines] == [True, True]


def test_sync_writes_cell_and_badge(tmp_path):
    path = tmp_path / "01_x.ipynb"
    cell = nbformat.v4.new_code_cell
    cells = [nbformat.v4.new_markdown_cell("# Title"), cell("1 + 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert sync_setup_cells.sync(path)
    assert not sync_setup_cells.sync(path)
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].source == with_badge("# Title", path.name)
    assert [c.source for c in notebook.cells[1:]] == [setup_cell(), "1 + 1"]
    notebook.cells[1].source = setup_cell().split("\n")[0] + "\nold"
    nbformat.write(notebook, path)
    assert sync_setup_cells.sync(path)
    assert nbformat.read(path, as_version=4).cells[1].source == setup_cell()


def notebook_with(path: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_markdown_cell("# Title"), *map(nbformat.v4.new_code_cell, sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def test_execute(tmp_path, capsys):
    sources = "import os\nprint(os.getcwd())", "print(1, flush=True)\nprint(2)"
    source = notebook_with(tmp_path / "a.ipynb", *sources)
    target = tmp_path / "build" / "a.ipynb"
    execute.execute(source, target)
    cells = nbformat.read(target, as_version=4).cells
    assert [output.text for cell in cells[1:] for output in cell.outputs] == [f"{tmp_path}\n", "1\n2\n"]
    assert nbformat.read(source, as_version=4).cells[1].execution_count is None
    assert "cell 1/3: Title" in capsys.readouterr().out


INTERACT = "from ipywidgets import interact\ninteract(lambda k: print(1 / k), k=(0, 2));"


def test_execute_stores_the_first_view_of_a_widget(tmp_path):
    source = notebook_with(tmp_path / "a.ipynb", INTERACT)
    execute.execute(source, source)
    notebook = nbformat.read(source, as_version=4)
    assert [output.text for output in notebook.cells[1].outputs] == ["1.0\n"]
    assert "widgets" not in notebook.metadata


@pytest.mark.parametrize("cell", ["1 / 0", INTERACT.replace("(0, 2)", "[0, 1]")])
def test_execute_leaves_the_notebook_alone_after_an_error(cell, tmp_path, monkeypatch):
    source = notebook_with(tmp_path / "a.ipynb", cell)
    before = source.read_bytes()
    monkeypatch.setenv("COURSE_BUDGET", "demo")
    with pytest.raises(SystemExit, match="ZeroDivisionError"):
        execute.main([str(source), "--in-place", "--folder", str(tmp_path / "build")])
    assert source.read_bytes() == before
    assert (tmp_path / "build" / "a.ipynb").exists()


def test_fast_outputs_are_never_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_BUDGET", "fast")
    with pytest.raises(SystemExit):
        execute.main([str(tmp_path / "a.ipynb"), "--in-place"])


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path, monkeypatch, capsys):
    source = notebook_with(tmp_path / "a.ipynb", "1 + 1")
    (tmp_path / "file").touch()  # no folder can be made below a file, not even by root
    monkeypatch.setattr(execute, "execute", lambda *_: pytest.fail("the notebook was run"))
    with pytest.raises(SystemExit):
        execute.main([str(source), "--folder", str(tmp_path / "file" / "build")])
    assert "cannot write to" in (said := capsys.readouterr().err) and "--folder a folder of yours" in said
    with pytest.raises(OSError, match=r"cannot write to .*file.*: set COURSE_CACHE"):
        config.writable(tmp_path / "file", "set COURSE_CACHE")
    assert config.writable(tmp_path / "new" / "deep", "") and not list((tmp_path / "new" / "deep").iterdir())


def test_figures_get_a_palette_where_it_does_not_show_or_where_they_are_too_large():
    def png(array: np.ndarray) -> str:
        buffer = io.BytesIO()
        Image.fromarray(array.clip(0, 255).astype(np.uint8)).save(buffer, "png")
        return base64.b64encode(buffer.getvalue()).decode()

    def seen(figure: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(figure))).convert("RGB"), int)

    colours = np.array([128, 148, 168]) + np.random.default_rng(0).normal(0, 20, (300, 300, 1))
    large, photograph = png(colours), png(np.random.default_rng(0).uniform(0, 255, (60, 60, 3)))
    assert (
        len(execute.shrink(large)) < len(large) / 2
        and abs(seen(large) - seen(execute.shrink(large))).mean() < 4
    )
    assert execute.shrink(photograph) == photograph
    lines = png(np.random.default_rng(0).integers(0, 5, (200, 200, 1)) * [50, 30, 20])
    assert len(execute.shrink(lines)) < len(lines) and (seen(execute.shrink(lines)) == seen(lines)).all()


@pytest.mark.parametrize(
    "cuda, mps, kind", [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_the_device_is_cuda_or_mps_or_the_cpu(cuda, mps, kind, monkeypatch):
    monkeypatch.delenv("COURSE_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for unset in None, "", " ":
        if unset is not None:
            monkeypatch.setenv("COURSE_DEVICE", unset)
        assert config.pick_device() == torch.device(kind)
    monkeypatch.setenv("COURSE_DEVICE", "cpu")
    assert config.pick_device() == torch.device("cpu")
    for wrong in ("gpu", "cuda:7", "meta") + (() if cuda else ("cuda", "cuda:0")) + (() if mps else ("mps",)):
        monkeypatch.setenv("COURSE_DEVICE", wrong)
        with pytest.raises(ValueError, match=rf"COURSE_DEVICE='{wrong}'.*cpu, cuda, cuda:0 .* or mps"):
            config.pick_device()


PLACES = {
    "COURSE_CACHE": config.cache_dir,
    "COURSE_IMAGES": config.images_place,
    "COURSE_INCEPTION_WEIGHTS": config.inception_weights,
}


@pytest.mark.parametrize("variable", PLACES)
def test_places_start_at_the_top_of_the_repository_and_empty_is_unset(variable, tmp_path, monkeypatch):
    place = PLACES[variable]
    monkeypatch.delenv(variable, raising=False)
    unset = place()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for value, path in [
        ("", unset),
        (" ", unset),
        ("a/b", config.ROOT / "a" / "b"),
        ("../a", config.ROOT.parent / "a"),
        ("~/a", tmp_path / "a"),
        (str(tmp_path), tmp_path),
    ]:
        monkeypatch.setenv(variable, value)
        found = place()
        assert found == path or found.resolve() == path, value


def test_switches(monkeypatch):
    for value, budget, offline in [("", "demo", False), ("0", None, False), ("full", "full", True)]:
        monkeypatch.setenv("COURSE_BUDGET", value)
        monkeypatch.setenv("COURSE_OFFLINE", value)
        assert config.offline() == offline
        if budget:
            assert config.budget() == budget
        else:
            with pytest.raises(
                ValueError, match="COURSE_BUDGET='0' is unknown; set it to one of fast, demo, full"
            ):
                config.budget()


def test_variables_are_read_in_one_file_and_listed_for_contributors():
    read = re.compile(r"(?:os\.environ|getenv|_place)\W*(?:get\W+)?(COURSE_[A-Z_]+)")
    sources = [file for file in tracked() if file.endswith(".py") and not file.startswith("tests/")]
    found = {file: set(read.findall((config.ROOT / file).read_text(encoding="utf-8"))) for file in sources}
    listed = re.findall(r"^\| `(COURSE_\w+)`", (config.ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.M)
    assert len(listed) == 6 and found.pop("utils/config.py") == set(listed)
    # run.py runs before there is an environment in which to import the package
    assert [file for file, variables in found.items() if variables and file != "run.py"] == []


def tracked() -> list[str]:
    """Files of the repository, as git lists them, with `/`."""
    command = ["git", "-c", "core.quotepath=off", "ls-files"]
    result = subprocess.run(command, cwd=config.ROOT, capture_output=True, text=True, encoding="utf-8")
    return result.stdout.splitlines()


def test_one_function_alone_chooses_the_device():
    chooses = re.compile(r"(?:cuda|mps)\.is_available\(")
    sources = [
        file for file in tracked() if file.endswith((".py", ".ipynb")) and not file.startswith("tests/")
    ]
    assert sources
    texts = {file: (config.ROOT / file).read_text(encoding="utf-8") for file in sources}
    assert [file for file, text in texts.items() if chooses.search(text)] == ["utils/config.py"]


def windows_faults(files: list[str]) -> list[str]:
    """Names that Windows cannot hold: reserved words and characters, long paths, equal but for capitals."""
    faults = [
        f"{file}: a character" for file in files if re.search(r'[<>:"|?*\\\x00-\x1f]|[ .](?:/|$)', file)
    ]
    reserved = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.I)
    parts = {file: PureWindowsPath(file).parts for file in files}
    faults += [f"{file}: a reserved name" for file in files if any(map(reserved.fullmatch, parts[file]))]
    faults += [f"{file}: too long" for file in files if len(file) > 150]
    lower = [file.lower() for file in files]
    return faults + [f"{file}: only capitals differ" for file in files if lower.count(file.lower()) > 1]


def test_names_of_files_are_good_for_windows():
    assert windows_faults(tracked()) == []
    bad = ["a/b:c.py", "aux.py", "nul", "x/A.py", "x/a.py", "y" * 151, "end. /x"]
    assert len(windows_faults(bad)) == len(bad)
    assert windows_faults(["console.py", ".gitignore", "a.b/c"]) == []


def test_paths_are_joined_by_pathlib():
    by_hand = re.compile(r"""str\([^()]*\) *\+ *f?["']/|["'][/\\\\]["']\.join|os\.path\.join|os\.sep""")
    assert by_hand.search('open(str(folder) + "/x")') and by_hand.search('"/".join(parts)')
    files = [file for file in tracked() if file.endswith(".py") and not file.startswith("tests/")]
    texts = {file: (config.ROOT / file).read_text(encoding="utf-8") for file in files}
    assert [file for file, text in texts.items() if by_hand.search(text)] == []


def test_paths_of_windows_are_understood():
    path = PureWindowsPath(r"C:\Users\me\train\cat\0.PNG")
    assert path.match("train/*/*") and path.parent.name == "cat"
    assert image_files.why_skip(image_files.Entry(path, "0.PNG", path)) is None
    litter = PureWindowsPath(r"C:\train.png\._0.png")
    assert image_files.why_skip(image_files.Entry(litter, "._0.png", litter)) == "hidden"


def test_notebooks_run_in_a_shuffled_order(monkeypatch):
    commands = []
    monkeypatch.setattr(
        shuffle_notebooks.subprocess, "call", lambda command, **_: commands.append(command) or 0
    )
    for seed in "1", "1", "2":
        with pytest.raises(SystemExit) as status:
            shuffle_notebooks.main(["--seed", seed, "-x"])
        assert status.value.code == 0
    assert commands[0] == commands[1] != commands[2]
    orders = [[part for part in command if part.endswith(".ipynb")] for command in commands]
    every = sorted(
        str(path.relative_to(config.ROOT)) for path in (config.ROOT / "notebooks").rglob("*.ipynb")
    )
    every = [file for file in every if ".ipynb_checkpoints" not in file]
    assert sorted(orders[0]) == sorted(orders[2]) == every and orders[0] != every
    assert "--nbval-lax" in commands[0] and "-x" in commands[0]


def test_bars_are_text():
    """Not widgets, which a saved page has lost."""
    texts = [path.read_text("utf-8") for path in (config.ROOT / "utils").rglob("*.py")]
    assert not [text for text in texts if re.search(r"from tqdm\.(auto|notebook)", text)]
