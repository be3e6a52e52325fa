"""Ctrl-C as an exception in the command that waits, so that bars and live tables give the terminal back."""

import signal
from types import FrameType

import gevent


def interrupt_here() -> None:
    """From now on SIGINT is a KeyboardInterrupt in this greenlet, which must be the main one. Where somebody handles it already,
    or it is ignored, it stays so. Python's own handler raises it in whatever runs, mostly gevent's hub, which prints it."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        return
    here = gevent.getcurrent()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if gevent.getcurrent() is here:
            raise KeyboardInterrupt
        gevent.get_hub().loop.run_callback(here.throw, KeyboardInterrupt)

    signal.signal(signal.SIGINT, interrupt)
