"""Accept connections within limits: counted from the first packet on, before TLS, per address and in all.

uvicorn counts connections once their TLS handshake is done, and waits a minute for it. Whoever opens connections and
says nothing would take all file descriptors.
"""

import asyncio
import ipaddress
import logging
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger("fedcall.gate")

_HANDSHAKE_SECONDS = 5.0
_HEADER_SECONDS = 10.0
_CLOSE_SECONDS = 0.5  # for the answer to arrive
_OTHER_DESCRIPTORS = 160  # connections to the SuperLink, logs, libraries
_FEWEST_CONNECTIONS = 32
_OWN_ADDRESSES = ("127.0.0.1", "::1")
_PAUSE_SECONDS = 0.2  # after the kernel gave no connection


def connections_allowed(wanted: int) -> int:
    """Return how many connections the process may hold, after raising its limit of descriptors as far as it may.

    Raises
    ------
    OSError
        If there are not enough descriptors for a handful of connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_DESCRIPTORS
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = min(wanted, soft - _OTHER_DESCRIPTORS)
    if allowed < _FEWEST_CONNECTIONS:
        raise OSError(
            f"the limit of open files is {soft}; {_FEWEST_CONNECTIONS + _OTHER_DESCRIPTORS} are needed (ulimit -n)"
        )
    if allowed < wanted:
        log.warning("the limit of open files, %d, allows %d connections instead of %d", soft, allowed, wanted)
    return allowed


class TimedConnection(H11Protocol):
    """A connection that is cut when the head of a request does not arrive in time (uvicorn waits for ever)."""

    on_lost: Callable[[], None] = staticmethod(lambda: None)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Watch over the connection from its first moment on."""
        super().connection_made(transport)
        self.loop.call_later(_HEADER_SECONDS, self._watch, None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room for another."""
        super().connection_lost(exc)
        self.on_lost()

    def on_response_complete(self) -> None:
        """Close a connection for good soon after its last answer."""
        super().on_response_complete()
        if self.transport.is_closing():  # a TLS connection closes politely, reading on while the sender talks
            self.loop.call_later(_CLOSE_SECONDS, self.transport.abort)

    def _watch(self, seen: object) -> None:
        """Cut the connection if no request has come since `seen` and none is being answered."""
        if self.transport.is_closing():
            return
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is seen:
            self.transport.abort()
        else:
            self.loop.call_later(_HEADER_SECONDS, self._watch, self.cycle)


class LimitedServer(uvicorn.Server):
    """uvicorn's server on one listening socket, with `most` connections in all and a quarter of them per address.

    A reverse proxy's address (127.0.0.1, ::1) may hold all of them. Of IPv6, 64 bits are an address.
    """

    def __init__(self, config: uvicorn.Config, most: int) -> None:
        super().__init__(config)
        self._most, self._open = most, Counter[str]()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept from now on."""
        await self.lifespan.startup()
        assert sockets
        assert self.config.ssl
        self.servers = [_Accepting(self, one, self.config.ssl) for one in sockets]  # type: ignore[misc]
        self.started = True

    def has_room(self, address: str) -> bool:
        """Say whether one more connection of an address is allowed."""
        if self._open.total() >= self._most:
            return False
        return address in _OWN_ADDRESSES or self._open[address] < self._most // 4

    def take(self, address: str) -> Callable[[], None]:
        """Count a connection; the function that is returned counts it off, once."""
        self._open[address] += 1
        held = [True]

        def release() -> None:
            if held:
                held.clear()
                self._open[address] -= 1
                if not self._open[address]:
                    del self._open[address]

        return release

    def protocol(self, release: Callable[[], None]) -> TimedConnection:
        """Return the protocol of one connection."""
        made = TimedConnection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        made.on_lost = release
        return made


class _Accepting:
    """Takes connections from a listening socket; has of asyncio's Server what uvicorn uses."""

    def __init__(self, server: LimitedServer, listener: socket.socket, context: ssl.SSLContext) -> None:
        listener.setblocking(False)
        self._server, self._listener, self._context = server, listener, context
        self._greeting: set[asyncio.Task[None]] = set()
        self._task = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept no more."""
        self._task.cancel()
        for task in self._greeting:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until nothing of it runs any more."""
        await asyncio.gather(self._task, *self._greeting, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(self._listener)
            except OSError as error:
                log.error("no connection accepted: %s", error)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            address = _group(peer)
            if not self._server.has_room(address):
                connection.close()
                continue
            task = loop.create_task(self._greet(connection, self._server.take(address)))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, connection: socket.socket, release: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: self._server.protocol(release),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=_HANDSHAKE_SECONDS,
            )
        except BaseException as error:
            release()
            with suppress(OSError):
                connection.close()
            if not isinstance(error, OSError):  # a handshake that fails, or takes too long, is one
                raise


def _group(peer: Any) -> str:
    """Return what counts as one address: an IPv4 address, or 64 bits of an IPv6 address."""
    address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback:
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
