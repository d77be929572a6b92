"""quic_work.py serve ADDRESS PORT FOLDER, or ask HOST PORT: a megabyte on a stream of QUIC, with its hash."""
import asyncio
import hashlib
import os
import ssl
import sys

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration

how, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def answer(reader, writer):
    data = await reader.read()
    writer.write(hashlib.sha256(data).digest() + data)
    writer.write_eof()


async def main():
    if how == "serve":
        conf = QuicConfiguration(is_client=False, alpn_protocols=["mesh"])
        conf.load_cert_chain(f"{sys.argv[4]}/cert", f"{sys.argv[4]}/key")
        running = set()

        def handle(reader, writer):
            task = asyncio.ensure_future(answer(reader, writer))
            running.add(task)
            task.add_done_callback(running.discard)
        await serve(host, port, configuration=conf, stream_handler=handle)
        print("ready", flush=True)
        await asyncio.Event().wait()
    conf = QuicConfiguration(is_client=True, alpn_protocols=["mesh"], verify_mode=ssl.CERT_NONE)
    async with connect(host, port, configuration=conf) as client:
        reader, writer = await client.create_stream()
        data = os.urandom(1_000_000)
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == hashlib.sha256(data).digest() + data
        print("echoed")

asyncio.run(main())
