"""Records in Redis: a hash, held by one process at a time under a lease.

`headwater:records:{NAME}` is the hash, `…:holder` whoever took it last, `…:lease` is there for as long as that one is sure of it.
"""

import secrets
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress

from headwater_store.errors import StoreAway, StoreError
from headwater_store.redis_server import PREFIX, RedisServer, call, script
from headwater_store.url import StoreUrl

LEASE_S = 1.5
"""A process that was killed holds the records for so long at most; its successor waits for that."""
_RENEWALS = 3
"""In one lease."""
_NEVER = float("-inf")
_TAKE = script(
    """
local holder = redis.call('GET', KEYS[3])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return 1
"""
)
# A lease that ended while the server was away is no loss as long as nobody has taken the records since.
_WRITE = script(
    """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
local first = 4 + tonumber(ARGV[3])
for at = 4, first - 1 do redis.call('HDEL', KEYS[1], ARGV[at]) end
for at = first, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
return 1
"""
)
_RELEASE = script("if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[3]) end return 1")


class RedisRecords:
    """Implements `Records`. The constructor raises StoreError too, and takes nothing. A thread of its own (under gevent's
    patches: a greenlet) keeps the lease."""

    def __init__(self, url: StoreUrl, name: str) -> None:
        self._server, self._name = RedisServer(url), name
        self._keepers_server = RedisServer(url)
        base = f"{PREFIX}:records:{{{name}}}"
        self._keys = [base, f"{base}:holder", f"{base}:lease"]
        self._token, self._lease_s = secrets.token_hex(8), LEASE_S
        self._held_until = _NEVER
        self._holds = False
        self._unsure: set[str] = set()
        self._committed: dict[str, bytes] = {}
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"{name}-lease", daemon=True)
        self._keeper.start()

    @property
    def held_until(self) -> float:
        """See Records."""
        return self._held_until

    def take(self) -> bool:
        """See Records."""
        self._open()
        if self._holds:
            try:
                self._write(self._server, 0)
                return True
            except StoreAway:
                raise
            except StoreError:
                pass  # Another process has had them meanwhile.
        began = time.monotonic()
        if not self._server.run([call(_TAKE, self._keys, self._token, self._lease_ms)])[0]:
            return False
        found = self._server.read([("HGETALL", self._keys[0])])[0]
        self._committed = {key.decode(): value for key, value in found.items()}
        self._unsure.clear()
        self._held_until, self._holds = began + self._lease_s, True
        return True

    @property
    def _lease_ms(self) -> int:
        return round(self._lease_s * 1000)

    def load(self, prefix: str = "") -> dict[str, bytes]:
        """See Records. What this process holds nobody else changes, so it knows it."""
        self._open()
        return {key: self._committed[key] for key in sorted(self._committed) if key.startswith(prefix)}

    def write(self, put: Mapping[str, bytes], delete: Collection[str] = ()) -> None:
        """See Records. After StoreAway nobody knows whether the write took place, and the caller takes it that it did not: the
        next one puts right what it may have changed."""
        self._open()
        puts, deletes = dict(put), set(delete) - put.keys()
        for key in self._unsure - puts.keys() - deletes:
            if key in self._committed:
                puts[key] = self._committed[key]
            else:
                deletes.add(key)
        self._unsure |= puts.keys() | deletes
        pairs = [part for pair in puts.items() for part in pair]
        self._write(self._server, len(deletes), *deletes, *pairs)
        self._unsure.clear()
        for key in deletes:
            self._committed.pop(key, None)
        self._committed.update(puts)

    def close(self) -> None:
        """See Records."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._holds:
            with suppress(StoreError):  # The lease ends by itself.
                self._server.run([call(_RELEASE, self._keys, self._token)])
        self._holds, self._held_until = False, _NEVER
        self._server.close()

    def _open(self) -> None:
        if self._ended.is_set():
            raise StoreError(f"{self._server}: closed")

    def _write(self, server: RedisServer, *changes: str | bytes | int) -> None:
        began = time.monotonic()
        if not server.run([call(_WRITE, self._keys, self._token, self._lease_ms, *changes)])[0]:
            self._held_until, self._holds = _NEVER, False
            raise StoreError(
                f"{server}: another process has taken its {self._name} records; stop that one, or this one"
            )
        self._held_until = max(self._held_until, began + self._lease_s)

    def _keep(self) -> None:
        while not self._ended.wait(self._lease_s / _RENEWALS):
            if self._holds:
                with suppress(StoreError):  # The next write says it.
                    self._write(self._keepers_server, 0)
        self._keepers_server.close()
