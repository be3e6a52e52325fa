"""`serve --reload`: what makes it import anew, and what happens when that fails. Real modules in a folder; nothing is served."""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from headwater_origin import Application
from headwater_origin.develop.loading import load_applications, parse_specs
from headwater_origin.develop.reload import Reloader

APP = "from headwater_origin import Application\nimport {uses}\nclass Room(Application):\n    word = {uses}.WORD\n"


class Site:
    """A folder with an application and modules next to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.classes: dict[str, type[Application]] = {}
        self._time = 1_000_000_000

    def write(self, name: str, text: str) -> None:
        """Every change has a time of its own, however fast they follow."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self._time += 10
        os.utime(path, (self._time, self._time))

    def serve(self, *specs: str) -> Reloader:
        self.classes.update(load_applications(specs))
        return Reloader(parse_specs(specs), self.classes.__setitem__)

    def word(self, name: str = "room") -> object:
        return vars(self.classes[name])["word"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("headwater_origin.develop.reload._SETTLE_S", 0)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = set(sys.modules)
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def reloader(site: Site) -> Reloader:
    site.write("rl_words.py", "WORD = 1\n")
    site.write("rl_room.py", APP.format(uses="rl_words"))
    return site.serve("room=rl_room:Room")


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of reloading, with its fields. Others' greenlets may end meanwhile, and say so."""
    said = [record for record in caplog.records if record.getMessage().startswith("reload")]
    return [f"{record.getMessage()} {record.__dict__.get('fields')}" for record in said]


def test_nothing_happens_while_nothing_changes(site: Site, reloader: Reloader) -> None:
    room = site.classes["room"]
    assert not reloader.look()
    assert site.classes["room"] is room


def test_a_change_of_the_application(
    site: Site, reloader: Reloader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    site.write("rl_room.py", APP.format(uses="rl_words").replace("rl_words.WORD", "'new'"))
    assert reloader.look()
    assert site.word() == "new"
    (line,) = lines(caplog)
    assert "reloaded" in line
    assert "rl_room.py" in line
    assert not reloader.look()


def test_a_change_of_a_module_that_it_imports(site: Site, reloader: Reloader) -> None:
    site.write("rl_words.py", "WORD = 2\n")  # As long as it was: compiled code must not hide it.
    assert reloader.look()
    assert site.word() == 2


def test_a_change_within_the_same_second(site: Site, reloader: Reloader) -> None:
    path = site.folder / "rl_words.py"
    status = path.stat()
    path.write_text("WORD = 3\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert reloader.look()
    assert site.word() == 3


def test_an_application_elsewhere_is_left_alone(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = Site(tmp_path_factory.mktemp("other"))
    sys.path.insert(0, str(other.folder))
    site.write("rl_words.py", "WORD = 1\n")
    site.write("rl_room.py", APP.format(uses="rl_words"))
    other.write("rl_other.py", APP.format(uses="json").replace("json.WORD", "5"))
    reloader = site.serve("room=rl_room:Room", "other=rl_other:Room")
    room, elsewhere = site.classes["room"], site.classes["other"]
    site.write("rl_words.py", "WORD = 2\n")
    assert reloader.look()
    assert site.classes["other"] is elsewhere
    assert site.classes["room"] is not room
    other.write("rl_other.py", APP.format(uses="json").replace("json.WORD", "6"))
    assert reloader.look()
    assert (site.word("room"), site.word("other")) == (2, 6)


def test_other_files_are_not_watched(site: Site, reloader: Reloader) -> None:
    site.write("rl_unused.py", "1 / 0\n")
    site.write("notes.txt", "x")
    assert not reloader.look()


def test_packages_and_two_applications(site: Site) -> None:
    site.write("rl_apps/deep/words.py", "WORD = 1\n")
    site.write(
        "rl_apps/one.py",
        "from .deep import words\n" + APP.format(uses="json").replace("json.WORD", "words.WORD"),
    )
    site.write("rl_two/__init__.py", "")
    site.write("rl_two/app.py", APP.format(uses="json").replace("json.WORD", "5"))
    reloader = site.serve("one=rl_apps.one:Room", "two=rl_two.app:Room")
    site.write("rl_apps/deep/words.py", "WORD = 2\n")
    assert reloader.look()
    assert (site.word("one"), site.word("two")) == (2, 5)
    site.write("rl_two/__init__.py", "WORD = 1\n")
    assert reloader.look()
    assert sys.modules["headwater_origin"].Application is Application


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 / 0\n", "rl_room.py:1: ZeroDivisionError"),
        ("def (\n", "rl_room.py:1: SyntaxError"),
        ("import rl_words\n", "Room is nothing"),
        (
            APP.format(uses="rl_words") + "    def on_conect(self, client): pass\n",
            "rl_room.py:5: on_conect is no hook; did you mean on_connect?",
        ),
    ],
)
def test_the_old_code_goes_on_when_the_new_is_broken(
    site: Site, reloader: Reloader, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    room, module, words = site.classes["room"], sys.modules["rl_room"], sys.modules["rl_words"]
    site.write("rl_words.py", "WORD = 7\n")
    site.write("rl_room.py", text)
    assert not reloader.look()
    assert site.classes["room"] is room
    assert sys.modules["rl_room"] is module
    assert sys.modules["rl_words"] is words
    (line,) = lines(caplog)
    assert "reload failed, the old code goes on" in line
    assert said in line
    # It is not tried again before something changes.
    assert not reloader.look()
    assert len(lines(caplog)) == 1
    site.write("rl_room.py", APP.format(uses="rl_words"))
    assert reloader.look()
    assert site.word() == 7


def test_parts_of_a_package_are_the_old_ones_after_a_failure(site: Site) -> None:
    site.write("rl_apps/words.py", "WORD = 1\n")
    site.write("rl_apps/one.py", APP.format(uses="rl_apps.words"))
    reloader = site.serve("one=rl_apps.one:Room")
    words = sys.modules["rl_apps.words"]
    site.write("rl_apps/one.py", APP.format(uses="rl_apps.words") + "1 / 0\n")
    assert not reloader.look()
    assert sys.modules["rl_apps"].words is words
    assert sys.modules["rl_apps.words"] is words


def test_a_module_that_was_missing(site: Site, reloader: Reloader) -> None:
    site.write("rl_room.py", APP.format(uses="rl_late"))
    assert not reloader.look()
    site.write("rl_late.py", "WORD = 9\n")
    assert reloader.look()
    assert site.word() == 9


def test_a_file_that_is_gone_and_back(site: Site, reloader: Reloader) -> None:
    (site.folder / "rl_words.py").unlink()
    assert not reloader.look()
    assert site.word() == 1
    site.write("rl_words.py", "WORD = 4\n")
    assert reloader.look()
    assert site.word() == 4
