"""`serve` of origin and registry: the store that they are given, and what else the origin's command line asks for."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from headwater_bus import logs
from headwater_origin import Application
from headwater_origin import __main__ as origin
from headwater_origin.develop.loading import LoadError
from headwater_registry import __main__ as registry
from headwater_store import sqlite_url
from support.origin_bench import Bench

APP = ("--app", "live=apps.live:Live")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HEADWATER_STORE", raising=False)
    monkeypatch.setenv("HEADWATER_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(logs, "configure", lambda *args, **more: None)


def started(monkeypatch: pytest.MonkeyPatch, module: Any, *arguments: str) -> tuple[Any, ...]:
    """What `serve` starts its service with."""
    seen: list[tuple[Any, ...]] = []

    def run(*given: Any) -> int:
        seen.append(given)
        return 0

    monkeypatch.setattr(module, "run", run)
    done = CliRunner().invoke(module.main, ["serve", *arguments])
    assert done.exit_code == 0, done.output
    return seen[0]


def refused(*arguments: str) -> str:
    """The line that an origin ends with."""
    done: Result = CliRunner().invoke(origin.main, ["serve", *arguments])
    assert done.exit_code == 2, done.output
    (line,) = done.output.splitlines()
    return line


def test_by_default_it_is_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = sqlite_url(tmp_path / "data")
    assert started(monkeypatch, origin, *APP)[3] == expected
    assert started(monkeypatch, registry)[1].store == expected


def test_one_variable_is_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_STORE", "redis://127.0.0.1/3")
    assert started(monkeypatch, origin, *APP)[3] == "redis://127.0.0.1/3"
    assert started(monkeypatch, registry)[1].store == "redis://127.0.0.1/3"
    assert started(monkeypatch, origin, *APP, "--store", "none")[3] == "none"


def test_without_journals_the_registry_still_has_its_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEADWATER_STORE", "none")
    assert started(monkeypatch, origin, *APP)[3] == "none"
    assert started(monkeypatch, registry)[1].store == sqlite_url(tmp_path / "data")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("paper:/x", "scheme paper: is not known"),
        ("sqlite", "expected SCHEME:PATH"),
        ("sqlite:/dev/null/x", "/dev/null/x"),
    ],
)
def test_a_store_that_will_not_do_is_one_line(url: str, said: str) -> None:
    assert said in refused(*APP, "--store", url)


def test_an_application_that_will_not_do_is_one_line() -> None:
    assert "expected NAME=MODULE:CLASS" in refused("--app", "apps.live:Live")


def test_what_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert started(monkeypatch, origin, *APP)[4] is None
    (name, spec) = next(iter(started(monkeypatch, origin, *APP, "--reload")[4].items()))
    assert (name, spec.module, spec.class_name) == ("live", "apps.live", "Live")


def test_problems_of_what_is_served_are_logged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "served_badly.py").write_text(
        "from headwater_origin import Application\nclass Bad(Application):\n    allow_plays = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    started(monkeypatch, origin, "--app", "bad=served_badly:Bad")
    (record,) = caplog.records
    assert "did you mean allow_play?" in str(record.__dict__["fields"])


def test_an_application_that_does_not_start() -> None:
    class Broken(Application):
        @classmethod
        def on_app_start(cls) -> None:
            raise OSError("no disk")

    with pytest.raises(LoadError, match=r"Broken\.on_app_start failed at .*\.py:\d+: OSError: no disk"):
        Bench({"app": Broken}).origin.start_applications()
