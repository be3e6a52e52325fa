"""An edge for spread streams without sockets: it sends on what homes route, and reports what guests' streams do."""

from typing import Any

from headwater_bus import traffic

from support.origin_bench import ME, Bench, FakeClient, plain, settle

_REPORTED = {
    traffic.PublishStarted: (True, True),
    traffic.PublishStopped: (True, False),
    traffic.PlayStarted: (False, True),
    traffic.PlayStopped: (False, False),
}


class Guest:
    """An attachment of a client to another group than its home."""

    def __init__(self, client: FakeClient, number: int, group: str) -> None:
        self.client, self.number, self.group = client, number, group
        self.sent = 0
        self.idle = 0


class SpreadEdge:
    """One edge. `held`: reports to the homes wait there until `report`, as those of slow origins do. `named`: reports say which
    group they are of."""

    def __init__(self, bench: Bench, held: bool = False, named: bool = True) -> None:
        self.bench, self.link = bench, bench.edge()
        self.guests: dict[tuple[int, str], Guest] = {}
        self.told: dict[int, list[Any]] = {}
        self.media: list[traffic.StreamMedia] = []
        self.routed: list[traffic.Routed] = []
        self.changes: list[tuple[bool, bool, bool]] = []
        self.reports: list[tuple[FakeClient, traffic.GuestStream]] = []
        self.publications: dict[tuple[int, int], int] = {}
        self._held, self._named = held, named
        self._numbers = 0
        self._clients: dict[int, FakeClient] = {}

    def client(self, amf3: bool = False) -> FakeClient:
        """A client with message streams 1 and 2."""
        client = self.bench.joined(self.link, amf3=amf3)
        self._clients[client.number] = client
        for _ in range(2):
            client.command("createStream", transaction=2)
        client.take()
        return client

    def command(self, client: FakeClient, name: str, *args: Any, stream_id: int = 1) -> None:
        """A client says something, and everything that follows from it happens."""
        client.command(name, *args, stream_id=stream_id)
        self.pump()

    def pump(self) -> None:
        """Until nothing moves any more."""
        settle()
        while log := self.link.take():
            for envelope in log:
                self._carry_out(envelope)
            settle()

    def _carry_out(self, envelope: Any) -> None:
        if isinstance(envelope, traffic.StreamMedia):
            self.media.append(envelope)
            return
        number = getattr(envelope, "session", 0)
        guest = next((guest for guest in self.guests.values() if guest.number == number), None)
        if isinstance(envelope, traffic.Routed):
            self.routed.append(envelope)
            self._send_on(self._clients[number], envelope)
        elif isinstance(envelope, traffic.GuestIdle) and guest is not None:
            guest.idle = envelope.number
        elif type(envelope) in _REPORTED and guest is not None:
            publishes, started = _REPORTED[type(envelope)]
            if isinstance(envelope, traffic.PublishStarted):
                self.publications[guest.client.number, envelope.stream_id] = envelope.stream
            group = guest.group if self._named else ""
            report = traffic.GuestStream(guest.client.number, envelope.stream_id, publishes, started, group)
            self.reports.append((guest.client, report))
            if not self._held:
                self.report()
        elif isinstance(envelope, traffic.PlayChanged):
            self.changes.append((envelope.audio, envelope.video, envelope.paused))
        elif number:
            home = guest.client.number if guest is not None else number
            self.told.setdefault(home, []).append(plain(envelope))

    def report(self, *order: int) -> None:
        """Tell the homes what waits, in this order of their indexes, or as it came."""
        reports, self.reports = self.reports, []
        for index in order or range(len(reports)):
            client, report = reports[index]
            client.put(report)
        settle()

    def _send_on(self, client: FakeClient, routed: traffic.Routed) -> None:
        guest = self.guests.get((client.number, routed.group))
        if guest is None:
            self._numbers += 1
            number = 1000 + self._numbers
            guest = self.guests[client.number, routed.group] = Guest(client, number, routed.group)
            if routed.group not in self.bench.view.groups:
                self.bench.change("group", routed.group, ME, 1)
            client.put(
                traffic.Attach(
                    number,
                    f"session-{client.number}",
                    routed.group,
                    1,
                    "192.0.2.7",
                    3 if client.amf3 else 0,
                    False,
                    0,
                    0,
                    0,
                    b"",
                    [],
                    [],
                    [],
                )
            )
        guest.sent += 1
        client.put(
            traffic.FromGuest(
                guest.number,
                guest.sent,
                routed.access,
                routed.denied,
                routed.type_id,
                routed.stream_id,
                routed.timestamp,
                routed.payload,
            )
        )

    def leave(self, client: FakeClient) -> None:
        """A client is gone, from its home and from everywhere that it is a guest."""
        for key, guest in list(self.guests.items()):
            if guest.client is client:
                client.put(traffic.Detach(guest.number, "closed by the client"))
                del self.guests[key]
        client.detach()
        self.pump()

    def taken(self, client: FakeClient) -> list[Any]:
        """What a client has read since the last time, from its home and as a guest."""
        return [told for told in self.told.pop(client.number, []) if isinstance(told, tuple)]

    def codes(self, client: FakeClient) -> list[str]:
        """The codes of statuses since the last time."""
        return [told[2] for told in self.taken(client) if told[0] == "onStatus"]
