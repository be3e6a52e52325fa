"""Where and how connections come in, on the command line."""

from pathlib import Path
from typing import Any

import click
from headwater_bus.options import OperatorError, operator_errors, option_stack
from headwater_bus.ports import edge_proxy_port, edge_rtmp_port, shared_rtmp_port

from headwater_edge.addresses import NetworkError, is_loopback
from headwater_edge.doors.door import Door, TrustedProxies
from headwater_edge.doors.listening import Doors, Place
from headwater_edge.doors.tls import TlsError, TlsStore
from headwater_edge.listener import ListenError, resolve

_PORT = click.IntRange(1, 65_535)
_OWN_PORT = click.IntRange(0, 65_535)
_FILE = click.Path(dir_okay=False, path_type=Path)
door_options = option_stack(
    click.option(
        "--listen",
        "hosts",
        multiple=True,
        default=("127.0.0.1",),
        show_default=True,
        metavar="HOST",
        help="IP address or name to listen on for clients; may be given more than once.",
    ),
    click.option(
        "--rtmp-port",
        type=_PORT,
        help="Port that all edges of this machine share, for RTMP and RTMPT; with a certificate also for RTMPS and RTMPTS "
        "[default: the base port].",
    ),
    click.option(
        "--own-port",
        type=_OWN_PORT,
        help="The same, of this edge alone, 0 for any [default: base port + 10 + its number].",
    ),
    click.option(
        "--rtmpt-port",
        type=_PORT,
        help="One more shared port for all of that: 80, where clients look that only get out by HTTP.",
    ),
    click.option("--rtmps-port", type=_PORT, help="One more shared port, for RTMPS and RTMPTS only: 443."),
    click.option("--no-rtmpt", is_flag=True, help="Serve no RTMPT, over HTTP only /health."),
    click.option(
        "--tls-cert",
        type=_FILE,
        help="Certificate chain (PEM); a new one is taken over when the file changes, or on SIGHUP.",
    ),
    click.option("--tls-key", type=_FILE, help="Its private key (PEM), without a pass phrase."),
    click.option(
        "--proxy-protocol",
        is_flag=True,
        help="One more port of this edge alone, for load-balancers that send a PROXY protocol header (version 1 or 2).",
    ),
    click.option(
        "--proxy-port",
        type=_OWN_PORT,
        help="Which one, 0 for any [default: base port + 110 + its number].",
    ),
    click.option(
        "--trust",
        "trusted",
        multiple=True,
        metavar="NETWORK",
        help="Network of load-balancers that are believed whom a connection (PROXY protocol) or request (X-Forwarded-For) "
        "is from; may be given more than once.",
    ),
    click.option(
        "--open",
        "open_to_all",
        is_flag=True,
        help="Serve anyone who reaches a listener that is not on loopback.",
    ),
)
"""Options of a `serve` command; `doors_of` takes them."""


def doors_of(options: dict[str, Any], base_port: int, node_id: str, authenticated: bool) -> Doors:
    """Where the edge `node_id` listens; takes what `door_options` brought out of the options. `authenticated`: not everybody who
    reaches a listener is served. Raises OperatorError."""
    hosts: tuple[str, ...] = options.pop("hosts")
    with operator_errors(ListenError):
        addresses = tuple(resolve(host) for host in hosts)
    open_to_all = options.pop("open_to_all") or authenticated
    for host, address in zip(hosts, addresses, strict=True):
        if not (open_to_all or is_loopback(address)):
            raise OperatorError(
                f"--listen {host}: others than this machine would reach it and no authentication is configured; "
                "listen on 127.0.0.1, or give --open to serve anyone"
            )
    tls = _certificate(options.pop("tls_cert"), options.pop("tls_key"))
    trusted = _trusted(options.pop("trusted"))
    places: list[Place] = []

    def add(port: int | None, door: Door, shared: bool = True) -> None:
        if port is not None:
            places.extend(Place(address, port, door, shared) for address in addresses)

    anything = Door(tls=tls, trusted=trusted)
    rtmp_port = options.pop("rtmp_port")
    add(shared_rtmp_port(base_port) if rtmp_port is None else rtmp_port, anything)
    add(options.pop("rtmpt_port"), anything)
    add(_tls_port(options.pop("rtmps_port"), tls), Door(plain=False, tls=tls, trusted=trusted))
    proxy_port = _proxy_port(options, base_port, node_id, trusted)
    add(proxy_port, Door(proxied=True, tls=tls, trusted=trusted), shared=False)
    own_port = options.pop("own_port")
    with operator_errors(ValueError):
        add(edge_rtmp_port(base_port, node_id) if own_port is None else own_port, anything, shared=False)
    _check_ports(places)
    return Doors(tuple(places), tls, rtmpt=not options.pop("no_rtmpt"))


def _certificate(certificate: Path | None, key: Path | None) -> TlsStore | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing, given = ("--tls-cert", "--tls-key") if certificate is None else ("--tls-key", "--tls-cert")
        raise OperatorError(f"{given} without {missing}; give both, a certificate chain and its private key")
    try:
        return TlsStore(certificate, key)
    except TlsError as error:
        raise OperatorError(f"--tls-cert, --tls-key: {error}") from error


def _trusted(networks: tuple[str, ...]) -> TrustedProxies:
    for network in networks:
        try:
            TrustedProxies([network])
        except NetworkError as error:
            raise OperatorError(f"--trust {network}: {error}; expected 10.0.0.0/8 or 10.1.2.3") from error
    return TrustedProxies(networks)


def _tls_port(port: int | None, tls: TlsStore | None) -> int | None:
    if port is not None and tls is None:
        raise OperatorError(f"--rtmps-port {port}: there is no certificate; give --tls-cert and --tls-key")
    return port


def _proxy_port(options: dict[str, Any], base_port: int, node_id: str, trusted: TrustedProxies) -> int | None:
    port: int | None = options.pop("proxy_port")
    if not options.pop("proxy_protocol"):
        if port is not None:
            raise OperatorError(f"--proxy-port {port} without --proxy-protocol; give both")
        return None
    if not trusted:
        raise OperatorError("--proxy-protocol: whose header is believed? Give --trust NETWORK")
    with operator_errors(ValueError):
        return edge_proxy_port(base_port, node_id) if port is None else port


def _check_ports(places: list[Place]) -> None:
    """Two listeners of one process on a shared port would each get a part of the connections."""
    seen: set[tuple[str, int]] = set()
    for place in places:
        if place.port and (place.host, place.port) in seen:
            raise OperatorError(f"port {place.port} is given twice; give each option a port of its own")
        seen.add((place.host, place.port))
