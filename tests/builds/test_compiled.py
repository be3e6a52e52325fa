"""The leaf modules of libs/amf, libs/rtmp and libs/sends, compiled: `make compiled` makes them, `make test` first."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "compiled"
PACKAGES = {"amf": "headwater_amf", "rtmp": "headwater_rtmp", "sends": "headwater_sends"}
# All of these libraries, and of the services what hands them values or gets values from them.
TESTS = (
    "tests/unit/test_amf*.py",
    "tests/unit/test_rtmp*.py",
    "tests/property/test_amf*.py",
    "tests/property/test_rtmp*.py",
    "tests/unit/test_sends.py",
    "tests/unit/test_edge_client.py",
    "tests/unit/test_edge_fanout*.py",
    "tests/unit/test_edge_objects.py",
    "tests/unit/test_origin_calls.py",
    "tests/unit/test_origin_object_use.py",
    "tests/unit/test_origin_streams.py",
)


def sources(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.[pc]*") if path.suffix in (".py", ".c")}


def is_fresh() -> bool:
    return all(
        sources(BUILD / package) == sources(ROOT / "libs" / part / package)
        for part, package in PACKAGES.items()
    )


@pytest.fixture
def build() -> dict[str, str]:
    """The environment in which the compiled build is imported. Without one the test is skipped; in CI it fails."""
    if not is_fresh() and os.environ.get("CI"):
        pytest.fail("build/compiled is missing or older than the source: make compiled")
    if not is_fresh():
        pytest.skip("build/compiled is missing or older than the source: make compiled")
    return {**os.environ, "PYTHONPATH": str(BUILD)}


def run(command: list[str], env: dict[str, str], folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )


def test_which_build_runs_is_said(build: dict[str, str]) -> None:
    said = "from headwater_rtmp.compiled import COMPILED; from headwater_sends import COMPILED as sends; print(COMPILED, sends)"
    asked = [sys.executable, "-c", said]
    assert run(asked, build).stdout == "True True\n"
    without = {name: value for name, value in build.items() if name != "PYTHONPATH"}
    assert run(asked, without).stdout == "False False\n"


def test_every_module_on_the_list_is_compiled(build: dict[str, str]) -> None:
    for part, package in PACKAGES.items():
        script = ast.parse((ROOT / "libs" / part / "setup.py").read_text())
        (listed,) = [
            ast.literal_eval(node.value)
            for node in script.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED"
        ]
        assert {path.name.partition(".")[0] for path in (BUILD / package).glob("*.so")} == set(listed)


def test_both_builds_pass_the_same_tests(build: dict[str, str]) -> None:
    """The pure one runs them with all others."""
    files = sorted(str(path.relative_to(ROOT)) for pattern in TESTS for path in ROOT.glob(pattern))
    ran = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files], build)
    assert ran.returncode == 0, ran.stdout


@pytest.fixture(params=sorted(PACKAGES))
def asking(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A copy of a library's setup.py, and an environment that asks it to compile."""
    shutil.copy(ROOT / "libs" / request.param / "setup.py", tmp_path)
    return tmp_path, {**os.environ, "HEADWATER_COMPILE": "1"}


def test_nothing_is_compiled_beside_editable_sources(asking: tuple[Path, dict[str, str]]) -> None:
    folder, env = asking
    ran = run([sys.executable, "setup.py", "editable_wheel"], env, folder)
    assert ran.returncode == 1
    assert "install without -e, or without HEADWATER_COMPILE" in ran.stdout


@pytest.mark.parametrize("asking", ["amf", "rtmp"], indirect=True)
def test_without_mypyc_it_is_said(asking: tuple[Path, dict[str, str]]) -> None:
    folder, env = asking
    blocked = "import runpy, sys; sys.modules['mypyc'] = None; runpy.run_path('setup.py')"
    ran = run([sys.executable, "-c", blocked, "bdist_wheel"], env, folder)
    assert ran.returncode == 1
    assert "HEADWATER_COMPILE is set, but there is no mypyc" in ran.stdout


def test_without_a_compiler_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    ran = run(
        ["/bin/sh", "scripts/wheels.sh", str(tmp_path / "dist"), str(tmp_path / "out")],
        {**os.environ, "PATH": str(tmp_path)},
    )
    assert ran.returncode == 2
    assert "no C compiler" in ran.stdout
    assert "everything runs as pure Python" in ran.stdout
