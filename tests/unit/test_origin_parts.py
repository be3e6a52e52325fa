"""The origin: names that clients choose, and loading applications. No sockets."""

import sys
from pathlib import Path
from typing import Any

import pytest
from headwater_amf import Date, amf0
from headwater_origin import Application
from headwater_origin.application import remote_method
from headwater_origin.develop.loading import LoadError, load_applications
from headwater_origin.names import BadName, check_name, split_stream_name
from headwater_origin.objects.slot_values import sound_arguments, sound_value


@pytest.mark.parametrize("name", ["a", "a" * 256, "ä日", "a.b", "a/b", "one two", "-_.~@:+=,;!()'&"])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "a" * 257, "..", "a/../b", "a\n", "\n", "a\x00", "\ud800", "a?b", "a#b", "\u202eb", None, 1.0, b"a"],
)
def test_bad_names(name: Any) -> None:
    with pytest.raises(BadName):
        check_name(name)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("a", ("a", "")),
        ("a?", ("a", "")),
        ("a?b=c?d", ("a", "b=c?d")),
        ("a?" + "q" * 4096, ("a", "q" * 4096)),
    ],
)
def test_stream_names(given: str, expected: tuple[str, str]) -> None:
    assert split_stream_name(given) == expected


@pytest.mark.parametrize("given", ["?a", "a?" + "q" * 4097, None, 5.0, True, []])
def test_bad_stream_names(given: Any) -> None:
    with pytest.raises(BadName):
        split_stream_name(given)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with modules that tests write."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_applications_are_loaded_from_the_working_directory(folder: Path) -> None:
    (folder / "loaded_rooms.py").write_text(
        "from headwater_origin import Application\nclass Rooms(Application): pass\nclass Other(Rooms): pass\n"
    )
    loaded = load_applications(("rooms=loaded_rooms:Rooms", "two.1-x=loaded_rooms:Other"))
    assert list(loaded) == ["rooms", "two.1-x"]
    assert all(issubclass(application, Application) for application in loaded.values())


@pytest.mark.parametrize(
    ("specs", "text"),
    [
        (("rooms",), "expected NAME=MODULE:CLASS, such as chat=apps.chat:Chat"),
        (("rooms=rooms.Rooms",), "expected NAME=MODULE:CLASS"),
        (("a b=m:C",), "expected NAME=MODULE:CLASS"),
        (("a/b=m:C",), "expected NAME=MODULE:CLASS"),
        (
            ("x=there_is_no_such_module:C",),
            "No module named 'there_is_no_such_module'; run it where the module is",
        ),
        (("x=broken_one:C",), "broken_one.py:1: ZeroDivisionError: division by zero"),
        (("x=broken_two:C",), "broken_two.py:1: SyntaxError: "),
        (("x=broken_three:C",), "broken_three.py:1: SystemExit: 0"),
        (("x=json:Missing",), "expected a subclass of headwater_origin.Application, Missing is nothing"),
        (("x=json:dumps",), "expected a subclass of headwater_origin.Application, dumps is <function dumps"),
        (("x=headwater_origin:Application", "x=headwater_origin:Application"), "'x' is given twice"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(folder: Path, specs: tuple[str, ...], text: str) -> None:
    (folder / "broken_one.py").write_text("1 / 0\n")
    (folder / "broken_two.py").write_text("def (\n")
    (folder / "broken_three.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(LoadError) as raised:
        load_applications(specs)
    line = str(raised.value)
    assert line.startswith(f"--app {specs[-1]}: ")
    assert text in line
    assert "\n" not in line


def test_methods_that_clients_may_call_are_looked_up_on_the_class() -> None:
    class App(Application):
        @property
        def asked(self) -> None:
            raise AssertionError("nobody may make this happen")

    application = App.__new__(App)
    application.__dict__["shadow"] = remote_method
    for name in ("shadow", "asked", "__class__", "_group", "on_start", "nothing", "a b", ""):
        assert remote_method(application, name) is None


def test_values_that_edges_can_write() -> None:
    for value in (1.0, True, "x", None, [1.0, {"a": "b"}], Date(1.0)):
        assert sound_value(amf0.encode(value))
        assert sound_value(amf0.encode_avmplus(value))
        assert sound_arguments(amf0.encode("hear", value))
    for broken in (b"", b"\x03", b"\x11\x0c", amf0.encode([1.0]) + b"\0", amf0.encode([0.0] * 20_000)):
        assert not sound_value(broken)
        assert broken == b"" or not sound_arguments(amf0.encode("hear") + broken)
