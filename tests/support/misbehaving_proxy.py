"""A TCP proxy that does to connections what networks do: cuts them, stalls them, loses their ends."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Mischief:
    """What happens to the next connections, by the number of bytes sent upstream; empty: nothing."""

    cut_after_bytes: list[int] = field(default_factory=list)
    stall_after_bytes: list[int] = field(default_factory=list)
    stall_seconds: float = 2.0
    connections: int = 0
    cuts: int = 0
    stalls: int = 0


@contextmanager
def misbehaving_proxy(target: str, mischief: Mischief) -> Iterator[str]:
    """Pass connections on to `target` (HOST:PORT), with mischief; yield the proxy's address."""
    started: threading.Event = threading.Event()
    addresses: list[str] = []
    loop = asyncio.new_event_loop()

    async def main() -> None:
        server = await asyncio.start_server(lambda *pair: _serve(target, mischief, *pair), "127.0.0.1", 0)
        addresses.append(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        started.set()
        async with server:
            await server.serve_forever()

    def run() -> None:
        with suppress(asyncio.CancelledError, RuntimeError):
            loop.run_until_complete(main())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(300)
    try:
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


async def _serve(target: str, mischief: Mischief, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    mischief.connections += 1
    cut = mischief.cut_after_bytes.pop(0) if mischief.cut_after_bytes else None
    stall = mischief.stall_after_bytes.pop(0) if mischief.stall_after_bytes else None
    host, _, port = target.rpartition(":")
    try:
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
    except OSError:
        writer.close()
        return
    sent = 0

    async def upwards() -> None:
        nonlocal sent, stall
        while data := await reader.read(4096):
            if stall is not None and sent + len(data) > stall:
                stall = None
                mischief.stalls += 1
                await asyncio.sleep(mischief.stall_seconds)
            if cut is not None and sent + len(data) > cut:
                up_writer.write(data[: max(cut - sent, 0)])  # half a body
                await up_writer.drain()
                mischief.cuts += 1
                return
            sent += len(data)
            up_writer.write(data)
            await up_writer.drain()

    await _either(upwards(), _copy(up_reader, writer))
    for end in (writer, up_writer):
        end.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def _either(*ways) -> None:
    tasks: list[asyncio.Task] = [asyncio.ensure_future(way) for way in ways]
    _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
