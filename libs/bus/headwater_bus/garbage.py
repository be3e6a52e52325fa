"""Python's garbage collector in a process that holds very many objects for long: 15,000 clients are some 150,000 of them."""

import gc

_YOUNG, _MIDDLE, _OLD = 10_000, 3, 3
"""Python's own first threshold, 700 objects, is less than what one batch of an edge leaves until its commit: the collector went
through the same objects again and again, for 5 to 10 % of an origin's time, and found nothing. The others are lower than
Python's (10), so that it looks at 40,000 objects at once while thousands connect, not at 100,000 (0.1 s), and that clients that
are gone, each of which is a cycle, do not gather: a full one still waits until a quarter of all objects is new."""


def spare_what_stays() -> None:
    """Call when all that lives as long as the process is there: a full collection, in which nothing else runs, passes by that
    (modules, classes, functions: some 50,000 objects). From then on it is done less often, too."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
