"""`headwater-origin check`: what it says of an application, and each thing that it finds. Nothing is served."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner, Result
from headwater_origin.__main__ import main

GOOD = '''
from __future__ import annotations

from headwater_origin import Application, Client, Reject, remote


class Base(Application):
    allow_publish = True

    def on_stop(self) -> None:
        """Nothing."""


class Room(Base):
    streams = "spread"
    limit = 5

    def on_connect(self, client: Client, nick: str, *rest: object) -> Reject | None:
        return None

    def shared_object_access(self, client, name, persistent=False):
        return super().shared_object_access(client, name, persistent)

    @remote(retry=False)
    def once(self, client: Client) -> None:
        """Nothing."""

    @remote
    def say(self, client: Client, text: str = "[b]", *more: int) -> int:
        return 1

    def on_publish(self, *args):
        return None

    def _on_own(self):
        self.broadcast("x")

    def broadcast(self, name, *args):
        super().broadcast(name, *args)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("checked_room", None)


def checked(folder: Path, text: str, *options: str, spec: str = "checked_room:Room") -> Result:
    sys.modules.pop("checked_room", None)
    (folder / "checked_room.py").write_text(dedent(text))
    return CliRunner().invoke(main, ["check", spec, *options])


def problems(folder: Path, body: str) -> list[str]:
    """What is found in a class of this body."""
    text = (
        "from headwater_origin import Application, remote\nclass Room(Application):\n"
        + "\n".join(f"    {line}" for line in dedent(body).strip().splitlines())
        + "\n"
    )
    done = checked(folder, text)
    assert done.exit_code == 2, done.output
    return done.stderr.splitlines()


def test_a_good_application(folder: Path) -> None:
    done = checked(folder, GOOD)
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert rows[0] == "checked_room:Room (checked_room.py:14)"
    assert "on_stop() -> None checked_room.py:10" in rows
    assert "on_connect(client: Client, nick: str, *rest: object) -> Reject | None checked_room.py:18" in rows
    assert "say(text: str = '[b]', *more: int) -> int checked_room.py:28 yes" in rows
    assert "allow_publish True" in rows
    assert "streams spread" in rows


def test_the_same_as_json(folder: Path) -> None:
    for spec in ("checked_room:Room", "chat=checked_room:Room"):
        done = checked(folder, GOOD, "--json", spec=spec)
        report = json.loads(done.stdout)
        assert report["application"] == "checked_room:Room"
        assert {row["name"] for row in report["hooks"]} == {
            "on_stop",
            "on_connect",
            "on_publish",
            "shared_object_access",
        }
        methods = [(row["name"], row["retry"]) for row in report["methods"]]
        assert methods == [("once", False), ("say", True)]
        assert report["settings"]["allow_play"] is True
        assert report["settings"]["shared_objects"] == "together"
        assert report["problems"] == []


def test_problems_in_json(folder: Path) -> None:
    done = checked(
        folder,
        "from headwater_origin import Application\nclass Room(Application):\n    allow_play = 1\n",
        "--json",
    )
    assert done.exit_code == 2
    assert json.loads(done.stdout)["problems"] == [
        "checked_room.py:2: allow_play = 1: expected True or False"
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("def on_conect(self, client): pass", "3: on_conect is no hook; did you mean on_connect?"),
        ("def onConnect(self, client): pass", "3: onConnect is no hook; did you mean on_connect?"),
        (
            "def shared_object_acess(self): pass",
            "3: shared_object_acess is no hook; did you mean shared_object_access?",
        ),
        (
            "def on_connect(self): pass",
            "3: on_connect too many positional arguments; it is called as on_connect(",
        ),
        ("def on_connect(self, client, *, nick): pass", "3: on_connect missing a required"),
        ("def on_connect(): pass", "3: on_connect lacks its first parameter, self"),
        ("async def on_connect(self, client): pass", "3: on_connect is async"),
        ("def on_connect(self, client): yield", "3: on_connect contains yield"),
        (
            "def on_publish(self, client, name): pass",
            "3: on_publish too many positional arguments; it is called as on_publish(client, name, query)",
        ),
        (
            "def on_play(self, client, name, query, more): pass",
            "3: on_play missing a required argument: 'more'",
        ),
        (
            "def shared_object_send(self, client, name, persistent, handler): pass",
            "3: shared_object_send lacks *args for what else comes",
        ),
        ("@classmethod\ndef on_start(cls): pass", "on_start is a @classmethod"),
        ("def on_app_start(self): pass", "3: on_app_start must be a @classmethod"),
        ("on_start = 5", "2: on_start is int, not a method"),
        ("@remote\ndef on_start(self): pass", "on_start is a hook, and must not be @remote"),
        (
            "@remote\ndef play(self, client): pass",
            "play is @remote but the origin answers this command itself",
        ),
        (
            "@remote\ndef connect(self, client): pass",
            "connect is @remote but the origin answers this command itself",
        ),
        ("@remote\ndef _say(self, client): pass", "_say is @remote but begins with '_'"),
        (
            "@remote\ndef broadcast(self, client): pass",
            "broadcast is @remote and hides Application.broadcast",
        ),
        (
            "@remote\ndef say(self): pass",
            "say too many positional arguments; a @remote method is called with",
        ),
        ("@remote\nasync def say(self, client): pass", "say is async"),
        ("clients = []", "2: clients hides Application.clients"),
        ("allow_play = 'no'", "2: allow_play = 'no': expected True or False"),
        ("allow_plays = True", "2: allow_plays is no setting; did you mean allow_play?"),
        ("streams = 'shared'", "2: streams = 'shared': expected 'together' or 'spread'"),
        ("shared_objects = True", "2: shared_objects = True: expected 'together' or 'spread'"),
        ("def __init__(self): pass", "3: __init__ too many positional arguments: the origin calls it with"),
        (
            "def on_start(self):\n    self.schedule('clos', delay_s=5)\ndef close_round(self): pass",
            "4: schedule('clos'): there is no such method",
        ),
        (
            "def on_start(self):\n    self.schedule('round', 1, 2)\ndef round(self, number): pass",
            "4: schedule('round'): too many positional arguments",
        ),
    ],
)
def test_what_is_wrong_is_one_line(folder: Path, body: str, problem: str) -> None:
    (line,) = problems(folder, body)
    assert line.startswith("checked_room.py:")
    assert problem in line


def test_each_problem_has_a_line(folder: Path) -> None:
    found = problems(folder, "allow_play = 1\ndef on_conect(self): pass\ndef on_play(self): pass")
    assert len(found) == 3


def test_jobs_that_are_good(folder: Path) -> None:
    done = checked(
        folder,
        """
        from headwater_origin import Application
        class Room(Application):
            def on_start(self):
                self.schedule("end_round", 1, "x", delay_s=5)
                self.schedule("end_round", *range(3), every_s=5)
            def end_round(self, number, name="", more=0): pass
        """,
        "--json",
    )
    report = json.loads(done.stdout)
    assert [(row["name"], row["signature"]) for row in report["jobs"]] == [
        ("end_round", "(number, name='', more=0)")
    ]
    assert report["problems"] == []


def test_an_abstract_application(folder: Path) -> None:
    done = checked(
        folder,
        """
        from abc import abstractmethod, ABC
        from headwater_origin import Application
        class Room(Application, ABC):
            @abstractmethod
            def deal(self): ...
        """,
    )
    assert done.exit_code == 2
    assert "Room is abstract, it lacks deal" in done.stderr


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("checked_room", "expected MODULE:CLASS or NAME=MODULE:CLASS"),
        ("checked_room:Nothing", "expected a subclass of headwater_origin.Application, Nothing is nothing"),
        ("checked_room.py:Room", "checked_room.py:Room: a module is named without its .py: checked_room"),
        ("no_such_room:Room", "No module named 'no_such_room'; run it where the module is"),
    ],
)
def test_what_cannot_be_loaded(folder: Path, spec: str, text: str) -> None:
    done = checked(folder, GOOD, spec=spec)
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert text in line


@pytest.mark.parametrize("name", ["chat", "conference", "live", "lobby", "whiteboard"])
def test_the_applications_that_are_shipped_have_no_problem(name: str) -> None:
    done = CliRunner().invoke(main, ["check", f"apps.{name}:{name.title()}", "--json"])
    assert done.exit_code == 0, done.output
