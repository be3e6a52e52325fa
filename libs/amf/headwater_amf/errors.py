"""What can go wrong with AMF: text says marker, offset and what was expected."""


class AmfError(ValueError):
    """Anything wrong with a value or its bytes."""


class AmfDecodeError(AmfError):
    """Bytes that are not AMF, or that go over a limit."""


class AmfTruncated(AmfDecodeError):
    """Bytes that end inside a value."""


class AmfEncodeError(AmfError):
    """A Python value that has no AMF form."""


def wrong_type(value: object, error: TypeError) -> AmfEncodeError:
    """What encoders raise where a value holds what its type does not allow, such as a class name that is no string."""
    return AmfEncodeError(
        f"a Python {type(value).__name__}, expected one whose parts have the right types: {error}"
    )
