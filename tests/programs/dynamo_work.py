"""serve OWN, or ask: a worker of NVIDIA Dynamo, and one that finds it in etcd and reads its stream."""
import asyncio
import os
import sys

from dynamo.runtime import DistributedRuntime


async def answers(request):
    for number in range(3):
        yield f"{sys.argv[2]}:{len(request)}:{number}"
    yield "y" * 3_000_000


async def work():
    runtime = DistributedRuntime(asyncio.get_running_loop(), "etcd", os.environ["DYN_REQUEST_PLANE"])
    endpoint = runtime.endpoint("demo.backend.generate")
    if sys.argv[1] == "serve":
        print("ready", flush=True)
        await endpoint.serve_endpoint(answers)
    client = await endpoint.client()
    await client.wait_for_instances()
    words = [answer.data() async for answer in await client.random("x" * 300_000)]
    print(*words[:-1], len(words[-1]), flush=True)
    os._exit(0)  # its threads would go on

asyncio.run(work())
