"""nats_work.py HOST:PORT OTHER:PORT: what is published at one server of a cluster is heard at the other; requests, too."""
import asyncio
import os
import sys

import nats


async def main(here, there):
    near, far = await nats.connect(f"nats://{here}"), await nats.connect(f"nats://{there}")
    data = os.urandom(500_000)

    async def answer(message):
        await message.respond(message.data[::-1])
    await far.subscribe("asked", cb=answer)
    heard = await far.subscribe("news")
    await far.flush()
    for _ in range(50):  # until the servers have told one another who listens
        try:
            reply = await near.request("asked", data, timeout=1)
            break
        except nats.errors.NoRespondersError:
            await asyncio.sleep(0.1)
    assert reply.data == data[::-1]
    print("request")
    for n in range(1000):
        await near.publish("news", f"{n}".encode())
    got = [(await heard.next_msg(timeout=10)).data for _ in range(1000)]
    assert got == [f"{n}".encode() for n in range(1000)]
    print("published")
    await near.close()
    await far.close()

asyncio.run(main(*sys.argv[1:]))
