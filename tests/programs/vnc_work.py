"""A VNC client for a screen of one colour, by TCP and by a WebSocket: HOST PORT WEB-HOST WEB-PORT."""
import os
import socket
import struct
import sys

host, port, web_host, web_port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])

with socket.create_connection((host, port), 20) as stream, stream.makefile("rb") as come:
    assert come.read(12) == b"RFB 003.008\n"
    stream.sendall(b"RFB 003.008\n")
    come.read(come.read(1)[0])
    stream.sendall(b"\1")  # no security
    assert come.read(4) == bytes(4)
    stream.sendall(b"\1")  # shared
    width, height = struct.unpack(">HH", come.read(4))
    come.read(16)
    come.read(struct.unpack(">I", come.read(4))[0])
    print(f"{width}x{height}")
    stream.sendall(struct.pack(">BBHi", 2, 0, 1, 0) + struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
    kind, _, count = struct.unpack(">BBH", come.read(4))
    size = 0
    for _ in range(count):
        _, _, w, h, encoding = struct.unpack(">HHHHi", come.read(12))
        assert encoding == 0
        size += len(come.read(w * h * 4)) // 4
    assert kind == 0 and size == width * height, (kind, size)
    print("screen")

with socket.create_connection((web_host, web_port), 20) as stream, stream.makefile("rb") as come:
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    stream.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n\r\n".encode())
    assert b" 101 " in come.readline()
    while come.readline() != b"\r\n":
        pass
    assert come.read(2) == b"\x82\x0c" and come.read(12) == b"RFB 003.008\n"
    print("websocket")
