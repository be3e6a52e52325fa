"""SQLite files that are full, damaged, old, busy, or of another format: found out, named with a remedy, and mended by it."""

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from headwater_store import (
    Append,
    Journals,
    Loaded,
    StoreAway,
    StoreError,
    StoreUrl,
    WentBack,
    open_leases,
    sqlite_url,
)
from headwater_store.sqlite_journals import SqliteJournals
from support.waiting import TIME_FACTOR

Connect = Callable[[str], Journals]
BIG = b"x" * 1000


def fill(journals: Journals, tail: int) -> int:
    """Append until there is no room; returns the number of the last entry that was acknowledged."""
    for number in range(tail, 5000):
        try:
            assert journals.append([Append("g", 1, number, [BIG])]) == [None]
        except StoreAway:
            return number
    raise AssertionError("the disk is not full")


def test_a_full_disk_is_told_and_room_helps(small_disk: Path, connect: Connect) -> None:
    journals = connect(sqlite_url(small_disk / "store") + "?files=1")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_500_000)
    more_ballast = small_disk / "more"
    more_ballast.write_bytes(b"x" * 3_500_000)
    journals.open("g", 1)
    tail = fill(journals, 0)
    with pytest.raises(
        StoreAway, match=r"journal-0\.sqlite: the disk is full; make room, nothing was changed"
    ):
        journals.append([Append("g", 1, tail, [BIG] * 100)])
    # It still reads; so does whoever opens it now.
    assert journals.open("g", 1).tail == tail
    ballast.unlink()
    assert journals.append([Append("g", 1, tail, [BIG])]) == [None]
    more = fill(journals, tail + 1)
    assert more > tail
    journals.close()
    again = connect(sqlite_url(small_disk / "store"))
    loaded = again.open("g", 1)
    assert loaded == Loaded(None, 0, [BIG] * more, more, 1)
    # A snapshot needs room, too; once it is there the entries' room is free.
    more_ballast.unlink()
    again.snapshot("g", 1, more, b"small")
    for number in range(more, more + 100):
        assert again.append([Append("g", 1, number, [BIG])]) == [None]


def test_a_restored_backup_is_found_out(tmp_path: Path, connect: Connect) -> None:
    url = sqlite_url(tmp_path / "store") + "?files=1"
    file = tmp_path / "store" / "journal-0.sqlite"
    journals = connect(url)
    journals.open("g", 1)
    journals.append([Append("g", 1, 0, [b"1", b"2"])])
    with closing(sqlite3.connect(file)) as live, closing(sqlite3.connect(tmp_path / "backup")) as backup:
        live.backup(backup)
    journals.append([Append("g", 1, 2, [b"3", b"4"])])
    # While it runs:
    with closing(sqlite3.connect(tmp_path / "backup")) as backup, closing(sqlite3.connect(file)) as live:
        backup.backup(live)
    lost = journals.append([Append("g", 1, 4, [b"5"])])[0]
    assert isinstance(lost, WentBack)
    assert (lost.tail, lost.expected) == (2, 4)
    journals.snapshot("g", 1, 5, b"all five")
    assert journals.append([Append("g", 1, 5, [b"6"])]) == [None]
    journals.close()
    # While it does not: whoever opens it sees less than was there, and the next epoch still fences.
    for ending in ("-wal", "-shm"):
        Path(f"{file}{ending}").unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup", file)
    assert connect(url).open("g", 2) == Loaded(None, 0, [b"1", b"2"], 2, 1)


def test_a_file_that_is_no_database_is_named_with_the_remedy(tmp_path: Path, connect: Connect) -> None:
    connect(sqlite_url(tmp_path)).close()
    (tmp_path / "journal-2.sqlite").write_bytes(b"not a database at all" * 100)
    with pytest.raises(
        StoreError, match=r"journal-2\.sqlite: not a SQLite file; restore it from a backup, or move it away"
    ):
        connect(sqlite_url(tmp_path))
    (tmp_path / "journal-2.sqlite").unlink()
    connect(sqlite_url(tmp_path)).open("g", 1)


def test_a_damaged_page_is_named_with_the_remedy(tmp_path: Path, connect: Connect) -> None:
    url = sqlite_url(tmp_path) + "?files=1"
    journals = connect(url)
    journals.open("g", 1)
    journals.append([Append("g", 1, 0, [BIG] * 500)])
    journals.close()
    path = tmp_path / "journal-0.sqlite"
    data = bytearray(path.read_bytes())
    for at in range(16 * 4096, len(data), 4096):
        data[at : at + 64] = b"\xff" * 64
    path.write_bytes(data)
    with pytest.raises(
        StoreError, match=r"journal-0\.sqlite: damaged; restore it from a backup, or move it away"
    ) as caught:
        connect(url).open("g", 2)
    assert not isinstance(caught.value, StoreAway)


def test_entries_that_are_missing_are_named(tmp_path: Path, connect: Connect) -> None:
    journals = connect(sqlite_url(tmp_path) + "?files=1")
    journals.open("g", 1)
    journals.append([Append("g", 1, 0, [b"1", b"2", b"3"])])
    with closing(sqlite3.connect(tmp_path / "journal-0.sqlite")) as db, db:
        db.execute("DELETE FROM entries WHERE number = 2")
    with pytest.raises(StoreError, match=r"journal-0\.sqlite: damaged; .*group g: 2 entries from 0 to 3"):
        journals.open("g", 2)


def test_the_number_of_files_stays_as_it_was(tmp_path: Path, connect: Connect) -> None:
    journals = connect(sqlite_url(tmp_path) + "?files=3")
    for number in range(30):
        journals.open(f"g{number}", 1)
        journals.append([Append(f"g{number}", 1, 0, [b"x"])])
    assert len(list(tmp_path.glob("journal-*.sqlite"))) == 3
    assert len(connect(sqlite_url(tmp_path)).groups()) == 30
    with pytest.raises(StoreError, match=r"in 3 files, expected 4; .*: give files=3 or leave it out"):
        connect(sqlite_url(tmp_path) + "?files=4")
    with pytest.raises(StoreError, match=r"option files=0: expected a number from 1 to 64"):
        connect(sqlite_url(tmp_path) + "?files=0")
    for journals in (connect(sqlite_url(tmp_path)), connect(sqlite_url(tmp_path) + "?files=3")):
        journals.close()
    # The first one was moved away: a new one says the default, the others know better.
    (tmp_path / "journal-0.sqlite").unlink()
    with pytest.raises(StoreError, match=r"journal-1\.sqlite: is one of 3 files, expected one of 4"):
        connect(sqlite_url(tmp_path))


def test_files_that_are_removed_under_a_writer_are_noticed(tmp_path: Path, connect: Connect) -> None:
    journals = connect(sqlite_url(tmp_path / "store") + "?files=1")
    journals.open("g", 1)
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(
        StoreError, match=r"journal-0\.sqlite: its files were removed while this process had them open"
    ):
        journals.append([Append("g", 1, 0, [b"1"])])


@pytest.mark.parametrize(("option", "level"), [("", 1), ("?durability=process", 1), ("?durability=power", 2)])
def test_durability_is_sqlites_synchronous(tmp_path: Path, option: str, level: int) -> None:
    with closing(SqliteJournals(StoreUrl.parse(sqlite_url(tmp_path) + option))) as journals:
        for file in journals._files:
            with file.reading() as db:
                assert db.execute("PRAGMA synchronous").fetchone() == (level,)


def test_a_group_is_in_the_same_file_for_ever(tmp_path: Path, connect: Connect) -> None:
    """The file is chosen by CRC-32 of the name: a change would lose every journal."""
    journals = connect(sqlite_url(tmp_path))
    for group in ("chat/lobby", "chat/é#so:board", "x"):
        journals.open(group, 1)
    found: dict[str, int] = {}
    for number in range(4):
        with closing(sqlite3.connect(tmp_path / f"journal-{number}.sqlite")) as db:
            found |= {name: number for (name,) in db.execute("SELECT name FROM groups")}
    assert found == {"chat/lobby": 1, "chat/é#so:board": 2, "x": 3}


def test_others_that_keep_a_file_busy_are_waited_for_and_then_told(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = connect(sqlite_url(tmp_path) + "?files=1")
    journals.open("g", 1)
    with closing(
        sqlite3.connect(tmp_path / "journal-0.sqlite", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        ending = threading.Timer(0.1, lambda: other.execute("COMMIT"))
        ending.start()
        assert journals.append([Append("g", 1, 0, [b"1"])]) == [None]
        ending.join()
        monkeypatch.setattr("headwater_store.sqlite_journals.BUSY_S", 0.05)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            StoreAway, match=r"journal-0\.sqlite: other processes kept it busy; nothing was changed"
        ):
            journals.append([Append("g", 1, 1, [b"2"])])
        assert journals.groups() == ["g"]
        other.execute("ROLLBACK")
        assert journals.append([Append("g", 1, 1, [b"2"])]) == [None]


def test_one_file_that_is_away_keeps_nothing_from_the_others(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = connect(sqlite_url(tmp_path))
    groups = [f"g{number}" for number in range(12)]
    for group in groups:
        journals.open(group, 1)
    monkeypatch.setattr("headwater_store.sqlite_journals.BUSY_S", 0.05)
    batch = [Append(group, 1, 0, [b"1"]) for group in groups]
    with closing(sqlite3.connect(tmp_path / "journal-1.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreAway, match=r"journal-1\.sqlite"):
            journals.append(batch)
        reader = connect(sqlite_url(tmp_path))
        assert 0 < len(reader.groups()) < len(groups)
        other.execute("ROLLBACK")
    assert journals.append(batch) == [None] * len(groups)
    assert len(journals.groups()) == len(groups)


def test_the_write_ahead_log_does_not_grow_for_ever(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that stays at an old moment keeps SQLite from using the log anew; when it is gone, one commit cuts it."""
    monkeypatch.setattr("headwater_store.sqlite.WAL_LIMIT_BYTES", 100_000)
    journals = connect(sqlite_url(tmp_path) + "?files=1")
    journals.open("g", 1)
    wal = tmp_path / "journal-0.sqlite-wal"
    with closing(sqlite3.connect(tmp_path / "journal-0.sqlite", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entries").fetchone()
        for tail in range(200):
            journals.append([Append("g", 1, tail, [BIG])])
        assert wal.stat().st_size > 200_000
        reader.execute("COMMIT")
    largest = 0
    for tail in range(200, 400):
        journals.append([Append("g", 1, tail, [BIG])])
        largest = max(largest, wal.stat().st_size)
    assert largest < 200_000
    assert journals.open("g", 1).tail == 400


def test_fences_of_dropped_groups_are_forgotten_in_the_end(
    tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = connect(sqlite_url(tmp_path) + "?files=1")
    for number in range(5):
        journals.drop(f"old/{number}", 1)
    journals.open("kept", 1)
    monkeypatch.setattr("headwater_store.sqlite_journals.FENCE_KEEP_S", -1.0)
    journals.drop("new", 1)
    with closing(sqlite3.connect(tmp_path / "journal-0.sqlite")) as db:
        assert db.execute("SELECT name FROM groups").fetchall() == [("kept",)]


@pytest.mark.parametrize("name", ["journal-3.sqlite", "leases-sessions.sqlite"])
def test_a_newer_format_is_left_alone(tmp_path: Path, connect: Connect, name: str) -> None:
    connect(sqlite_url(tmp_path)).close()
    open_leases(sqlite_url(tmp_path), "sessions").close()
    with closing(sqlite3.connect(tmp_path / name)) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreError, match=rf"{name}: written in format 99 by a newer Headwater"):  # noqa: PT012  # whichever reads it
        connect(sqlite_url(tmp_path))
        open_leases(sqlite_url(tmp_path), "sessions")


def test_many_processes_open_a_new_folder_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from headwater_store import *\n"
        "journals = open_journals(sys.argv[1]); journals.open(sys.argv[2], 1)\n"
        "print(journals.append([Append(sys.argv[2], 1, 0, [b'x'])]))"
    )
    url = sqlite_url(tmp_path / "new")
    running = [
        subprocess.Popen([sys.executable, "-c", program, url, f"g{n}"], stdout=subprocess.PIPE, text=True)
        for n in range(6)
    ]
    assert [process.communicate(timeout=30 * TIME_FACTOR)[0] for process in running] == ["[None]\n"] * 6
