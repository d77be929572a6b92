"""Celery: the worker's tasks (MESH_BROKER names the broker), and as a program the caller of them."""
import hashlib
import os
import sys

from celery import Celery, chord, group

app = Celery("celery_app", broker=os.environ["MESH_BROKER"], backend=os.environ["MESH_BROKER"])


@app.task
def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


@app.task
def count(digests):
    return len(set(digests))


if __name__ == "__main__":
    sys.modules["celery_app"] = sys.modules["__main__"]
    digest.name, count.name = "celery_app.digest", "celery_app.count"
    assert digest.delay("x" * 1_000_000).get(timeout=30) == hashlib.sha256(b"x" * 1_000_000).hexdigest()
    print("task")
    assert len(group(digest.s(str(n)) for n in range(50))().get(timeout=30)) == 50
    print("group")
    assert chord((digest.s(str(n)) for n in range(20)), count.s())().get(timeout=30) == 20
    print("chord")
