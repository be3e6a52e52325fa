"""Journals in a few SQLite files of a folder, which all processes of a machine share."""

import sqlite3
import time
import zlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from headwater_store.errors import Fenced, StoreError, WentBack
from headwater_store.journals import FENCE_KEEP_S, Append, Loaded, judge
from headwater_store.sqlite import BUSY_S, Schema, SqliteFile, sqlite_folder
from headwater_store.url import StoreUrl

DEFAULT_FILES, MAX_FILES = 4, 64
"""One process at a time writes to a file; more files, and more processes do so at once."""
_FORGET_AT_ONCE = 100
_SCHEMA = Schema(
    1,
    (
        "CREATE TABLE folder (files INTEGER NOT NULL, number INTEGER NOT NULL)",
        # `dropped`: seconds since 1970 from when on only the fence is left; NULL: the group is in use.
        "CREATE TABLE groups (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, epoch INTEGER NOT NULL,"
        " tail INTEGER NOT NULL DEFAULT 0, snapshot_number INTEGER NOT NULL DEFAULT 0, dropped REAL)",
        "CREATE INDEX groups_dropped ON groups (dropped) WHERE dropped IS NOT NULL",
        "CREATE TABLE snapshots (group_id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        "CREATE TABLE entries (group_id INTEGER NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,"
        " PRIMARY KEY (group_id, number)) WITHOUT ROWID",
    ),
    (
        # What an append nearly always is: the entry that comes next, of the epoch that has the group open.
        "CREATE TEMP VIEW next_entries AS SELECT '' AS name, 0 AS epoch, 0 AS number, x'' AS data",
        "CREATE TEMP TRIGGER append INSTEAD OF INSERT ON next_entries BEGIN"
        " SELECT RAISE(ABORT, 'not the next entry') WHERE NOT EXISTS (SELECT 1 FROM groups WHERE name = NEW.name"
        " AND epoch = NEW.epoch AND tail = NEW.number - 1 AND dropped IS NULL);"
        " INSERT INTO entries SELECT id, NEW.number, NEW.data FROM groups WHERE name = NEW.name;"
        " UPDATE groups SET tail = NEW.number WHERE name = NEW.name;"
        " END",
    ),
)
_MOST_IN_A_STATEMENT = 64


class SqliteJournals:
    """Implements `Journals` in FOLDER/journal-N.sqlite. A group's hash chooses its file, once and for all: `?files=` counts
    when the folder is first used. The constructor raises StoreError too."""

    def __init__(self, url: StoreUrl) -> None:
        url.only("files")
        folder = sqlite_folder(url)
        wanted = url.number("files", DEFAULT_FILES, MAX_FILES)
        self._files: list[SqliteFile] = []
        try:
            first = self._open_file(folder, url, 0)
            files = _files_of(first, wanted, 0)
            if "files" in url.options and files != wanted:
                raise StoreError(
                    f"{folder}: its journals are in {files} files, expected {wanted}; "
                    f"the number stays as it was at first: give files={files} or leave it out"
                )
            for number in range(1, files):
                file = self._open_file(folder, url, number)
                found = _files_of(file, files, number)
                if found != files:
                    raise StoreError(
                        f"{file.path}: is one of {found} files, expected one of {files} as {first.path.name} says; "
                        "restore the folder from one backup, or give another folder"
                    )
        except BaseException:
            self.close()
            raise

    def _open_file(self, folder: Path, url: StoreUrl, number: int) -> SqliteFile:
        file = SqliteFile(folder / f"journal-{number}.sqlite", _SCHEMA, url.durability)
        self._files.append(file)
        return file

    def open(self, group: str, epoch: int) -> Loaded:
        """See Journals."""
        (outcome,) = self.open_many([(group, epoch)])
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    def open_many(self, wanted: Sequence[tuple[str, int]]) -> list[Loaded | StoreError]:
        """See Journals. Two transactions for each file that the groups are in."""
        until = time.monotonic() + BUSY_S
        outcomes: dict[str, Loaded | StoreError] = {}
        by_file: dict[SqliteFile, list[tuple[str, int]]] = defaultdict(list)
        for group, epoch in wanted:
            by_file[self._file(group)].append((group, epoch))
        for file, groups in by_file.items():
            fenced: dict[str, int] = {}
            try:
                with file.transaction(until) as db:
                    for group, epoch in groups:
                        try:
                            fenced[group] = _fence(db, group, epoch)
                        except Fenced as error:
                            outcomes[group] = error
                # Nobody of an older epoch writes from here on, so the others need not wait while this one reads.
                with file.reading() as db:
                    for group, before in fenced.items():
                        outcomes[group] = _load(file, db, group, before)
            except StoreError as error:
                for group, _ in groups:
                    outcomes.setdefault(group, error)
        return [outcomes[group] for group, _ in wanted]

    def append(self, batch: Sequence[Append]) -> list[Fenced | WentBack | None]:
        """See Journals. One transaction for each file that the groups are in."""
        until = time.monotonic() + BUSY_S
        outcomes: list[Fenced | WentBack | None] = [None] * len(batch)
        by_file: dict[int, list[int]] = defaultdict(list)
        for index, asked in enumerate(batch):
            by_file[self._number(asked.group)].append(index)
        failure: StoreError | None = None
        for number, indexes in by_file.items():
            file = self._files[number]
            try:
                if not _append_next(file, [batch[index] for index in indexes], until):
                    with file.transaction(until) as db:
                        for index in indexes:
                            outcomes[index] = _append(db, batch[index])
            except StoreError as error:
                failure = failure or error  # The groups in the other files are none the worse.
        if failure is not None:
            raise failure
        return outcomes

    def snapshot(self, group: str, epoch: int, number: int, data: bytes) -> None:
        """See Journals."""
        with self._file(group).transaction() as db:
            _fence(db, group, epoch)
            ident, tail, before = db.execute(
                "SELECT id, tail, snapshot_number FROM groups WHERE name = ?", (group,)
            ).fetchone()
            if number < before:
                raise StoreError(f"group {group}: snapshot of entry {number}, expected {before} or later")
            db.execute("DELETE FROM entries WHERE group_id = ? AND number <= ?", (ident, number))
            # Bound to the statement, SQLite would keep two copies of it until the next snapshot.
            db.execute("INSERT OR REPLACE INTO snapshots VALUES (?, zeroblob(?))", (ident, len(data)))
            with db.blobopen("snapshots", "data", ident) as blob:
                blob.write(data)
            db.execute(
                "UPDATE groups SET tail = ?, snapshot_number = ? WHERE id = ?",
                (max(tail, number), number, ident),
            )

    def drop(self, group: str, epoch: int) -> None:
        """See Journals."""
        now = time.time()
        with self._file(group).transaction() as db:
            _fence(db, group, epoch)
            (ident,) = db.execute("SELECT id FROM groups WHERE name = ?", (group,)).fetchone()
            db.execute("DELETE FROM entries WHERE group_id = ?", (ident,))
            db.execute("DELETE FROM snapshots WHERE group_id = ?", (ident,))
            db.execute(
                "UPDATE groups SET tail = 0, snapshot_number = 0, dropped = ? WHERE id = ?", (now, ident)
            )
            db.execute(
                "DELETE FROM groups WHERE id IN (SELECT id FROM groups WHERE dropped < ? LIMIT ?)",
                (now - FENCE_KEEP_S, _FORGET_AT_ONCE),
            )

    def groups(self) -> list[str]:
        """See Journals."""
        found: list[str] = []
        for file in self._files:
            with file.reading() as db:
                found += [
                    name
                    for (name,) in db.execute(
                        "SELECT name FROM groups WHERE tail > 0 OR id IN (SELECT group_id FROM snapshots)"
                    )
                ]
        return sorted(found)

    def close(self) -> None:
        """See Journals."""
        for file in self._files:
            file.close()

    def _number(self, group: str) -> int:
        if not self._files:
            raise StoreError(f"group {group}: the store is closed")
        return zlib.crc32(group.encode()) % len(self._files)

    def _file(self, group: str) -> SqliteFile:
        return self._files[self._number(group)]


def _files_of(file: SqliteFile, files: int, number: int) -> int:
    """How many files the folder's journals are in; says it in a new one."""
    query = "SELECT files FROM folder"
    with file.reading() as db:
        row = db.execute(query).fetchone()
    if row is None:
        with file.transaction() as db:
            row = db.execute(query).fetchone()
            if row is None:
                db.execute("INSERT INTO folder VALUES (?, ?)", (files, number))
    return int(row[0]) if row is not None else files


def _fence(db: sqlite3.Connection, group: str, epoch: int) -> int:
    """Make `epoch` the one that has the group open, which then is in use; returns the one before. Raises Fenced."""
    row = db.execute("SELECT epoch, dropped FROM groups WHERE name = ?", (group,)).fetchone()
    before, dropped = row or (0, None)
    if before > epoch:
        raise Fenced(group, before)
    if before < epoch or dropped is not None:
        db.execute(
            "INSERT INTO groups (name, epoch) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch, dropped = NULL",
            (group, epoch),
        )
    return int(before)


def _load(file: SqliteFile, db: sqlite3.Connection, group: str, before: int) -> Loaded | StoreError:
    """What the journal of a group holds, which `before` had open."""
    ident, tail, number = db.execute(
        "SELECT id, tail, snapshot_number FROM groups WHERE name = ?", (group,)
    ).fetchone()
    found = db.execute("SELECT data FROM snapshots WHERE group_id = ?", (ident,)).fetchone()
    entries = [
        data
        for (data,) in db.execute(
            "SELECT data FROM entries WHERE group_id = ? AND number > ? AND number <= ? ORDER BY number",
            (ident, number, tail),
        )
    ]
    if len(entries) != tail - number or (number and found is None):
        return file.damaged(f"group {group}: {len(entries)} entries from {number} to {tail}")
    return Loaded(found[0] if found else None, number, entries, tail, before)


def _append_next(file: SqliteFile, batch: Sequence[Append], until: float) -> bool:
    """Append all of it in one statement; returns False, and does nothing, where one of them is anything but next in its group, or
    where they are too many for a statement."""
    values: list[object] = []
    for asked in batch:
        if not asked.entries:
            return False
        for number, data in enumerate(asked.entries, asked.after + 1):
            values += (asked.group, asked.epoch, number, data)
    count = len(values) // 4
    if count > _MOST_IN_A_STATEMENT:
        return False
    rows = ",".join(["(?,?,?,?)"] * count)
    try:
        file.write(f"INSERT INTO next_entries VALUES {rows}", values, until)
    except sqlite3.IntegrityError:
        return False
    return True


def _append(db: sqlite3.Connection, asked: Append) -> Fenced | WentBack | None:
    row = db.execute("SELECT id, epoch, tail, dropped FROM groups WHERE name = ?", (asked.group,)).fetchone()
    ident, epoch, tail, dropped = row or (0, 0, 0, None)
    verdict = judge(asked, epoch, tail)
    if not isinstance(verdict, int):
        return verdict
    if verdict and not _same(db, ident, asked, verdict):
        return Fenced(asked.group, epoch)
    if verdict == len(asked.entries):
        return None
    db.executemany(
        "INSERT INTO entries VALUES (?, ?, ?)",
        [(ident, asked.after + 1 + at, asked.entries[at]) for at in range(verdict, len(asked.entries))],
    )
    db.execute("UPDATE groups SET tail = ? WHERE id = ?", (asked.after + len(asked.entries), ident))
    if dropped is not None:
        db.execute("UPDATE groups SET dropped = NULL WHERE id = ?", (ident,))
    return None


def _same(db: sqlite3.Connection, ident: int, asked: Append, count: int) -> bool:
    """Whether the first `count` entries are those that the journal has (as far as no snapshot has replaced them)."""
    rows = db.execute(
        "SELECT number, data FROM entries WHERE group_id = ? AND number > ? AND number <= ?",
        (ident, asked.after, asked.after + count),
    )
    return all(asked.entries[number - asked.after - 1] == data for number, data in rows)
