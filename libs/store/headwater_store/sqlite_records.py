"""Records in a SQLite file, which one process holds."""

import math
from collections.abc import Collection, Mapping

from headwater_store.sqlite import Schema, SqliteFile, sqlite_folder
from headwater_store.url import StoreUrl

_SCHEMA = Schema(
    1, ("CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",)
)
_LAST = "\U0010ffff"


class SqliteRecords:
    """Implements `Records` in FOLDER/NAME.sqlite. See there; the constructor raises StoreError too."""

    def __init__(self, url: StoreUrl, name: str) -> None:
        url.only("files")
        # Exclusive: two registries on one table would grant the same epoch twice.
        self._file = SqliteFile(
            sqlite_folder(url) / f"{name}.sqlite", _SCHEMA, url.durability, exclusive=True
        )
        try:
            self._file.check()
        except BaseException:
            self.close()
            raise

    @property
    def held_until(self) -> float:
        """See Records: the file is locked."""
        return math.inf

    def take(self) -> bool:
        """See Records."""
        return True

    def load(self, prefix: str = "") -> dict[str, bytes]:
        """See Records."""
        query = "SELECT key, value FROM records WHERE key >= ? AND key < ? ORDER BY key"
        try:
            with self._file.reading() as db:
                return {key: bytes(value) for key, value in db.execute(query, (prefix, prefix + _LAST))}
        except TypeError as error:
            raise self._file.explain(error) from error

    def write(self, put: Mapping[str, bytes], delete: Collection[str] = ()) -> None:
        """See Records."""
        with self._file.transaction() as db:
            db.executemany("DELETE FROM records WHERE key = ?", [(key,) for key in delete])
            db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?)", list(put.items()))

    def close(self) -> None:
        """See Records."""
        self._file.close()
