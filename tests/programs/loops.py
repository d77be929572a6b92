"""loops.py serve ADDRESS PORT: TCP and UDP echo by asyncio. ask HOST PORT OWN asyncio|uvloop: uses it."""
import asyncio
import os
import socket
import sys
import tempfile

import uvloop

how, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
blob = os.urandom(2_000_000)


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, peer):
        self.transport.sendto(data, peer)


class Ask(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, peer):
        if not self.got.done():
            self.got.set_result((data, peer[0]))


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"end")
    writer.close()


async def serve():
    await asyncio.get_running_loop().create_datagram_endpoint(Echo, (host, port))
    server = await asyncio.start_server(echo, host, port, backlog=200)
    print("ready", flush=True)
    await server.serve_forever()


async def conversation(data, own):
    reader, writer = await asyncio.open_connection(host, port, family=socket.AF_INET)
    assert writer.get_extra_info("sockname")[0] == own
    reading = asyncio.create_task(reader.readexactly(len(data)))
    writer.write(data)
    assert await reading == data
    writer.write_eof()
    assert await reader.read() == b"end"
    writer.close()


async def send_file(data):
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(host, port, family=socket.AF_INET)
    reading = asyncio.create_task(reader.readexactly(len(data)))
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        if isinstance(loop, asyncio.SelectorEventLoop):
            assert await loop.sendfile(writer.transport, file, fallback=False) == len(data)
        else:  # uvloop has no sendfile of its own
            writer.write(data)
    assert await reading == data
    writer.close()


async def ask(own):
    await conversation(blob, own)
    await asyncio.gather(*[conversation(blob[:1 + n * 500], own) for n in range(100)])
    print("echo\nhalf-close")
    await send_file(blob)
    print("sendfile")
    loop = asyncio.get_running_loop()
    transport, asking = await loop.create_datagram_endpoint(Ask, remote_addr=(host, port), family=socket.AF_INET)
    assert transport.get_extra_info("sockname")[0] == own
    while not asking.got.done():
        transport.sendto(b"question")
        await asyncio.wait([asking.got], timeout=1)
    assert asking.got.result()[0] == b"question"
    print("udp")


if how == "serve":
    asyncio.run(serve())
else:
    (uvloop.run if sys.argv[5] == "uvloop" else asyncio.run)(ask(sys.argv[4]))
