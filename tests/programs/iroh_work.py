"""iroh: QUIC between two that know one another's key and addresses. iroh_work.py serve | ask KEY ADDRESS..."""
import asyncio
import hashlib
import os
import sys

import iroh

ALPN = b"mesh/1"


async def serve(endpoint):
    while True:
        connection = await (await (await endpoint.accept_next()).accept()).connect()
        stream = await connection.accept_bi()
        data = await stream.recv().read_to_end(1 << 24)
        await stream.send().write_all(hashlib.sha256(data).digest() + data)
        await stream.send().finish()
        print("path", *[path.remote_addr for path in connection.paths()], "path", flush=True)
        await connection.closed()


async def ask(endpoint, key, addresses):
    far = iroh.EndpointAddr(iroh.EndpointId.from_string(key), None, addresses)
    connection = await asyncio.wait_for(endpoint.connect(far, ALPN), 30)
    stream, data = await connection.open_bi(), os.urandom(3_000_000)
    await stream.send().write_all(data)
    await stream.send().finish()
    assert await stream.recv().read_to_end(1 << 24) == hashlib.sha256(data).digest() + data
    print(*[path.remote_addr for path in connection.paths() if path.is_selected])
    connection.close(0, b"")


async def main():
    endpoint = await iroh.Endpoint.bind(iroh.EndpointOptions(preset=iroh.preset_minimal(), alpns=[ALPN]))
    if sys.argv[1] == "ask":
        return await ask(endpoint, sys.argv[2], sys.argv[3:])
    while not (found := endpoint.addr().direct_addresses()):
        await asyncio.sleep(0.1)
    six = [place for place in endpoint.bound_sockets() if place.startswith("[")]
    print("key", endpoint.id(), *found, *six, "key", flush=True)
    await serve(endpoint)

asyncio.run(main())
