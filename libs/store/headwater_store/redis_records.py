"""Records in Redis: a hash, held by one process at a time under a lease.

`headwater:records:{NAME}` is the hash, `…:holder` whoever took it last, `…:lease` is there for as long as that one is sure of it.
"""

import secrets
import threading
import time
from collections.abc import Collection, Mapping

from headwater_store.errors import StoreAway, StoreError
from headwater_store.redis_server import PREFIX, RedisServer, call, script
from headwater_store.url import StoreUrl

LEASE_S = 3.0
"""A process that was killed holds the records for so long at most; its successor waits for that."""
_RENEWALS = 3
"""In one lease."""
_TRY_S = 0.1
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
    """Implements `Records`. The constructor waits for a former holder (see LEASE_S) and raises StoreError too. A thread (under
    gevent's patches: a greenlet) of its own keeps the lease."""

    def __init__(self, url: StoreUrl, name: str) -> None:
        self._server, self._name = RedisServer(url), name
        self._keepers_server = RedisServer(url)
        base = f"{PREFIX}:records:{{{name}}}"
        self._keys = [base, f"{base}:holder", f"{base}:lease"]
        self._token, self._lease_ms = secrets.token_hex(8), round(LEASE_S * 1000)
        self._unsure: set[str] = set()
        self._ended = threading.Event()
        try:
            self._take()
            self._committed: dict[str, bytes] = {
                key.decode(): value for key, value in self._server.read([("HGETALL", base)])[0].items()
            }
        except BaseException:
            self._server.close()
            raise
        self._server.rest()
        self._keeper = threading.Thread(target=self._keep, name=f"{name}-lease", daemon=True)
        self._keeper.start()

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
        try:
            self._server.run([call(_RELEASE, self._keys, self._token)])
        except StoreError:
            pass  # It ends by itself.
        self._server.close()

    def _open(self) -> None:
        if self._ended.is_set():
            raise StoreError(f"{self._server}: closed")

    def _take(self) -> None:
        until = time.monotonic() + LEASE_S + 1.0
        while not self._server.run([call(_TAKE, self._keys, self._token, self._lease_ms)])[0]:
            if time.monotonic() > until:
                raise StoreError(
                    f"{self._server}: another process holds its {self._name} records; stop that one, or give another DB"
                )
            time.sleep(_TRY_S)

    def _write(self, server: RedisServer, *changes: str | bytes | int) -> None:
        if not server.run([call(_WRITE, self._keys, self._token, self._lease_ms, *changes)])[0]:
            raise StoreError(
                f"{server}: another process has taken its {self._name} records; stop that one, or this one"
            )

    def _keep(self) -> None:
        while not self._ended.wait(LEASE_S / _RENEWALS):
            try:
                self._write(self._keepers_server, 0)
            except StoreAway:
                continue
            except StoreError:
                break  # The next write says it.
        self._keepers_server.close()
