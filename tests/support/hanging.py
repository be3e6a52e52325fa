"""Processes that hang: stopped by a signal, but nothing of theirs holds up others."""

import os
import signal
import subprocess
from pathlib import Path

from support.waiting import eventually


def hang(process: "subprocess.Popen[bytes]") -> None:
    """SIGSTOP, at a moment at which it has locked no file for itself: one that hangs inside a commit to SQLite keeps all others
    from that file (docs/failures.md), which is another fault."""

    def hangs() -> bool:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if not _may_write(process.pid):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    eventually(hangs, within_s=20)


def _may_write(pid: int) -> bool:
    """Whether it has locked a file for itself. A line of /proc/locks: `1: POSIX  ADVISORY  WRITE 4711 fe:00:51 120 120`."""
    locks = map(str.split, Path("/proc/locks").read_text().splitlines())
    return any(lock[3:5] == ["WRITE", str(pid)] for lock in locks)
