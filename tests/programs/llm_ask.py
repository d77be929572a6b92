"""llm_ask.py uvicorn|gunicorn HOST PORT OWN: asks the servers of llm_app.py."""
import asyncio
import hashlib
import os
import sys
import time

import httpx

how, host, port, own = sys.argv[1:]
url = f"http://{host}:{port}"


async def one(client, number):
    times, begun = [], time.monotonic()
    ask = {"max_tokens": 5 + number % 5}
    async with client.stream("POST", f"{url}/v1/completions", json=ask) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                assert own in line, line
                times.append(time.monotonic() - begun)
    assert len(times) == ask["max_tokens"], times
    return times


async def ask_uvicorn():
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=60)) as client:
        assert (await client.get(f"{url}/v1/models")).json()["peer"] == own
        times = await one(client, 4)
        assert times[-1] - times[0] > 0.7 and max(b - a for a, b in zip(times, times[1:])) < 0.5, times
        print("unbuffered")
        await asyncio.gather(*[one(client, n) for n in range(60)])
    print("sixty")


def ask_gunicorn():
    body = os.urandom(5_000_000)
    with httpx.Client(timeout=30) as client:
        for _ in range(20):
            assert client.post(url, content=body).text == f"{own} {hashlib.sha256(body).hexdigest()}"
    print("twenty")


if how == "uvicorn":
    asyncio.run(ask_uvicorn())
else:
    ask_gunicorn()
