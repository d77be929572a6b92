"""An HTTP proxy that knows only CONNECT:  way_out.py ADDRESS PORT DENY-FILE [--login USER:PASSWORD] [NAME=ADDRESS...]

While DENY-FILE exists it refuses everybody. It alone knows the names. Each request is a line of its output:
"HOST:PORT STATUS".
"""
import base64
import os
import socket
import sys
import threading

address, port, deny_file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rest = sys.argv[4:]
login = base64.b64encode(rest[1].encode()).decode() if rest[:1] == ["--login"] else None
names = dict(word.split("=") for word in rest if "=" in word)


def pour(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for s in (source, sink):
            s.close()


def head_of(s):
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = s.recv(1)
        if not piece or len(data) > 65536:
            raise ConnectionError
        data += piece
    return data.decode().split("\r\n")


def opened(s):
    """The connection to the server, or None after saying why not."""
    first, *fields = head_of(s)
    method, server, _ = first.split(" ")
    fields = {key.lower(): value for key, value in (field.split(": ", 1) for field in fields if field)}
    host, _, number = server.rpartition(":")
    inner, why, more = None, "200 Connection established", ""
    if method != "CONNECT":
        why = "405 Method Not Allowed"
    elif login and fields.get("proxy-authorization") != f"Basic {login}":
        why, more = "407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="the lab"\r\n'
    elif os.path.exists(deny_file):
        why = "403 Forbidden"
    else:
        try:
            inner = socket.create_connection((names.get(host, host), int(number)), 5)
            inner.settimeout(None)
        except OSError:
            why = "502 Bad Gateway"
    print(server, why[:3], flush=True)
    s.sendall(f"HTTP/1.1 {why}\r\nVia: 1.1 way-out\r\n{more}\r\n".encode())
    return inner


def serve(s):
    try:
        inner = opened(s)
    except (OSError, ValueError):
        inner = None
    if not inner:
        s.close()
        return
    threading.Thread(target=pour, args=(inner, s), daemon=True).start()
    pour(s, inner)


with socket.create_server((address, port), backlog=64) as listening:
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
