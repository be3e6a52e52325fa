"""Headwater's store: small durable records. Which engine keeps them is the scheme of a URL (`sqlite:PATH`)."""

from headwater_store.errors import StoreError
from headwater_store.records import Records, open_records
from headwater_store.url import StoreUrl, sqlite_url

__all__ = ["Records", "StoreError", "StoreUrl", "open_records", "sqlite_url"]
