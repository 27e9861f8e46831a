"""The hop to the SuperLink: what lacks the secret of this start is refused before Flower looks at it.

Flower's one port carries its Control API, too, which asks nobody for a credential: whoever had an account on the
coordinator's machine could stop the run, or register a node. So the SuperLink is started by this module, with a check
in front of all of Flower's own; the secret lies in the state folder, mode 0600, and is known to the gate and to our
ServerApp. `python -m fedcall.federation.flower.hop SECRET_FILE OPTIONS` takes the options of `flower-superlink`.
"""

import hmac
import secrets
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

HEADER = "fedcall-hop"

_Message = MutableMapping[str, Any]
_App = Callable[[_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]]


def make_secret(path: Path) -> str:
    """Write a new secret for its owner alone and return it."""
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    return path.read_text()


class Hop:
    """Adds the secret to the requests of Flower's HTTP clients."""

    def __init__(self, secret: str) -> None:
        self.headers = {HEADER: secret}

    def intercept(self, context: Any, call_next: Callable[[Any], Any]) -> Any:
        """Send a request with the secret (an interceptor of Flower's protobuf clients)."""
        context.request.headers.update(self.headers)
        return call_next(context)


class Guard:
    """An ASGI application in front of another: answers 403 to whatever lacks the secret, whole or in part."""

    def __init__(self, app: _App, secret: str) -> None:
        self._app, self._secret = app, secret.encode()

    async def __call__(
        self,
        scope: _Message,
        receive: Callable[[], Awaitable[_Message]],
        send: Callable[[_Message], Awaitable[None]],
    ) -> None:
        """Pass on what carries the secret, and the server's own start and end; nothing else (ASGI 3)."""
        given = [value for name, value in scope.get("headers", ()) if name == HEADER.encode()]
        known = len(given) == 1 and hmac.compare_digest(given[0], self._secret)
        if scope["type"] == "lifespan" or known:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            start = {"type": "http.response.start", "status": 403, "headers": [(b"connection", b"close")]}
            await send(start)
            await send({"type": "http.response.body", "body": b"not for you\n"})


def main() -> None:
    """Run a SuperLink behind the guard."""
    from flwr.superlink import extensions
    from flwr.superlink.cli.flower_superlink import flower_superlink
    from starlette.middleware import Middleware

    secret = Path(sys.argv[1]).read_text()
    extensions.get_middleware = lambda: (Middleware(Guard, secret=secret),)  # the outermost of Flower's
    sys.argv = ["flower-superlink", *sys.argv[2:]]
    flower_superlink()


if __name__ == "__main__":
    main()
