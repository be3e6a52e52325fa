"""Python text to UTF-8."""

from headwater_amf.errors import AmfEncodeError


def utf8(value: str) -> bytes:
    """Raises AmfEncodeError for lone surrogates, and for a key that is not a string."""
    try:
        return value.encode()
    except (UnicodeEncodeError, AttributeError) as error:
        raise AmfEncodeError(f"{value!r:.40}, expected a string of Unicode text") from error
