"""Who is asked about a client, in which order: networks, then tokens, then callbacks. All have to allow it."""

from collections.abc import Callable
from dataclasses import replace

from headwater_bus.logs import RateLimit, get_log

from headwater_edge.auth.asked import Asked, Verdict
from headwater_edge.auth.callbacks import Callbacks
from headwater_edge.auth.networks import Networks
from headwater_edge.auth.redacting import redacted
from headwater_edge.auth.tokens import TokenError, Tokens

_log = get_log("edge")


class Authentication:
    """Parts that are None are not asked."""

    def __init__(
        self,
        networks: Networks | None = None,
        tokens: Tokens | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        self._networks, self._tokens, self._callbacks = networks, tokens, callbacks
        self._log_limit = RateLimit(1.0)

    @property
    def authenticates(self) -> bool:
        """Whether it takes more to be served than an address that nobody thought of. So a single network that is denied is no
        authentication."""
        if self._tokens is not None or self._callbacks is not None:
            return True
        return self._networks is not None and not self._networks.serve_strangers

    def check(self, asked: Asked, answer: Callable[[Verdict], None]) -> None:
        """Calls `answer(verdict)` once, now or later. Waits for nothing, and raises nothing of its own."""
        try:
            verdict = self._judge(asked)
        except Exception as error:
            # Its text may quote what the client showed.
            _log.error("internal error", action=asked.action, app=asked.app, error=type(error).__name__)
            verdict = Verdict(False, "it could not be found out whether this is allowed")
        if not verdict.allowed or self._callbacks is None:
            self._give(asked, verdict, answer)
            return

        def called(refusal: str) -> None:
            self._give(asked, replace(verdict, allowed=not refusal, reason=refusal), answer)

        self._callbacks.ask(asked, called)

    def close(self) -> None:
        """Nobody is asked about any more: let go of connections that are kept."""
        if self._callbacks is not None:
            self._callbacks.close()

    def _judge(self, asked: Asked) -> Verdict:
        if self._networks is not None and not self._networks.allow(asked.action, asked.address):
            return Verdict(False, f"{asked.action} is not allowed from {asked.address}")
        if self._tokens is None:
            return Verdict(True)
        try:
            return Verdict(True, "", self._tokens.check(asked))
        except TokenError as error:
            return Verdict(False, str(error))

    def _give(self, asked: Asked, verdict: Verdict, answer: Callable[[Verdict], None]) -> None:
        if not verdict.allowed and self._log_limit.passes("denied"):
            _log.warning(
                "denied",
                action=asked.action,
                app=asked.app,
                stream=redacted(asked.stream),
                address=asked.address,
                transport=asked.transport,
                session=asked.session_id,
                reason=verdict.reason,
                more=self._log_limit.suppressed("denied"),
            )
        answer(verdict)
