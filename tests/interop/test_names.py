"""MagicDNS over the tailnet: every kind of name, by libc and by programs that speak DNS themselves."""
import json
import shutil

import pytest

from peers import REFERENCE
from tailnet import Tailnet

from lab import wait_until

EXTRA = [{"name": "grafana.mesh.test", "type": "A", "value": "100.64.0.1"},
         {"name": "db.other.example", "type": "A", "value": "100.64.0.1"},
         {"name": "six.mesh.test", "type": "AAAA", "value": "fd7a:115c:a1e0::1"}]

# The first node of a tailnet has 100.64.0.1, and is the name server of corp.example.
DNS = {"magic_dns": True, "base_domain": "mesh.test", "override_local_dns": False,
       "nameservers": {"global": [], "split": {"corp.example": ["100.64.0.1"]}},
       "search_domains": ["corp.example"], "extra_records": EXTRA}

NAME_SERVER = """
    def answer(q):
        name, at = [], 12
        while q[at]:
            name.append(q[at + 1:at + 1 + q[at]].decode().lower())
            at += 1 + q[at]
        kind = struct.unpack(">H", q[at + 1:at + 3])[0]
        known = ".".join(name) in names
        has = known and kind == 1
        head = q[:2] + struct.pack(">HHHHH", 0x8580 | (0 if known else 3), 1, int(has), 0, 0)
        body = b"\\xc0\\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + inet_aton(names[".".join(name)]) if has else b""
        return head + q[12:at + 5] + body
    names = json.loads(sys.argv[1])
    u = socket(AF_INET, SOCK_DGRAM)
    u.bind(("0.0.0.0", 53))
    say("ready 53")
    while True:
        q, who = u.recvfrom(2000)
        u.sendto(answer(q), who)
    """
CORP = {"wiki.corp.example": "203.0.113.7"}
PUBLIC = {"www.public.example": "203.0.113.80"}


@pytest.fixture(scope="module")
def net(own_lab):
    yield Tailnet(own_lab, extra={"dns": DNS})


@pytest.fixture(scope="module")
def real(net):
    """100.64.0.1"""
    node = net.join("tun", name="real")
    assert node.v4 == "100.64.0.1"
    node.serve(NAME_SERVER, json.dumps(CORP))
    return node


@pytest.fixture(scope="module")
def node(net, real):
    """Its namespace has a name server of its own, as every machine has, at 192.0.2.53."""
    node = net.make("ours")
    space = node.site.space
    folder = net.lab.tmp.parent.parent / "etc/netns" / space
    folder.mkdir(parents=True)
    (folder / "resolv.conf").write_text("nameserver 192.0.2.53\n")
    net.lab.undo.callback(shutil.rmtree, folder, ignore_errors=True)
    node.site.ip("addr", "add", "192.0.2.53/32", "dev", "lo")
    net.lab.run(["ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=0"])
    node.site.server = node.begin_program(NAME_SERVER.replace("0.0.0.0", "192.0.2.53"), json.dumps(PUBLIC),
                                          **({} if REFERENCE else {"wrapped": False}))
    node.begin(key=net.reusable, flags=["--accept-dns=true"] if REFERENCE else []).wait_running()
    node.wait_peer("real")
    real.wait_peer(node.name)
    return node


def resolve(node, name, family="AF_UNSPEC"):
    """What getaddrinfo gives, sorted; the error's name if nothing."""
    return node.program("""
        import socket as s
        try:
            found = getaddrinfo(sys.argv[1], 80, getattr(s, sys.argv[2]), SOCK_STREAM)
            print(json.dumps(sorted({entry[4][0] for entry in found})))
        except gaierror as e:
            print(json.dumps(next(n for n in dir(s) if n.startswith("EAI_") and getattr(s, n) == e.errno)))
        """, name, family)


@pytest.mark.parametrize("name", ["real", "real.mesh.test", "real.mesh.test.", "REAL.Mesh.Test"])
def test_a_peer_has_a_short_and_a_full_name(node, name):
    assert resolve(node, name, "AF_INET") == ["100.64.0.1"]


def test_our_own_name(node):
    assert resolve(node, node.name, "AF_INET") == [node.v4]


def test_a_name_nobody_has(node):
    assert resolve(node, "nobody.mesh.test") == "EAI_NONAME"


def test_extra_records(node):
    assert resolve(node, "grafana.mesh.test", "AF_INET") == ["100.64.0.1"]
    assert resolve(node, "grafana", "AF_INET") == ["100.64.0.1"]
    assert resolve(node, "db.other.example", "AF_INET") == ["100.64.0.1"]
    assert resolve(node, "six.mesh.test", "AF_INET6") == ["fd7a:115c:a1e0::1"]


def test_a_split_route_leads_to_a_name_server_in_the_tailnet(node):
    assert resolve(node, "wiki.corp.example", "AF_INET") == ["203.0.113.7"]
    assert resolve(node, "wiki", "AF_INET") == ["203.0.113.7"]
    assert resolve(node, "none.corp.example") in ("EAI_NONAME", "EAI_NODATA")


def test_public_names_go_where_they_always_went(node):
    assert resolve(node, "www.public.example", "AF_INET") == ["203.0.113.80"]


def test_reverse(node, real):
    """Also an extra record names an address; which one of several answers is nobody's promise."""
    for address in (real.v4, real.v6, node.v4):
        name = node.program("print(json.dumps(getnameinfo((sys.argv[1], 80), NI_NAMEREQD)[0]))", address)
        names = {"real.mesh.test", *(record["name"] for record in EXTRA)} if address != node.v4 else {
            f"{node.name}.mesh.test"}
        assert name in names


# ---- programs that speak DNS themselves ----

ASK = """
    def ask(name, kind, server, tcp=False):
        q = struct.pack(">HHHHHH", 4711, 0x0100, 1, 0, 0, 0)
        q += b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\\0" + struct.pack(">HH", kind, 1)
        s = socket(AF_INET6 if ":" in server else AF_INET, SOCK_STREAM if tcp else SOCK_DGRAM)
        s.settimeout(5)
        s.connect((server, 53))
        if tcp:
            s.sendall(struct.pack(">H", len(q)) + q)
            a = recv_exactly(s, struct.unpack(">H", recv_exactly(s, 2))[0])
        else:
            s.send(q)
            a = s.recv(4096)
        assert a[:2] == q[:2]
        flags, count = struct.unpack(">HH", a[2:4] + a[6:8])
        assert flags & 0x8000
        if flags & 15 or not count:
            return [flags & 15]
        size = {1: 4, 28: 16}[kind]
        return [flags & 15, inet_ntop({1: AF_INET, 28: AF_INET6}[kind], a[-size:])]
    print(json.dumps(ask(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "tcp")))
    """


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("server", ["100.100.100.100", "of resolv.conf"])
def test_a_program_that_speaks_dns_is_answered(node, server, transport):
    if server == "of resolv.conf":
        if REFERENCE:
            pytest.skip("tailscaled replaces resolv.conf")
        if transport == "tcp":
            pytest.skip("our little name server speaks UDP only")
        server = "192.0.2.53"

    def ask(name, kind=1):
        return node.program(ASK, name, kind, server, transport)
    assert ask("real.mesh.test") == [0, "100.64.0.1"]
    assert ask("real.mesh.test", 28)[0] == 0  # no AAAA unless the map says so; never "no such name"
    assert ask("nobody.mesh.test") == [3]
    assert ask("grafana.mesh.test") == [0, "100.64.0.1"]
    if transport == "udp":  # ours forwards by UDP, but the little name servers know nothing else
        assert ask("wiki.corp.example") == [0, "203.0.113.7"]
        assert ask("www.public.example") == [0, "203.0.113.80"]


def has(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


@has("node")
def test_node_by_c_ares(node):
    out = node.run(["node", "-e", """
        const dns = require("dns");
        dns.resolve4("real.mesh.test", (e, a) => { console.log(e ? e.code : JSON.stringify(a));
        dns.lookup("real", {family: 4}, (e, a) => { console.log(e ? e.code : a); }); });
        """]).stdout.split()
    assert out == ['["100.64.0.1"]', "100.64.0.1"]


@has("curl")
@pytest.mark.parametrize("name", ["real", "real.mesh.test", "grafana.mesh.test"])
def test_curl_by_name(node, real, name):
    with real.served("""
            import http.server
            class Answer(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(self.headers["Host"].encode())
                def log_message(self, *words): pass
            s = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Answer)
            say("ready", s.server_port)
            s.serve_forever()
            """) as port:
        assert node.run(["curl", "-sS", "--max-time", "10", f"http://{name}:{port}/"]).stdout == f"{name}:{port}"


@has("getent")
def test_getent(node, real):
    assert node.run(["getent", "ahostsv4", "real"]).stdout.split()[0] == "100.64.0.1"
    assert f"{node.name}.mesh.test" in node.run(["getent", "hosts", node.v4]).stdout


@pytest.mark.meshwrap
def test_public_names_outlive_the_daemon(net, node):
    node.stop(9)
    assert resolve(node, "www.public.example", "AF_INET") == ["203.0.113.80"]
    node.again().wait_running()
    wait_until(lambda: resolve(node, "real", "AF_INET") == ["100.64.0.1"], 30, "names again")
