"""nginx with Debian's RTMP module as the server under test."""

import re
import shutil
import subprocess
from pathlib import Path

from bench.errors import BenchError
from bench.processes import Program, free_port
from bench.server import Server
from bench.session import Target

_MODULE = "ngx_rtmp_module.so"
_PACKAGE = "libnginx-mod-rtmp"
_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
_REMEDY = f"install Debian's packages nginx and {_PACKAGE}, or leave nginx out (--server headwater)"
_CONNECTIONS = 20_000
LABEL = "nginx-rtmp"


def find_nginx() -> str:
    """The program. Raises BenchError with the package's name."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BenchError(f"no nginx on this machine; {_REMEDY}")
    return found


def nginx_facts(program: str) -> tuple[str, str]:
    """(version, folder of modules or "") as `nginx -V` tells them."""
    said = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stderr
    version = re.search(r"nginx/(\S+)", said)
    folder = re.search(r"--modules-path=(\S+)", said)
    return version.group(1) if version else "?", folder.group(1) if folder else ""


def package_version() -> str:
    """The version of Debian's package, where this is a Debian that has it."""
    query = ["dpkg-query", "-W", "-f", "${Version}", _PACKAGE]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def module_folders(told: str) -> tuple[str, ...]:
    """Where modules may be: in the folder that nginx told, if it did, and where distributions keep them."""
    return tuple(dict.fromkeys((*((told,) if told else ()), *_FOLDERS)))


def find_module(folders: tuple[str, ...]) -> Path:
    """The RTMP module. Raises BenchError with the package's name."""
    for folder in folders:
        path = Path(folder, _MODULE)
        if path.is_file():
            return path
    raise BenchError(f"no {_MODULE} in {', '.join(folders)}; {_REMEDY}")


def render_config(module: Path, port: int, out_cork: int = 0) -> str:
    """One worker, live on, no logs on the way, everything else at the module's defaults (chunk size 4096, no merging).

    `out_cork`: messages that a player's queue gathers before it is sent. The module heeds it only where `buffer` is set. It
    counts messages of any age, and audio never waits: it is sent at once, with what waited. So with audio in the stream video
    is never held longer than to the next audio frame, and each message is still a send() of its own.
    """
    server, app = (f"\n        out_cork {out_cork};", "\n            buffer 1s;") if out_cork else ("", "")
    return f"""\
load_module {module};
daemon off;
pid nginx.pid;
error_log stderr error;
worker_processes 1;
worker_rlimit_nofile {_CONNECTIONS};
events {{
    worker_connections {_CONNECTIONS};
    use epoll;
}}
rtmp {{
    access_log off;
    server {{
        listen 127.0.0.1:{port};{server}
        application live {{
            live on;{app}
        }}
    }}
}}
"""


class Nginx(Server):
    """nginx-rtmp: master and one worker."""

    groups = ("all",)

    def __init__(self, core: int | None, out_cork: int = 0) -> None:
        super().__init__(core)
        self.label = f"{LABEL}, out_cork {out_cork}" if out_cork else LABEL
        self._port = free_port()
        self._program = find_nginx()
        self._version, folder = nginx_facts(self._program)
        self._config = render_config(find_module(module_folders(folder)), self._port, out_cork)

    @property
    def target(self) -> Target:
        """Application live."""
        return Target("127.0.0.1", self._port)

    def start(self) -> None:
        """Configuration and logs are in the temporary folder."""
        config = self.folder / "nginx.conf"
        config.write_text(self._config)
        command = [self._program, "-p", str(self.folder), "-c", str(config), "-e", "stderr"]
        self.add(Program("nginx", command, self.folder, self.core), "all")

    def settings(self) -> dict[str, object]:
        """Version and configuration."""
        version = f"nginx {self._version}, {_PACKAGE} {package_version()}"
        return {"version": version, "config": self._config.splitlines()[1:]}


def check_installed() -> None:
    """Raises BenchError with the package's name when nginx or its module is missing."""
    _, folder = nginx_facts(find_nginx())
    find_module(module_folders(folder))
