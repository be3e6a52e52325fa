"""The cluster of the chaos suite: all that an origin says to others, and others to it, runs through proxies that can be cut."""

import os
from pathlib import Path

import gevent

from support.cluster import Cluster
from support.proxy import Address, Cut, Proxy
from support.waiting import eventually

APPS = "--app chaos=tests.support.chaos_app:Chaos --app spreadchaos=tests.support.chaos_app:SpreadChaos"
_LISTENS = "0A"
_STARTED_S = 60.0
_LOOK_S = 0.1
"""So often the registry is asked, which has enough to do."""


class OriginLinks:
    """The proxies of one origin: those to the registries, which it is told instead of these, and those to its own ports, on
    an address of its own that it advertises."""

    def __init__(self, address: str, registries: list[str]) -> None:
        self.address = address
        self.pid = 0
        """Of the origin's process: whoever starts it says so."""
        self._out = [
            Proxy(("127.0.0.1", 0), _address(endpoint), self._look).open() for endpoint in registries
        ]
        self._in: dict[int, Proxy] = {}
        self._cut_in: Cut | None = None
        self._cut_out: Cut | None = None

    @property
    def options(self) -> str:
        """Of the origin's command."""
        endpoints = " ".join("--registry tcp://{}:{}".format(*proxy.address) for proxy in self._out)
        return f"--advertise {self.address} {endpoints}"

    def _look(self) -> None:
        """The origin goes to a registry: before it can tell others its ports these must lead there."""
        for port in listening_ports(self.pid) - set(self._in):
            proxy = self._in[port] = Proxy((self.address, port), ("127.0.0.1", port))
            proxy.open()
            if self._cut_in is not None:
                proxy.cut(self._cut_in)

    def cut(self, how: Cut, registries: bool, edges: bool) -> None:
        """Fail: its connections to the registries, those of others to it, or both."""
        self._cut_in, self._cut_out = how if edges else None, how if registries else None
        for proxy in [*(self._out if registries else ()), *(self._in.values() if edges else ())]:
            proxy.cut(how)

    def heal(self, listening: list[str]) -> None:
        """All is well again; `listening`: the endpoints of the registries that are there."""
        self._cut_in = self._cut_out = None
        for proxy in (*(self._to(endpoint) for endpoint in listening), *self._in.values()):
            proxy.heal()

    def registry_gone(self, endpoint: str) -> None:
        """The registry there is, or is about to be, dead: nobody listens."""
        self._to(endpoint).cut(Cut.RESET)

    def registry_back(self, endpoint: str) -> None:
        """It listens again."""
        if self._cut_out is None:
            self._to(endpoint).heal()

    def _to(self, endpoint: str) -> Proxy:
        return next(proxy for proxy in self._out if proxy.target == _address(endpoint))

    def killed(self) -> None:
        """The process is, or is about to be, gone for good: as with a real one nobody listens at its ports."""
        proxies, self._in = self._in, {}
        for proxy in proxies.values():
            proxy.close()

    def close(self) -> None:
        """End all proxies."""
        self.killed()
        for proxy in self._out:
            proxy.close()


class ChaosCluster(Cluster):
    """Three origins, two edges, and a registry and a balancer; `store` is a URL that all share, or empty for SQLite files of
    this machine. `controls`: so many registries and balancers."""

    def __init__(self, folder: Path, store: str = "", controls: int = 1) -> None:
        counts = {"origin": 3, "edge": 2, "registry": controls, "balancer": controls}
        given = f"--store {store}" if store else ""
        super().__init__(folder, counts, {"origin": f"{APPS} {given}", "registry": given})
        self.links = {
            name: OriginLinks(f"127.0.0.{10 + number}", self.registries)
            for number, name in enumerate(self.names_of("origin"), 1)
        }
        for name, links in self.links.items():
            self.add_options(name, links.options)

    def start_process(self, name: str) -> None:
        """See Cluster."""
        super().start_process(name)
        if name in self.links:
            self.links[name].pid = self.pid(name)
        elif (endpoint := self._endpoint(name)) is not None:
            gevent.spawn(self._registry_back, name, endpoint)

    def _endpoint(self, name: str) -> str | None:
        """Of a registry."""
        return dict(zip(self.names_of("registry"), self.registries, strict=True)).get(name)

    def _registry_back(self, name: str, endpoint: str) -> None:
        eventually(lambda: self._listens(name, endpoint) or not self.is_running(name), _STARTED_S)
        if self.is_running(name):
            for links in self.links.values():
                links.registry_back(endpoint)

    def _listens(self, name: str, endpoint: str) -> bool:
        return self.is_running(name) and _address(endpoint)[1] in listening_ports(self.pid(name))

    def kill_now(self, name: str) -> None:
        """kill -9."""
        if name in self.links:
            self.links[name].killed()
        elif (endpoint := self._endpoint(name)) is not None:
            for links in self.links.values():
                links.registry_gone(endpoint)
        self.kill(name)

    def heal(self, name: str) -> None:
        """The links of an origin work again."""
        registries = zip(self.names_of("registry"), self.registries, strict=True)
        self.links[name].heal(
            [endpoint for registry, endpoint in registries if self._listens(registry, endpoint)]
        )

    def wait_known(self, name: str, within_s: float = 60.0) -> None:
        """Wait until a registry knows this very process: what it was before may be known for a while. Of a registry: until
        one of them leads."""
        node_id = name.replace(".", "-")

        def known() -> bool:
            if name in self.names_of("registry"):
                return bool(self.nodes())
            row = self.nodes().get(node_id)
            if row is None:
                return False
            try:
                return bool(self.health(name)["pid"] == self.pid(name))
            except Exception:
                return False

        eventually(known, within_s, f"{name} is registered", _LOOK_S)

    def close(self) -> dict[str, int]:
        """Stop all; exit statuses by name."""
        statuses = self.stop()
        for links in self.links.values():
            links.close()
        return statuses


def listening_ports(pid: int) -> set[int]:
    """Of a process, on IPv4; none of one that is gone."""
    try:
        sockets = {_link(f"/proc/{pid}/fd/{entry}") for entry in os.listdir(f"/proc/{pid}/fd")}
        lines = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    except OSError:
        return set()
    rows = [line.split() for line in lines]
    return {
        int(row[1].rpartition(":")[2], 16)
        for row in rows
        if row[3] == _LISTENS and f"socket:[{row[9]}]" in sockets
    }


def _link(path: str) -> str:
    """Where it leads; nowhere, if it is closed meanwhile."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _address(endpoint: str) -> Address:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host, int(port)
