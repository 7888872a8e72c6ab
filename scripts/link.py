#!/usr/bin/env python3
"""A long and narrow link on this machine, for measurements: relays TCP connections to another port of the loopback.

Every byte arrives `--delay` seconds after it was sent, each way, so a round trip takes twice that. All connections
together get `--rate` bytes per second, each way, through one queue, as on a real uplink. Opening a connection takes one
round trip more. What is under way is bounded, so a fast sender is held back as TCP would hold it back.

    link.py --listen 6000 --to 5000 --delay 0.04 --rate 25000000
"""

import argparse
import asyncio
import socket
from collections import deque
from dataclasses import dataclass

HOST = "127.0.0.1"
READ_BYTES = 16 * 1024
# How far ahead of the queue a connection may be read: what the buffers of a real sender's machine would hold.
QUEUE_SECONDS = 0.05
# Chunks of one connection that may be under way.
UNDER_WAY = 512


@dataclass
class Lane:
    """One direction of the link, shared by all connections."""

    rate: float
    free_at: float = 0.0

    def send(self, size: int, now: float) -> float:
        """When the last of `size` bytes has left the sender's side."""
        if not self.rate:
            return now
        self.free_at = max(self.free_at, now) + size / self.rate
        return self.free_at


class Delay:
    """Bytes on their way: put in with the time of their arrival, given to `writer` when it has come."""

    def __init__(self, writer: asyncio.StreamWriter):
        self.writer = writer
        self.chunks: deque[tuple[float, bytes]] = deque()
        self.changed = asyncio.Condition()
        self.closed = False

    async def put(self, arrival: float, data: bytes) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: len(self.chunks) < UNDER_WAY or self.closed)
            self.chunks.append((arrival, data))
            self.changed.notify_all()

    async def deliver(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                async with self.changed:
                    await self.changed.wait_for(lambda: bool(self.chunks))
                    arrival, data = self.chunks.popleft()
                    self.changed.notify_all()
                wait = arrival - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait)
                if not data:  # the other side has finished sending
                    self.writer.write_eof()
                    return
                self.writer.write(data)
                await self.writer.drain()
        finally:
            async with self.changed:
                self.closed = True
                self.changed.notify_all()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lane: Lane, delay: float) -> None:
    loop = asyncio.get_running_loop()
    line = Delay(writer)
    delivery = asyncio.create_task(line.deliver())
    try:
        while not line.closed:
            data = await reader.read(READ_BYTES)
            sent = lane.send(len(data), loop.time())
            await line.put(sent + delay, data)
            if not data:
                break
            ahead = sent - loop.time() - QUEUE_SECONDS
            if ahead > 0:
                await asyncio.sleep(ahead)
        await delivery
    finally:
        delivery.cancel()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", type=int, required=True, metavar="PORT", help="port to listen on")
    parser.add_argument("--to", type=int, required=True, metavar="PORT", help="port to relay to")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="each way")
    parser.add_argument("--rate", type=float, default=0.0, metavar="BYTES", help="per second and direction; 0: no limit")
    options = parser.parse_args()
    there, back = Lane(options.rate), Lane(options.rate)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * options.delay)
        far_writer = None
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, options.to, limit=4 * READ_BYTES)
            for end in (writer, far_writer):
                end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.gather(
                relay(reader, far_writer, there, options.delay),
                relay(far_reader, writer, back, options.delay),
                return_exceptions=True,
            )
        except OSError:
            pass  # nobody listens there, or one side is gone: the connection ends
        finally:
            writer.close()
            if far_writer:
                far_writer.close()

    server = await asyncio.start_server(connection, HOST, options.listen, limit=4 * READ_BYTES, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
