"""What the application has asked to be told about a SharedObject: its callbacks run one after the other, in transactions."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headwater_amf import AmfError, amf0
from headwater_bus.logs import get_log

from headwater_origin import hooks
from headwater_origin.errors import GroupLost
from headwater_origin.objects.operations import CLEAR, REMOVE, SEND, SET, Row
from headwater_origin.objects.slot_values import decoded_value

if TYPE_CHECKING:
    from headwater_origin.group import Group

_log = get_log("origin")


class Watchers:
    """Callbacks for one object. `group` is the application's; `keys` are the slots that there are now."""

    def __init__(self, group: "Group", name: str, keys: Iterable[str]) -> None:
        self._group, self._name = group, name
        self._keys = set(keys)
        """Which slots there are: Clear does not say."""
        self._on_change: list[Callable[[dict[str, Any]], object]] = []
        self._on_message: dict[str, list[Callable[..., object]]] = {}
        self._news: deque[dict[str, bytes | None] | bytes] = deque()
        """Slots (None: gone) or a message, in order."""
        self._working = False

    def on_change(self, function: Callable[[dict[str, Any]], object]) -> None:
        """Have a function called with the slots that others changed, None for those that are gone."""
        self._on_change.append(function)

    def on_message(self, handler: str, function: Callable[..., object]) -> None:
        """Have a function called with the arguments of others' messages for this handler."""
        self._on_message.setdefault(handler, []).append(function)

    def observe(self, rows: Sequence[Row], own: bool) -> None:
        """A commit; `own`: the application's."""
        for kind, key, value in rows:
            if kind == SET:
                self._keys.add(key)
                self._changed({key: value}, own)
            elif kind == REMOVE:
                self._keys.discard(key)
                self._changed({key: None}, own)
            elif kind == CLEAR:
                gone, self._keys = self._keys, set()
                self._changed(dict.fromkeys(gone), own)
            elif kind == SEND and not own and self._on_message:
                self._add(value)
        # What the next commit changes is told apart, unless too much waits already.
        if not own and self._on_change and self._news and len(self._news) < self._group.config.inbox_messages:
            self._news.append({})

    def replaced(self, before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
        """The content was read anew: what differs has changed."""
        self._keys = set(after)
        changes: dict[str, bytes | None] = {key: None for key in before if key not in after}
        changes.update((key, value) for key, value in after.items() if before.get(key) != value)
        self._changed(changes, own=False)

    def _changed(self, slots: Mapping[str, bytes | None], own: bool) -> None:
        if own or not self._on_change or not slots:
            return
        last = self._news[-1] if self._news else None
        if isinstance(last, dict):
            last.update(slots)
            self._start()
        else:
            self._add(dict(slots))

    def _add(self, news: dict[str, bytes | None] | bytes) -> None:
        if isinstance(news, bytes) and len(self._news) >= self._group.config.inbox_messages:
            self._group.counters.handler_errors += 1
            _log.error(
                "message not told to the application: too many wait",
                group=self._group.name,
                object=self._name,
            )
            return
        self._news.append(news)
        self._start()

    def _start(self) -> None:
        if not self._working:
            self._working = True
            self._group.run(self._work)

    def _work(self) -> None:
        while self._news:
            news = self._news.popleft()
            if isinstance(news, bytes):
                self._tell_message(news)
            elif news:
                changes = {key: None if raw is None else decoded_value(raw) for key, raw in news.items()}
                for on_change in list(self._on_change):
                    self._run("on_change", on_change, changes)
        self._working = False

    def _tell_message(self, raw: bytes) -> None:
        try:
            handler, *args = amf0.decode_all(raw)
        except AmfError as error:
            _log.warning("message not readable", group=self._group.name, object=self._name, error=str(error))
            return
        for on_message in list(self._on_message.get(handler, ())):
            self._run(f"on_message {handler}", on_message, *args)

    def _run(self, what: str, function: Callable[..., object], *args: Any) -> None:
        if self._group.stopped:
            return
        try:
            hooks.run(self._group, function, args)
        except GroupLost:
            pass  # Its next owner's application hears of what comes then.
        except hooks.FAILURES as error:
            hooks.failed(self._group, f"{what} of {self._name!r}", error)
