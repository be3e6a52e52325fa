"""Journals in Redis: three keys for each group, changed by server-side scripts, which nothing interrupts.

`headwater:journal:{GROUP}` is a hash (`epoch`, `tail`, `snapshot`: the number up to which it reaches), `…:entries` a list,
`…:snapshot` a string.
"""

from collections.abc import Sequence
from typing import Any

from headwater_store.errors import Fenced, StoreError, WentBack
from headwater_store.journals import FENCE_KEEP_S, Append, Loaded
from headwater_store.redis_server import PREFIX, Command, RedisServer, call, script
from headwater_store.url import StoreUrl

_DONE, _FENCED, _BACK, _BEHIND = range(4)
_READ = """
local had = redis.call('HMGET', KEYS[1], 'epoch', 'tail', 'snapshot')
local epoch, tail, first = tonumber(had[1] or 0), tonumber(had[2] or 0), tonumber(had[3] or 0)
if epoch > tonumber(ARGV[1]) then return {1, epoch} end
"""
_OPEN = script(
    _READ
    + """
redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
redis.call('PERSIST', KEYS[1])
return {0, epoch}
"""
)
# See journals.judge. The tail is set in any case: so that WAIT waits for a repeated append, too.
_APPEND = script(
    _READ
    + """
local after, count = tonumber(ARGV[2]), #ARGV - 2
if epoch < tonumber(ARGV[1]) or tail < after then return {2, tail} end
local there = math.min(tail - after, count)
local from = math.max(after, first)
if after + there > from then
  local same = redis.call('LRANGE', KEYS[2], from - first, after + there - first - 1)
  for at = 1, #same do
    if same[at] ~= ARGV[2 + from - after + at] then return {1, epoch} end
  end
end
for at = 3 + there, #ARGV, 1000 do
  redis.call('RPUSH', KEYS[2], unpack(ARGV, at, math.min(at + 999, #ARGV)))
end
if tail == 0 then redis.call('PERSIST', KEYS[1]) end
redis.call('HSET', KEYS[1], 'tail', string.format('%.0f', math.max(tail, after + count)))
return {0}
"""
)
_SNAPSHOT = script(
    _READ
    + """
local number = tonumber(ARGV[2])
if number < first then return {3, first} end
if number < tail then
  redis.call('LTRIM', KEYS[2], number - first, -1)
else
  redis.call('UNLINK', KEYS[2])
end
redis.call('SET', KEYS[3], ARGV[3])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'tail', string.format('%.0f', math.max(tail, number)), 'snapshot', ARGV[2])
redis.call('PERSIST', KEYS[1])
return {0}
"""
)
_DROP = script(
    _READ
    + """
redis.call('UNLINK', KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'tail', '0', 'snapshot', '0')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return {0}
"""
)
_BASE = f"{PREFIX}:journal:{{"
_CONTENT = ("}:entries", "}:snapshot")


class RedisJournals:
    """Implements `Journals`. The constructor raises StoreError too."""

    def __init__(self, url: StoreUrl) -> None:
        self._server = RedisServer(url)

    def open(self, group: str, epoch: int) -> Loaded:
        """See Journals."""
        (outcome,) = self.open_many([(group, epoch)])
        if isinstance(outcome, StoreError):
            raise outcome
        return outcome

    def open_many(self, wanted: Sequence[tuple[str, int]]) -> list[Loaded | StoreError]:
        """See Journals. Two round trips for all."""
        if not wanted:
            return []
        outcomes: dict[str, Loaded | StoreError] = {}
        try:
            verdicts = self._server.run(call(_OPEN, _keys(group), epoch) for group, epoch in wanted)
            fenced: dict[str, int] = {}
            for (group, _), (verdict, epoch) in zip(wanted, verdicts, strict=True):
                if verdict == _FENCED:
                    outcomes[group] = Fenced(group, epoch)
                else:
                    fenced[group] = int(epoch)
            # Nobody of an older epoch writes from here on.
            found = self._server.read(read for group in fenced for read in _reads(group)) if fenced else []
            for at, (group, before) in enumerate(fenced.items()):
                outcomes[group] = self._loaded(group, before, *found[3 * at : 3 * at + 3])
        except StoreError as error:
            for group, _ in wanted:
                outcomes.setdefault(group, error)
        return [outcomes[group] for group, _ in wanted]

    def _loaded(
        self, group: str, before: int, numbers: list[Any], snapshot: bytes | None, entries: list[bytes]
    ) -> Loaded | StoreError:
        tail, number = (int(value or 0) for value in numbers)
        if len(entries) != tail - number or (number and snapshot is None):
            return StoreError(
                f"{self._server}: damaged: group {group} has {len(entries)} entries from {number} to {tail}; "
                f"restore the server from a backup, or delete {_keys(group)[0]} and what begins so to start without "
                "what it holds"
            )
        return Loaded(snapshot, number, entries, tail, before)

    def append(self, batch: Sequence[Append]) -> list[Fenced | WentBack | None]:
        """See Journals. One round trip; each Append is a script's run."""
        if not batch:
            return []
        answers = self._server.run(
            call(_APPEND, _keys(asked.group)[:2], asked.epoch, asked.after, *asked.entries) for asked in batch
        )
        return [_outcome(asked, answer) for asked, answer in zip(batch, answers, strict=True)]

    def snapshot(self, group: str, epoch: int, number: int, data: bytes) -> None:
        """See Journals."""
        self._run(group, call(_SNAPSHOT, _keys(group), epoch, number, data))

    def drop(self, group: str, epoch: int) -> None:
        """See Journals."""
        self._run(group, call(_DROP, _keys(group), epoch, FENCE_KEEP_S))

    def groups(self) -> list[str]:
        """See Journals."""
        keys = self._server.keys(_BASE + "*")
        return sorted(
            {
                key.removeprefix(_BASE).removesuffix(ending)
                for key in keys
                for ending in _CONTENT
                if key.endswith(ending)
            }
        )

    def close(self) -> None:
        """See Journals."""
        self._server.close()

    def _run(self, group: str, command: Command) -> int:
        """The number that a script answers with besides its verdict; 0 where there is none."""
        verdict, *numbers = self._server.run([command])[0]
        if verdict == _FENCED:
            raise Fenced(group, numbers[0])
        if verdict == _BEHIND:
            raise StoreError(f"group {group}: snapshot of an earlier entry, expected {numbers[0]} or later")
        return int(numbers[0]) if numbers else 0


def _keys(group: str) -> list[str]:
    # What stands in braces decides where a cluster of servers keeps a key: those of a group are together.
    base = f"{_BASE}{group}}}"
    return [base, f"{base}:entries", f"{base}:snapshot"]


def _reads(group: str) -> list[Command]:
    """What reads the journal of a group."""
    key, entries_key, snapshot_key = _keys(group)
    return [("HMGET", key, "tail", "snapshot"), ("GET", snapshot_key), ("LRANGE", entries_key, 0, -1)]


def _outcome(asked: Append, answer: Any) -> Fenced | WentBack | None:
    verdict = answer[0]
    if verdict == _FENCED:
        return Fenced(asked.group, answer[1])
    if verdict == _BACK:
        return WentBack(asked.group, answer[1], asked.after)
    return None
