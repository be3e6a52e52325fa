"""What an application is asked about SharedObjects: who may use one, and, where it looks at each, which changes it allows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headwater_amf import AmfError, amf0
from headwater_rtmp.shared_object import Event, EventType, SharedObjectMessage

from headwater_origin import hooks
from headwater_origin.errors import Reject
from headwater_origin.objects.access import Access
from headwater_origin.objects.slot_values import NOTHING, decoded_value

if TYPE_CHECKING:
    from headwater_origin.group import Group
    from headwater_origin.session import Session

NOBODY: frozenset[int] = frozenset()


def client_access(session: "Session", name: str, persistent: bool) -> Access:
    """What a client may do with an object. May wait."""
    group = session.group
    if group.application is None:
        return Access.NONE
    return _asked(
        group,
        "shared_object_access",
        group.application.shared_object_access,
        session.client,
        name,
        persistent,
    )


def scope_access(group: "Group", scope: str, name: str, persistent: bool) -> Access:
    """What the application of a scope may do with an object of a group. May wait."""
    if scope == group.scope:
        return Access.ALL
    if group.application is None:
        # One object of a spread scope: nobody is here to ask.
        return Access.ALL if scope.partition("/")[0] == group.scope.partition("/")[0] else Access.NONE
    return _asked(
        group, "shared_object_proxy", group.application.shared_object_proxy, scope, name, persistent
    )


def _asked(group: "Group", hook: str, function: Any, *args: Any) -> Access:
    try:
        answer = hooks.run(group, function, args)
        return Access.NONE if isinstance(answer, Reject) else Access(answer)
    except Reject:
        return Access.NONE
    except hooks.FAILURES as error:
        hooks.failed(group, hook, error)
        return Access.NONE


def refused_changes(
    session: "Session", message: SharedObjectMessage, access: Access, events: Sequence[Event], start: int
) -> frozenset[int]:
    """Which of the events, numbered from `start`, the application refuses; of those that `access` allows, as the others are
    refused anyway. May wait."""
    refused = set()
    for index, event in enumerate(events, start):
        question = _question(session.group, access, event)
        if question is None:
            continue
        hook, args = question
        if args is None or hooks.allowed(
            session.group, hook, session.client, message.name, message.persistent, *args
        ):
            refused.add(index)
    return frozenset(refused)


def _question(group: "Group", access: Access, event: Event) -> tuple[str, tuple[Any, ...] | None] | None:
    """The hook to ask about an event and its arguments (None: they cannot be read); None where there is nothing to ask."""
    kind, value = event.type, event.value or b""
    args: tuple[Any, ...] | None
    if kind == EventType.REQUEST_REMOVE or (kind == EventType.REQUEST_CHANGE and value in NOTHING):
        needed, hook, args = Access.DELETE, "shared_object_delete", (event.key or "",)
    elif kind == EventType.REQUEST_CLEAR:
        needed, hook, args = Access.DELETE, "shared_object_delete", ("",)
    elif kind == EventType.REQUEST_CHANGE:
        needed, hook, args = Access.WRITE, "shared_object_write", None
    elif kind == EventType.SEND_MESSAGE:
        needed, hook, args = Access.SEND, "shared_object_send", None
    else:
        return None
    if not access & needed or not group.waits(hook):
        return None
    if args is None:
        try:
            if kind == EventType.REQUEST_CHANGE:
                args = (event.key or "", decoded_value(value))
            else:
                args = tuple(amf0.decode_all(value))
        except AmfError:
            pass
    return hook, args
