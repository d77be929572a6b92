"""Temporal: "work HOST:PORT OWN" does what is asked, "ask HOST:PORT" asks it for an activity with 500 kB there and back, a signal and a timer."""
import asyncio
import os
import random
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker

SIZE = 500_000  # it warns of more


@activity.defn
async def turned(text: str) -> str:
    return text[::-1]


@workflow.defn
class Turn:
    def __init__(self):
        self.word = None

    @workflow.signal
    def say(self, word: str):
        self.word = word

    @workflow.run
    async def run(self, text: str) -> str:
        await workflow.wait_condition(lambda: self.word)
        await workflow.sleep(0.2)
        return self.word + await workflow.execute_activity(turned, text, start_to_close_timeout=timedelta(seconds=60))


async def main(what, address, own=""):
    client = await Client.connect(address)
    if what == "work":
        async with Worker(client, task_queue="mesh", workflows=[Turn], activities=[turned], identity=own):
            print("ready", flush=True)
            await asyncio.sleep(1000)
    text = random.Random(7).randbytes(SIZE // 2).hex()
    handle = await client.start_workflow(Turn.run, text, id=f"turn-{address}", task_queue="mesh")
    await handle.signal(Turn.say, "word")
    said = await handle.result()
    assert said == "word" + text[::-1], (len(said), said[:20])
    events = [event.activity_task_started_event_attributes.identity async for event in handle.fetch_history_events()
              if event.HasField("activity_task_started_event_attributes")]
    print("turned by", *events, flush=True)
    os._exit(0)  # its threads crash now and then (3 times of 15 without a mesh) as Python ends beside them


if __name__ == "__main__":  # it is imported once more, to run the workflow
    asyncio.run(main(*sys.argv[1:]))
