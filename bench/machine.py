"""What a benchmark ran on."""

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.processes import Cores


@dataclass(frozen=True, slots=True)
class Machine:
    """For the report; `memory_gb` of 10^9 bytes, `date` in UTC."""

    cpu: str
    cores: int
    memory_gb: float
    kernel: str
    congestion_control: str
    python: str
    date: str
    server_core: int
    load_cores: tuple[int, ...]

    def lines(self) -> list[str]:
        """For people."""
        load = ", ".join(map(str, self.load_cores))
        return [
            f"{self.cpu}, {self.cores} cores, {self.memory_gb:.1f} GB, Linux {self.kernel}, Python {self.python}, {self.date}",
            f"server on core {self.server_core}, load on core {load}, loopback, TCP {self.congestion_control}",
        ]


def describe(cores: Cores) -> Machine:
    """This machine, now."""
    return Machine(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
        memory_gb=round(psutil.virtual_memory().total / 1e9, 1),
        kernel=platform.release(),
        congestion_control=_first_line(Path("/proc/sys/net/ipv4/tcp_congestion_control")) or "unknown",
        python=platform.python_version(),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        server_core=cores.server,
        load_cores=cores.load,
    )


def _first_line(path: Path) -> str:
    try:
        return path.read_text().partition("\n")[0].strip()
    except OSError:
        return ""


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown CPU"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
