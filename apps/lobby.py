"""A game lobby: each instance (`rtmp://host/lobby/main`) is one, with tables for tic-tac-toe. Clients connect with a nick.

The server alone decides. Clients read three SharedObjects and write none: `tables` (see `_EMPTY`), `people` (nick to the table
it sits at, or "") and `scores` (persistent: nick to games won). They call `sit`, `move` and `stand`. Who does not move in time
loses: the clock is a durable job, so it goes on when another origin takes the lobby over.
"""

import random
from typing import Any

from headwater_origin import Application, CallError, Client, Reject, remote

from apps.nicks import checked_nick

SECONDS_A_TURN = {"1": 60.0, "2": 60.0, "3": 60.0, "4": 60.0, "blitz": 3.0}
"""The tables, and how long a player may think there."""
_LINES = ("012", "345", "678", "036", "147", "258", "048", "246")
_EMPTY: dict[str, Any] = {"seats": [], "cells": "." * 9, "turn": "", "winner": ""}
"""A table. `seats` are nicks, the first plays X; `turn` is whose it is, empty while nobody plays; `winner` is whose the last
game was, empty after a draw."""


class Lobby(Application):
    """One lobby."""

    def on_start(self) -> None:
        self._people = self.shared_object("people")
        self._scores = self.shared_object("scores", persistent=True)
        self._tables = self.shared_object("tables")
        self._tables.change({name: _EMPTY for name in SECONDS_A_TURN if name not in self._tables})

    def on_connect(self, client: Client, nick: str = "") -> None:
        nick = checked_nick(nick)
        if nick in self._people:
            raise Reject(f"{nick} is here already")
        client.attributes["nick"] = nick
        self._people[nick] = ""

    def on_disconnect(self, client: Client) -> None:
        nick = client.attributes["nick"]
        if self._people[nick]:
            self._leave(nick)
        del self._people[nick]

    @remote
    def sit(self, client: Client, name: str) -> None:
        """Take a seat at a table. The second one begins the game; who has the first turn is drawn."""
        nick = client.attributes["nick"]
        table = self._tables.get(name) if isinstance(name, str) else None
        if table is None:
            raise CallError("Lobby.NoSuchTable", f"the tables are {', '.join(SECONDS_A_TURN)}")
        if self._people[nick]:
            raise CallError("Lobby.Seated", f"you sit at table {self._people[nick]}: stand up first")
        if len(table["seats"]) == 2:
            raise CallError("Lobby.TableFull", "two play there: look at them, or take another table")
        seats = [*table["seats"], nick]
        turn = random.choice(seats) if len(seats) == 2 else ""
        self._people[nick] = name
        self._tables[name] = {**_EMPTY, "seats": seats, "turn": turn}
        self._wind_clock(name, bool(turn))

    @remote
    def stand(self, client: Client) -> None:
        """Leave the table; a game that is not over is lost."""
        nick = client.attributes["nick"]
        self._seat_of(nick)
        self._leave(nick)

    @remote
    def move(self, client: Client, cell: float) -> None:
        """Mark a cell, 0 to 8."""
        nick = client.attributes["nick"]
        name = self._seat_of(nick)
        table = self._tables[name]
        if table["turn"] != nick:
            raise CallError(
                "Lobby.NotYourTurn",
                f"it is the turn of {table['turn'] or 'nobody: wait for a second player'}",
            )
        cells = table["cells"]
        if cell not in range(9) or cells[int(cell)] != ".":
            raise CallError("Lobby.BadMove", "a move is the number of a free cell, 0 to 8")
        first, second = table["seats"]
        mark, other = ("X", second) if nick == first else ("O", first)
        cells = cells[: int(cell)] + mark + cells[int(cell) + 1 :]
        if any(all(cells[int(each)] == mark for each in line) for line in _LINES):
            self._finish(name, nick, cells)
        elif "." not in cells:
            self._finish(name, "", cells)
        else:
            self._tables[name] = {**table, "cells": cells, "turn": other}
            self._wind_clock(name, True)

    def time_is_up(self, name: str) -> None:
        """Nobody calls this but the clock: who has the turn has lost."""
        table = self._tables[name]
        first, second = table["seats"]
        self._finish(name, second if table["turn"] == first else first, table["cells"])

    def _seat_of(self, nick: str) -> str:
        name: str = self._people[nick]
        if not name:
            raise CallError("Lobby.NotSeated", "sit down at a table first")
        return name

    def _leave(self, nick: str) -> None:
        name = self._people[nick]
        table = self._tables[name]
        others = [seat for seat in table["seats"] if seat != nick]
        if table["turn"]:
            self._finish(name, others[0], table["cells"])
        else:
            self._tables[name] = {**table, "seats": others}
            self._people[nick] = ""

    def _finish(self, name: str, winner: str, cells: str) -> None:
        """The game is over; both stand up."""
        seats = self._tables[name]["seats"]
        self._wind_clock(name, False)
        self._tables[name] = {**_EMPTY, "cells": cells, "winner": winner}
        self._tables.send("over", name, winner)
        self._people.change(dict.fromkeys(seats, ""))
        if winner:
            self._scores[winner] = self._scores.get(winner, 0) + 1

    def _wind_clock(self, name: str, runs: bool) -> None:
        """Begin a turn's time, or end the clock of that table."""
        job = self.state.pop(name, None)
        if job is not None:
            self.cancel(job)
        if runs:
            self.state[name] = self.schedule("time_is_up", name, delay_s=SECONDS_A_TURN[name])
