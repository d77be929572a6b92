"""jetstream_work.py write HOST:PORT STREAM SIZE: messages of 100 kB. read HOST:PORT STREAM SIZE: the same come out. Both print the stream's leader."""
import asyncio
import random
import sys

import nats
from nats.js.errors import APIError, NoStreamResponseError

MESSAGE = 100_000
how, place, name, size = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
data = random.Random(name).randbytes(size)


async def insist(call):
    """Again while the servers choose who leads: some seconds, after one is lost."""
    end = asyncio.get_running_loop().time() + 60
    while True:
        try:
            return await call()
        except (APIError, NoStreamResponseError, nats.errors.TimeoutError, nats.errors.NoRespondersError):
            if asyncio.get_running_loop().time() > end:
                raise
            await asyncio.sleep(0.2)


async def main():
    client = await nats.connect(f"nats://{place}")
    stream = client.jetstream(timeout=5)
    if how == "write":
        await insist(lambda: stream.add_stream(name=name, subjects=[name], num_replicas=3))
        for at in range(0, size, MESSAGE):
            part, number = data[at:at + MESSAGE], {"Nats-Msg-Id": str(at)}  # one that is sent twice is kept once
            await insist(lambda: stream.publish(name, part, headers=number))
    else:
        reading = await insist(lambda: stream.pull_subscribe(name, durable=f"d{random.random()}".replace(".", "")))
        got = b""
        while len(got) < size:
            for message in await insist(lambda: reading.fetch(5)):
                got += message.data
                await message.ack()
        assert got == data, f"other bytes: {len(got)} of {size}"
    print((await insist(lambda: stream.stream_info(name))).cluster.leader)
    await client.close()


asyncio.run(main())
