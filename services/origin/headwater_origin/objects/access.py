"""What a client, or another scope's application, may do with a SharedObject."""

from enum import IntFlag


class Access(IntFlag):
    """Rights to one SharedObject, to be combined with `|`. Whoever has any of them may use the object and read it."""

    NONE = 0
    READ = 1
    WRITE = 2
    """Set slots."""
    DELETE = 4
    """Delete slots, and clear."""
    SEND = 8
    CREATE = 16
    """Make the object by using it, where it is not there."""
    ALL = 31
