"""The table of networks, tokens and callbacks: the same by every way in, and nothing secret in what is logged meanwhile."""

import json
import logging
from collections.abc import Callable, Iterator

import pytest
from headwater_bus import logs
from headwater_edge.auth import Asked, Authentication, Verdict
from headwater_edge.auth.callbacks import Callbacks
from support.auth_clients import ADDRESS, PAGE_SECRET, Told, by_rtmp, by_rtmpt
from support.auth_requests import asked
from support.auth_table import APP, CASES, SETUPS, STREAM, Case, Keys, arguments, configured
from support.callback_server import CallbackServer
from support.edge import Peer, make_edge
from support.tunnels import end_tunnels
from support.waiting import eventually

Way = Callable[[Authentication | None, Case, tuple[str, str]], Told]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[CallbackServer]:
    """The connections to it are closed at the end."""
    made: list[Callbacks] = []
    begin = Callbacks.__init__

    def watched(self: Callbacks, *of: object, **more: object) -> None:
        begin(self, *of, **more)  # type: ignore[arg-type]  # as it was called
        made.append(self)

    monkeypatch.setattr(Callbacks, "__init__", watched)
    with CallbackServer() as running:
        yield running
        end_tunnels()
        for callbacks in made:
            callbacks.close()
        eventually(lambda: running.open == 0, 10, "all connections are closed")


def told(case: Case) -> Told:
    return case.denied, case.reason


def queries(case: Case, keys: Keys) -> tuple[str, str]:
    return keys.credential(case.connect, ADDRESS), keys.credential(case.stream, ADDRESS)


def alone(authentication: Authentication | None, case: Case, given: tuple[str, str]) -> Told:
    """Without an edge: what would be asked."""
    for action in ("connect", case.action):
        stream, query = ("", given[0]) if action == "connect" else (STREAM, given[1])
        what: Asked = asked(action, query, app=APP, stream=stream, connect_query=given[0], address=ADDRESS)
        if authentication is None:
            continue
        found: list[Verdict] = []
        authentication.check(what, found.append)
        eventually(found.__len__, 10, "a verdict")
        (verdict,) = found
        if not verdict.allowed:
            return action, verdict.reason
    return "", ""


@pytest.mark.parametrize("way", [alone, by_rtmp, by_rtmpt])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_table(case: Case, way: Way, keys: Keys, server: CallbackServer) -> None:
    authentication = configured(*arguments(case.setup, keys, server.url, ADDRESS))
    where, why = way(authentication, case, queries(case, keys))
    assert where == case.denied
    assert case.reason in why
    assert bool(case.denied) == bool(why)


def test_the_table_says_enough() -> None:
    """Every setup is there, some deny and some allow, and each case only once."""
    assert {case.setup for case in CASES} == set(SETUPS)
    assert len(set(CASES)) == len(CASES)
    assert all(bool(case.denied) == bool(case.reason) for case in CASES)
    assert {case.denied for case in CASES} == {"", "connect", "publish", "play"}


# Logs


def lines(records: list[logging.LogRecord]) -> list[str]:
    """As they are written, in both formats, uncut."""
    written = []
    for record in records:
        fields = getattr(record, "fields", {})
        written.append(json.dumps([record.getMessage(), {key: str(value) for key, value in fields.items()}]))
        for as_json in (False, True):
            written.append(logs._Formatter("edge", "edge-1", as_json).format(record))
        if record.exc_info or record.stack_info:
            written.append(logging.Formatter().format(record))
    return written


def secrets_of(case: Case, keys: Keys, given: tuple[str, str]) -> set[str]:
    found = {PAGE_SECRET, *keys.secrets}
    for query in given:
        for parameter in query.split("&"):
            name, _, value = parameter.partition("=")
            if name != "expires":
                found |= {value, *(part for part in value.split(".") if len(part) > 3)}
    return {secret for secret in found if secret}


@pytest.mark.parametrize("way", [by_rtmp, by_rtmpt])
def test_nothing_secret_is_logged(
    way: Way,
    keys: Keys,
    server: CallbackServer,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    denied = 0
    for case in CASES:
        given = queries(case, keys)
        caplog.clear()
        way(configured(*arguments(case.setup, keys, server.url, ADDRESS)), case, given)
        written = lines(caplog.records) + list(capfd.readouterr())
        for secret in secrets_of(case, keys, given):
            assert not [line for line in written if secret in line], str(case)
        assert bool(case.denied) == any("denied" in line for line in written)
        denied += bool(case.denied)
    assert denied > 30


def test_this_test_would_see_a_secret(keys: Keys, caplog: pytest.LogCaptureFixture) -> None:
    """It looks at fields and at what is cut for the log."""
    case = next(case for case in CASES if case.connect == "good")
    given = queries(case, keys)
    logs.get_log("edge").warning("client closed", reason="x" * 2000 + given[0])
    written = lines(caplog.records)
    assert any(secret in line for line in written for secret in secrets_of(case, keys, given))


def test_nothing_secret_is_logged_of_clients_that_do_it_wrong(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Tokens in names that are none, in the wrong place, at the wrong time."""
    caplog.set_level(logging.DEBUG)
    edge, _, _ = make_edge()
    for app in (
        "li ve?token=SECRET",
        "live/a/../b?token=SECRET",
        "?token=SECRET",
        "x" * 300 + "?token=SECRET",
    ):
        peer = Peer(edge).connect(app)
        peer.until_ended()
    for name in ("publish", "token=SECRET"):
        peer = Peer(edge).handshake()
        peer.command(name if name == "publish" else "play", None, "cam?token=SECRET")
        peer.until_ended()
    end_tunnels()
    written = lines(caplog.records) + list(capfd.readouterr())
    assert any("before connect" in line for line in written)
    assert not [line for line in written if "SECRET" in line]


def test_nothing_secret_is_in_what_is_asked() -> None:
    """Where it is shown whole, as in an error."""
    shown = repr(
        asked(
            query="token=SECRET",
            connect_query="SECRET",
            tc_url="rtmp://h/?SECRET",
            page_url="SECRET",
            swf_url="SECRET",
        )
    )
    assert "SECRET" not in shown
    assert "chat/lobby" in shown


@pytest.mark.parametrize("path", ["/deny", "/error", "/rubbish", "/slow", "/nothing"])
def test_nothing_secret_of_a_callbacks_url_is_logged(
    path: str, server: CallbackServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = f"{server.url}{path}?key=SECRET"
    authentication = configured("--on-publish", url, "--callback-timeout-ms", "50")
    assert authentication is not None
    found: list[Verdict] = []
    authentication.check(asked(query="token=SECRET"), found.append)
    assert not eventually(lambda: found, 10, "a verdict")[0].allowed
    assert "SECRET" not in found[0].reason
    written = lines(caplog.records)
    assert written
    assert not [line for line in written if "SECRET" in line]
