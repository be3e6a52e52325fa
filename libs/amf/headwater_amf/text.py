"""Python text to UTF-8."""

from typing import Any

from headwater_amf.errors import AmfEncodeError


def utf8(value: Any) -> bytes:
    """Raises AmfEncodeError for lone surrogates, and for a key that is not a string."""
    try:
        text: str = value  # Compiled, this raises TypeError; interpreted, the next line AttributeError.
        return text.encode()
    except (UnicodeEncodeError, AttributeError, TypeError) as error:
        raise AmfEncodeError(f"{value!r:.40}, expected a string of Unicode text") from error
