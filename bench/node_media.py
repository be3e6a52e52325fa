"""Node-Media-Server as the server under test, from npm; the benchmark installs it into its own build folder."""

import json
import shutil
import subprocess
from pathlib import Path

from bench.errors import BenchError
from bench.processes import Program, free_port
from bench.server import Server
from bench.session import Target

LABEL = "Node-Media-Server"
VERSION = "4.4.3"
_PACKAGE = "node-media-server"
_FOLDER = Path(__file__).parent / "build" / _PACKAGE
_INSTALL_S = 300.0
_SCRIPT = """\
const [folder, port] = process.argv.slice(2);
const Server = require(folder);
const log = console.log;
console.log = () => {};  // Its banner is no last word.
const server = new Server({bind: "127.0.0.1", rtmp: {port: Number(port)}, store: {path: "store"}, record: {path: "record"}});
console.log = log;
require(folder + "/src/core/logger.js").level = "error";
server.run();
"""
"""RTMP only, nothing said about single clients: its quickest way to run."""


def _module() -> Path:
    return _FOLDER / "node_modules" / _PACKAGE


def _installed() -> str:
    """The version that is there, or nothing."""
    try:
        return str(json.loads((_module() / "package.json").read_text())["version"])
    except (OSError, ValueError, KeyError):
        return ""


def check_installed() -> None:
    """Install it where it is not there yet. Raises BenchError."""
    for program, package in (("node", "nodejs"), ("npm", "npm")):
        if shutil.which(program) is None:
            raise BenchError(f"no {program} for {LABEL}; install Debian's package {package}")
    if _installed() == VERSION:
        return
    _FOLDER.mkdir(parents=True, exist_ok=True)
    (_FOLDER / "package.json").write_text('{"private": true}\n')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"{_PACKAGE}@{VERSION}"]
    try:
        said = subprocess.run(
            command, cwd=_FOLDER, capture_output=True, text=True, check=False, timeout=_INSTALL_S
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"npm did not install {_PACKAGE} {VERSION} within {_INSTALL_S:.0f} s") from None
    if said.returncode or _installed() != VERSION:
        lines = said.stderr.strip().splitlines() or ["it said nothing"]
        raise BenchError(f"npm cannot install {_PACKAGE} {VERSION}: {lines[0]}")


class NodeMediaServer(Server):
    """One process of Node.js, as it comes."""

    label = LABEL
    groups = ("all",)

    def __init__(self, core: int | None) -> None:
        super().__init__(core)
        self._port = free_port()

    @property
    def target(self) -> Target:
        """Application live."""
        return Target("127.0.0.1", self._port)

    def start(self) -> None:
        """Its store is in the temporary folder."""
        script = self.folder / "server.js"
        script.write_text(_SCRIPT)
        command = [shutil.which("node") or "node", str(script), str(_module()), str(self._port)]
        self.add(Program(_PACKAGE, command, self.folder, self.core), "all")

    def settings(self) -> dict[str, object]:
        """Versions."""
        node = subprocess.run(
            ["node", "--version"], capture_output=True, text=True, check=False
        ).stdout.strip()
        return {"version": f"{LABEL} {VERSION}, Node.js {node}"}
