"""zmq_work.py serve ADDRESS PORT, or ask HOST PORT OWN: request and reply, publish and subscribe, push and pull."""
import os
import sys

import zmq

how, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
context = zmq.Context()


def open_all(names, method):
    made = []
    for number, name in enumerate(names):
        made.append(context.socket(getattr(zmq, name)))
        made[-1].setsockopt(zmq.LINGER, 0)
        made[-1].setsockopt(zmq.RCVTIMEO, 20_000)
        getattr(made[-1], method)(f"tcp://{host}:{port + number}")
    return made


def serve():
    reply, publish, pull = open_all(["REP", "XPUB", "PULL"], "bind")
    print("ready", flush=True)
    poller = zmq.Poller()
    for each in (reply, pull, publish):
        poller.register(each, zmq.POLLIN)
    while True:
        for each, _ in poller.poll():
            message = each.recv(copy=False)
            if each is reply:
                peer = message.get("Peer-Address").encode()
                reply.send_multipart([peer, message.bytes])
            elif each is pull:
                publish.send(message.bytes)


def ask(own):
    request, subscribe, push = open_all(["REQ", "SUB", "PUSH"], "connect")
    data = os.urandom(4_000_000)
    request.send(data)
    peer, body = request.recv_multipart()
    assert peer.decode() == own and body == data, peer
    print("request")
    subscribe.setsockopt(zmq.SUBSCRIBE, b"")
    subscribe.setsockopt(zmq.RCVTIMEO, 200)
    for _ in range(100):  # until the subscription has arrived
        push.send(b"first")
        try:
            assert subscribe.recv() == b"first"
            break
        except zmq.Again:
            continue
    subscribe.setsockopt(zmq.RCVTIMEO, 20_000)
    for n in range(1000):
        push.send(f"{n}".encode())
    got = []
    while len(got) < 1000:
        message = subscribe.recv()
        got += [message] if message != b"first" else []
    assert got == [f"{n}".encode() for n in range(1000)]
    print("published")


if how == "serve":
    serve()
else:
    ask(sys.argv[4])
