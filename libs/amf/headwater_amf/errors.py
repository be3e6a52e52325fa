"""What can go wrong with AMF: text says marker, offset and what was expected."""


class AmfError(ValueError):
    """Anything wrong with a value or its bytes."""


class AmfDecodeError(AmfError):
    """Bytes that are not AMF, or that go over a limit."""


class AmfTruncated(AmfDecodeError):
    """Bytes that end inside a value."""


class AmfEncodeError(AmfError):
    """A Python value that has no AMF form."""
