"""What a client asks for, and tokens that PyJWT would not make."""

import base64
import hmac
import json
from typing import Any

from headwater_edge.auth import Asked
from headwater_edge.auth.tokens import TokenError, Tokens

NOW = 1_800_000_000.0
SECRET = b"s" * 64


def asked(action: str = "publish", query: str = "", **more: Any) -> Asked:
    """A client of `chat/lobby` that wants to do something with `cam/1`."""
    fields: dict[str, Any] = {
        "address": "203.0.113.5",
        "app": "chat/lobby",
        "stream": "" if action == "connect" else "cam/1",
        "connect_query": query if action == "connect" else "",
        "tc_url": "",
        "page_url": "",
        "swf_url": "",
        "flash_ver": "",
        "session_id": "b00t-1",
        "number": 1,
        "transport": "rtmp",
    }
    return Asked(action=action, query=query, **{**fields, **more})


def refusal(tokens: Tokens, what: Asked) -> str:
    """Why tokens do not allow it; empty: they do."""
    try:
        tokens.check(what)
    except TokenError as error:
        return str(error)
    return ""


def forged(header: Any, claims: bytes = b'{"exp":2000000000}', secret: bytes = SECRET) -> str:
    """Signed by HS256, whatever the header says; one in bytes is taken as it is."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signed = f"{_part(head)}.{_part(claims)}"
    return f"{signed}.{_part(hmac.digest(secret, signed.encode(), 'sha256'))}"


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
