"""Programs that ask for this machine's own address get that of the mesh, by whatever way they ask."""
import json
import os
import shutil

import pytest

from worlds import CAN_NETNS, PYTHON, Place, Traced, World, python, python_spawn

pytestmark = pytest.mark.meshwrap

# As Ray, torch, and the first answers of every search engine do it.
ASK = """
    def towards(host, port=80):
        u = socket(family_of(host), SOCK_DGRAM)
        u.connect((host, port))
        return u.getsockname()[0]
    def or_errno(f, *words):
        try:
            return f(*words)
        except OSError as e:
            return errno.errorcode.get(e.errno, e.errno)
    print(json.dumps([or_errno(towards, host) for host in sys.argv[1:]]))
"""


@pytest.fixture
def routed(world):
    """The world in which there is a way to the internet."""
    if len(world.spaces) < 2:
        pytest.skip("needs a default route")
    return world


def test_udp_connect_to_a_public_address_tells_the_mesh_address(routed):
    got = python(routed.a, ASK, "8.8.8.8", "1.1.1.1", "2001:4860:4860::8888", "::ffff:8.8.8.8")
    assert got == [routed.a.v4, routed.a.v4, routed.a.v6, "::ffff:" + routed.a.v4]


def test_the_neighbourhood_has_the_real_answer(routed):
    assert python(routed.a, ASK, "192.0.2.2", "127.0.0.1") == ["192.0.2.1", "127.0.0.1"]


def test_no_route_stays_no_route(world):
    if len(world.spaces) != 1:
        pytest.skip("needs a machine without a network")
    assert python(world.a, ASK, "8.8.8.8") == ["ENETUNREACH"]


def test_what_is_sent_there_leaves_by_the_real_network(routed):
    """Only the name is the mesh's: the packet has the address of the wire, and gets there."""
    server = python_spawn(routed.b, """
        u = socket(AF_INET, SOCK_DGRAM)
        u.bind(("192.0.2.2", 0))
        say("ready", u.getsockname()[1])
        say("from", u.recvfrom(10)[1][0])
    """, ready=r"ready \d+", wrapped=False)
    port = server.wait_for(r"ready (\d+)").group(1)
    python(routed.a, """
        u = socket(AF_INET, SOCK_DGRAM)
        u.connect(("192.0.2.2", int(sys.argv[1])))
        u.send(b"x")
    """, port)
    assert server.wait_for(r"from (\S+)\n").group(1) == "192.0.2.1"


@pytest.mark.parametrize("how", ["option", "environment"])
def test_it_can_be_turned_off(routed, how):
    words = [PYTHON, "-c", """
import json, socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.connect(("8.8.8.8", 80))
host = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), 80)} if socket.gethostname() else set()
print(json.dumps([u.getsockname()[0], sorted(host)]))
"""]
    node = routed.a
    off = node.meshrun(*(["--no-primary"] if how == "option" else []), "--", *words,
                       env={"MESHWRAP_PRIMARY": "0"} if how == "environment" else {})
    on = node.meshrun("--", *words)
    assert json.loads(on.stdout) == [node.v4, sorted([node.v4, node.v6])]
    address, host = json.loads(off.stdout)
    assert address == "192.0.2.1" and node.v4 not in host


@pytest.mark.libc
def test_the_own_host_name_is_at_the_mesh_addresses(world):
    got = python(world.a, """
        host = gethostname()
        print(json.dumps([gethostbyname(host), gethostbyname_ex(host)[2], getfqdn(),
                          sorted({i[4][0] for i in getaddrinfo(host, 1)}),
                          gethostbyname("localhost")]))
    """)
    assert got == [world.a.v4, [world.a.v4], "node-a.mesh", sorted([world.a.v4, world.a.v6]), "127.0.0.1"]


@pytest.mark.libc
def test_a_server_on_the_own_host_name_is_reached_by_the_peer(world):
    server = python_spawn(world.a, """
        s = socket()
        s.bind((gethostname(), 0))
        s.listen()
        say("ready", *s.getsockname())
        s.accept()[0].sendall(b"here")
    """, ready=r"ready \S+ \d+")
    host, port = server.wait_for(r"ready (\S+) (\d+)").groups()
    assert host == world.a.v4
    assert python(world.b, "print(json.dumps(recv_all(tcp(sys.argv[1], sys.argv[2])).decode()))", host, port) == "here"


def test_where_the_mesh_is_ipv6_only_the_host_name_keeps_its_ipv4_address(lab):
    """Old programs know gethostbyname() only, and end when their own host has no address."""
    if not CAN_NETNS:
        pytest.skip("needs root and namespaces")
    node = lab.node("node-a", 1, Place(lab.namespace("six")))
    node.write_config([])
    node.write(node.config, node.config.read_text().replace(f"{node.v4}/10, ", ""), 0o600)
    node.start()
    host, hosts = os.uname().nodename, node.home / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n127.0.1.7 {host}\n")
    code = f"""
import json, socket
def all_of(family):
    return sorted({{i[4][0] for i in socket.getaddrinfo("{host}", 1, family)}})
print(json.dumps([socket.gethostbyname("{host}"), all_of(socket.AF_INET), all_of(socket.AF_INET6), all_of(0)]))
"""
    out = lab.run(["unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh",
                   *node.argv([PYTHON, "-c", code])], node.place, node.env).stdout
    assert json.loads(out) == ["127.0.1.7", ["127.0.1.7"], [node.v6], [node.v6]]


def test_the_full_form_of_the_host_name_in_the_hosts_file(lab):
    """127.0.1.1 HOST.DOMAIN HOST, as Debian has it. Other names of the file stay what they are."""
    if not CAN_NETNS:
        pytest.skip("needs root and namespaces")
    world = World("one", lab).make().start()
    hosts = world.a.home / "hosts"
    host = os.uname().nodename
    hosts.write_text(f"127.0.0.1 localhost\n127.0.1.1 {host}.example.com {host}\n127.0.9.9 other.example.com\n")
    code = f"""
import json, socket
print(json.dumps([socket.gethostbyname(n) for n in ("{host}.example.com", "{host}.example.com.", "{host.upper()}",
                                                    "other.example.com", "localhost")]))
"""
    shim = lab.binary("shim")
    out = lab.run(["unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec env LD_PRELOAD={shim} '
                   '"$@"', "sh", PYTHON, "-c", code], Place(world.spaces[0]), world.a.env).stdout
    world.finish()
    assert json.loads(out) == [world.a.v4] * 3 + ["127.0.9.9", "127.0.0.1"]


class Plain(Traced):
    """Without the mesh address as the machine's own."""

    def __init__(self, node, asker):
        super().__init__(node)
        self.env = {"MESHWRAP_PRIMARY": "0", **(self.env if isinstance(asker, Traced) else {})}


@pytest.fixture(params=["shim", "tracer"])
def asker(request, world):
    return world.a if request.param == "shim" else Traced(world.a)


def test_ioctls_answer_for_the_interface(world, asker):
    got = python(asker, """
        import fcntl
        s = socket(AF_INET, SOCK_DGRAM)
        def ask(request, name=b"tailscale0"):
            return fcntl.ioctl(s, request, struct.pack("256s", name))
        address, mask = (inet_ntoa(ask(r)[20:24]) for r in (0x8915, 0x891B))
        flags, mtu, index = struct.unpack("H", ask(0x8913)[16:18])[0], *(struct.unpack("i", ask(r)[16:20])[0]
                                                                        for r in (0x8921, 0x8933))
        import ctypes
        buffer = ctypes.create_string_buffer(4096)
        head = bytearray(struct.pack("iP", 4096, ctypes.addressof(buffer)))
        fcntl.ioctl(s, 0x8912, head)
        n = struct.unpack("i", head[:4])[0]
        names = [buffer.raw[i:i + 16].split(b"\\0")[0].decode() for i in range(0, n, 40)]
        print(json.dumps([address, mask, bool(flags & 1), mtu > 1000, index == if_nametoindex("tailscale0"),
                          names.count("tailscale0"), names[0]]))
    """)
    assert got == [world.a.v4, "255.192.0.0", True, True, True, 1, "lo"]


NETLINK = """
    import ctypes
    libc = ctypes.CDLL(None)
    def recvmmsg(s):
        data = ctypes.create_string_buffer(65536)
        iov = struct.pack("PN", ctypes.addressof(data), 65536)
        parts = ctypes.create_string_buffer(iov)
        msgs = ctypes.create_string_buffer(struct.pack("PIPNPNiI", 0, 0, ctypes.addressof(parts), 1, 0, 0, 0, 0), 128)
        assert libc.recvmmsg(s.fileno(), msgs, 1, 0, None) == 1
        return data.raw[:struct.unpack_from("I", msgs, 56)[0]]
    def dump(kind, body):
        s = socket(AF_NETLINK, SOCK_RAW, 0)
        s.send(struct.pack("=IHHII", 16 + len(body), kind, 0x301, 1, 0) + body)
        while True:
            if sys.argv[1] == "exactly":  # asks first how much room is needed, as dnsmasq and systemd do
                need, _, flags, _ = s.recvmsg_into([bytearray(100)], 0, MSG_PEEK | MSG_TRUNC)
                assert need <= 100 or flags & MSG_TRUNC, (need, flags)
                data = s.recvmsg(need)[0]
            elif sys.argv[1] == "length":
                data = s.recv(s.recv_into(bytearray(1), 1, MSG_PEEK | MSG_TRUNC))
            elif sys.argv[1] == "recvmmsg":
                data = recvmmsg(s)
            else:
                data = getattr(s, sys.argv[1])(65536)
            data = data[0] if isinstance(data, tuple) else data
            while data:
                n, t = struct.unpack_from("=IH", data)
                if t == 3:
                    return
                yield data[16:n]
                data = data[(n + 3) & ~3:]
    def attributes(body):
        while body:
            n, t = struct.unpack_from("=HH", body)
            yield t, body[4:n]
            body = body[(n + 3) & ~3:]
    index = if_nametoindex("tailscale0")
    links = [dict(attributes(m[16:]))[3] for m in dump(18, bytes(16)) if struct.unpack_from("=i", m, 4)[0] == index]
    found = [inet_ntop(m[0], dict(attributes(m[8:]))[1]) for m in dump(22, bytes(8))
             if struct.unpack_from("=i", m, 4)[0] == index]
    print(json.dumps([[name.strip(b"\\0").decode() for name in links], sorted(found)]))
"""


@pytest.mark.parametrize("call", ["recv", "recvfrom", "recvmsg", "recvmmsg", "exactly", "length"])
def test_netlink_lists_the_interface(world, asker, call):
    assert python(asker, NETLINK, call) == [["tailscale0"], sorted([world.a.v4, world.a.v6])]


@pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2")
def test_ip_addr_shows_the_interface(world, asker):
    for words in ([], ["show", "dev", "tailscale0"]):
        shown = json.loads(asker.run(["ip", "-j", "addr", *words]).stdout)
        link = next(item for item in shown if item.get("ifname") == "tailscale0")
        assert [a["local"] for a in link["addr_info"]] == [world.a.v4, world.a.v6]
    assert b"tailscale0" in asker.run(["ip", "link", "show", "tailscale0"]).stdout.encode()


# As Rust's local_ip_address does it, by which NVIDIA Dynamo finds what to announce.
ROUTE = """
    def route(to):
        family = family_of(to)
        body = struct.pack("=8BIHH", family, 0, 0, 0, 0, 0, 0, 0, 0, 4 + len(inet_pton(family, to)), 1) + inet_pton(family, to)
        s = socket(AF_NETLINK, SOCK_RAW, 0)
        s.send(struct.pack("=IHHII", 16 + len(body), 26, 1, 7, 0) + body)
        data = getattr(s, sys.argv[1])(65536)
        data = data[0] if isinstance(data, tuple) else data
        n, kind, flags, seq = struct.unpack_from("=IHHI", data)
        assert n == len(data) and not flags & 2 and seq == 7, (n, len(data), flags, seq)
        if kind == 2:
            return errno.errorcode[-struct.unpack_from("=i", data, 16)[0]]
        assert kind == 24 and data[16:18] == bytes([family, 8 * len(inet_pton(family, to))]), data
        found, at = {}, 28
        while at < n:
            size, name = struct.unpack_from("=HH", data, at)
            found[name] = data[at + 4:at + size]
            at += (size + 3) & ~3
        assert inet_ntop(family, found[1]) == to
        return [inet_ntop(family, found[7]), if_indextoname(struct.unpack("=I", found[4])[0])]
    print(json.dumps([route(to) for to in sys.argv[2:]]))
"""


@pytest.mark.parametrize("call", ["recv", "recvfrom", "recvmsg"])
def test_the_route_to_an_address_has_the_mesh_address_as_its_source(routed, asker, call):
    got = python(asker, ROUTE, call, "8.8.8.8", "2001:4860:4860::8888", "192.0.2.2")
    assert got == [[routed.a.v4, "eth0"], [routed.a.v6, "eth0"], ["192.0.2.1", "eth0"]]
    assert python(Plain(routed.a, asker), ROUTE, call, "8.8.8.8") == [["192.0.2.1", "eth0"]]


@pytest.mark.parametrize("call", ["recv", "recvfrom", "recvmsg"])
def test_the_route_to_a_peer_is_by_the_mesh_interface(world, asker, call):
    """Also where the kernel knows no way there."""
    got = python(asker, ROUTE, call, world.b.v4, world.b.v6)
    assert got == [[world.a.v4, "tailscale0"], [world.a.v6, "tailscale0"]]


@pytest.mark.skipif(not shutil.which("ip"), reason="needs iproute2")
def test_ip_route_get_shows_the_interface(world, asker):
    """As start scripts find what to set NCCL_SOCKET_IFNAME to."""
    for to, own in ((world.b.v4, world.a.v4), (world.b.v6, world.a.v6)):
        shown = json.loads(asker.run(["ip", "-j", "route", "get", to]).stdout)[0]
        assert (shown["dst"], shown["dev"], shown["prefsrc"]) == (to, "tailscale0", own) and "gateway" not in shown


def test_a_socket_tied_to_the_interface_is_on_the_mesh(world, asker):
    """SO_BINDTODEVICE, as curl --interface and ping -I do it: the mesh hears it, and nobody else."""
    server = python_spawn(world.b, """
        s = socket()
        s.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"tailscale0\\0")
        s.bind(("0.0.0.0", 0))
        s.listen()
        say("ready", s.getsockname()[1])
        while True:
            c, peer = s.accept()
            c.sendall((peer[0] + " " + c.getsockopt(SOL_SOCKET, SO_BINDTODEVICE, 16).decode().strip("\\0")).encode())
            c.close()
    """, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    got = python(asker, """
        s = socket()
        s.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"tailscale0")
        s.connect((sys.argv[1], int(sys.argv[2])))
        name = s.getsockopt(SOL_SOCKET, SO_BINDTODEVICE, 16).strip(b"\\0").decode()
        assert s.getsockopt(SOL_SOCKET, 62) == if_nametoindex("tailscale0")  # SO_BINDTOIFINDEX
        print(json.dumps([name, s.getsockname()[0], recv_all(s).decode().split()[0]]))
    """, world.b.v4, port)
    server.stop()
    assert got == ["tailscale0", world.a.v4, world.a.v4]


def test_explain_tells_what_became_of_each_call(world):
    out = world.a.home / "explained"
    code = """
import socket
for to in (("node-b", 9), ("127.0.0.1", 9), ("100.64.9.9", 9)):
    try:
        socket.create_connection(to)
    except OSError:
        pass
"""
    text = world.a.meshrun("--explain", "--", PYTHON, "-c", code).stderr
    for line in ("getaddrinfo node-b as node-b.mesh -> 100.64.0.2",
                 "100.64.0.2:9 (node-b.mesh) -> mirror 127.", ": ECONNREFUSED",
                 "127.0.0.1:9: left alone (this machine): ECONNREFUSED",
                 "100.64.9.9:9, a mesh address that nobody can reach now: E"):
        assert line in text, text
    result = world.a.meshrun(f"--explain={out}", "--", PYTHON, "-c", code)
    assert result.stderr == "" and "node-b.mesh -> 100.64.0.2" in out.read_text()


# Python's ifaddr asks so, by which zeroconf and aiortc find their addresses; and Mono.
ASK_LIBC = """
    import ctypes
    class List(ctypes.Structure):
        pass
    List._fields_ = [("next", ctypes.POINTER(List)), ("name", ctypes.c_char_p), ("flags", ctypes.c_uint),
                     ("addr", ctypes.c_void_p)]
    libc = ctypes.CDLL(json.loads(sys.argv[1]), use_errno=True)
    first, found = ctypes.POINTER(List)(), []
    assert libc.getifaddrs(ctypes.byref(first)) == 0
    at = first
    while at:
        head = ctypes.string_at(at.contents.addr, 24) if at.contents.addr else bytes(24)
        family = struct.unpack_from("H", head)[0]
        if family in (AF_INET, AF_INET6):
            found.append(inet_ntop(family, head[4:8] if family == AF_INET else head[8:24]))
        at = at.contents.next
    libc.freeifaddrs(first)
    print(json.dumps(found))
"""


@pytest.mark.parametrize("library", ["libc.so.6", None])
def test_interfaces_that_libc_itself_is_asked_for(world, library):
    found = python(world.a, ASK_LIBC, json.dumps(library))
    assert found.count(world.a.v4) == 1 and found.count(world.a.v6) == 1
