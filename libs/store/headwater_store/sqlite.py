"""What every SQLite file of the store is: WAL, a format, transactions that roll back, errors with a remedy.

`synchronous=NORMAL` writes a commit to the operating system before it returns, so that no kill of a process loses it;
`?durability=power` (FULL) waits for the disk as well (sqlite.org/pragma.html, sqlite.org/wal.html).
"""

import random
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from headwater_store.errors import StoreAway, StoreError
from headwater_store.url import StoreUrl

BUSY_S = 2.0
"""How long to wait for others: of a shared file for their commits; of an exclusive one for a former holder, which may be
draining while its successor starts."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.0002, 0.005
"""Between two tries. A commit takes some 0.1 ms; SQLite's own busy handler would wait for up to 100 ms."""
WAL_LIMIT_BYTES = 16 * 1024 * 1024
"""SQLite's own checkpoints (each 4 MB) let the WAL begin anew only when nobody has written meanwhile. Past this size a commit is
followed by a checkpoint that keeps writers out for as long as it takes."""
_SHARED = (
    "other processes kept it busy; nothing was changed, try again later, and look what holds it for so long"
)
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
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_AWAY = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, *_BUSY}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Schema:
    """`format` is the `user_version` of the file: raised whenever an older program could not read what a newer one wrote.
    `temporary`: what each connection has for itself beside the file."""

    format: int
    statements: tuple[str, ...]
    temporary: tuple[str, ...] = ()


def sqlite_folder(url: StoreUrl) -> Path:
    """The folder that a URL names, made when it is not there. Raises StoreError."""
    folder = Path(url.path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot be used as a folder: {error.strerror}; give another one, or let this user make it"
        ) from error
    return folder


class SqliteFile:
    """A connection to one file. An exclusive one is held by this process alone. Raises StoreError, StoreAway where a repeated
    call may succeed."""

    def __init__(self, path: Path, schema: Schema, durability: str, *, exclusive: bool = False) -> None:
        self.path = path
        self._exclusive = exclusive
        self._wal = Path(f"{path}-wal")
        self._db: sqlite3.Connection | None = None
        until = time.monotonic() + BUSY_S
        try:
            # Calls come from a thread beside the event loop, one at a time: the owner sees to that.
            db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            self._db = db
            if exclusive:
                db.execute("PRAGMA locking_mode=EXCLUSIVE")
            _patiently(lambda: db.execute("PRAGMA journal_mode=WAL"), until)
            db.execute(f"PRAGMA synchronous={'FULL' if durability == 'power' else 'NORMAL'}")
            self._prepare(schema, until)
            db.execute("PRAGMA temp_store=MEMORY")
            for statement in schema.temporary:
                db.execute(statement)
        except sqlite3.Error as error:
            self.close()
            raise self.explain(error) from error
        except BaseException:
            self.close()
            raise

    def _prepare(self, schema: Schema, until: float) -> None:
        with self.reading() as db:
            found = db.execute("PRAGMA user_version").fetchone()[0]
        if found > schema.format:
            raise StoreError(
                f"{self.path}: written in format {found} by a newer Headwater, this one reads format {schema.format}; "
                "start the newer one, or give another folder"
            )
        if found == schema.format:
            return
        with self.transaction(until) as db:
            # Another process may have been faster.
            if db.execute("PRAGMA user_version").fetchone()[0] == found:
                for statement in schema.statements:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version={schema.format}")

    @contextmanager
    def transaction(self, until: float | None = None) -> Iterator[sqlite3.Connection]:
        """One that writes: committed when the block ends, rolled back whatever it raises. `until`: how long to wait for
        other writers, in monotonic seconds."""
        db = self._open()
        try:
            _patiently(
                lambda: db.execute("BEGIN IMMEDIATE"),
                time.monotonic() + BUSY_S if until is None else until,
            )
            yield db
            db.execute("COMMIT")
        except BaseException as error:
            if db.in_transaction:
                # Some failures (a full disk) have rolled back already; the first error is the one to tell.
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self.explain(error) from error
            raise
        self._look_at_wal(db)

    def write(self, statement: str, values: Sequence[object], until: float) -> None:
        """One statement that is a transaction by itself, patient and safe as `transaction`: sqlite3 gives the interpreter away at
        each step of each statement, and waits for it as long as the event loop has something to do. Raises
        sqlite3.IntegrityError where the statement does."""
        db = self._open()
        try:
            _patiently(lambda: db.execute(statement, values), until)
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise self.explain(error) from error
        self._look_at_wal(db)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One that reads, all of it as of one moment; writers go on."""
        db = self._open()
        try:
            db.execute("BEGIN")
            # The first read takes the moment; it waits only while another process opens or closes the file.
            _patiently(lambda: db.execute("PRAGMA user_version").fetchone(), time.monotonic() + BUSY_S)
            yield db
        except sqlite3.Error as error:
            raise self.explain(error) from error
        finally:
            if db.in_transaction:
                with suppress(sqlite3.Error):
                    db.execute("COMMIT")

    def check(self) -> None:
        """Read all of it. Raises StoreError where it is damaged."""
        with self.reading() as db:
            verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise self.damaged(verdict)

    def close(self) -> None:
        """A second call does nothing."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def damaged(self, seen: str) -> StoreError:
        """The error for content that cannot be."""
        return StoreError(f"{self.path}: {_REMEDIES[sqlite3.SQLITE_CORRUPT]} ({seen})")

    def explain(self, error: Exception) -> StoreError:
        """An error of SQLite with the file and the remedy."""
        code = _code(error)
        remedy = _SHARED if code in _BUSY and not self._exclusive else _REMEDIES.get(code)
        kind = StoreAway if code in _AWAY else StoreError
        return kind(f"{self.path}: {remedy} ({error})" if remedy else f"{self.path}: {error}")

    def _look_at_wal(self, db: sqlite3.Connection) -> None:
        try:
            size = self._wal.stat().st_size
        except FileNotFoundError as error:
            raise StoreError(
                f"{self.path}: its files were removed while this process had them open, so what it writes would be lost; "
                "start it again"
            ) from error
        if size > WAL_LIMIT_BYTES:
            # What is committed is safe whatever happens here, and a later commit tries again.
            with suppress(sqlite3.Error):
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError(f"{self.path}: closed")
        return self._db


def _code(error: Exception) -> int:
    """The kind of an error: the low byte of SQLite's code, whose rest says more of it (sqlite.org/rescode.html); else 0."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else 0


def _patiently(act: Callable[[], T], until: float) -> T:
    """Do it, and again as long as others keep the file busy."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return act()
        except sqlite3.Error as error:
            if _code(error) not in _BUSY or time.monotonic() >= until:
                raise
        time.sleep(random.uniform(pause_s / 2, pause_s))
        pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
