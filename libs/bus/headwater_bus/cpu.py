"""How much CPU this process uses, for its load report."""

import time


class CpuMeter:
    """The share of one core that this process used since the last look, in percent."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def percent(self) -> float:
        """Since the last call."""
        wall, cpu = time.monotonic(), time.process_time()
        used = (cpu - self._cpu) / max(wall - self._wall, 1e-6) * 100
        self._wall, self._cpu = wall, cpu
        return round(used, 1)
