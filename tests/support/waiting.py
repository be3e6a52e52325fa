"""Waiting for conditions instead of sleeping."""

import os
import time
from collections.abc import Callable
from typing import Any

import gevent

TIME_FACTOR = float(os.environ.get("HEADWATER_TEST_TIME_FACTOR", "1"))
"""Deadlines are multiplied by this: for slow or busy machines."""


def eventually(condition: Callable[[], Any], within_s: float, what: str = "", every_s: float = 0.01) -> Any:
    """Wait until the condition is true, and return its value; it is asked for `every_s`. Greenlets run meanwhile."""
    deadline = time.monotonic() + within_s * TIME_FACTOR
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {what or condition}")
        gevent.sleep(every_s)
    return value
