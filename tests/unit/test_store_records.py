"""Records in SQLite files: what is written lasts, what fails says why and changes nothing."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headwater_store import Records, StoreError, open_records, sqlite_url

_HOLD_AND_DIE = """
import os, sys
from headwater_store import open_records
records = open_records(sys.argv[1], "table")
for number in range(100):
    records.write({f"key/{number}": b"%d" % number}, [f"key/{number - 50}"])
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    opened = open_records(sqlite_url(tmp_path), "table")
    yield opened
    opened.close()


def test_load_returns_what_begins_with_the_prefix_in_order(records: Records) -> None:
    records.write({"b/2": b"two", "b/1": b"", "a/1": b"x", "b": b"y", "b/\U0001f30a": b"z"})
    assert list(records.load("b/").items()) == [("b/1", b""), ("b/2", b"two"), ("b/\U0001f30a", b"z")]
    assert len(records.load()) == 5
    assert records.load("c") == {}


def test_write_puts_and_deletes_in_one_transaction(records: Records) -> None:
    records.write({"a": b"1", "b": b"2"})
    records.write({"b": b"3", "c": b"4"}, ["a", "not there"])
    assert records.load() == {"b": b"3", "c": b"4"}


def test_a_failed_write_changes_nothing(records: Records) -> None:
    records.write({"a": b"1"})
    with pytest.raises(StoreError, match="NOT NULL"):
        records.write({"a": b"2", "b": None}, [])  # type: ignore[dict-item]  # the failure that is easy to cause
    assert records.load() == {"a": b"1"}
    records.write({"b": b"3"}, ["a"])
    assert records.load() == {"b": b"3"}


class Interrupted(dict[str, bytes]):
    """Whoever looks into it is interrupted."""

    def items(self) -> Any:
        raise KeyboardInterrupt


def test_a_write_that_is_interrupted_changes_nothing_and_ends(records: Records) -> None:
    records.write({"a": b"1"})
    with pytest.raises(KeyboardInterrupt):
        records.write(Interrupted(b=b"2"), ["a"])
    assert records.load() == {"a": b"1"}
    records.write({"b": b"3"})
    assert records.load() == {"a": b"1", "b": b"3"}


def test_records_last_over_a_kill(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", _HOLD_AND_DIE, sqlite_url(tmp_path)], check=False)
    assert ended.returncode == -9
    records = open_records(sqlite_url(tmp_path), "table")
    assert records.load("key/") == {f"key/{n}": b"%d" % n for n in sorted(range(50, 100), key=str)}
    records.close()


def test_a_second_holder_is_refused_and_welcome_when_the_first_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater_store.sqlite.BUSY_S", 0.05)
    first = open_records(sqlite_url(tmp_path), "table")
    with pytest.raises(StoreError, match=r"table\.sqlite: another process has it open; stop that one"):
        open_records(sqlite_url(tmp_path), "table")
    other = open_records(sqlite_url(tmp_path), "other")
    other.close()
    first.close()
    first.close()
    with pytest.raises(StoreError, match="closed"):
        first.load()
    open_records(sqlite_url(tmp_path), "table").close()


@pytest.mark.parametrize(
    ("durability", "level"), [("", 1), ("?durability=process", 1), ("?durability=power", 2)]
)
def test_durability_is_sqlites_synchronous(tmp_path: Path, durability: str, level: int) -> None:
    records = open_records(sqlite_url(tmp_path) + durability, "table")
    db: sqlite3.Connection = records._file._db  # type: ignore[attr-defined]  # the pragma is seen on the connection only
    assert db.execute("PRAGMA synchronous").fetchone() == (level,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    records.close()


def test_a_file_that_is_no_database_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "table.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(
        StoreError, match=r"table\.sqlite: not a SQLite file; restore it from a backup, or move it away"
    ):
        open_records(sqlite_url(tmp_path), "table")


def test_a_damaged_file_is_found_at_the_start(tmp_path: Path) -> None:
    records = open_records(sqlite_url(tmp_path), "table")
    records.write({f"key/{n}": b"v" * 200 for n in range(500)})
    records.close()
    path = tmp_path / "table.sqlite"
    data = bytearray(path.read_bytes())
    for at in range(4096, len(data), 4096):
        data[at : at + 64] = b"\xff" * 64
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"table\.sqlite: damaged; restore it from a backup"):
        open_records(sqlite_url(tmp_path), "table")


def test_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    records = open_records(sqlite_url(tmp_path), "table")
    records.close()
    with sqlite3.connect(tmp_path / "table.sqlite") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="format 99 by a newer Headwater"):
        open_records(sqlite_url(tmp_path), "table")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/data: cannot be used as a folder: Not a directory"):
        open_records(sqlite_url(tmp_path / "file" / "data"), "table")
    (tmp_path / "table.sqlite").mkdir()
    with pytest.raises(StoreError, match=r"table\.sqlite: cannot be opened; make it and its folder writable"):
        open_records(sqlite_url(tmp_path), "table")


def test_a_full_disk_is_named_and_room_helps(records: Records) -> None:
    db: sqlite3.Connection = records._file._db  # type: ignore[attr-defined]  # a page limit is SQLite's own full disk
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StoreError, match=r"table\.sqlite: the disk is full; make room, nothing was changed"):
        records.write({f"key/{n}": b"v" * 1000 for n in range(100)})
    assert records.load() == {}
    db.execute("PRAGMA max_page_count=100000")
    records.write({"key": b"v"})
    assert records.load() == {"key": b"v"}
