"""A coordinator or a relay gone bad:  meddler.py ADDRESS PORT UPSTREAM-PORT MODE-FILE [CERTIFICATE KEY]

Stands before a real server and does with each connection what MODE-FILE says at that moment:
"MODE VICTIM", where "pass" is to do no harm, and only clients at the address VICTIM suffer. (The
real peers need not survive what we must: tailscaled dies of a relay whose key is zero.) When the
file changes all connections of the victim end, so that it meets the new behaviour. With a certificate it ends TLS itself, and what it says is inside.
"""
import os
import random
import select
import socket
import ssl
import struct
import sys
import threading
import time

address, port, upstream, mode_file = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
context = None
if len(sys.argv) > 5:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[5], sys.argv[6])
open_now, lock = {}, threading.Lock()
SWITCH = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n"
          % (b"DERP" if context else b"tailscale-control-protocol"))
GARBAGE = random.Random(11).randbytes(1 << 16)
DERP_KEY = b"DERP\xf0\x9f\x94\x91"


def mode_for(s):
    with open(mode_file) as file:
        mode, _, victim = file.read().strip().rpartition(" ")
    return mode if s.getpeername()[0] == victim else "pass"


def head(s):
    """The request's head; its first line."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) < 65536:
        piece = s.recv(4096)
        if not piece:
            break
        data += piece
    return data.split(b"\r\n")[0]


def answer(s, text, then=b""):
    head(s)
    s.sendall(text + then)


def frame(kind, body):
    return struct.pack(">BI", kind, len(body)) + body


def endless(s, piece, pause=0.0):
    while True:
        s.sendall(piece)
        time.sleep(pause)


def switched(s, *frames, wait=30):
    answer(s, SWITCH, b"".join(frames))
    time.sleep(wait)


def noise(kind, length, body):
    return struct.pack(">BH", kind, length) + body


# What comes to mind to whoever holds the socket: before TLS, in HTTP, after the switch.
BAD = {
    "close": lambda s: None,
    "silence": lambda s: time.sleep(60),
    "garbage": lambda s: s.sendall(GARBAGE),
    "endless garbage": lambda s: endless(s, GARBAGE),
    "500": lambda s: answer(s, b"HTTP/1.1 500 Internal\r\nContent-Length: 4\r\n\r\noops"),
    "429": lambda s: answer(s, b"HTTP/1.1 429 Slow\r\nRetry-After: 99999999999999\r\nContent-Length: 0\r\n\r\n"),
    "redirect": lambda s: answer(s, b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    "endless head": lambda s: (head(s), s.sendall(b"HTTP/1.1 200 OK\r\nX: "), endless(s, b"y" * 65536)),
    "endless body": lambda s: (head(s), s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
                               endless(s, b"[" * 65536)),
    "bad length": lambda s: answer(s, b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
    "no json": lambda s: answer(s, b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"publicKey\""),
    "deep json": lambda s: answer(s, b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"[" * 60000),
    "half a line": lambda s: answer(s, b"HTTP/1.1 101 Swit") or time.sleep(30),
    "drip": lambda s: [(s.sendall(bytes([b])), time.sleep(0.1)) for b in SWITCH],
    "switch and close": lambda s: switched(s, wait=0),
    "switch and silence": lambda s: switched(s),
    "switch and garbage": lambda s: switched(s, GARBAGE),
    # of the coordinator
    "noise error": lambda s: switched(s, noise(3, 60, b"\x1b[31mevil\nlog: line" + b"x" * 41)),
    "noise error without end": lambda s: switched(s, noise(3, 65535, b"x" * 100)),
    "noise response forged": lambda s: switched(s, noise(2, 48, GARBAGE[:48])),
    "noise response too long": lambda s: switched(s, noise(2, 65000, GARBAGE[:65000])),
    "noise record first": lambda s: switched(s, noise(4, 100, GARBAGE[:100])),
    # of the relay
    "derp wrong magic": lambda s: switched(s, frame(1, b"PRED" + GARBAGE[:36])),
    "derp short key": lambda s: switched(s, frame(1, DERP_KEY)),
    "derp zero key": lambda s: switched(s, frame(1, DERP_KEY + bytes(32))),
    "derp forged info": lambda s: switched(s, frame(1, DERP_KEY + GARBAGE[:32]), frame(3, GARBAGE[:200])),
    "derp huge frame": lambda s: switched(s, frame(1, DERP_KEY + GARBAGE[:32]), b"\x05\xff\xff\xff\xff", GARBAGE),
    "derp half a frame": lambda s: switched(s, b"\x01\x00\x00\x00"),
    "derp packets first": lambda s: switched(s, *[frame(5, GARBAGE[:1000])] * 60),
    "derp unknown frames": lambda s: switched(s, *[frame(200, b"")] * 2000),
}


def carry(outer, inner, change):
    """Both ways in one thread: a TLS connection is nothing that two threads may use at a time."""
    count = 0
    try:
        while True:
            waiting = [s for s in (outer, inner) if context and s.pending()]
            for source in waiting or select.select([outer, inner], [], [])[0]:
                data = source.recv(16384)
                if data and source is inner:
                    data, count = change(data, count), count + len(data)
                if not data:
                    return
                (outer if source is inner else inner).sendall(data)
    finally:
        inner.close()


def flipped(data, count):
    if count > 300:
        data = bytearray(data)
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(data)


# What a path may do to what a real server says.
CHANGES = {
    "pass": lambda data, count: data,
    "flip bits": flipped,
    "cut": lambda data, count: data if count < 2500 else None,
    "cut early": lambda data, count: data if count < 60 else None,
    "twice": lambda data, count: data if count < 300 else data + data,
    "lose": lambda data, count: data if count < 300 else data[: len(data) // 2],
    "reorder": lambda data, count: data if count < 300 else data[len(data) // 2:] + data[: len(data) // 2],
    "freeze": lambda data, count: data if count < 500 else time.sleep(60),
}


def serve(s):
    try:
        mode = mode_for(s)
        if context and mode != "no tls":
            s = context.wrap_socket(s, server_side=True)
        with lock:
            open_now[s] = mode
        if mode in CHANGES:
            inner = socket.create_connection((address, upstream))
            if context:
                plain = ssl.create_default_context()
                plain.check_hostname, plain.verify_mode = False, ssl.CERT_NONE
                inner = plain.wrap_socket(inner)
            carry(s, inner, CHANGES[mode])
        elif mode == "no tls":
            s.sendall(GARBAGE)
        else:
            BAD[mode](s)
    except OSError:
        pass
    with lock:
        open_now.pop(s, None)
    s.close()


def watch():
    while True:
        with lock:
            connections = list(open_now.items())
        for s, mode in connections:
            try:
                if mode != mode_for(s):
                    socket.socket.shutdown(s, socket.SHUT_RDWR)  # of what is below TLS
            except OSError:
                pass
        time.sleep(0.05)


def main():
    threading.Thread(target=watch, daemon=True).start()
    with socket.create_server((address, port), backlog=64) as listening:
        print("ready", os.getpid(), flush=True)
        while True:
            s, _ = listening.accept()
            threading.Thread(target=serve, args=(s,), daemon=True).start()


main()
