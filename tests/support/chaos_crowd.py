"""The clients of a chaos run: begun, asked whether they are served, and ended together."""

import random

import gevent

from support.chaos_checks import Findings, History
from support.chaos_clients import Group, Member, Player, Publisher
from support.waiting import eventually

_SETTLE_S = 30.0


class Crowd:
    """See the module. Whoever has one puts them in."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.groups: list[Group] = []
        self.publishers: list[Publisher] = []
        self.players: list[Player] = []

    @property
    def members(self) -> list[Member]:
        """Of all groups."""
        return [member for group in self.groups for member in group.members]

    def unserved(self, begin_s: float) -> list[str]:
        """The clients that were not served after a moment: no change of theirs acknowledged, no frame seen."""
        waiting = [member.name for member in self.members if not member.served_since(begin_s)]
        return waiting + [
            player.history.client for player in self.players if not player.served_since(begin_s)
        ]

    def start(self, chance: random.Random) -> None:
        """All members are connected: have everybody say something."""
        for publisher in self.publishers:
            publisher.start()
        for player in self.players:
            player.start()
        for member in self.members:
            member.start(random.Random(chance.random()))

    def settle(self) -> bool:
        """Nothing more is begun, all that was begun ends; returns whether it has. What is missing is found one by one."""
        for publisher in self.publishers:
            publisher.stop()
        gevent.joinall([gevent.spawn(member.stop) for member in self.members])
        try:
            eventually(self._settled, _SETTLE_S, every_s=0.1)
        except AssertionError:
            return False
        return True

    def _settled(self) -> bool:
        return all(group.settled() for group in self.groups) and all(
            player.settled() for player in self.players
        )

    def end(self) -> None:
        """Look at what players have seen, and close all connections, which is no finding."""
        for player in self.players:
            player.finish()
        connections = [each.connection for each in self.members]
        connections += [each.connection for each in self.players]
        connections += [each.connection for each in self.publishers]
        gevent.joinall([gevent.spawn(connection.end) for connection in connections])

    def judge(self, client: str, statuses: dict[str, int], trouble: list[str]) -> None:
        """The processes have ended: bad exit statuses are findings of `client`, and so is what stands in their logs."""
        history = History(client, self.findings)
        for name, status in statuses.items():
            if status != 0:
                history.wrong("exit status", f"{name}: {status}")
        for line in trouble:
            history.wrong("log", line)
