"""The RTMPT sessions of an edge, and where a request belongs."""

import time
from typing import TYPE_CHECKING

from headwater_rtmp.rtmpt import Ident, Open, SessionRequest, new_session_id, parse_target
from headwater_store import Leases

from headwater_edge.admission import Admission
from headwater_edge.doors.http import HttpRequest
from headwater_edge.rtmpt.records import Records
from headwater_edge.rtmpt.tunnel import Tunnel

if TYPE_CHECKING:
    from headwater_edge.edge import Edge

_STOPPED_S = 2.5
"""The edge looks once a second."""


class Tunnels:
    """See the module. `leases`: the records; None: there is no RTMPT here."""

    def __init__(self, edge: "Edge", leases: Leases | None) -> None:
        self._edge = edge
        self._serves = leases is not None
        config = edge.config
        self._admission = Admission(config.max_connections, config.max_per_address)
        self._tunnels: dict[str, Tunnel] = {}
        self._checked_at = time.monotonic()
        self.records = Records(leases, edge.node.boot, config.tunnel_patience_s, self._failed)

    def __len__(self) -> int:
        return len(self._tunnels)

    def request(self, request: HttpRequest) -> None:
        """A POST: it is answered now or later, once."""
        asked = parse_target(request.target) if self._serves else None
        if asked is None or isinstance(asked, Ident):
            # Who asks for /fcs/ident2 goes on with the address that it has, when there is no other.
            request.answer(404, b"")
        elif isinstance(asked, Open):
            self._open(request)
        else:
            self._pass_on(asked, request)

    def _open(self, request: HttpRequest) -> None:
        if self._edge.draining or not self._admission.admits(request.address):
            self._edge.counters.connections_refused += 1
            request.answer(503, b"", close=True)
            return
        tunnel = self._make(new_session_id(), request.address)
        tunnel.open(request)

    def _pass_on(self, asked: SessionRequest, request: HttpRequest) -> None:
        tunnel = self._tunnels.get(asked.session_id)
        if tunnel is None:
            if self._edge.draining:
                request.abort()
                return
            tunnel = self._make(asked.session_id, request.address)
        tunnel.request(asked.verb, asked.sequence, request)
        self._edge.flush_clients()

    def _make(self, key: str, address: str) -> Tunnel:
        tunnel = self._tunnels[key] = Tunnel(self, self._edge, key, address)
        self._admission.enter(address)
        return tunnel

    def _failed(self, key: str, error: Exception) -> None:
        tunnel = self._tunnels.get(key)
        if tunnel is not None:
            tunnel.fail(error)

    def forget(self, tunnel: Tunnel) -> None:
        """The session has ended, or is another edge's. A second call does nothing."""
        if self._tunnels.get(tunnel.key) is tunnel:
            del self._tunnels[tunnel.key]
            self._admission.leave(tunnel.address)

    def check_deadlines(self, now: float) -> None:
        """End sessions that no request comes for. `now`: monotonic seconds. Asked late, this process was stopped for a while:
        others may have its sessions by now."""
        stopped = now - self._checked_at > _STOPPED_S
        self._checked_at = now
        for tunnel in list(self._tunnels.values()):
            if stopped:
                tunnel.doubt()
            tunnel.check(now)

    def hand_over(self) -> None:
        """The edge is draining: let others go on with all sessions."""
        for tunnel in list(self._tunnels.values()):
            tunnel.hand_over()
