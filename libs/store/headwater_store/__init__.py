"""Headwater's store: what must outlive a process. Which engine keeps it is the scheme of a URL (`sqlite:PATH`, `redis://...`,
`memory:`): the journals of groups, keyed records held by one process, and records that are leased one by one."""

from headwater_store.engines import open_journals, open_leases, open_records
from headwater_store.errors import Fenced, Held, Lost, StoreAway, StoreError, WentBack
from headwater_store.journals import Append, Journals, Loaded
from headwater_store.leases import Leases, LeaseWrite, Taken
from headwater_store.records import Records
from headwater_store.url import StoreUrl, shown_url, sqlite_url

__all__ = [
    "Append",
    "Fenced",
    "Held",
    "Journals",
    "LeaseWrite",
    "Leases",
    "Loaded",
    "Lost",
    "Records",
    "StoreAway",
    "StoreError",
    "StoreUrl",
    "Taken",
    "WentBack",
    "open_journals",
    "open_leases",
    "open_records",
    "shown_url",
    "sqlite_url",
]
