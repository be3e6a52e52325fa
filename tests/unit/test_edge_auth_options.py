"""Options about who may do what, and commands that make keys and tokens: what they mean, and one line for what will not do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from headwater_edge.auth import Authentication, Verdict
from headwater_edge.auth.commands import token
from headwater_edge.auth.options import auth_options, authentication_of
from support.auth_requests import asked
from support.auth_table import configured


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for action in ("CONNECT", "PUBLISH", "PLAY"):
        monkeypatch.delenv(f"HEADWATER_ON_{action}", raising=False)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "secret.key"
    assert CliRunner().invoke(token, ["new-key", str(path)]).exit_code == 0
    return path


def refused(*arguments: str) -> str:
    """The line that an edge ends with."""
    command: Callable[..., Any] = auth_options(lambda **options: authentication_of(options))
    done = CliRunner().invoke(click.command()(command), arguments)
    assert done.exit_code == 2, done.output
    (line,) = done.output.splitlines()
    return line


def verdict(authentication: Authentication | None, **of: Any) -> Verdict:
    assert authentication is not None
    found: list[Verdict] = []
    authentication.check(asked(**of), found.append)
    return found[0]


def test_without_options_there_is_none() -> None:
    assert configured() is None


def test_options_are_taken_out() -> None:
    """What is left is the node's."""
    left: list[dict[str, Any]] = []

    def serve(**options: Any) -> None:
        authentication_of(options)
        left.append(options)

    command = click.command()(click.option("--mine")(auth_options(serve)))
    command.main(["--mine", "1", "--deny", "all"], standalone_mode=False)
    assert left == [{"mine": "1"}]


def test_networks() -> None:
    authentication = configured(
        "--deny", "publish=all", "--allow", "publish=203.0.113.0/24", "--deny", "10.0.0.0/8"
    )
    assert verdict(authentication).allowed
    refusal = verdict(authentication, address="192.0.2.1")
    assert refusal == Verdict(False, "publish is not allowed from 192.0.2.1")
    assert verdict(authentication, action="play", address="192.0.2.1").allowed
    assert not verdict(authentication, action="play", address="10.0.0.1").allowed


def test_callbacks_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their URLs may hold a secret."""
    monkeypatch.setenv("HEADWATER_ON_PUBLISH", "http://127.0.0.1:9/?key=SECRET")
    authentication = configured()
    assert authentication is not None
    assert verdict(authentication, action="play").allowed


@pytest.mark.parametrize(
    ("given", "authenticates"),
    [
        (("--deny", "play=10.0.0.0/8"), False),
        (("--allow", "publish=10.0.0.0/8"), False),
        (("--deny", "10.0.0.0/8"), False),
        (("--allow", "10.0.0.0/8"), True),
        (("--deny", "all", "--allow", "10.0.0.0/8"), True),
        (("--token-key", "{key}"), True),
        (("--on-publish", "http://127.0.0.1/"), True),
    ],
)
def test_what_is_an_authentication(given: tuple[str, ...], authenticates: bool, key: Path) -> None:
    authentication = configured(*(argument.format(key=key) for argument in given))
    assert authentication is not None
    assert authentication.authenticates is authenticates


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ("--allow", "publish=10.0.0.1/8"),
            "--allow publish=10.0.0.1/8: 10.0.0.1/8 has host bits set; expected play=",
        ),
        (
            ("--deny", "listen=all"),
            "--deny listen=all: 'listen' before the =, expected connect, publish, play",
        ),
        (
            ("--token-key", "/nowhere/key"),
            "--token-key /nowhere/key: No such file or directory; make one with",
        ),
        (
            ("--token-key", "{key}", "--token-algorithm", "RS256"),
            "a secret, for which no algorithm is allowed",
        ),
        (("--token-for", "publish"), "--token-for does nothing alone; give --token-key"),
        (("--token-audience", "x"), "--token-audience does nothing alone; give --token-key"),
        (("--token-issuer", "x"), "--token-issuer does nothing alone; give --token-key"),
        (("--token-algorithm", "HS512"), "--token-algorithm does nothing alone; give --token-key"),
        (("--callback-timeout-ms", "100"), "--callback-timeout-ms does nothing alone; give --on-connect"),
        (("--callback-ca", "x"), "--callback-ca does nothing alone; give --on-connect"),
        (("--on-play", "host/x?SECRET"), "--on-play host/x...: expected http[s]://HOST"),
        (
            ("--on-play", "http://ann:SECRET@host/"),
            "--on-play http://host/...: user and password are not sent",
        ),
        (("--on-play", "http://host/ä?SECRET"), "--on-play http://host/ä...: a character that has to be"),
        (("--on-play", "https://host/", "--callback-ca", "/nowhere"), "--callback-ca /nowhere: No such file"),
        (("--on-play", "https://host/", "--callback-ca", "{key}"), "expected certificates, PEM"),
    ],
)
def test_what_will_not_do(given: tuple[str, ...], said: str, key: Path) -> None:
    line = refused(*(argument.format(key=key) for argument in given))
    assert said in line
    assert "SECRET" not in line


def test_there_is_no_option_for_a_secret_itself() -> None:
    command: Any = click.command()(auth_options(lambda **_: None))
    named = {parameter.name for parameter in command.params}
    assert named == {
        *(
            "allowed",
            "denied",
            "token_keys",
            "token_algorithms",
            "token_actions",
            "token_audience",
            "token_issuer",
        ),
        *("on_connect", "on_publish", "on_play", "callback_timeout_ms", "callback_ca"),
    }


# Keys and tokens


def made(*arguments: str) -> str:
    done = CliRunner().invoke(token, ["make", *arguments])
    assert done.exit_code == 0, done.output
    (line,) = done.output.splitlines()
    return line


def not_made(*arguments: str) -> str:
    done = CliRunner().invoke(token, [*arguments])
    assert done.exit_code == 2, done.output
    (line,) = done.output.splitlines()
    return line


def test_a_new_key_is_for_its_owner_alone(key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    secret = key.read_text()
    assert len(secret) == 65
    assert "is there already" in not_made("new-key", str(key))
    assert key.read_text() == secret
    assert "No such file" in not_made("new-key", str(key / "none" / "key").replace("secret.key", "nowhere"))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_token_that_was_made_is_taken(key: Path, algorithm: str) -> None:
    authentication = configured("--token-key", str(key), "--token-algorithm", algorithm)
    bindings = ("--app", "chat/*", "--stream", "cam/1", "--action", "publish", "--address", "203.0.113.0/24")
    query = made("--token-key", str(key), "--algorithm", algorithm, "--user", "ann", *bindings)
    assert verdict(authentication, query=query) == Verdict(True, "", "sub:ann")
    assert verdict(authentication, action="connect", query=query).allowed
    for other in ({"stream": "cam/2"}, {"app": "live"}, {"action": "play"}, {"address": "192.0.2.1"}):
        assert not verdict(authentication, **{"query": query, **other}).allowed


def test_a_signature_that_was_made_is_taken(key: Path) -> None:
    authentication = configured("--token-key", str(key))
    bindings = ("--app", "chat/lobby", "--stream", "cam/1", "--action", "publish", "--address", "203.0.113.5")
    query = made("--token-key", str(key), "--signature", *bindings)
    assert verdict(authentication, query=query).allowed
    for other in ({"stream": "cam/2"}, {"app": "live"}, {"action": "play"}, {"address": "192.0.2.1"}):
        assert not verdict(authentication, **{"query": query, **other}).allowed
    anything = made("--token-key", str(key), "--signature", "--app", "chat/lobby")
    assert verdict(authentication, action="connect", query=anything).allowed


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--app", "live", "--address", "here"), "--address 'here' does not appear to be"),
        (("--app", "live", "--signature", "--user", "ann"), "--user: a signature says nothing of who it is"),
        (("--app", "li*", "--signature"), "--signature: it is for"),
        (
            ("--app", "live", "--signature", "--action", "play", "--action", "publish"),
            "--signature: it is for",
        ),
        (("--app", "live", "--signature", "--address", "10.0.0.0/8"), "--signature: it is for"),
        ((), "Missing option '--app'"),
        (("--app", "live", "--valid-s", "0"), "--valid-s"),
    ],
)
def test_which_tokens_are_not_made(key: Path, given: tuple[str, ...], said: str) -> None:
    assert said in not_made("make", "--token-key", str(key), *given)


def test_a_token_needs_a_good_key(tmp_path: Path) -> None:
    assert "No such file" in not_made("make", "--token-key", str(tmp_path / "none"), "--app", "live")
