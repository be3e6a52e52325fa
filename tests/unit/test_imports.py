"""Import directions as DESIGN draws them: services use libs, never each other; bus and store know no RTMP."""

import ast
from pathlib import Path

import headwater_origin
import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {
    "headwater_amf": set(),
    "headwater_rtmp": {"headwater_amf"},
    "headwater_bus": set(),
    "headwater_store": set(),
    "headwater_sends": set(),
    "headwater_client": {"headwater_amf", "headwater_rtmp"},
    "headwater_edge": {
        "headwater_amf",
        "headwater_rtmp",
        "headwater_bus",
        "headwater_store",
        "headwater_sends",
    },
    "headwater_origin": {"headwater_amf", "headwater_rtmp", "headwater_bus", "headwater_store"},
    "headwater_balancer": {"headwater_bus", "headwater_store"},
    "headwater_registry": {"headwater_bus", "headwater_store"},
}
SANS_IO = {"socket", "_socket", "gevent", "zmq", "asyncio", "threading", "time", "logging", "select", "ssl"}


def imports(package: Path) -> dict[str, set[str]]:
    """Top-level names that each module of a package imports."""
    found: dict[str, set[str]] = {}
    for path in package.rglob("*.py"):
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names.add(node.module.split(".")[0])
        found[str(path.relative_to(ROOT))] = names
    return found


def packages() -> dict[str, Path]:
    return {
        path.name: path
        for part in ("libs", "services")
        for path in ROOT.glob(f"{part}/*/headwater_*")
        if path.suffix == ""
    }


def test_every_package_is_known() -> None:
    assert set(packages()) == set(ALLOWED)


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_import_direction(name: str) -> None:
    for module, names in imports(packages()[name]).items():
        ours = {imported for imported in names if imported.startswith("headwater_")} - {name}
        assert ours <= ALLOWED[name], f"{module} imports {ours - ALLOWED[name]}"


@pytest.mark.parametrize("name", ["headwater_amf", "headwater_rtmp"])
def test_protocol_libraries_do_no_io(name: str) -> None:
    for module, names in imports(packages()[name]).items():
        assert not names & SANS_IO, f"{module} imports {names & SANS_IO}"


def test_no_library_patches_the_process() -> None:
    for path in ROOT.glob("libs/*/headwater_*/**/*.py"):
        if path.name != "__main__.py":
            assert "patch_all" not in path.read_text(), path


def test_every_name_that_authors_use_is_there() -> None:
    for name in headwater_origin.__all__:
        assert getattr(headwater_origin, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = headwater_origin.nothing
