"""Names, asked in every way programs ask: libc, and resolvers of their own that speak DNS to the
server of resolv.conf. The server is ours to watch: no name of the mesh may reach it."""
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from worlds import CAN_NETNS, IS_ROOT, Place, python, python_spawn, rented, script, wait_until

pytestmark = pytest.mark.skipif(not (IS_ROOT and CAN_NETNS), reason="needs root for namespaces")
SERVER = "10.53.0.1"
OTHER_SERVER = "10.53.0.2"
ON_LOOPBACK = ("127.0.0.11", "127.0.0.12")  # as Docker's and systemd's are

UPSTREAM = """
# Every A is 192.0.2.55; names that begin with nx do not exist. Prints what it is asked.
def answer(q):
    at, labels = 12, []
    while q[at]:
        labels.append(q[at + 1:at + 1 + q[at]].decode())
        at += 1 + q[at]
    kind, question = struct.unpack(">H", q[at + 1:at + 3])[0], q[12:at + 5]
    say("asked", ".".join(labels))
    if labels[0].startswith("nx"):
        return q[:2] + b"\\x81\\x83\\0\\1\\0\\0\\0\\0\\0\\0" + question
    if kind != 1:
        return q[:2] + b"\\x81\\x80\\0\\1\\0\\0\\0\\0\\0\\0" + question
    return (q[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + question +
            b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x1e\\0\\4\\xc0\\0\\2\\x37")
def serve_tcp(s):
    while True:
        c, _ = s.accept()
        size = recv_exactly(c, 2)
        if len(size) == 2:
            out = answer(recv_exactly(c, struct.unpack(">H", size)[0]))
            c.sendall(struct.pack(">H", len(out)) + out)
        c.close()
udp = socket(AF_INET, SOCK_DGRAM)
udp.bind((sys.argv[1], 53))
threading.Thread(target=serve_tcp, args=(listener(sys.argv[1], 53),), daemon=True).start()
say("ready")
while True:
    query, client = udp.recvfrom(4096)
    udp.sendto(answer(query), client)
"""

QUERY = """
def query(name, kind=1, id=0x4711):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    return struct.pack(">6H", id, 0x100, 1, 0, 0, 0) + labels + b"\\0" + struct.pack(">2H", kind, 1)
def shown(answer):
    return [answer[3] & 15, inet_ntoa(answer[-4:]) if answer[7] else ""]
SERVER = ("10.53.0.1", 53)
def datagram(family=AF_INET):
    s = socket(family, SOCK_DGRAM)
    s.settimeout(20)
    return s
"""


class Names:
    """Two nodes in a namespace whose resolv.conf names a server we watch."""

    def __init__(self, lab, server, other):
        self.server, self.other = server, other
        self.space = lab.namespace("dns")
        self.folder = Path("/etc/netns") / self.space
        self.folder.mkdir(parents=True)
        self.resolv_conf = self.folder / "resolv.conf"
        self.set_servers(server, "fd00:53::1")
        for address in (server, other) if not server.startswith("127.") else ():
            lab.run(["ip", "-n", self.space, "address", "add", address + "/32", "dev", "lo"])
        for address in ("fd00:53::1", "fd00:53::2"):
            lab.run(["ip", "-n", self.space, "address", "add", address + "/128", "dev", "lo"])
        place = Place(self.space, rented("user"))
        self.a, self.b = lab.node("node-a", 1, place), lab.node("node-b", 2, place)
        self.root = lab.node("root", 9, Place(self.space))
        self.a.write_config([self.b])
        self.b.write_config([self.a])
        self.upstream = self.serve(server)
        self.a.start()

    def set_servers(self, *servers):
        self.resolv_conf.write_text("".join(f"nameserver {s}\n" for s in servers) +
                                    "options timeout:1 attempts:1\n")

    def serve(self, address):
        return python_spawn(self.root, UPSTREAM, address, wrapped=False)

    def dig(self, *words):
        return self.a.run(["dig", "+tries=1", "+time=10", *words]).stdout

    def asked(self):
        return [line.split()[1] for line in self.upstream.text.splitlines() if line.startswith("asked")]


@pytest.fixture
def names(request, lab):
    """param: the addresses of the server and of another."""
    names = Names(lab, *getattr(request, "param", (SERVER, OTHER_SERVER)))
    lab.undo.callback(shutil.rmtree, names.folder)
    yield names
    for node in (names.a, names.b):
        node.check_logs()
    assert not [n for n in names.asked() if "mesh" in n or "node-" in n], "a mesh name has leaked"


@pytest.mark.skipif(not shutil.which("dig"), reason="dig is not installed")
def test_dig(names):
    a, b = names.a, names.b
    for how in ((), ("+tcp",), ("@100.100.100.100",), ("@fd7a:115c:a1e0::53", "+tcp")):
        assert names.dig("+short", *how, "node-b.mesh").split() == [b.v4], how
        assert names.dig("+short", *how, "NODE-B").split() == [b.v4], how
        assert names.dig("+short", *how, "AAAA", "node-b.mesh").split() == [b.v6], how
        assert names.dig("+short", *how, "-x", b.v4).split() == ["node-b.mesh."], how
        assert names.dig("+short", *how, "-x", a.v6).split() == ["node-a.mesh."], how
        assert names.dig("+short", *how, "www.example.org").split() == ["192.0.2.55"], how
        assert "NXDOMAIN" in names.dig(*how, "nobody.mesh"), how
        assert "NXDOMAIN" in names.dig(*how, "nx.example.org"), how
    assert f"SERVER: {SERVER}#53" in names.dig("node-b.mesh")


EITHER_SERVER = pytest.mark.parametrize("names", [(SERVER, OTHER_SERVER), ON_LOOPBACK], indirect=True,
                                        ids=["network", "loopback"])


@EITHER_SERVER
def test_raw_datagrams_of_every_kind(names):
    out = python(names.a, (QUERY + """
out, want = [], query("node-b.mesh")
def check(s, answer, source):
    out.append([*shown(answer), source[0], source[1]])
s = datagram(); s.sendto(want, SERVER); check(s, *s.recvfrom(4096))
s.sendto(query("www.example.org"), SERVER); check(s, *s.recvfrom(4096))
s = datagram(); s.connect(SERVER); s.send(want); check(s, s.recv(4096), s.getpeername())
s = datagram(); s.bind(("0.0.0.0", 0)); s.sendto(want, SERVER); check(s, *s.recvfrom(4096))
s = datagram(); s.bind(("0.0.0.0", 0)); s.connect(SERVER); s.send(want); check(s, *s.recvfrom(4096))
s = datagram(); s.sendmsg([want], [], 0, SERVER); r = s.recvmsg(4096); check(s, r[0], r[3])
s = datagram(AF_INET6); s.sendto(want, ("::ffff:10.53.0.1", 53)); check(s, *s.recvfrom(4096))
s = datagram(); s.bind(("10.53.0.2", 0)); s.sendto(want, SERVER); check(s, *s.recvfrom(4096))
s = datagram(); s.bind(("10.53.0.2", 0)); s.sendto(query("www.example.org"), SERVER); check(s, *s.recvfrom(4096))
s = datagram(); s.bind(("10.53.0.2", 0)); s.connect(SERVER); s.send(want); check(s, s.recv(4096), s.getpeername())
assert s.getsockname()[0] == "10.53.0.2"
s = datagram(AF_INET6); s.bind(("::ffff:10.53.0.2", 0)); s.sendto(want, ("::ffff:10.53.0.1", 53)); check(s, *s.recvfrom(4096))
s = datagram(AF_INET6); s.bind(("fd00:53::2", 0)); s.sendto(want, ("fd00:53::1", 53)); check(s, *s.recvfrom(4096)[:1], s.getsockname())
s = datagram(AF_INET6); s.bind(("fd00:53::2", 0)); s.connect(("fd00:53::1", 53)); s.send(want); check(s, s.recv(4096), s.getpeername())
s = datagram(); s.sendto(b"junk", ("10.53.0.1", 54))
print(json.dumps(out))
""").replace(SERVER, names.server).replace(OTHER_SERVER, names.other))
    mesh, public = [0, names.b.v4, names.server, 53], [0, "192.0.2.55", names.server, 53]
    mapped = [0, names.b.v4, "::ffff:" + names.server, 53]
    assert out[:-2] == [mesh, public, mesh, mesh, mesh, mesh, mapped, mesh, public, mesh, mapped]
    assert [o[:3] for o in out[-2:]] == [[0, names.b.v4, "fd00:53::2"], [0, names.b.v4, "fd00:53::1"]]


@EITHER_SERVER
def test_a_stream_carries_many_queries(names):
    out = python(names.a, (QUERY + """
s = tcp(*SERVER)
peer = s.getpeername()[0]
for i in range(50):
    q = query("node-b.mesh" if i % 2 else "www.example.org", id=i)
    s.sendall(struct.pack(">H", len(q)) + q)
s.shutdown(SHUT_WR)
got = {}
while (size := recv_exactly(s, 2)):
    r = recv_exactly(s, struct.unpack(">H", size)[0])
    got[struct.unpack(">H", r[:2])[0]] = shown(r)[1]
print(json.dumps([len(got), got[1], got[0], peer]))
""").replace(SERVER, names.server))
    assert out == [50, names.b.v4, "192.0.2.55", names.server]


def test_other_ports_of_the_resolver_are_shut(names):
    out = python(names.a, """
def refusal(port):
    try:
        tcp("100.100.100.100", port, 5)
    except OSError as e:
        return e.errno == errno.ECONNREFUSED
s = socket(AF_INET, SOCK_DGRAM); s.settimeout(0.3)
s.sendto(b"x", ("100.100.100.100", 5353))
try:
    s.recv(1); heard = True
except TimeoutError:
    heard = False
print(json.dumps([refusal(80), refusal(443), heard]))
""")
    assert out == [True, True, False]


def test_libc(names):
    out = python(names.a, """
def look(name, family=AF_UNSPEC):
    try:
        return [a[4][0] for a in getaddrinfo(name, 80, family, SOCK_STREAM)]
    except gaierror as e:
        return e.errno
print(json.dumps([look("node-b"), look("node-b.mesh."), look("NODE-B.Mesh", AF_INET6), look("nobody.mesh"),
                  look("mesh"), look("localhost", AF_INET), look("www.example.org", AF_INET),
                  gethostbyname("node-b"), gethostbyaddr(sys.argv[1])[0], getfqdn(sys.argv[2])]))
""", names.b.v4, names.b.v6)
    both = [names.b.v4, names.b.v6]
    assert out == [both, both, [names.b.v6], -2, -2, ["127.0.0.1"], ["192.0.2.55"], names.b.v4, "node-b.mesh",
                   "node-b.mesh"]


RES = """
import ctypes
c = ctypes.CDLL(None)  # by the names a linked program would use
buffer = ctypes.create_string_buffer(4096)
c.__h_errno_location.restype = ctypes.POINTER(ctypes.c_int)
c.__res_state.restype = ctypes.c_void_p
state = ctypes.c_void_p(c.__res_state())
c.__res_init()
def told(n):
    return shown(buffer.raw[:n])[1] if n > 0 else c.__h_errno_location().contents.value
def res(call, *words, kind=1):
    return told(getattr(c, call)(*words, 1, kind, buffer, 4096))
def send(call, *words, name):
    q = query(name)
    n = getattr(c, call)(*words, q, len(q), buffer, 4096)
    return shown(buffer.raw[:n]) if n > 0 else n
"""


def test_libcs_resolver_functions(names):
    out = python(names.a, QUERY + RES + """
full, short, nobody, public = b"node-b.mesh", b"node-b", b"nobody.mesh", b"www.example.org"
out = []
for old in ("", "__"):
    out.append([res(old + "res_query", full), res(old + "res_query", nobody), res(old + "res_query", public),
                res(old + "res_query", full, kind=16), res(old + "res_search", short),
                res(old + "res_search", nobody), res(old + "res_search", public),
                res(old + "res_querydomain", short, b"mesh"), res(old + "res_querydomain", b"www", b"example.org"),
                send(old + "res_send", name="node-b.mesh"), send(old + "res_send", name="www.example.org"),
                send(old + "res_send", name="nobody.mesh"),
                res(old + "res_nquery", state, full), res(old + "res_nquery", state, public),
                res(old + "res_nsearch", state, short), res(old + "res_nquerydomain", state, short, b"mesh"),
                send(old + "res_nsend", state, name="node-b.mesh"),
                send(old + "res_nsend", state, name="www.example.org")])
reverse = ".".join(reversed(sys.argv[1].split("."))) + ".in-addr.arpa"
n = c.res_query(reverse.encode(), 1, 12, buffer, 4096)
out.append([n > 0 and b"node-b" in buffer.raw[:n][len(reverse) + 18:],
            c.res_query(b"9.9.64.100.in-addr.arpa", 1, 12, buffer, 4096)])
small = c.res_query(full, 1, 1, buffer, 20)
out.append([small, buffer.raw[2] & 2])
print(json.dumps(out))
""", names.b.v4)
    mesh, public = names.b.v4, "192.0.2.55"
    each = [mesh, 1, public, 4, mesh, 1, public, mesh, public, [0, mesh], [0, public], [3, ""],
            mesh, public, mesh, mesh, [0, mesh], [0, public]]
    assert out == [each, each, [True, -1], [20, 2]]


def test_libcs_resolver_functions_without_the_daemon(names):
    names.a.daemon.stop(signal.SIGKILL)
    out = python(names.a, QUERY + RES + """
print(json.dumps([res("res_query", b"node-b.mesh"), res("res_search", b"nobody.mesh"), res("res_query", b"www.example.org"),
                  send("res_send", name="node-b.mesh")]))
""")
    assert out == [2, 2, "192.0.2.55", -1]


def test_getaddrinfo_a(names):
    out = python(names.a, """
import ctypes
class Addrinfo(ctypes.Structure):
    pass
Addrinfo._fields_ = [("numbers", ctypes.c_int * 4), ("len", ctypes.c_uint), ("addr", ctypes.POINTER(ctypes.c_ubyte * 28)),
                     ("name", ctypes.c_char_p), ("next", ctypes.POINTER(Addrinfo))]
class Gaicb(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("service", ctypes.c_char_p), ("hints", ctypes.POINTER(Addrinfo)),
                ("result", ctypes.POINTER(Addrinfo)), ("ret", ctypes.c_int), ("reserved", ctypes.c_int * 5)]
c = ctypes.CDLL(None)
hints = Addrinfo((ctypes.c_int * 4)(0, AF_INET, SOCK_STREAM, 0))
def ask(mode, *names):
    items = [Gaicb(name, b"80", ctypes.pointer(hints)) for name in names]
    array = (ctypes.POINTER(Gaicb) * len(items))(*[ctypes.pointer(i) for i in items])
    assert c.getaddrinfo_a(mode, array, len(items), None) == 0
    while any(c.gai_error(ctypes.byref(i)) == -100 for i in items):
        c.gai_suspend(array, len(items), None)
    return [i.ret or inet_ntoa(bytes(i.result.contents.addr.contents)[4:8]) for i in items]
print(json.dumps([ask(mode, *n) for mode in (0, 1) for n in ((b"node-b", b"www.example.org", b"nobody.mesh"), (b"node-b.mesh",))]))
""")
    both = [[names.b.v4, "192.0.2.55", -2], [names.b.v4]]
    assert out == both + both


@pytest.mark.skipif(not importlib.util.find_spec("pycares"), reason="pycares is not installed")
def test_c_ares(names):
    code = script("""
import pycares
got = {}
channel = pycares.Channel()
for name in ("node-b.mesh", "node-b", "www.example.org", "nobody.mesh"):
    def done(result, error, name=name):
        got[name] = error if error else [n.addr[0] for n in result.nodes]
    channel.getaddrinfo(name, None, family=AF_INET, callback=done)
end = time.time() + 30
while len(got) < 4 and time.time() < end:
    time.sleep(0.05)
    if not hasattr(channel, "wait"):
        r, w = channel.getsock()
        r, w, _ = select.select(r, w, [], 0.1)
        for fd in r: channel.process_fd(fd, pycares.ARES_SOCKET_BAD)
        for fd in w: channel.process_fd(pycares.ARES_SOCKET_BAD, fd)
def plain(v):
    return [a.decode() if isinstance(a, bytes) else a for a in v] if isinstance(v, list) else "error"
print(json.dumps({k: plain(v) for k, v in got.items()}))
""")
    # As root: this Python may lie where others may not look.
    words = names.a.argv([sys.executable, "-c", code])
    out = json.loads(names.a.lab.run(words, Place(names.space), names.a.env).stdout)
    assert out == {"node-b.mesh": [names.b.v4], "node-b": [names.b.v4],
                   "www.example.org": ["192.0.2.55"], "nobody.mesh": "error"}


def test_a_dead_daemon_does_not_break_public_names(names):
    names.a.daemon.stop(signal.SIGKILL)
    out = python(names.a, QUERY + """
s = datagram(); s.sendto(query("www.example.org"), SERVER); a, source = s.recvfrom(4096)
out = [shown(a), source[0]]
s = datagram(); s.connect(SERVER); s.send(query("www.example.org")); out.append(shown(s.recv(4096)))
s = tcp(*SERVER); q = query("www.example.org"); s.sendall(struct.pack(">H", len(q)) + q)
out.append(shown(recv_all(s)[2:]))
out.append([a[4][0] for a in getaddrinfo("www.example.org", 80, AF_INET, SOCK_STREAM)])
try:
    tcp("100.100.100.100", 53)
except OSError as e:
    out.append(e.errno == errno.ENETUNREACH)
print(json.dumps(out))
""")
    answer = [0, "192.0.2.55"]
    assert out == [answer, SERVER, answer, answer, ["192.0.2.55"], True]


def test_a_socket_from_before_the_daemons_death_recovers(names):
    program = python_spawn(names.a, QUERY + """
free, bound = datagram(), datagram()
bound.connect(SERVER)
def ask(s, name):
    try:
        s.send(query(name)) if s is bound else s.sendto(query(name), SERVER)
        return shown(s.recv(4096))[1]
    except ConnectionRefusedError:
        s.send(query(name))  # it was lost; the socket is good again
        return shown(s.recv(4096))[1] + " " + s.getpeername()[0]
say(ask(free, "node-b.mesh"), ask(bound, "node-b.mesh"), "ready")
sys.stdin.readline()
say("then", ask(free, "www.example.org"), ask(bound, "www.example.org"))
""", stdin=subprocess.PIPE)
    names.a.daemon.stop(signal.SIGKILL)
    program.popen.communicate(b"go\n", 60)
    program.wait_for(r"then 192\.0\.2\.55 192\.0\.2\.55 10\.53\.0\.1")


def test_a_dead_server_leaves_mesh_names_alone(names):
    names.upstream.stop()
    out = python(names.a, QUERY + """
s = datagram(); s.sendto(query("node-b.mesh"), SERVER); out = [shown(s.recv(4096))]
began = time.time()
s.sendto(query("www.example.org"), SERVER); out.append([shown(s.recv(4096)), time.time() - began < 3])
print(json.dumps(out))
""")
    assert out == [[0, names.b.v4], [[2, ""], True]]


def test_another_server_is_followed(names):
    other = names.serve(OTHER_SERVER)
    names.set_servers(OTHER_SERVER)

    def ask():
        return python(names.a, QUERY + """
s = datagram(); s.sendto(query("node-b.mesh"), ("10.53.0.2", 53)); print(json.dumps(shown(s.recv(4096))))
""")
    wait_until(lambda: ask() == [0, names.b.v4], 30, "the new server is ours")
    # Until the daemon has read the file, which it does when that rests, the server itself may be asked.
    before = other.text.count("mesh")
    assert ask() == [0, names.b.v4]
    assert other.text.count("mesh") == before


def test_a_daemon_started_by_a_wrapped_program_asks_the_real_server(names):
    b = names.b
    b.daemon = names.a.spawn([names.a.lab.binary("meshd"), "--config", b.config, "--dir", b.dir], log="meshd-node-b")
    b.daemon.wait_for(r"\bready\b", 15)
    out = python(b, QUERY + """
s = datagram(); s.sendto(query("www.example.org"), SERVER); print(json.dumps(shown(s.recv(4096))))
""")
    assert out == [0, "192.0.2.55"]
    assert names.asked().count("www.example.org") == 1
