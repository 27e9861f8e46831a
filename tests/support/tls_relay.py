"""A proxy that ends TLS with a certificate of its own and passes on everything it reads."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedcall.federation.certificates import ensure_certificates


@contextmanager
def tls_relay(target: str, target_ca: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Pass connections on to `target` (HOST:PORT); yield the relay's address and the authority of its certificate."""
    certificates = ensure_certificates(folder, ("127.0.0.1",))
    inward = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inward.load_cert_chain(certificates.server, certificates.server_key)
    outward = ssl.create_default_context(cafile=str(target_ca))
    outward.check_hostname = False
    host, _, port = target.rpartition(":")
    started = threading.Event()
    ports: list[int] = []
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(host, int(port), ssl=outward)
        await asyncio.wait(
            [asyncio.create_task(_copy(reader, up_writer)), asyncio.create_task(_copy(up_reader, writer))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for end in (writer, up_writer):
            end.transport.abort()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=inward)
        ports.append(server.sockets[0].getsockname()[1])
        ends.append((asyncio.get_running_loop(), asyncio.Event()))
        started.set()
        await ends[0][1].wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(300)
    try:
        yield f"127.0.0.1:{ports[0]}", certificates.authority
    finally:
        loop, over = ends[0]
        loop.call_soon_threadsafe(over.set)
        thread.join(60)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
