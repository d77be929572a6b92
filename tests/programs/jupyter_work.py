"""jupyter_work.py HOST PORT: starts a kernel by REST and has it compute, over its WebSocket."""
import asyncio
import json
import sys
import uuid

import requests
import websockets

host, port = sys.argv[1], sys.argv[2]
url = f"http://{host}:{port}/api"
token = {"Authorization": "token mesh"}

kernel = requests.post(f"{url}/kernels", headers=token, json={"name": "python3"}, timeout=60).json()["id"]
print("kernel")


async def compute(code):
    session = uuid.uuid4().hex
    head = {"msg_id": uuid.uuid4().hex, "username": "", "session": session, "msg_type": "execute_request", "version": "5.3"}
    ask = {"header": head, "parent_header": {}, "metadata": {}, "channel": "shell",
           "content": {"code": code, "silent": False, "store_history": False, "allow_stdin": False}}
    address = f"ws://{host}:{port}/api/kernels/{kernel}/channels?session_id={session}&token=mesh"
    async with websockets.connect(address, max_size=None, proxy=None) as ws:
        await ws.send(json.dumps(ask))
        while True:
            message = json.loads(await asyncio.wait_for(ws.recv(), 60))
            if message["msg_type"] == "stream" and message["parent_header"]["msg_id"] == head["msg_id"]:
                return message["content"]["text"]


print(asyncio.run(compute("print(6 * 7)")).strip())
requests.delete(f"{url}/kernels/{kernel}", headers=token, timeout=30)
