"""A coordination server whose every answer a test chooses: ts2021 by hand, for what Headscale never says.

A Scripted lives in the tests' own process; its socket is made in a namespace. Requests of nodes are
kept in asked as (time, path, body); answer(path, body) gives (status, headers, body) or, for the map
stream, a Stream. Noise is libsodium's primitives, the header fields are libnghttp2's business.
"""
import base64
import ctypes
import ctypes.util
import hashlib
import hmac
import json
import os
import socket
import struct
import threading
import time

_sodium = ctypes.CDLL(ctypes.util.find_library("sodium"))
_http2 = ctypes.CDLL(ctypes.util.find_library("nghttp2"))
_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8


def listener_in(namespace, address, port):
    """A socket that listens in another network namespace; the thread that went there ends."""
    result = []

    def go():
        fd = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        if _libc.setns(fd, CLONE_NEWNET) == 0:
            result.append(socket.create_server((address, port), backlog=16))
        os.close(fd)
    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    return result[0]


# ---- Noise_IK_25519_ChaChaPoly_BLAKE2s, the responder ----

def x25519(private, public):
    out = ctypes.create_string_buffer(32)
    if _sodium.crypto_scalarmult(out, private, public):
        raise ValueError("a key of low order")
    return out.raw


def public_of(private):
    return x25519(private, b"\x09" + bytes(31))


def seal(key, nonce, plain, ad=b""):
    out, size = ctypes.create_string_buffer(len(plain) + 16), ctypes.c_ulonglong()
    _sodium.crypto_aead_chacha20poly1305_ietf_encrypt(
        out, ctypes.byref(size), plain, ctypes.c_ulonglong(len(plain)), ad, ctypes.c_ulonglong(len(ad)), None,
        nonce, key)
    return out.raw


def unseal(key, nonce, sealed, ad=b""):
    out, size = ctypes.create_string_buffer(max(len(sealed) - 16, 1)), ctypes.c_ulonglong()
    if _sodium.crypto_aead_chacha20poly1305_ietf_decrypt(
            out, ctypes.byref(size), None, sealed, ctypes.c_ulonglong(len(sealed)), ad,
            ctypes.c_ulonglong(len(ad)), nonce, key):
        raise ValueError("forged")
    return out.raw[: len(sealed) - 16]


def blake(data):
    return hashlib.blake2s(data).digest()


def mac(key, data):
    return hmac.new(key, data, hashlib.blake2s).digest()


def derive(chain, secret):
    temp = mac(chain, secret)
    first = mac(temp, b"\x01")
    return first, mac(temp, first + b"\x02")


class Noise:
    def __init__(self, private, initiation):
        version, body = struct.unpack(">H", initiation[:2])[0], initiation[5:]
        self.chain = self.hash = blake(b"Noise_IK_25519_ChaChaPoly_BLAKE2s")
        self.mix(b"Tailscale Control Protocol v%d" % version)
        self.mix(public_of(private))
        theirs = body[:32]
        self.mix(theirs)
        self.dh(private, theirs)
        machine = self.open(body[32:80])
        self.machine = "mkey:" + machine.hex()
        self.dh(private, machine)
        self.open(body[80:96])
        own = os.urandom(32)
        self.answer = public_of(own)
        self.mix(self.answer)
        self.dh(own, theirs)
        self.dh(own, machine)
        self.answer += seal(self.key, bytes(12), b"", self.hash)
        self.answer = struct.pack(">BH", 2, len(self.answer)) + self.answer
        self.receive, self.send = derive(self.chain, b"")

    def mix(self, data):
        self.hash = blake(self.hash + data)

    def dh(self, private, public):
        self.chain, self.key = derive(self.chain, x25519(private, public))

    def open(self, sealed):
        plain = unseal(self.key, bytes(12), sealed, self.hash)
        self.mix(sealed)
        return plain


# ---- one connection ----

class Stream:
    """An answer that goes on: a map stream. Ends with its connection, or by end()."""

    def __init__(self):
        self.session = self.id = None
        self.is_over = False

    def send(self, message):
        """A message of the map, without compression (a node that asked for zstd gets stored frames)."""
        self.send_raw(json.dumps(message).encode())

    def send_raw(self, text):
        pieces = [text[at:at + (1 << 16)] for at in range(0, len(text), 1 << 16)] or [b""]
        # A zstd frame of raw blocks, RFC 8878: magic, a window of 2 MiB, blocks, no checksum.
        body = b"\x28\xb5\x2f\xfd\x00\x58"
        for number, piece in enumerate(pieces):
            head = len(piece) << 3 | (number == len(pieces) - 1)
            body += struct.pack("<I", head)[:3] + piece
        self.session.data(self.id, struct.pack("<I", len(body)) + body)

    def end(self):
        self.session.data(self.id, b"", True)


class Session:
    def __init__(self, owner, connection):
        self.owner, self.socket, self.lock = owner, connection, threading.Condition()
        self.sent = self.got = 0
        self.plain = b""
        self.room, self.rooms, self.first_room, self.frame_max = 65535, {}, 65535, 16384
        self.inflater = ctypes.c_void_p()
        _http2.nghttp2_hd_inflate_new(ctypes.byref(self.inflater))

    def exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            if not piece:
                raise ConnectionError
            data += piece
        return data

    def read(self, count):
        while len(self.plain) < count:
            _, length = struct.unpack(">BH", self.exactly(3))
            self.plain += unseal(self.noise.receive, struct.pack(">IQ", 0, self.got), self.exactly(length))
            self.got += 1
        data, self.plain = self.plain[:count], self.plain[count:]
        return data

    def write(self, data):
        """The lock is held."""
        out = b""
        for at in range(0, len(data), 4000):
            sealed = seal(self.noise.send, struct.pack(">IQ", 0, self.sent), data[at:at + 4000])
            out += struct.pack(">BH", 4, len(sealed)) + sealed
            self.sent += 1
        self.socket.sendall(out)

    def frame(self, kind, flags, stream, body):
        with self.lock:
            self.write(struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body)

    def headers(self, stream, status, fields):
        block = b"".join(b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
                         for name, value in [(b":status", b"%d" % status), *fields])
        self.frame(HEADERS, 4, stream, block)

    def data(self, stream, body, ends=False):
        while True:
            with self.lock:
                while body and min(self.room, self.rooms[stream]) <= 0:
                    if not self.lock.wait(30):
                        raise ConnectionError("no room for a map")
                count = min(len(body), self.frame_max, self.room, self.rooms[stream]) if body else 0
                piece, body = body[:count], body[count:]
                self.room -= count
                self.rooms[stream] -= count
                self.write(struct.pack(">I", count)[1:] + struct.pack(">BBI", DATA, ends and not body, stream) + piece)
            if not body:
                return

    def goodbye(self):
        """Requests that are under way go on, there shall be no new ones."""
        self.frame(GOAWAY, 0, 0, struct.pack(">II", (1 << 31) - 1, 0))

    def fields(self, block):
        class Field(ctypes.Structure):
            _fields_ = [("name", ctypes.c_void_p), ("value", ctypes.c_void_p), ("namelen", ctypes.c_size_t),
                        ("valuelen", ctypes.c_size_t), ("flags", ctypes.c_uint8)]
        found, flags, at = {}, ctypes.c_int(), 0
        while True:
            field = Field()
            flags.value = 0
            used = _http2.nghttp2_hd_inflate_hd2(self.inflater, ctypes.byref(field), ctypes.byref(flags),
                                                 block[at:], ctypes.c_size_t(len(block) - at), 1)
            if used < 0:
                raise ConnectionError("bad header block")
            at += used
            if flags.value & 2:
                found[ctypes.string_at(field.name, field.namelen).decode()] = ctypes.string_at(
                    field.value, field.valuelen).decode()
            if flags.value & 1:
                _http2.nghttp2_hd_inflate_end_headers(self.inflater)
                return found

    def http(self):
        """The plain part. True: ts2021 follows."""
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.exactly(1)
        lines = head.decode().split("\r\n")
        method, path, _ = lines[0].split(" ")
        fields = {key.lower(): value for key, value in (line.split(": ", 1) for line in lines[1:] if line)}
        body = self.exactly(int(fields.get("content-length", 0)))
        if path != "/ts2021":
            self.owner.note(f"{method} {path}", body)
            answer = b""
            if path.startswith("/key"):
                answer = json.dumps({"publicKey": f"mkey:{public_of(self.owner.private).hex()}"}).encode()
            self.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
            return False
        self.noise = Noise(self.owner.private, base64.b64decode(fields["x-tailscale-handshake"]))
        self.socket.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: tailscale-control-protocol\r\n"
                            b"Connection: Upgrade\r\n\r\n" + self.noise.answer)
        return True

    def run(self):
        if not self.http():
            return
        with self.lock:
            self.write(b"\0\0\0\x04\0\0\0\0\0" + b"\0\0\x04\x08\0\0\0\0\0" + struct.pack(">I", 1 << 30))
        assert self.read(len(PREFACE)) == PREFACE
        requests, bodies = {}, {}
        while True:
            head = self.read(9)
            length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            stream, body = struct.unpack(">I", head[5:])[0] & 0x7fffffff, self.read(length)
            if kind == SETTINGS and not flags & 1:
                self.settings(body)
            elif kind == PING and not flags & 1:
                self.frame(PING, 1, 0, body)
            elif kind == WINDOW:
                self.widen(stream, struct.unpack(">I", body)[0])
            elif kind == HEADERS:
                requests[stream] = self.fields(body[5:] if flags & 0x20 else body)
                bodies[stream] = b""
                self.rooms[stream] = self.first_room
            elif kind == DATA:
                bodies[stream] += body
                if length:
                    for which in (0, stream):
                        self.frame(WINDOW, 0, which, struct.pack(">I", length))
            elif kind == RST:
                self.owner.reset(self, stream)
            if kind in (HEADERS, DATA) and flags & 1:
                threading.Thread(target=self.answer, args=(stream, requests.pop(stream), bodies.pop(stream)),
                                 daemon=True).start()

    def settings(self, body):
        with self.lock:
            for at in range(0, len(body), 6):
                name, value = struct.unpack(">HI", body[at:at + 6])
                if name == 4:
                    self.rooms = {stream: room + value - self.first_room for stream, room in self.rooms.items()}
                    self.first_room = value
                if name == 5:
                    self.frame_max = min(value, 1 << 16)
            self.lock.notify_all()
        self.frame(SETTINGS, 1, 0, b"")

    def widen(self, stream, count):
        with self.lock:
            if stream:
                self.rooms[stream] = self.rooms.get(stream, self.first_room) + count
            else:
                self.room += count
            self.lock.notify_all()

    def answer(self, stream, fields, body):
        path = fields[":path"]
        try:
            body = json.loads(body)
        except ValueError:
            pass
        self.owner.note(path if fields[":method"] == "POST" else f"{fields[':method']} {path}", body)
        try:
            status, extra, said = self.owner.answer(path, body)
            self.headers(stream, status, [(key.encode(), value.encode()) for key, value in extra.items()])
            if isinstance(said, Stream):
                said.session, said.id = self, stream
                self.owner.opened(said)
            else:
                self.data(stream, said if isinstance(said, bytes) else json.dumps(said).encode(), True)
        except (OSError, KeyError):
            pass  # the node has hung up


class Scripted:
    def __init__(self, namespace, address, port):
        self.private, self.asked, self.streams = os.urandom(32), [], []
        self.socket, self.lock = listener_in(namespace, address, port), threading.Condition()
        self.url = f"http://{address}:{port}"
        self.scripts = {}
        self.sessions = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            session = Session(self, connection)
            self.sessions.append(session)
            threading.Thread(target=self.serve, args=(session,), daemon=True).start()

    def serve(self, session):
        try:
            session.run()
        except (OSError, ConnectionError):
            pass
        session.socket.close()
        for stream in self.streams:
            stream.is_over |= stream.session is session

    def reset(self, session, number):
        for stream in self.streams:
            stream.is_over |= stream.session is session and stream.id == number

    def close(self):
        """It is gone: nobody listens, and what stood is cut."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)  # which also wakes who waits for it
        except OSError:
            pass  # for the second time
        self.socket.close()
        for session in self.sessions:
            try:
                session.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def note(self, path, body):
        with self.lock:
            self.asked.append((time.monotonic(), path, body))
            self.lock.notify_all()

    def opened(self, stream):
        with self.lock:
            self.streams.append(stream)
            self.lock.notify_all()

    def wait(self, condition, timeout=30, what="the node's request"):
        """The condition's value, once it has one."""
        end = time.monotonic() + timeout
        with self.lock:
            while not (found := condition()):
                if not self.lock.wait(end - time.monotonic()) and time.monotonic() >= end:
                    paths = [path for _, path, _ in self.asked]
                    raise AssertionError(f"{what} did not come in {timeout} s; there were {paths[-20:]}")
        return found

    def requests(self, path, condition=lambda body: True):
        return [(at, body) for at, asked, body in self.asked if asked == path and condition(body)]

    def answer(self, path, body):
        """What the script of this path says now; without one a node is registered and gets a stream."""
        script = self.scripts.get(path)
        if script:
            said = script(body)
            if said:
                return said
        if path == "/machine/register":
            return 200, {}, {"MachineAuthorized": True, "User": {"ID": 1, "DisplayName": "lab"},
                             "Login": {"ID": 1, "LoginName": "lab"}}
        if path == "/machine/map" and body["Stream"]:
            return 200, {}, Stream()
        return 200, {}, {}
