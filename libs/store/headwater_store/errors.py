"""What a store raises."""


class StoreError(Exception):
    """The store cannot do what was asked. The text names the file or server, what was seen and what to do about it."""
