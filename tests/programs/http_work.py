"""http_work.py serve ADDRESS PORT: echoes posts (aiohttp on uvloop). ask HOST PORT OWN: by every client."""
import asyncio
import hashlib
import os
import sys

import aiohttp
import httpx
import requests
import uvloop
import websockets
from aiohttp import web

how, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
url = f"http://{host}:{port}"


async def echo(request):
    return web.Response(body=await request.read(), headers={"Peer": request.remote})


async def talk(request):
    answer = web.WebSocketResponse(max_msg_size=0)
    await answer.prepare(request)
    async for message in answer:
        await answer.send_bytes(message.data)
    return answer


def serve():
    app = web.Application(client_max_size=1 << 26)
    app.add_routes([web.post("/", echo), web.get("/talk", talk)])
    web.run_app(app, host=host, port=port, print=lambda _: print("ready", flush=True), loop=uvloop.new_event_loop())


async def by_aiohttp(blob, own):
    async with aiohttp.ClientSession() as session:
        async def post(data):
            async with session.post(url, data=data) as answer:
                assert answer.headers["Peer"] == own, answer.headers
                return await answer.read()
        assert await post(blob) == blob
        got = await asyncio.gather(*[post(blob[:n * 1000]) for n in range(50)])
        assert got == [blob[:n * 1000] for n in range(50)]


async def by_websocket(blob):
    async with websockets.connect(f"ws://{host}:{port}/talk", max_size=None, proxy=None) as ws:
        for size in (1, 1000, 3_000_000):
            await ws.send(blob[:size])
            assert await ws.recv() == blob[:size]


def ask(own):
    blob = os.urandom(8_000_000)
    want = hashlib.sha256(blob).digest()
    for name, post in (("requests", lambda: requests.post(url, data=blob, timeout=60)),
                       ("httpx", lambda: httpx.post(url, content=blob, timeout=60))):
        answer = post()
        assert hashlib.sha256(answer.content).digest() == want and answer.headers["Peer"] == own, answer.headers
        print(name)
    asyncio.run(by_aiohttp(blob, own))
    print("aiohttp")
    uvloop.run(by_aiohttp(blob, own))
    print("uvloop")
    asyncio.run(by_websocket(blob))
    uvloop.run(by_websocket(blob))
    print("websockets")


if how == "serve":
    serve()
else:
    ask(sys.argv[4])
