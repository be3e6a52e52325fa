"""Records in a SQLite file of a folder: WAL, one writer.

`synchronous=NORMAL` writes a commit to the operating system before it returns, so that no kill of a process loses it;
`?durability=power` (FULL) waits for the disk as well (sqlite.org/pragma.html, sqlite.org/wal.html).
"""

import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path

from headwater_store.errors import StoreError
from headwater_store.url import StoreUrl

FORMAT = 1
"""`user_version` of the file: raised whenever an older program could not read what a newer one wrote."""
BUSY_S = 2.0
"""How long to wait for a former holder of the file to go: it may be draining while its successor starts."""
_LAST = "\U0010ffff"
_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full; make room, nothing was changed",
    sqlite3.SQLITE_BUSY: "another process has it open; stop that one, or give another folder",
    sqlite3.SQLITE_LOCKED: "another process has it open; stop that one, or give another folder",
    sqlite3.SQLITE_READONLY: "not writable; make it and its folder writable for this user, or give another folder",
    sqlite3.SQLITE_PERM: "not writable; make it and its folder writable for this user, or give another folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; make it and its folder writable for this user, or give another folder",
    sqlite3.SQLITE_CORRUPT: "damaged; restore it from a backup, or move it away to start without what it holds",
    sqlite3.SQLITE_NOTADB: "not a SQLite file; restore it from a backup, or move it away to start without what it held",
    sqlite3.SQLITE_IOERR: "the disk reports an error; look at the system's log",
}


class SqliteRecords:
    """Implements `Records` in FOLDER/NAME.sqlite. See there; the constructor raises StoreError too."""

    def __init__(self, url: StoreUrl, name: str) -> None:
        folder = Path(url.path)
        self.path = folder / f"{name}.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{folder}: cannot be used as a folder: {error.strerror}; give another one, or let this user make it"
            ) from error
        self._db: sqlite3.Connection | None = None
        try:
            # Calls come from a thread beside the event loop, one at a time: the owner sees to that.
            self._db = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._prepare(self._db, "FULL" if url.durability == "power" else "NORMAL")
        except sqlite3.Error as error:
            self.close()
            raise self._explain(error) from error
        except StoreError:
            self.close()
            raise

    def _prepare(self, db: sqlite3.Connection, synchronous: str) -> None:
        # Exclusive: two registries on one table would grant the same epoch twice.
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA synchronous={synchronous}")
        db.execute("BEGIN IMMEDIATE")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            raise StoreError(
                f"{self.path}: written in format {found} by a newer Headwater, this one reads format {FORMAT}; "
                "start the newer one, or give another folder"
            )
        db.execute(
            "CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
        )
        db.execute(f"PRAGMA user_version={FORMAT}")
        db.execute("COMMIT")
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise StoreError(f"{self.path}: {_REMEDIES[sqlite3.SQLITE_CORRUPT]} ({verdict})")

    def load(self, prefix: str = "") -> dict[str, bytes]:
        """See Records."""
        db = self._open()
        try:
            rows = db.execute(
                "SELECT key, value FROM records WHERE key >= ? AND key < ? ORDER BY key",
                (prefix, prefix + _LAST),
            )
            return {key: bytes(value) for key, value in rows}
        except (sqlite3.Error, TypeError) as error:
            raise self._explain(error) from error

    def write(self, put: Mapping[str, bytes], delete: Collection[str] = ()) -> None:
        """See Records."""
        db = self._open()
        try:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("DELETE FROM records WHERE key = ?", [(key,) for key in delete])
            db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?)", list(put.items()))
            db.execute("COMMIT")
        except sqlite3.Error as error:
            if db.in_transaction:
                try:
                    db.execute("ROLLBACK")
                except sqlite3.Error:
                    pass  # Some failures (a full disk) have rolled back already; the first error is the one to tell.
            raise self._explain(error) from error

    def close(self) -> None:
        """See Records."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError(f"{self.path}: closed")
        return self._db

    def _explain(self, error: Exception) -> StoreError:
        code = getattr(error, "sqlite_errorcode", None)
        # The low byte is the kind of the error, the rest says more of it (sqlite.org/rescode.html).
        remedy = _REMEDIES.get(code & 0xFF) if code is not None else None
        return StoreError(f"{self.path}: {remedy} ({error})" if remedy else f"{self.path}: {error}")
