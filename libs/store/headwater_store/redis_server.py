"""What all that the store keeps in Redis goes through: connections, scripts, what `committed` means there, errors with a remedy.

Committed is what the server has written to its append-only file (before it answers), and what so many replicas have as
`?replicas=N` asks for. A fail-over to a replica that lacked the last writes loses them: none that was committed where N is the
number of replicas that there are. With fewer it depends on which one Sentinel chooses.
"""

import hashlib
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from headwater_store.errors import StoreAway, StoreError
from headwater_store.redis_address import RedisAddress
from headwater_store.url import StoreUrl

CONNECT_S, ANSWER_S = 1.0, 2.0
WAIT_MS = 1000
"""So long the replicas have to acknowledge."""
PREFIX = "headwater"
"""Of all keys: another DB number is another store."""

Command = tuple[str | bytes | int, ...]
_SCRIPTS: dict[str, str] = {}
_LOST = (AuthenticationError, AuthorizationError, NoPermissionError)
_AWAY = (
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
)
"""Answers after which the same call may succeed later; redis.io/docs/latest/develop/reference/protocol-spec (error prefixes)."""


def script(text: str) -> str:
    """A server-side script, known from now on by what this returns."""
    sha = hashlib.sha1(text.encode()).hexdigest()
    _SCRIPTS[sha] = text
    return sha


def call(sha: str, keys: Sequence[str], *args: str | bytes | int) -> Command:
    """The command that runs a script."""
    return ("EVALSHA", sha, len(keys), *keys, *args)


class RedisServer:
    """A connection to one server, or to whichever Sentinel names. Every native thread has connections of its own: where gevent
    has patched the sockets they belong to the thread's loop. One call at a time. Raises StoreAway or another StoreError."""

    def __init__(self, url: StoreUrl) -> None:
        self._address = RedisAddress.parse(url)
        self._clients: dict[int, redis.Redis] = {}
        self._closed = False
        self._unsure: StoreAway | None = None
        self._check(StoreError)
        # Calls will come from another thread; this one's connection would only be idle.
        self.rest()

    def run(self, commands: Iterable[Command]) -> list[Any]:
        """Commands that write, in one round trip: committed when this returns. Each is carried out whole or not at all."""
        sent = list(commands)
        replicas = self._address.replicas
        answers = self._send([*sent, ("WAIT", replicas, WAIT_MS)] if replicas else sent)
        acknowledged = answers.pop() if replicas else 0
        if acknowledged < replicas:
            raise StoreAway(
                f"{self}: {acknowledged} of {replicas} replicas have what was written within {WAIT_MS} ms; "
                "look whether they run and follow, or lower replicas="
            )
        return answers

    def read(self, commands: Iterable[Command]) -> list[Any]:
        """Commands that only read, all as of one moment."""
        return self._send(list(commands), transaction=True)

    def keys(self, pattern: str) -> list[str]:
        """All keys like that, by and by: others may come and go meanwhile."""
        found: set[str] = set()
        cursor = 0
        while True:
            cursor, some = self._send([("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)])[0]
            found.update(key.decode() for key in some)
            if not int(cursor):
                return sorted(found)

    def rest(self) -> None:
        """Give up this thread's connections; the next call makes new ones."""
        client = self._clients.pop(threading.get_native_id(), None)
        if client is not None:
            _disconnect(client)

    def close(self) -> None:
        """Of no use from now on; this thread's connections end, and those of other threads when these `rest`. A second call
        does nothing."""
        self._closed = True
        self.rest()

    def __str__(self) -> str:
        return self._address.shown

    def _send(self, commands: list[Command], *, transaction: bool = False) -> list[Any]:
        if self._closed:
            raise StoreError(f"{self}: closed")
        if self._unsure is not None:
            # It may be another server now, or a restarted one.
            self._check(StoreAway)
        answers = self._execute(commands, transaction)
        if any(isinstance(answer, NoScriptError) for answer in answers):
            # Every script can be run again. One that ran already finds that it did.
            self._execute([("SCRIPT LOAD", text) for text in _SCRIPTS.values()])
            answers = self._execute(commands, transaction)
        for answer in answers:
            if isinstance(answer, RedisError):
                raise self._failed(answer) from answer
        return answers

    def _execute(self, commands: list[Command], transaction: bool = False) -> list[Any]:
        try:
            with self._client().pipeline(transaction=transaction) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py has no types there
                return list(pipeline.execute(raise_on_error=False))
        except (RedisError, OSError) as error:
            raise self._failed(error) from error

    def _client(self) -> redis.Redis:
        ident = threading.get_native_id()
        client = self._clients.get(ident)
        if client is None:
            client = self._clients[ident] = _connect(self._address)
        return client

    def _failed(self, error: Exception) -> StoreError:
        """The error to raise; after one that may pass the connections are made anew, maybe to another server."""
        text = " ".join(str(error).split())
        if isinstance(error, _LOST) or text.startswith(("NOAUTH", "NOPERM", "WRONGPASS")):
            return StoreError(
                f"{self}: refuses this user: {text}; give USER:PASSWORD@ in the URL, and the user rights"
            )
        if isinstance(error, ResponseError):
            kind = _prefix(error)
            if kind not in _AWAY:
                return StoreError(
                    f"{self}: {text}; look whether other programs use keys that begin with {PREFIX}:"
                )
            text = f"{text}; the same will do again when the server takes writes"
        elif isinstance(error, MasterNotFoundError):
            # What redis-py says of it is long, and made of objects that know the password.
            text = f"no Sentinel there knows of a running master {self._address.service}; look whether they run, and its name"
        else:
            text = f"cannot be reached: {text or type(error).__name__}; look whether it runs there and is reachable"
        self.rest()
        self._unsure = StoreAway(f"{self}: {text}")
        return self._unsure

    def _check(self, kind: type[StoreError]) -> None:
        """Raises that kind of error where the server would not keep what it is given."""
        if self._address.aof_checked:
            names = ("appendonly", "appendfsync", "maxmemory-policy")
            answers = self._execute([("CONFIG GET", name) for name in names])
            found = {name: _setting(answer, name) for name, answer in zip(names, answers, strict=True)}
            refused = next((answer for answer in answers if isinstance(answer, RedisError)), None)
            if refused is not None:
                if _prefix(refused) in _AWAY or isinstance(refused, AuthenticationError):
                    raise self._failed(refused) from refused
                raise kind(
                    f"{self}: does not say whether it keeps an append-only file ({refused}); "
                    "give aof=unchecked when you know that it does"
                )
            self._judge(found, kind)
        else:
            for answer in self._execute([("PING",)]):
                if isinstance(answer, RedisError):
                    raise self._failed(answer) from answer
        self._unsure = None

    def _judge(self, found: dict[str, str], kind: type[StoreError]) -> None:
        if found["appendonly"] != "yes":
            raise kind(
                f"{self}: appendonly is {found['appendonly']}, expected yes: nothing would survive the server's end; "
                "set it there, or give aof=unchecked to go without"
            )
        if self._address.durability == "power" and found["appendfsync"] != "always":
            raise kind(
                f"{self}: appendfsync is {found['appendfsync']}, expected always for durability=power; "
                "set it there, or leave that option out"
            )
        if found["maxmemory-policy"].startswith("allkeys-"):
            raise kind(
                f"{self}: maxmemory-policy is {found['maxmemory-policy']}, expected noeviction: the server would throw "
                "away what must last; set it there"
            )


def _prefix(error: Exception) -> str:
    """The word in capitals that a server's error begins with; redis-py takes some off and has classes for them."""
    by_class = {
        redis.exceptions.BusyLoadingError: "LOADING",
        redis.exceptions.ReadOnlyError: "READONLY",
        redis.exceptions.MasterDownError: "MASTERDOWN",
        redis.exceptions.ClusterDownError: "CLUSTERDOWN",
        redis.exceptions.TryAgainError: "TRYAGAIN",
        redis.exceptions.OutOfMemoryError: "OOM",
    }
    known = next((word for cls, word in by_class.items() if isinstance(error, cls)), None)
    return known or str(error).split(" ", 1)[0]


def _setting(answer: Any, name: str) -> str:
    """The value in an answer to CONFIG GET, which redis-py makes a map."""
    return str(answer.get(name, "unknown")) if isinstance(answer, dict) else "unknown"


def _connect(address: RedisAddress) -> redis.Redis:
    """Opens nothing yet. No retries here: how long a call may take is the store's promise."""
    bounds: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_S,
        "socket_timeout": ANSWER_S,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    options = {**bounds, "db": address.db, "username": address.username, "password": address.password}
    if address.service:
        sentinel = Sentinel(list(address.hosts), sentinel_kwargs=bounds)  # type: ignore[no-untyped-call]  # has no types
        return cast(redis.Redis, sentinel.master_for(address.service, **options))  # type: ignore[no-untyped-call]
    if address.tls:
        options |= {"ssl": True, "ssl_ca_certs": address.ca}
    host, port = address.hosts[0]
    return redis.Redis(host=host, port=port, **options)


def _disconnect(client: redis.Redis) -> None:
    sentinel = getattr(client.connection_pool, "sentinel_manager", None)
    for each in (client, *(sentinel.sentinels if sentinel is not None else ())):
        with suppress(RedisError, OSError):
            each.connection_pool.disconnect()
