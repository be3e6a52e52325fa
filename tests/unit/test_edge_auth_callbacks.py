"""HTTP callbacks: what is posted, what allows, and that nobody waits for a server that others ask."""

import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl

import gevent
import gevent.ssl
import pytest
from headwater_edge.auth import Authentication, Verdict
from headwater_edge.auth.callbacks import Callbacks, form_of
from headwater_edge.auth.http_calls import HttpCalls, UrlError, parse_target, tls_context
from support.auth_requests import asked
from support.callback_server import CallbackServer
from support.certificates import make_certificate
from support.edge_client import warnings
from support.waiting import eventually

_calls: list[HttpCalls] = []
_asked: list[Callbacks] = []


@pytest.fixture
def server() -> Iterator[CallbackServer]:
    with CallbackServer() as running:
        yield running
        running.release.set()
        _end()
        eventually(lambda: running.open == 0, 10, "all connections are closed")


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    _end()


def _end() -> None:
    """Until nobody waits for an answer, and no connection is kept."""
    for callbacks in _asked:
        eventually(lambda one=callbacks: one._workers == 0, 10, "all are answered")  # type: ignore[misc]
        assert not callbacks._pending
    _asked.clear()
    while _calls:
        _calls.pop().close()


def calls(**settings: Any) -> HttpCalls:
    """Closed at the end of the test."""
    _calls.append(HttpCalls(tls_context(), **settings))
    return _calls[-1]


class Asker:
    """Asks a server at a path, and remembers what it said."""

    def __init__(self, url: str, http: HttpCalls | None = None, **settings: Any) -> None:
        self.http = http or calls()
        self.callbacks = Callbacks({"publish": parse_target(url)}, self.http, **settings)
        _asked.append(self.callbacks)
        self.answers: list[str] = []

    def ask(self, **of: Any) -> None:
        self.callbacks.ask(asked(**of), self.answers.append)

    def answer(self, **of: Any) -> str:
        count = len(self.answers)
        self.ask(**of)
        return str(eventually(lambda: self.answers[count:], 10, "an answer")[0])


def test_what_is_posted(server: CallbackServer) -> None:
    asker = Asker(f"{server.url}/allow?key=1")
    more = {
        "tc_url": "rtmp://host/chat/lobby?token=a&b",
        "page_url": "http://page/?x=1&addr=6.6.6.6",
        "swf_url": "http://swf/ä",
        "flash_ver": "FMLE/3.0 (compatible)",
    }
    query = "key=a%20b&empty=&key=2&Name=x&addr=127.0.0.1&call=play&name=y&session=0"
    assert asker.answer(query=query, number=77, transport="rtmpts", type="live", **more) == ""
    (form,) = server.forms
    assert form.path == "/allow"
    assert form.content_type == "application/x-www-form-urlencoded"
    # The client's own first, and none that is named as ours.
    assert form.fields[:3] == [("key", "a b"), ("empty", ""), ("key", "2")]
    assert dict(form.fields[3:]) == {
        "app": "chat/lobby",
        "flashver": "FMLE/3.0 (compatible)",
        "swfurl": "http://swf/ä",
        "tcurl": "rtmp://host/chat/lobby?token=a&b",
        "pageurl": "http://page/?x=1&addr=6.6.6.6",
        "addr": "203.0.113.5",
        "clientid": "77",
        "call": "publish",
        "session": "b00t-1",
        "transport": "rtmpts",
        "name": "cam/1",
        "type": "live",
    }
    assert len(form.fields) == 3 + 12


@pytest.mark.parametrize(
    ("action", "names"), [("connect", set()), ("play", {"name"}), ("publish", {"name", "type"})]
)
def test_which_fields_an_action_has(action: str, names: set[str]) -> None:
    fields = dict(parse_qsl(form_of(asked(action)).decode(), keep_blank_values=True))
    assert fields["call"] == action
    assert {"name", "type"} & set(fields) == names


@pytest.mark.parametrize("action", ["connect", "play", "publish"])
def test_no_field_can_be_forged_whatever_the_action(action: str) -> None:
    fields = parse_qsl(form_of(asked("publish", type="live")).decode(), keep_blank_values=True)
    forged = "&".join(f"{name.upper()}=forged" for name, _ in fields)
    assert b"forged" not in form_of(asked(action, query=forged))


def test_text_that_cannot_be_encoded_does_no_harm() -> None:
    form = form_of(asked(query="a=\ud800", stream="\ud800&name=x", tc_url="\x00"))
    assert dict(parse_qsl(form.decode(), keep_blank_values=True))["name"] == "?&name=x"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/allow", ""),
        ("/created", ""),
        ("/long", ""),
        ("/named", "publish was refused (403)"),
        ("/deny", "publish was refused (403)"),
        ("/error", "publish was refused (500)"),
        ("/redirect", "publish was refused (302)"),
        ("/rubbish", "nobody could be asked whether publish is allowed"),
        ("/cut", "nobody could be asked whether publish is allowed"),
        ("/headless", ""),
        ("/nothing", "nobody could be asked whether publish is allowed"),
    ],
)
def test_which_answers_allow(server: CallbackServer, path: str, said: str) -> None:
    assert Asker(server.url + path).answer() == said
    assert len(server.forms) == 1, "a redirect is not followed, and a new connection not tried again"


def test_an_action_without_a_url_is_allowed_at_once(server: CallbackServer) -> None:
    asker = Asker(f"{server.url}/deny")
    asker.ask(action="play")
    asker.ask(action="connect")
    assert asker.answers == ["", ""]


def test_more_parameters_than_anybody_needs_are_denied(server: CallbackServer) -> None:
    asker = Asker(f"{server.url}/allow")
    assert asker.answer(query="&".join(f"p{i}=" for i in range(65))).startswith("nobody could be asked")
    assert asker.answer(query="&".join(f"p{i}=" for i in range(64))) == ""


@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_who_is_not_allowed_in_time_is_denied(
    server: CallbackServer, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert (
        Asker(server.url + path, timeout_s=0.2).answer()
        == "nobody said within 0.2 s whether publish is allowed"
    )
    eventually(lambda: server.open == 0, 10, "the connection is closed")
    assert warnings(caplog) == ["no answer within 0.2 s"]


def test_a_server_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    asker = Asker("http://127.0.0.1:9/")
    assert asker.answer() == asker.answer() == "nobody could be asked whether publish is allowed"
    # Once in a second, with what it held back.
    assert warnings(caplog) == ["Connection refused"]


def test_a_name_server_that_hangs_holds_up_only_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gevent.socket, "getaddrinfo", lambda *of, **more: gevent.sleep(3600))
    asker = Asker("http://nowhere.invalid/", timeout_s=0.1)
    assert asker.answer().startswith("nobody said within 0.1 s")


# Many at once


@pytest.mark.parametrize("in_flight", [1, 3])
def test_so_many_run_and_the_rest_waits_in_order(server: CallbackServer, in_flight: int) -> None:
    asker = Asker(f"{server.url}/held", timeout_s=60, in_flight=in_flight)
    for number in range(10):
        asker.ask(number=number)
    eventually(lambda: len(server.forms) == in_flight, 10, "as many are asked")
    assert asker.answers == []
    server.release.set()
    eventually(lambda: len(asker.answers) == 10, 10, "all are answered")
    assert asker.answers == [""] * 10
    assert server.most_at_once == in_flight
    asked_about = [int(form["clientid"]) for form in server.forms]
    # Those that run at the same time may overtake each other.
    assert asked_about == list(range(10)) if in_flight == 1 else sorted(asked_about) == list(range(10))


def test_who_is_over_the_limit_is_denied_at_once(server: CallbackServer) -> None:
    asker = Asker(f"{server.url}/held", timeout_s=60, in_flight=2, waiting=6)
    for number in range(8):
        asker.ask(number=number, address=f"203.0.113.{number}")
    assert asker.answers == []
    asker.ask(address="203.0.113.200")
    assert asker.answers == ["too many wait to be allowed to publish; try again later"]
    server.release.set()
    eventually(lambda: len(asker.answers) == 9, 10, "the others are answered")
    assert asker.answer() == ""


def test_one_address_keeps_nobody_else_out(server: CallbackServer) -> None:
    asker = Asker(f"{server.url}/held", timeout_s=60, in_flight=2, waiting=6)
    for _ in range(100):
        asker.ask(address="203.0.113.1")
    assert len(asker.answers) == 98
    asker.ask(address="203.0.113.2")
    assert len(asker.answers) == 98
    server.release.set()
    eventually(lambda: len(asker.answers) == 101, 10, "the others are answered")
    assert asker.answers[98:] == ["", "", ""]


def test_who_has_waited_for_too_long_is_not_asked_about(server: CallbackServer) -> None:
    """All are asked at the same time, of a server that lets two wait: the others' time is over when their turn comes."""
    asker = Asker(f"{server.url}/slow", timeout_s=0.2, in_flight=2)
    for _ in range(6):
        asker.ask()
    eventually(lambda: len(asker.answers) == 6, 10, "all are denied")
    assert len(server.forms) == server.connections == 2
    assert set(asker.answers) == {"nobody said within 0.2 s whether publish is allowed"}


def test_nothing_is_sent_about_who_is_denied_already(server: CallbackServer) -> None:
    """Not even on a connection that is there."""
    now = [0.0]
    asker = Asker(f"{server.url}/held", timeout_s=60, in_flight=1, clock=lambda: now[0])
    asker.ask()
    asker.ask()
    eventually(lambda: server.forms, 10, "the first is asked about")
    now[0] = 60.0
    server.release.set()
    eventually(lambda: len(asker.answers) == 2, 10, "both are answered")
    assert asker.answers == ["", "nobody said within 60 s whether publish is allowed"]
    assert len(server.forms) == 1
    assert asker.answer() == ""
    assert (len(server.forms), server.connections) == (2, 1)


def test_a_server_that_hangs_holds_up_no_other_action(server: CallbackServer) -> None:
    """The others' callbacks, and the loop itself."""
    http = calls()
    slow = Asker(f"{server.url}/held", http, timeout_s=60)
    for _ in range(20):
        slow.ask()
    eventually(lambda: len(server.forms) == 20, 10, "the slow ones are asked")
    assert Asker(f"{server.url}/allow", http).answer() == ""
    assert slow.answers == []


def test_what_is_done_with_an_answer_may_fail(
    server: CallbackServer, caplog: pytest.LogCaptureFixture
) -> None:
    asker = Asker(f"{server.url}/allow", in_flight=1)

    def fail(_: str) -> None:
        raise RuntimeError("token=SECRET")

    asker.callbacks.ask(asked(), fail)
    assert asker.answer() == ""
    assert [record.message for record in caplog.records] == ["internal error"]
    assert "SECRET" not in str(vars(caplog.records[0]))


# Connections


def test_a_connection_is_used_again(server: CallbackServer) -> None:
    asker = Asker(f"{server.url}/allow")
    for _ in range(5):
        assert asker.answer() == ""
    assert (server.connections, len(server.forms)) == (1, 5)
    Authentication(callbacks=asker.callbacks).close()
    Authentication().close()
    eventually(lambda: server.open == 0, 10, "closed")


def test_a_kept_connection_that_the_server_closes_costs_nobody(server: CallbackServer) -> None:
    asker = Asker(f"{server.url}/once")
    for _ in range(3):
        assert asker.answer() == ""
    assert (server.connections, len(server.forms)) == (3, 3)


def test_what_a_server_says_unasked_is_nobodys_answer(server: CallbackServer) -> None:
    """Some say 408 before they close an idle connection."""
    asker = Asker(f"{server.url}/impatient")
    for _ in range(3):
        server.release.clear()
        assert asker.answer() == ""
        server.release.set()
        eventually(lambda: server.at_once == 0, 10, "it has said that, too")
    assert (server.connections, len(server.forms)) == (3, 3)


def test_a_connection_that_breaks_when_it_is_used_again_is_tried_anew(
    server: CallbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server closes it just when the next request is sent."""
    from headwater_edge.auth.http_calls import _Connection

    monkeypatch.setattr(_Connection, "ended", False)
    asker = Asker(f"{server.url}/once")
    for _ in range(3):
        assert asker.answer() == ""
    assert (server.connections, len(server.forms)) == (3, 3)


def test_connections_that_were_idle_for_long_are_not_used(server: CallbackServer) -> None:
    now = [0.0]
    asker = Asker(f"{server.url}/allow", calls(clock=lambda: now[0]))
    asker.answer()
    now[0] = 4.0
    asker.answer()
    assert server.connections == 1
    now[0] = 8.1
    asker.answer()
    assert server.connections == 2
    eventually(lambda: server.open == 1, 10, "the old one is closed")


def test_not_more_connections_are_kept_than_sixteen(server: CallbackServer) -> None:
    asker = Asker(f"{server.url}/held", timeout_s=60)
    for _ in range(30):
        asker.ask()
    eventually(lambda: len(server.forms) == 30, 10, "all are asked")
    server.release.set()
    eventually(lambda: len(asker.answers) == 30, 10, "all are answered")
    eventually(lambda: server.open == 16, 10, "the others are closed")


def test_after_a_timeout_the_late_answer_is_nobodys(server: CallbackServer) -> None:
    http = calls()
    asker = Asker(f"{server.url}/held", http, timeout_s=0.1)
    assert asker.answer().startswith("nobody said")
    server.release.set()
    assert Asker(f"{server.url}/deny", http).answer() == "publish was refused (403)"
    assert server.connections == 2


# https


@pytest.fixture(scope="module")
def certificate(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_certificate(tool("openssl"), tmp_path_factory.mktemp("certificates"), "callbacks")


def test_certificates_are_verified(
    certificate: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with CallbackServer(ssl_context=context) as server:
        trusting = HttpCalls(tls_context(certificate.certificate))
        _calls.append(trusting)
        asker = Asker(f"{server.url}/allow", trusting)
        assert [asker.answer() for _ in range(3)] == [""] * 3
        assert server.connections == 1
        assert Asker(f"{server.url}/allow").answer().startswith("nobody could be asked")
        connect = gevent.socket.create_connection
        monkeypatch.setattr(gevent.socket, "create_connection", lambda to: connect(("127.0.0.1", to[1])))
        elsewhere = Asker(f"https://elsewhere.example:{server.port}/allow", trusting)
        assert elsewhere.answer().startswith("nobody could be asked")
        assert len(server.forms) == 3
    texts = warnings(caplog)
    assert len(texts) == 2
    assert "self-signed certificate" in texts[0]
    assert "Hostname mismatch" in texts[1]


# Addresses


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://host", "host", 80, "/"),
        ("https://host/a/b?key=1&x", "host", 443, "/a/b?key=1&x"),
        ("http://[2001:db8::1]:8080?x", "2001:db8::1", 8080, "/?x"),
        ("http://host/a#part", "host", 80, "/a"),
    ],
)
def test_a_url(url: str, host: str, port: int, path: str) -> None:
    target = parse_target(url)
    assert (target.host, target.port, target.path) == (host, port, path)
    assert "key" not in repr(target)


@pytest.mark.parametrize(
    "url",
    ["", "host/path", "ftp://host", "http://", "http://host:0", "http://host:x", "http://host:99999", "http://a:b@host",
     "http://host/a b", "http://host/\r\nX: y", "http://host/ä", "http://[::1"],
)  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(UrlError) as caught:
        parse_target(f"{url}?SECRET" if "?" not in url else url)
    assert "http[s]://HOST" in str(caught.value)
    assert "SECRET" not in str(caught.value)


# All of it together


def test_answer_is_called_once_and_nothing_is_raised(server: CallbackServer) -> None:
    class Broken:
        def check(self, _: Any) -> str:
            raise RuntimeError("token=SECRET")

    verdicts: list[Verdict] = []
    Authentication(tokens=Broken()).check(asked(), verdicts.append)  # type: ignore[arg-type]
    assert verdicts == [Verdict(False, "it could not be found out whether this is allowed")]


def test_who_it_is_goes_through_the_callback(server: CallbackServer) -> None:
    class Known:
        def check(self, _: Any) -> str:
            return "sub:ann"

    callbacks = Callbacks({"publish": parse_target(f"{server.url}/allow")}, calls())
    verdicts: list[Verdict] = []
    Authentication(tokens=Known(), callbacks=callbacks).check(asked(), verdicts.append)  # type: ignore[arg-type]
    assert verdicts == []
    eventually(lambda: verdicts, 10, "an answer")
    assert verdicts == [Verdict(True, "", "sub:ann")]


def test_many_clients_are_asked_about_without_holding_up_the_loop(server: CallbackServer) -> None:
    """While hundreds wait for a server, others take their turns in between."""
    asker = Asker(f"{server.url}/allow", timeout_s=60, in_flight=8)
    turns: list[float] = []

    def others() -> None:
        while len(asker.answers) < 200:
            turns.append(time.monotonic())
            gevent.sleep(0)

    for number in range(200):
        asker.ask(address=f"203.0.113.{number}")
    gevent.spawn(others).join()
    assert asker.answers == [""] * 200
    assert len(turns) > 20
