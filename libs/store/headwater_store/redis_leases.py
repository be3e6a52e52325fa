"""Leased records in Redis: a hash each (`holder`, `fence`, `until` in ms since 1970, `data`), which Redis itself forgets."""

from collections.abc import Sequence

from headwater_store.errors import Held, Lost
from headwater_store.leases import LeaseWrite, Taken
from headwater_store.redis_server import PREFIX, RedisServer, call, script
from headwater_store.url import StoreUrl

_NOW = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
"""
# The fence is the time in microseconds: a record that was forgotten and made anew has one that nobody had before.
_TAKE = script(
    _NOW
    + """
local had = redis.call('HMGET', KEYS[1], 'holder', 'fence', 'until', 'data')
if had[1] and had[1] ~= ARGV[1] and tonumber(had[3]) * 1000 > now then return {1, had[1]} end
local fence = string.format('%.0f', math.max(now, tonumber(had[2] or 0) + 1))
local ends = string.format('%.0f', math.floor(now / 1000) + tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'fence', fence, 'until', ends)
redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
return {0, fence, had[4]}
"""
)
_TAKE_OVER = script(
    _NOW
    + """
local had = redis.call('HMGET', KEYS[1], 'fence', 'data')
if not had[1] then return {} end
local fence = string.format('%.0f', math.max(now, tonumber(had[1]) + 1))
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'fence', fence, 'until', string.format('%.0f', math.floor(now / 1000)))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {fence, had[2]}
"""
)
_WRITE = script(
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'fence') ~= ARGV[1] then return 0 end
local ends = string.format('%.0f', math.floor(now / 1000) + tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'data', ARGV[4], 'until', ends)
redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
return 1
"""
)
_RELEASE = script(
    """
if redis.call('HGET', KEYS[1], 'fence') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'until', '0')
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 1
"""
)
_DROP = script(
    "if redis.call('HGET', KEYS[1], 'fence') == ARGV[1] then redis.call('UNLINK', KEYS[1]) end return 1"
)


class RedisLeases:
    """Implements `Leases`. The constructor raises StoreError too."""

    def __init__(self, url: StoreUrl, name: str, keep_s: float) -> None:
        self._server, self._name, self._keep_ms = RedisServer(url), name, _ms(keep_s)

    def take(self, key: str, holder: str, lease_s: float) -> Taken:
        """See Leases."""
        answer = self._server.run([call(_TAKE, self._keys(key), holder, _ms(lease_s), self._keep_ms)])[0]
        if answer[0]:
            raise Held(key, answer[1].decode())
        return Taken(answer[2] if len(answer) > 2 else None, int(answer[1]))

    def take_over(self, keys: Sequence[str], holder: str) -> list[Taken | None]:
        """See Leases."""
        commands = [call(_TAKE_OVER, self._keys(key), holder, self._keep_ms) for key in keys]
        answers = self._server.run(commands) if commands else []
        return [
            Taken(answer[1] if len(answer) > 1 else None, int(answer[0])) if answer else None
            for answer in answers
        ]

    def write(self, key: str, fence: int, data: bytes, lease_s: float) -> None:
        """See Leases."""
        if not self.write_many([LeaseWrite(key, fence, data)], lease_s)[0]:
            raise Lost(key)

    def write_many(self, writes: Sequence[LeaseWrite], lease_s: float) -> list[bool]:
        """See Leases."""
        commands = [
            call(_WRITE, self._keys(write.key), write.fence, _ms(lease_s), self._keep_ms, write.data)
            for write in writes
        ]
        return [bool(written) for written in self._server.run(commands)] if commands else []

    def release(self, key: str, fence: int) -> None:
        """See Leases."""
        self._server.run([call(_RELEASE, self._keys(key), fence, self._keep_ms)])

    def drop(self, key: str, fence: int) -> None:
        """See Leases."""
        self._server.run([call(_DROP, self._keys(key), fence)])

    def close(self) -> None:
        """See Leases."""
        self._server.close()

    def _keys(self, key: str) -> list[str]:
        return [f"{PREFIX}:lease:{self._name}:{{{key}}}"]


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
