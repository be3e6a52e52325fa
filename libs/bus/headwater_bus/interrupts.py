"""What Ctrl-C means while a program is still importing; imports nothing that takes time."""

import signal


def end_quietly() -> None:
    """Before the other imports: SIGINT ends this process at once, without a traceback, until a service or command handles it.
    Where it is ignored, or handled by somebody, it stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
