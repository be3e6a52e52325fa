"""The load's programs in C (`bench/native`), compiled where they are missing or older than their source."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.errors import BenchError

_SOURCES = Path(__file__).parent / "native"
_BUILD = Path(__file__).parent / "build"
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror")
_SHARED = ("alloc.c", "amf.c", "chunk.c", "client.c", "ending.c", "histogram.c", "orders.c")
_OWN = {
    "rtmp_load": ("load.c", "publish.c"),
    "object_load": ("object_load.c", "object_member.c", "object_caller.c", "object_pinger.c"),
}


def build(program: str, folder: Path = _BUILD) -> Path:
    """The program of this name in `folder`. Raises BenchError."""
    path = folder / program
    newest = max(source.stat().st_mtime for source in _SOURCES.iterdir())
    if path.is_file() and path.stat().st_mtime > newest:
        return path
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise BenchError("no C compiler for the load generator; install Debian's packages gcc and libc6-dev")
    folder.mkdir(parents=True, exist_ok=True)
    # Beside it and then renamed: two benchmarks may build at once.
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        made = Path(beside, program)
        sources = [str(_SOURCES / name) for name in (*_OWN[program], *_SHARED)]
        command = [compiler, *_FLAGS, "-o", str(made), *sources]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        if said.returncode:
            lines = [line for line in said.stderr.splitlines() if "error" in line] or said.stderr.splitlines()
            raise BenchError(f"the load generator does not compile: {(lines or ['no output'])[0]}")
        os.replace(made, path)
    return path
