"""Authentication on real edges: the table has the same results by rtmp, rtmps, rtmpt and rtmpts, and nothing secret is logged."""

from collections.abc import Callable
from pathlib import Path

import gevent
import pytest
from headwater_bus.ports import edge_rtmp_port
from headwater_client import ConnectError, NetConnection, StreamError
from support.auth_table import CASES, STREAM, Case, Keys, arguments
from support.callback_server import CallbackServer
from support.certificates import Certificate, make_certificate
from support.cluster import Cluster

pytestmark = pytest.mark.cluster
_SETUPS = ("tokens", "publish-tokens", "publish-slow", "connect-denied", "all", "no-play")
"""Each on an edge of its own."""
_SCHEMES = ("rtmp", "rtmps", "rtmpt", "rtmpts")
_ADDRESS = "127.0.0.1"
_NOBODY = "NetStream.Play.StreamNotFound"
"""What the origin says: who hears it was let through by the edge."""


def _told(case: Case, scheme: str, port: int, keys: Keys, certificate: Certificate) -> tuple[str, str]:
    """Where a client is denied and why; empty: nowhere."""
    connect, stream = (keys.credential(kind, _ADDRESS) for kind in (case.connect, case.stream))
    url = f"{scheme}://{_ADDRESS}:{port}/live" + (f"?{connect}" if connect else "")
    connection = NetConnection(url, ca_file=str(certificate.certificate), timeout_s=30)
    try:
        connection.connect()
        with connection.create_stream() as wanted:
            name = STREAM + (f"?{stream}" if stream else "")
            (wanted.publish if case.action == "publish" else wanted.play)(name)
    except ConnectError as error:
        return "connect", error.description
    except StreamError as error:
        return ("", "") if error.code == _NOBODY else (case.action, error.description)
    finally:
        connection.close()
    return "", ""


def test_the_table_by_every_transport(
    tmp_path: Path, make_cluster: Callable[..., Cluster], tool: Callable[[str], str]
) -> None:
    keys = Keys(tmp_path)
    certificate = make_certificate(tool("openssl"), tmp_path, "edges")
    with CallbackServer() as server:
        options = {
            f"edge.{number}": " ".join(arguments(setup, keys, server.url, _ADDRESS))
            for number, setup in enumerate(_SETUPS, 1)
        }
        options["edge"] = f"--tls-cert {certificate.certificate} --tls-key {certificate.key}"
        cluster = make_cluster({"edge": len(_SETUPS), "origin": 1}, options)
        ports = {
            setup: edge_rtmp_port(cluster.base_port, f"edge-{number}")
            for number, setup in enumerate(_SETUPS, 1)
        }
        cases = [case for case in CASES if case.setup in _SETUPS]
        results: dict[tuple[str, str], tuple[str, str]] = {}

        def look(case: Case, scheme: str) -> None:
            results[str(case), scheme] = _told(case, scheme, ports[case.setup], keys, certificate)

        # Those that do publish share a name: one after the other.
        publishing = [case for case in cases if case.action == "publish" and not case.denied]
        others = [case for case in cases if case not in publishing]
        for case in others:
            gevent.joinall([gevent.spawn(look, case, scheme) for scheme in _SCHEMES], raise_error=True)
        for case in publishing:
            for scheme in _SCHEMES:
                look(case, scheme)
        assert len(results) == len(cases) * len(_SCHEMES)
        for case in cases:
            for scheme in _SCHEMES:
                where, why = results[str(case), scheme]
                assert (where, case.reason in why) == (case.denied, True), (str(case), scheme, why)
    logs = "".join(cluster.log(name) for name in cluster.names)
    assert " denied " in logs
    for secret in (*keys.secrets, "token=", "sig=", "eyJ"):
        assert secret not in logs
