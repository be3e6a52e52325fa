"""The application of the call benchmark."""

from headwater_origin import Application, Client, remote


class Echo(Application):
    """Answers what it is asked."""

    @remote
    def echo(self, client: Client, value: str) -> str:
        """The same value."""
        return value
