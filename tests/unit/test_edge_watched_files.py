"""Files that are read again: not before all of them are replaced, and each change once."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from headwater_edge import watched_files
from headwater_edge.watched_files import SETTLED_S, WatchedFiles


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("certificate", "key")]
    for path in paths:
        path.write_text("first")
    return paths


def test_a_change_is_told_once_when_the_files_have_settled(paths: list[Path]) -> None:
    files = WatchedFiles(paths)
    assert not files.changed()
    for path in paths:
        path.write_text("the second")
        assert not files.changed()
    assert [files.changed() for _ in range(3)] == [True, False, False]


def test_a_file_that_is_gone_is_a_change_and_so_is_its_return(paths: list[Path]) -> None:
    files = WatchedFiles(paths)
    paths[1].unlink()
    assert [files.changed() for _ in range(3)] == [False, True, False]
    paths[1].write_text("first")
    assert [files.changed() for _ in range(3)] == [False, True, False]


def test_who_asks_seldom_is_told_at_once_of_what_changed_long_ago(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = WatchedFiles(paths)
    paths[0].write_text("the second")
    later = SimpleNamespace(time=lambda: time.time() + SETTLED_S + 1)
    monkeypatch.setattr(watched_files, "time", later)
    assert [files.changed() for _ in range(2)] == [True, False]


def test_what_is_written_while_they_are_read_is_a_change(paths: list[Path]) -> None:
    files = WatchedFiles(paths)
    paths[0].write_text("the second")
    files.reading()
    assert [files.changed() for _ in range(2)] == [False, False]
    paths[0].write_text("third")
    assert [files.changed() for _ in range(3)] == [False, True, False]
