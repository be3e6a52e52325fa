"""One event is one line, whatever is in it."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from headwater_bus import logs
from hypothesis import given, settings
from hypothesis import strategies as st

HOSTILE = "a\nb\r\x00\x1b[31m\x85\u2028\u2029\u202e\ud800 \u00a0 end"


class Output:
    """What was written to standard output since the test began."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().out
        return self._text


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Iterator[Output]:
    yield Output(capsys)
    root = logging.getLogger("headwater")
    root.handlers.clear()
    root.propagate = True
    root.setLevel(logging.NOTSET)


def test_a_text_line(output: Output) -> None:
    logs.configure("edge", "edge-1")
    logs.get_log("link").warning("link down", reason="the peer restarted", sessions=3, address="10.0.0.1")
    stamp, rest = output.getvalue().split(" ", 1)
    assert rest == 'warning edge-1 link down reason="the peer restarted" sessions=3 address=10.0.0.1\n'
    assert stamp.endswith("Z")


def test_a_json_line(output: Output) -> None:
    logs.configure("edge", "edge-1", as_json=True)
    logs.get_log("link").info(
        "up", node="origin-1", load=0.5, many=[1], worst=float("nan"), none=None, ok=True
    )
    line = json.loads(output.getvalue())
    assert (line["event"], line["node"], line["service"], line["part"]) == ("up", "edge-1", "edge", "link")
    # A field named like the head's own does not replace it.
    assert (line["node_"], line["load"], line["many"]) == ("origin-1", 0.5, "[1]")
    assert (line["worst"], line["none"], line["ok"]) == ("nan", None, True)


@pytest.mark.parametrize("as_json", [False, True])
def test_hostile_values_stay_in_one_line(output: Output, as_json: bool) -> None:
    logs.configure("edge", "edge-1", as_json=as_json)
    logs.get_log("x").error(
        f"event {HOSTILE}", field=HOSTILE, **{f"key{HOSTILE}": 1}, raw=HOSTILE.encode("utf-8", "replace")
    )
    written = output.getvalue()
    assert written.endswith("\n")
    assert len(written.splitlines()) == 1
    assert written[:-1].isprintable()


@given(st.text(), st.text(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_text_is_one_printable_line(event: str, value: str, as_json: bool) -> None:
    record = logging.LogRecord("headwater.x", logging.INFO, "", 0, "%s", (event,), None)
    record.__dict__["fields"] = {"value": value}
    line = logs._Formatter("edge", "edge-1", as_json).format(record)
    assert line.isprintable()
    if as_json:
        assert json.loads(line)["value"] == value


def test_a_value_that_cannot_be_shown_is_named(output: Output) -> None:
    class Bad:
        def __str__(self) -> str:
            raise RuntimeError

    logs.configure("edge", "edge-1")
    logs.get_log("x").info("event", bad=Bad(), long="x" * 5000)
    assert "<Bad: RuntimeError>" in output.getvalue()
    assert "(5000 characters)" in output.getvalue()
    assert len(output.getvalue()) < 1500


def test_levels(output: Output) -> None:
    logs.configure("edge", "edge-1", level="warning")
    log = logs.get_log("x")
    log.debug("no")
    log.info("no")
    log.warning("yes")
    assert output.getvalue().count("\n") == 1


def test_a_log_that_nobody_reads_is_no_fault(
    output: Output, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    logs.configure("edge", "edge-1")
    logs.get_log("x").info("event")
    assert capsys.readouterr().err == ""


def test_a_rate_limit_counts_what_it_holds_back() -> None:
    now = [0.0]
    limit = logs.RateLimit(10.0, lambda: now[0])
    assert [limit.passes("a") for _ in range(4)] == [True, False, False, False]
    assert limit.passes("b")
    assert limit.suppressed("a") == 0
    now[0] = 10.0
    assert limit.passes("a")
    assert limit.suppressed("a") == 3
    assert not limit.passes("a")
