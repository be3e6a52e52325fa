"""A process that is stopped while it commits all the time."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import gevent
import pytest
from support.hanging import hang

COMMITS = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE entries (number)")
db.execute("BEGIN IMMEDIATE")
print("in a commit", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
sys.stdin.readline()
"""


def test_who_hangs_is_not_inside_a_commit(tmp_path: Path, started: list["subprocess.Popen[bytes]"]) -> None:
    path = tmp_path / "journal"
    process = subprocess.Popen(
        [sys.executable, "-c", COMMITS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    started.append(process)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        assert process.stdout.readline() == b"in a commit\n"
        hanging = gevent.spawn(hang, process)
        gevent.sleep(0)
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as db:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                db.execute("BEGIN IMMEDIATE")
            assert not hanging.dead
            process.stdin.write(b"go on\n")
            process.stdin.flush()
            hanging.get(timeout=30)
            assert "(stopped)" in Path(f"/proc/{process.pid}/status").read_text()
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
        process.send_signal(signal.SIGCONT)
