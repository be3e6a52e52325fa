"""What ends a benchmark early, with one line for the person who started it."""


class BenchError(Exception):
    """The benchmark cannot go on; the text says what was seen and what to do. Exit status 2 where it is bad input or a
    missing program, 1 (`failed`) where a server or the load failed on the way."""

    def __init__(self, text: str, *, failed: bool = False) -> None:
        super().__init__(text)
        self.failed = failed
