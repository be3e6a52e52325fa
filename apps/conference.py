"""A conference: each instance (`rtmp://host/conference/monday`) is one. Clients connect with a nick, publish one stream, which is
called as they are, and play the others'.

Streams and SharedObjects are spread: each is assigned to an origin for itself, so that one conference may grow past one origin.
The scope's own origin runs this class and answers calls.

Everybody reads the SharedObject `roster`: a slot for each nick (time of arrival in ms), and while it is so `NICK/air` (it
publishes, since when), `NICK/hand` (raised, since when) and `NICK/muted` (by whom). Calls: `raise_hand`, `mute`, `remove`. The
chair is who has been here longest.
"""

import time

from headwater_origin import Access, Application, CallError, Client, Reject, remote

from apps.nicks import checked_nick

_MOST_PEOPLE = 200


def _now_ms() -> float:
    return time.time() * 1000


class Conference(Application):
    """One conference. Who is here stands in `self.state` (nick to time of arrival); the roster follows it."""

    shared_objects = "spread"
    streams = "spread"

    def on_start(self) -> None:
        self._roster = self.shared_object("roster")
        self.after(0, self._show_all)
        self.every(60, self._show_all)

    def on_connect(self, client: Client, nick: str = "") -> None:
        nick = checked_nick(nick)
        # The roster is another origin's, and what we see of it may be old. The state is our own.
        if nick in self.state:
            raise Reject(f"{nick} is here already")
        if len(self.state) >= _MOST_PEOPLE:
            raise Reject(f"the conference is full: {_MOST_PEOPLE} people are here")
        client.attributes["nick"] = nick
        self.state[nick] = _now_ms()
        self.after(0, self._show, nick)

    def on_disconnect(self, client: Client) -> None:
        nick = client.attributes["nick"]
        del self.state[nick]
        self.after(0, self._show, nick)

    def _show(self, *nicks: str) -> None:
        """Have the roster follow the state. That means to wait for its origin, so no client's hook does it."""
        slots: dict[str, float | None] = {}
        for nick in nicks:
            slots[nick] = self.state.get(nick)
            if slots[nick] is None:
                slots.update(dict.fromkeys((f"{nick}/air", f"{nick}/hand", f"{nick}/muted")))
        self._roster.change(slots)

    def _show_all(self) -> None:
        """What is shown wrongly, because the roster's origin could not be reached, or this one was lost before it had asked."""
        nicks = {slot.partition("/")[0] for slot in self._roster} | set(self.state)
        self._show(*(nick for nick in sorted(nicks) if self.state.get(nick) != self._roster.get(nick)))

    def shared_object_access(self, client: Client, name: str, persistent: bool) -> Access:
        return Access.READ if name == "roster" and not persistent else Access.NONE

    # Streams

    def on_publish(self, client: Client, name: str, query: str) -> Reject | None:
        if name != client.attributes["nick"]:
            return Reject("publish under your own nick")
        self._roster[f"{name}/air"] = _now_ms()
        return None

    def on_unpublish(self, client: Client, name: str) -> None:
        self._roster.change({f"{name}/air": None})

    def on_play(self, client: Client, name: str, query: str) -> Reject | None:
        return None if name in self.state else Reject(f"{name} is not here")

    # Calls

    @remote
    def raise_hand(self, client: Client, up: bool = True) -> None:
        """Raise or lower one's hand."""
        nick = client.attributes["nick"]
        self._roster.change({f"{nick}/hand": _now_ms() if up else None})

    @remote
    def mute(self, client: Client, nick: str, muted: bool = True) -> None:
        """Mute oneself or undo it; the chair may mute others. Their client's `muted(by)` is called, and stops to send sound."""
        own = client.attributes["nick"]
        if nick != own:
            self._check_chair(own)
        other = self._person(nick)
        self._roster.change({f"{nick}/muted": own if muted else None})
        if muted and nick != own:
            other.notify("muted", own)

    @remote
    def remove(self, client: Client, nick: str) -> None:
        """The chair sends somebody out."""
        self._check_chair(client.attributes["nick"])
        self._person(nick).close("the chair has closed your connection")

    def _check_chair(self, nick: str) -> None:
        chair = min(self.state, key=lambda each: (self.state[each], each))
        if nick != chair:
            raise CallError("Conference.NotChair", f"only the chair may do that; it is {chair}")

    def _person(self, nick: object) -> Client:
        for client in self.clients:
            if client.attributes["nick"] == nick:
                return client
        raise CallError("Conference.NoSuchPerson", "nobody of that name is here")
