"""Leased records in a SQLite file, which all processes of a machine share."""

import time
from collections.abc import Sequence

from headwater_store.errors import Held, Lost
from headwater_store.leases import LeaseWrite, Taken
from headwater_store.sqlite import Schema, SqliteFile, sqlite_folder
from headwater_store.url import StoreUrl

_FORGET_AT_ONCE = 100
_SCHEMA = Schema(
    1,
    (
        # `until`: seconds since 1970.
        "CREATE TABLE leases (key TEXT PRIMARY KEY, holder TEXT NOT NULL, fence INTEGER NOT NULL,"
        " until REAL NOT NULL, data BLOB) WITHOUT ROWID",
        "CREATE INDEX leases_until ON leases (until)",
    ),
)


class SqliteLeases:
    """Implements `Leases` in FOLDER/leases-NAME.sqlite. The constructor raises StoreError too."""

    def __init__(self, url: StoreUrl, name: str, keep_s: float) -> None:
        url.only("files")
        self._keep_s = keep_s
        self._file = SqliteFile(sqlite_folder(url) / f"leases-{name}.sqlite", _SCHEMA, url.durability)

    def take(self, key: str, holder: str, lease_s: float) -> Taken:
        """See Leases."""
        now = time.time()
        with self._file.transaction() as db:
            db.execute(
                "DELETE FROM leases WHERE key IN (SELECT key FROM leases WHERE until < ? LIMIT ?)",
                (now - self._keep_s, _FORGET_AT_ONCE),
            )
            row = db.execute("SELECT holder, fence, until, data FROM leases WHERE key = ?", (key,)).fetchone()
            if row is not None and row[2] < now - self._keep_s:
                row = None
            if row is not None and row[0] != holder and row[2] > now:
                raise Held(key, row[0])
            # Microseconds: a record that was forgotten and made anew has a fence that nobody had before.
            fence = max(int(now * 1e6), row[1] + 1 if row is not None else 0)
            data = row[3] if row is not None else None
            db.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?)",
                (key, holder, fence, now + lease_s, data),
            )
        return Taken(data, fence)

    def take_over(self, keys: Sequence[str], holder: str) -> list[Taken | None]:
        """See Leases."""
        now = time.time()
        known = "SELECT fence, data FROM leases WHERE key = ? AND until >= ?"
        with self._file.reading() as db:
            there = [key for key in keys if db.execute(known, (key, now - self._keep_s)).fetchone()]
        taken: dict[str, Taken] = {}
        if there:
            with self._file.transaction() as db:
                for key in there:
                    row = db.execute(known, (key, now - self._keep_s)).fetchone()
                    if row is None:
                        continue
                    taken[key] = Taken(row[1], max(int(now * 1e6), row[0] + 1))
                    db.execute(
                        "UPDATE leases SET holder = ?, fence = ?, until = ? WHERE key = ?",
                        (holder, taken[key].fence, now, key),
                    )
        return [taken.get(key) for key in keys]

    def write(self, key: str, fence: int, data: bytes, lease_s: float) -> None:
        """See Leases."""
        if not self.write_many([LeaseWrite(key, fence, data)], lease_s)[0]:
            raise Lost(key)

    def write_many(self, writes: Sequence[LeaseWrite], lease_s: float) -> list[bool]:
        """See Leases."""
        now = time.time()
        with self._file.transaction() as db:
            return [
                db.execute(
                    "UPDATE leases SET data = ?, until = ? WHERE key = ? AND fence = ? AND until >= ?",
                    (write.data, now + lease_s, write.key, write.fence, now - self._keep_s),
                ).rowcount
                > 0
                for write in writes
            ]

    def release(self, key: str, fence: int) -> None:
        """See Leases."""
        with self._file.transaction() as db:
            db.execute(
                "UPDATE leases SET until = min(until, ?) WHERE key = ? AND fence = ?",
                (time.time(), key, fence),
            )

    def drop(self, key: str, fence: int) -> None:
        """See Leases."""
        with self._file.transaction() as db:
            db.execute("DELETE FROM leases WHERE key = ? AND fence = ?", (key, fence))

    def close(self) -> None:
        """See Leases."""
        self._file.close()
