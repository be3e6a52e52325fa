"""The base class of applications: hooks, policy, and what an application may do to its scope."""

from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from headwater_origin.errors import Reject

if TYPE_CHECKING:
    import gevent

    from headwater_origin.client import Client
    from headwater_origin.group import Group
    from headwater_origin.object_view import SharedObjectView

Method = TypeVar("Method", bound=Callable[..., Any])
_REMOTE = "_headwater_remote"


def remote(method: Method) -> Method:
    """Let clients call this method: `def name(self, client, *args)`. Its result is sent back; a `CallError` that it raises
    becomes `_error`. Methods without this mark are never callable."""
    setattr(method, _REMOTE, True)
    return method


class Access(IntEnum):
    """What a client may do with a SharedObject."""

    NONE = 0
    READ = 1
    WRITE = 2
    """Read, change, clear and send."""


class Application:
    """One object for each scope (`app/instance`). Subclasses override hooks and mark methods with `@remote`.

    Hooks and methods run one after the other for each client, in the order of its messages; those of different clients
    interleave where they wait (sleep, a call to a client, a database). What must be ready before the first client belongs
    in `on_start`.
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

    def __init__(self, group: "Group") -> None:
        self._group = group
        self.scope = group.name
        """`app/instance`."""
        self.app, _, self.instance = group.name.partition("/")

    # Hooks

    def on_start(self) -> None:
        """The scope has its first client, which waits until this returns."""

    def on_stop(self) -> None:
        """The scope had no client for a while, or was taken from this origin."""

    def on_connect(self, client: "Client", *args: Any) -> Reject | None:
        """A client connects with these further arguments. It cannot be called before this has returned."""

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

    def shared_object_access(self, client: "Client", name: str, persistent: bool) -> Access:
        """What a client may do with an object; asked when it begins to use it."""
        if self.allow_persistent_objects if persistent else self.allow_shared_objects:
            return Access.WRITE
        return Access.READ if self._group.objects.made_by_application(name, persistent) else Access.NONE

    # What an application may do

    @property
    def clients(self) -> "tuple[Client, ...]":
        """The clients that are connected now."""
        return tuple(session.client for session in self._group.members)

    def broadcast(self, name: str, *args: Any) -> None:
        """Call a method of every client; no answers."""
        self._group.broadcast(name, args)

    def shared_object(self, name: str, persistent: bool = False) -> "SharedObjectView":
        """A SharedObject of the scope as a mapping. It is made if need be and kept until the scope stops."""
        return self._group.objects.view(name, persistent)

    def spawn(
        self, function: Callable[..., None], *args: Any, delay_s: float = 0.0
    ) -> "gevent.Greenlet[..., None]":
        """Run a function beside the clients' messages; it is ended when the scope stops, and its exceptions are logged."""
        return self._group.spawn(function, args, delay_s)


def remote_method(application: Application, name: str) -> Callable[..., Any] | None:
    """The bound method that clients may call by this name, or None."""
    if name.startswith("_"):
        return None
    function = getattr(type(application), name, None)
    return getattr(application, name) if getattr(function, _REMOTE, False) else None


def overrides(application: Application, hook: str) -> bool:
    """Whether the application's class has its own version of a hook, which may wait."""
    return getattr(type(application), hook) is not getattr(Application, hook)
