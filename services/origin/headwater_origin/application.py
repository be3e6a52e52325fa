"""The base class of applications: hooks, policy, and what an application may do to its scope."""

from collections.abc import Callable, MutableMapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, overload

from headwater_origin.errors import Reject
from headwater_origin.objects.access import Access
from headwater_origin.rooms import Room
from headwater_origin.saying import broadcast
from headwater_origin.timers import Timer
from headwater_origin.transaction import transaction

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import gevent

    from headwater_origin.client import Client
    from headwater_origin.group import Group
    from headwater_origin.objects.view import SharedObjectView
    from headwater_origin.transaction import Transaction

Method = TypeVar("Method", bound=Callable[..., Any])
_REMOTE = "_headwater_remote"
_ONCE = "_headwater_once"
_SHORTEST_S = 0.01


@overload
def remote(method: Method, /) -> Method: ...


@overload
def remote(*, retry: bool = True) -> Callable[[Method], Method]: ...


def remote(method: Method | None = None, /, *, retry: bool = True) -> Method | Callable[[Method], Method]:
    """Let clients call this method: `def name(self, client, *args)`. Its result is sent back; a `CallError` that it raises
    becomes `_error`. Methods without this mark are never callable.

    Where the origin dies while it runs, it runs again on the next one, and what it did to the world outside is done twice.
    With `@remote(retry=False)` it does not: the caller gets `_error` NetConnection.Call.Interrupted."""

    def marked(function: Method) -> Method:
        setattr(function, _REMOTE, True)
        setattr(function, _ONCE, not retry)
        return function

    return marked if method is None else marked(method)


class Application:
    """One object for each scope (`app/instance`). Subclasses override hooks and mark methods with `@remote`.

    Hooks and methods run one after the other for each client, in the order of its messages; those of different clients
    interleave where they wait (sleep, a call to a client, a database). What must be ready before the first client belongs
    in `on_start`.
    What a hook or method does to objects, state, attributes, rooms and jobs, and what it says to clients, takes effect all at
    once when it returns; nothing of it does when it raises. Only it itself sees it before. `Client.call` alone is sent at once.
    A hook refuses by raising or returning `Reject(reason)`; any other exception refuses too and is logged.
    """

    allow_publish: ClassVar[bool] = False
    """Whether clients may publish, unless `on_publish` says otherwise."""
    allow_play: ClassVar[bool] = True
    allow_shared_objects: ClassVar[bool] = False
    """Whether clients may create and change temporary SharedObjects. Those that the application made are readable anyway."""
    allow_persistent_objects: ClassVar[bool] = False
    """The same for persistent ones."""
    wait_for_publisher: ClassVar[bool] = False
    """A play of a stream that nobody publishes waits for it; otherwise it is answered with StreamNotFound."""
    shared_objects: ClassVar[Literal["together", "spread"]] = "together"
    """`spread`: each object is assigned to an origin of its own choice, so that many share the load of one scope."""
    streams: ClassVar[Literal["together", "spread"]] = "together"
    """The same for each stream."""

    def __init__(self, group: "Group") -> None:
        self._group = group
        self.scope = group.name
        """`app/instance`."""
        self.app, _, self.instance = group.name.partition("/")

    # Hooks

    @classmethod
    def on_app_start(cls) -> None:
        """An origin process that serves the application begins, before there is any scope. Where it raises, the process ends."""

    @classmethod
    def on_app_stop(cls) -> None:
        """Such a process ends; its scopes have stopped."""

    def on_start(self) -> None:
        """The scope begins on this origin; its first client waits until this returns. `state` and objects may hold content."""

    def on_stop(self) -> None:
        """The scope had no client for a while, or was taken from this origin."""

    def on_connect(self, client: "Client", *args: Any) -> Reject | None:
        """A client connects with these further arguments. It cannot be called before this has returned. A `Redirect`, too,
        refuses."""

    def on_disconnect(self, client: "Client") -> None:
        """A client that was accepted is gone. Called once."""

    def on_publish(self, client: "Client", name: str, query: str) -> Reject | None:
        """A client wants to publish `name`; `query` is what followed `?`. By default as `allow_publish` says."""
        return None if self.allow_publish else Reject("publishing is not allowed here")

    def on_unpublish(self, client: "Client", name: str) -> None:
        """A stream that this client published has ended."""

    def on_play(self, client: "Client", name: str, query: str) -> Reject | None:
        """A client wants to play `name`. By default as `allow_play` says."""
        return None if self.allow_play else Reject("playing is not allowed here")

    def on_stop_play(self, client: "Client", name: str) -> None:
        """A client plays this stream no longer."""

    def on_resume(self, client: "Client") -> None:
        """A client that the scope had on its former origin is here, as is everything that was committed there. Timers and
        greenlets are not."""

    def on_join(self, client: "Client", room: str) -> Reject | None:
        """A client joins a room; refusing keeps it out."""
        return None

    def on_leave(self, client: "Client", room: str) -> None:
        """A client is in a room no longer; when it disconnects this comes before `on_disconnect`."""

    def shared_object_access(self, client: "Client", name: str, persistent: bool) -> Access:
        """What a client may do with an object; asked when it begins to use it."""
        if self.allow_persistent_objects if persistent else self.allow_shared_objects:
            return Access.ALL
        return Access.READ if self._group.objects.made_by_application(name, persistent) else Access.NONE

    def shared_object_write(
        self, client: "Client", name: str, persistent: bool, key: str, value: Any
    ) -> "bool | Reject | None":
        """A client that may write wants to set a slot; asked only where it is overridden. False or a Reject refuses."""

    def shared_object_delete(
        self, client: "Client", name: str, persistent: bool, key: str
    ) -> "bool | Reject | None":
        """A client wants to delete a slot, with an empty `key` all of them; else as `shared_object_write`."""

    def shared_object_send(
        self, client: "Client", name: str, persistent: bool, handler: str, *args: Any
    ) -> "bool | Reject | None":
        """A client wants to call a handler of every user's object; else as `shared_object_write`."""

    def shared_object_proxy(self, scope: str, name: str, persistent: bool) -> Access:
        """What another scope may do with an object of this one that it asks for. By default everything, where it is a scope
        of the same application, else nothing."""
        return Access.ALL if scope.partition("/")[0] == self.app else Access.NONE

    # What an application may do

    @property
    def clients(self) -> "tuple[Client, ...]":
        """The clients that are connected now."""
        return tuple(session.client for session in self._group.members)

    def broadcast(self, name: str, *args: Any) -> None:
        """Call a method of every client; no answers."""
        broadcast(self._group, name, args)

    def shared_object(
        self, name: str, persistent: bool = False, scope: str | None = None
    ) -> "SharedObjectView":
        """A SharedObject of the scope, or of another one (`APP/INSTANCE`, whose application is asked: `shared_object_proxy`),
        as a mapping. It is made if need be, and kept until its `close` or until the scope stops."""
        return self._group.objects.view(name, persistent, scope)

    def proxy_object(self, name: str, scope: str, persistent: bool = False) -> None:
        """Let clients that use this name use the object of that name of another scope, as far as that one's application and
        `shared_object_access` here allow it. To be called in `on_start`. Raises ValueError."""
        self._group.objects.routes.proxy(name, persistent, scope)

    @property
    def state(self) -> MutableMapping[str, Any]:
        """What the application keeps for the scope, whichever origin has it and whatever is restarted. Values are what AMF can
        say (else ValueError), and reading one gives a copy: set it again to change it."""
        return self._group.durable.state

    def room(self, path: str) -> Room:
        """A room of the scope. Raises BadName."""
        return Room(self._group, path)

    def atomic(self) -> "AbstractContextManager[Transaction]":
        """`with self.atomic():` in a function of `spawn`: what happens inside takes effect together at its end, or not at all
        where an exception leaves it. Hooks, methods, timers and jobs are so by themselves."""
        return transaction(self._group)

    def spawn(
        self, function: Callable[..., object], *args: Any, delay_s: float = 0.0
    ) -> "gevent.Greenlet[..., None]":
        """Run a function beside the clients' messages; it is ended when the scope stops, and its exceptions are logged."""
        return self._group.app.tasks.spawn(function, args, delay_s)

    def after(self, delay_s: float, function: Callable[..., object], *args: Any) -> Timer:
        """Run a function once, after so many seconds. It ends with the scope on this origin: see `schedule`."""
        return self._group.app.tasks.timer(delay_s, None, function, args)

    def every(self, interval_s: float, function: Callable[..., object], *args: Any) -> Timer:
        """Run a function every so many seconds (at least 0.01), the first time after as many; else as `after`."""
        if not interval_s >= _SHORTEST_S:
            raise ValueError(f"every {interval_s} s: expected {_SHORTEST_S} or more")
        return self._group.app.tasks.timer(interval_s, interval_s, function, args)

    def schedule(
        self,
        method: str,
        *args: Any,
        delay_s: float | None = None,
        at: datetime | None = None,
        every_s: float | None = None,
    ) -> str:
        """Have a method of this application run later, by name, with arguments that AMF can say: whichever origin has the scope
        by then. `at` without a time zone is local time; `every_s` (at least 1): again and again, the first time after as
        long, or as `delay_s` or `at` says. A run that its origin's death cut short runs again. The scope does not stop while
        a job waits. Returns the job's id. Raises ValueError."""
        return self._group.durable.jobs.schedule(method, args, delay_s, at, every_s)

    def cancel(self, job: str) -> bool:
        """Drop a job; returns whether it was there."""
        return self._group.durable.jobs.cancel(job)


def remote_method(application: Application | None, name: str) -> Callable[..., Any] | None:
    """The bound method that clients may call by this name, or None."""
    if application is None or name.startswith("_"):
        return None
    function = getattr(type(application), name, None)
    return getattr(application, name) if getattr(function, _REMOTE, False) else None


def is_remote(function: object) -> bool:
    """Whether it is marked with `@remote`."""
    return bool(getattr(function, _REMOTE, False))


def runs_once(method: Callable[..., Any]) -> bool:
    """Whether a `@remote` method must not run a second time."""
    return bool(getattr(method, _ONCE, False))


_HOOKS = (
    "on_start",
    "on_stop",
    "on_connect",
    "on_resume",
    "on_disconnect",
    "on_join",
    "on_leave",
    "on_publish",
    "on_unpublish",
    "on_play",
    "on_stop_play",
    "shared_object_access",
    "shared_object_write",
    "shared_object_delete",
    "shared_object_send",
    "shared_object_proxy",
)
CHANGE_HOOKS = frozenset({"shared_object_write", "shared_object_delete", "shared_object_send"})
"""Those that are asked for each change of a SharedObject."""


def overrides(application: Application, hook: str) -> bool:
    """Whether the application's class has its own version of a hook, which may wait."""
    return getattr(type(application), hook) is not getattr(Application, hook)


def overridden(application: Application | None) -> frozenset[str]:
    """The hooks that are application code; none where there is no application."""
    if application is None:
        return frozenset()
    return frozenset(hook for hook in _HOOKS if overrides(application, hook))
