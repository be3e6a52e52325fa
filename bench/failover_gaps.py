"""Gaps in what a client receives: silences, and changes that come late. Pure: times in ns of one monotonic clock."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trace:
    """What one client received. `delays_ns` from each change's sending by its writer to its arrival."""

    arrivals_ns: "array[int]"
    delays_ns: "array[int]"

    def before(self, end_ns: int) -> "Trace":
        """What had come until then."""
        count = bisect_left(self.arrivals_ns, end_ns)
        return Trace(self.arrivals_ns[:count], self.delays_ns[:count])


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing came from `start_ns` to `end_ns`. `broken` by an arrival; otherwise what was looked at ended."""

    start_ns: int
    end_ns: int
    broken: bool

    @property
    def length_ms(self) -> float:
        """Of all of it."""
        return (self.end_ns - self.start_ns) / 1e6


def longest_silence(arrivals_ns: Sequence[int], since_ns: int, until_ns: int) -> Silence:
    """The longest that is not over at `since_ns` and begins before `until_ns`; it may end after that. Nothing counts before the
    first arrival."""
    first = max(1, bisect_right(arrivals_ns, since_ns))
    longest = Silence(since_ns, since_ns, True)
    for index in range(first, len(arrivals_ns) + 1):
        start_ns = arrivals_ns[index - 1]
        if start_ns > until_ns:
            break
        broken = index < len(arrivals_ns)
        end_ns = arrivals_ns[index] if broken else max(until_ns, start_ns)
        if end_ns - start_ns > longest.end_ns - longest.start_ns:
            longest = Silence(start_ns, end_ns, broken)
    return longest if arrivals_ns else Silence(since_ns, until_ns, False)


def again_ms(trace: Trace, fault_ns: int, until_ns: int) -> float:
    """From a fault until a change is delivered that was sent after it. What was on its way does not count, so nothing that the
    dead one said does. As long as was looked where none is."""
    first = bisect_left(trace.arrivals_ns, fault_ns)
    for arrival_ns, delay_ns in zip(trace.arrivals_ns[first:], trace.delays_ns[first:], strict=True):
        if arrival_ns - delay_ns >= fault_ns:
            return (arrival_ns - fault_ns) / 1e6
    return (until_ns - fault_ns) / 1e6


def latest_ms(trace: Trace, since_ns: int, until_ns: int) -> float:
    """How late the latest change was of those that came in this time; 0 for none."""
    first, last = bisect_left(trace.arrivals_ns, since_ns), bisect_right(trace.arrivals_ns, until_ns)
    return max(trace.delays_ns[first:last], default=0) / 1e6
