"""Writers of journals in processes of their own, for tests that break them: `python -m support.store_writer MODE URL ...`.

It imports nothing but the store, and forks: a hundred writers start in a second.

- `killed URL SEED KILLS ENTRIES`: a writer after the other, each at the next epoch, is killed with -9 at a random moment;
- `race URL SEED ROUNDS`: two at a time write to one group with different epochs;
- `endure URL`: one writer that makes each call again until it is answered; ends with its standard input.

Each checks what the journals hold at the end against what was acknowledged, and exits with a traceback where that differs.
"""

import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial

from headwater_store import Append, Fenced, Journals, StoreAway, WentBack, open_journals

GROUPS = ("chat/a", "chat/b", "chat/c")
_Acknowledged = dict[tuple[str, int], int]
"""Which epoch wrote an entry, by its group and number."""


def _entry(group: str, number: int, epoch: int) -> bytes:
    return b"%s|%d|%d|%s." % (group.encode(), number, epoch, b"x" * (number * 37 % 300))


def _contents(journals: Journals, group: str, epoch: int) -> list[bytes]:
    """All entries there ever were: a snapshot is those that it replaced. None is there twice, none half."""
    loaded = journals.open(group, epoch)
    found = (loaded.snapshot.split(b"\n") if loaded.snapshot else []) + loaded.entries
    assert len(found) == loaded.tail, (group, len(found), loaded.tail)
    for at, entry in enumerate(found):
        assert entry == _entry(group, at + 1, int(entry.split(b"|")[2])), (group, at, entry)
    return found


def _check(url: str, groups: list[str], acknowledged: _Acknowledged) -> int:
    journals = _patiently_opened(url)
    total = 0
    for group in groups:
        found = _contents(journals, group, 2**40)
        total += len(found)
        for (of, number), epoch in acknowledged.items():
            if of == group:
                assert number <= len(found), (
                    f"{group}: entry {number} was acknowledged, {len(found)} are there"
                )
                assert found[number - 1] == _entry(group, number, epoch), (number, epoch, found[number - 1])
    journals.close()
    return total


def _patiently_opened(url: str) -> Journals:
    """Just after a fail-over Sentinel may know no master for a moment."""
    until = time.monotonic() + 20
    while True:
        try:
            return open_journals(url)
        except StoreAway:
            if time.monotonic() > until:
                raise
        time.sleep(0.05)


def _append(journals: Journals, batch: list[Append], out: int) -> list[Fenced | WentBack | None]:
    """Appends, and says so: a line of `GROUP FIRST LAST EPOCH` for each that was accepted, all in one write."""
    outcomes = journals.append(batch)
    lines = [
        f"{asked.group} {asked.after + 1} {asked.after + len(asked.entries)} {asked.epoch}\n"
        for asked, outcome in zip(batch, outcomes, strict=True)
        if outcome is None and asked.entries
    ]
    os.write(out, "".join(lines).encode())
    return outcomes


def _note(acknowledged: _Acknowledged, text: bytes) -> int:
    """Takes down whole lines; returns how many entries they are."""
    count = 0
    for line in text.decode().splitlines():
        group, first, last, epoch = line.split()
        for number in range(int(first), int(last) + 1):
            assert (group, number) not in acknowledged, (
                f"{line}: acknowledged to epoch {acknowledged[group, number]}, too"
            )
            acknowledged[group, number] = int(epoch)
            count += 1
    return count


def _doomed(url: str, epoch: int, out: int) -> None:
    """Writes until it is killed: a few entries to some groups at once, and a snapshot now and then."""
    chance = random.Random(epoch)
    journals = open_journals(url)
    contents = {group: _contents(journals, group, epoch) for group in GROUPS}
    while True:
        batch = []
        for group in chance.sample(GROUPS, chance.randint(1, len(GROUPS))):
            after = len(contents[group])
            entries = [_entry(group, after + 1 + at, epoch) for at in range(chance.randint(1, 10))]
            contents[group] += entries
            batch.append(Append(group, epoch, after, entries))
        outcomes = _append(journals, batch, out)
        assert outcomes == [None] * len(batch), outcomes
        if chance.random() < 0.05:
            group = chance.choice(GROUPS)
            journals.snapshot(group, epoch, len(contents[group]), b"\n".join(contents[group]))


def killed(url: str, seed: int, kills: int, entries: int) -> None:
    """See the module."""
    chance = random.Random(seed)
    open_journals(url).close()
    acknowledged: _Acknowledged = {}
    epoch = 0
    while epoch < kills or len(acknowledged) < entries:
        epoch += 1
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _in_child(partial(_doomed, url, epoch, writer))
        os.close(writer)
        # One in five is killed while it opens or loads, the others while they append.
        appends = max(0, chance.randint(-3, 12))
        for _ in range(appends):
            _note(acknowledged, os.read(reader, 65536))
        time.sleep(chance.uniform(0, 0.001 if appends else 0.02))
        os.kill(pid, signal.SIGKILL)
        while rest := os.read(reader, 65536):
            _note(acknowledged, rest)
        os.close(reader)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL, "a writer ended by itself"
    total = _check(url, list(GROUPS), acknowledged)
    print(f"kills {epoch} acknowledged {len(acknowledged)} there {total}")


def _rival(url: str, group: str, epoch: int, out: int, start_at: float) -> None:
    """Writes one by one: the first until another has the group, the second 100."""
    time.sleep(max(0.0, start_at - time.monotonic()))
    journals = open_journals(url)
    try:
        tail = len(_contents(journals, group, epoch))
    except Fenced:
        return
    for number in range(tail + 1, tail + (101 if epoch == 2 else 1_000_000)):
        outcome = _append(journals, [Append(group, epoch, number - 1, [_entry(group, number, epoch)])], out)[
            0
        ]
        if outcome is not None:
            assert isinstance(outcome, Fenced), outcome
            assert outcome.epoch > epoch
            return


def race(url: str, seed: int, rounds: int) -> None:
    """See the module."""
    chance = random.Random(seed)
    open_journals(url).close()
    acknowledged: _Acknowledged = {}
    fenced = 0
    groups = [f"race/{number}" for number in range(rounds)]
    for group in groups:
        reader, writer = os.pipe()
        now = time.monotonic()
        pids = []
        for epoch in (1, 2):
            start_at = now + chance.uniform(0, 0.005 * epoch)
            pids.append(os.fork())
            if pids[-1] == 0:
                os.close(reader)
                _in_child(partial(_rival, url, group, epoch, writer, start_at))
        os.close(writer)
        while text := os.read(reader, 65536):
            _note(acknowledged, text)
        os.close(reader)
        for pid in pids:
            assert os.waitpid(pid, 0)[1] == 0
        # Whatever the older one wrote stands before all that the newer one wrote.
        epochs = [epoch for (of, _), epoch in sorted(acknowledged.items()) if of == group]
        assert epochs == sorted(epochs)
        assert epochs.count(2) == 100
        fenced += epochs.count(1) > 0
    _check(url, groups, acknowledged)
    print(f"rounds {rounds} acknowledged {len(acknowledged)} fenced while writing {fenced}")


def endure(url: str) -> None:
    """See the module. Prints a line for each hundred entries, and `away` when the store is."""
    journals = open_journals(url)
    acknowledged: _Acknowledged = {}
    number, again, longest_s = 1, 0, 0.0
    journals.open("chat/a", 1)
    while not select.select([sys.stdin], [], [], 0)[0]:
        began = time.monotonic()
        try:
            outcome = journals.append([Append("chat/a", 1, number - 1, [_entry("chat/a", number, 1)])])[0]
        except StoreAway as error:
            if not again:
                print(f"away {error}", flush=True)
            again += 1
            time.sleep(0.01)
            continue
        finally:
            longest_s = max(longest_s, time.monotonic() - began)
        assert outcome is None, outcome
        if again:
            print("back", flush=True)
        again = 0
        acknowledged["chat/a", number] = 1
        if number % 100 == 0:
            print(f"entries {number}", flush=True)
        number += 1
    journals.close()
    total = _check(url, ["chat/a"], acknowledged)
    assert total == len(acknowledged), (total, len(acknowledged))
    assert longest_s < 10, f"a call took {longest_s} s"
    print(f"acknowledged {len(acknowledged)} there {total}", flush=True)


def _in_child(work: Callable[[], None]) -> None:
    """Never returns: whatever happens, the child does not go on as its parent."""
    status = 1
    try:
        work()
        status = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def main() -> None:
    """See the module."""
    mode, url, *numbers = sys.argv[1:]
    if mode == "killed":
        seed, kills, entries = map(int, numbers)
        killed(url, seed, kills, entries)
    elif mode == "race":
        seed, rounds = map(int, numbers)
        race(url, seed, rounds)
    else:
        endure(url)


if __name__ == "__main__":
    main()
