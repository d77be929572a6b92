"""A server in the manner of those for language models: tokens as events, for uvicorn (`app`) and for gunicorn (`plain`)."""
import asyncio
import hashlib
import json
import os

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/v1/models")
async def models(request: Request):
    return {"peer": request.client.host, "pid": os.getpid()}


@app.post("/v1/completions")
async def completions(request: Request):
    asked = await request.json()

    async def tokens():
        for n in range(asked["max_tokens"]):
            yield f"data: {json.dumps({'n': n, 'peer': request.client.host})}\n\n"
            await asyncio.sleep(0.1)
        yield "data: [DONE]\n\n"
    return StreamingResponse(tokens(), media_type="text/event-stream")


def plain(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length)
    answer = f"{environ['REMOTE_ADDR']} {hashlib.sha256(body).hexdigest()}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]
