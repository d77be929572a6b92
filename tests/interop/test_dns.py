"""MagicDNS with resolvers of all kinds: in the tailnet, outside it, for some names, for all of them;
asked by libc, and by programs that bring a resolver of their own."""
import importlib.util
import json
import shutil
import sys
import textwrap
import time

import pytest

from nodes import mesh_script
from tailnet import Tailnet

from lab import PYTHON, Failure, Place, wait_until

pytestmark = pytest.mark.meshwrap

# 100.64.0.1 is the first node that joins; 10.77.0.1 is on the wire, outside the tailnet.
INSIDE, OUTSIDE, NOBODY, SYSTEM = "100.64.0.1", "10.77.0.1", "10.77.0.99", "192.0.2.53"
# Ours is the second; the last is no node's, but somebody has it outside.
OURS, GONE = "100.64.0.2", "100.64.0.77"
DNS = {"magic_dns": True, "base_domain": "mesh.test", "override_local_dns": True,
       "nameservers": {"global": [OUTSIDE],
                       "split": {"corp.example": [INSIDE], "plain.example": [OUTSIDE],
                                 "both.example": [NOBODY, INSIDE], "dead.example": [NOBODY],
                                 "ours.example": [OURS], "gone.example": [GONE]}},
       "search_domains": ["corp.example"],
       "extra_records": [{"name": "grafana.mesh.test", "type": "A", "value": "100.64.0.1"},
                         {"name": "db.other.example", "type": "A", "value": "203.0.113.9"}]}

# A name server: what does not fit into 512 bytes is cut off by UDP. Says whatever it is asked.
NAME_SERVER = """
    zone = json.loads(sys.argv[2])
    def name_of(q, at=12):
        labels = []
        while q[at]:
            labels.append(q[at + 1:at + 1 + q[at]].decode().lower())
            at += 1 + q[at]
        return ".".join(labels), at + 5
    def answer(q, room):
        name, end = name_of(q)
        kind = struct.unpack(">H", q[end - 4:end - 2])[0]
        say("asked", name, kind, "tcp" if room > 512 else "udp")
        found = [inet_pton(AF_INET6 if ":" in a else AF_INET, a) for a in zone.get(name, ())]
        found = [a for a in found if {4: 1, 16: 28}[len(a)] == kind]
        records = b"".join(b"\\xc0\\x0c" + struct.pack(">HHIH", kind, 1, 60, len(a)) + a for a in found)
        flags = 0x8580 | (0 if name in zone else 3)
        if end + len(records) > room:
            flags, found, records = flags | 0x200, [], b""
        return q[:2] + struct.pack(">HHHHH", flags, 1, len(found), 0, 0) + q[12:end] + records
    def streams():
        s = listener(sys.argv[1], 53)
        while True:
            c, _ = s.accept()
            size = recv_exactly(c, 2)
            if len(size) == 2:
                out = answer(recv_exactly(c, struct.unpack(">H", size)[0]), 65535)
                c.sendall(struct.pack(">H", len(out)) + out)
            c.close()
    u = socket(AF_INET, SOCK_DGRAM)
    u.bind((sys.argv[1], 53))
    threading.Thread(target=streams, daemon=True).start()
    say("ready 53")
    while True:
        q, who = u.recvfrom(2000)
        u.sendto(answer(q, 512), who)
    """
MANY = [f"203.0.113.{i}" for i in range(1, 61)]
CORP = {"wiki.corp.example": ["203.0.113.7", "2001:db8::7"], "many.corp.example": MANY,
        "inside.corp.example": ["100.64.0.1"], "x.both.example": ["203.0.113.8"]}
PLAIN = {"www.plain.example": ["203.0.113.80"], "www.public.example": ["203.0.113.81"], "many.public.example": MANY,
         "evil.public.example": ["100.64.0.1"], "local.public.example": ["127.0.0.1"]}


class World:
    """A real node that is a name server, one outside, one of this machine's own, and our node."""

    def __init__(self, lab):
        self.net = net = Tailnet(lab, extra={"dns": DNS})
        self.real = net.join("tun", name="real")
        assert self.real.v4 == INSIDE
        self.inside = self.real.begin_program(NAME_SERVER, "0.0.0.0", json.dumps(CORP))
        self.outside = self.bare(net.wan, OUTSIDE, PLAIN)
        lab.run(["ip", "-n", net.wan, "addr", "add", f"{GONE}/32", "dev", "lo"])
        self.gone = self.bare(net.wan, GONE, {"x.gone.example": ["203.0.113.66"]})
        self.node = node = net.make("ours", name="ours")
        space = node.site.space
        folder = lab.tmp.parent.parent / "etc/netns" / space
        folder.mkdir(parents=True)
        lab.undo.callback(shutil.rmtree, folder, ignore_errors=True)
        (folder / "resolv.conf").write_text(f"nameserver {SYSTEM}\noptions timeout:2 attempts:1\n")
        node.site.ip("addr", "add", f"{SYSTEM}/32", "dev", "lo")
        self.system = self.bare(space, SYSTEM, {})
        node.begin(key=net.reusable, env={"TS_SOCKS5_SERVER": "127.0.0.1:1055"}).wait_running()
        node.wait_peer("real")
        self.real.wait_peer("ours")
        assert node.v4 == OURS
        lab.run(["ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv4.ip_unprivileged_port_start=53"])
        self.own = node.begin_program(NAME_SERVER, OURS, json.dumps({"x.ours.example": ["203.0.113.5"]}))

    def bare(self, space, address, zone):
        process = self.net.lab.spawn([PYTHON, "-c", mesh_script(NAME_SERVER), address,
                                      json.dumps(zone)], Place(space), log="name-server")
        process.wait_for("ready")
        return process

    def run(self, *argv, **options):
        return self.node.run(list(argv), **options).stdout


@pytest.fixture(scope="module")
def world(own_lab):
    world = World(own_lab)
    yield world
    leaked = [line for process in (world.outside, world.system) for line in process.text.splitlines()
              if line.startswith("asked") and ("mesh" in line or "corp.example" in line or " real " in line)]
    assert not leaked, "names of the mesh have leaked"
    assert "asked" not in world.system.text, "this machine's own resolver was asked in spite of the mesh's"


def resolve(world, name, family="AF_INET"):
    return world.node.program("""
        import socket as s
        try:
            print(json.dumps(sorted({e[4][0] for e in getaddrinfo(sys.argv[1], 80, getattr(s, sys.argv[2]), SOCK_STREAM)})))
        except gaierror as e:
            print(json.dumps(e.errno))
        """, name, family)


CASES = [("real", [INSIDE]), ("real.mesh.test", [INSIDE]), ("grafana", [INSIDE]), ("db.other.example", ["203.0.113.9"]),
         ("wiki.corp.example", ["203.0.113.7"]), ("wiki", ["203.0.113.7"]), ("x.both.example", ["203.0.113.8"]),
         ("inside.corp.example", [INSIDE]), ("www.plain.example", ["203.0.113.80"]),
         ("www.public.example", ["203.0.113.81"])]


@pytest.mark.parametrize("name,addresses", CASES)
def test_libc(world, name, addresses):
    assert resolve(world, name) == addresses
    assert sorted({line.split()[0] for line in world.run("getent", "ahostsv4", name).splitlines()}) == addresses
    assert world.node.program("print(json.dumps(gethostbyname(sys.argv[1])))", name) == addresses[0]


def test_libc_gets_long_answers_through_the_tunnel(world):
    found = resolve(world, "many.corp.example")
    assert len(found) == 16 and set(found) <= set(MANY)
    assert "asked many.corp.example 1 tcp" in world.inside.text
    assert len(resolve(world, "many.public.example")) == 16


def test_families_and_reverse(world):
    assert resolve(world, "wiki.corp.example", "AF_INET6") == ["2001:db8::7"]
    assert resolve(world, "wiki.corp.example", "AF_UNSPEC") == sorted(["203.0.113.7", "2001:db8::7"])
    for address in (world.real.v4, world.real.v6):
        assert world.node.program("print(json.dumps(gethostbyaddr(sys.argv[1])[0]))", address) == "real.mesh.test"
        assert "real.mesh.test" in world.run("getent", "hosts", address)


def test_names_nobody_has(world):
    for name in ("nobody.mesh.test", "nobody.corp.example", "nobody.public.example", "nobody"):
        assert resolve(world, name) in (-2, -5)


def test_a_dead_resolver_is_told_in_time(world):
    spent, error = world.node.program("""
        begun = time.monotonic()
        try:
            getaddrinfo("x.dead.example", 80)
        except gaierror as e:
            print(json.dumps([time.monotonic() - begun, e.errno]))
        """)
    assert error == -3 and spent < 5.5


def test_a_name_server_on_this_node(world):
    assert resolve(world, "x.ours.example") == ["203.0.113.5"]
    assert resolve(world, "nobody.ours.example") in (-2, -5)


def test_a_mesh_address_that_nobody_has_is_not_asked_outside(world):
    question = b"\0\1\1\0\0\1\0\0\0\0\0\0\x01y\x04gone\x07example\0\0\1\0\1"
    world.run(PYTHON, "-c", textwrap.dedent(f"""
        from socket import *
        s = socket(AF_INET, SOCK_DGRAM)
        s.settimeout(3)
        s.sendto({question!r}, ("{GONE}", 53))
        s.recv(600)
        """), wrapped=False)
    assert "asked y.gone.example" in world.gone.text, "the way there is open"
    begun = time.monotonic()
    assert resolve(world, "x.gone.example") == -3
    assert time.monotonic() - begun < 4 and "x.gone.example" not in world.gone.text


@pytest.mark.skipif(not shutil.which("dig"), reason="dig is not installed")
@pytest.mark.parametrize("server", [(), ("@100.100.100.100",), ("@fd7a:115c:a1e0::53",)], ids=["resolv.conf", "v4", "v6"])
def test_dig(world, server):
    def dig(*words):
        return world.run("dig", "+tries=1", "+time=6", "+short", *server, *words).split()
    for name, addresses in CASES:
        if "." in name:
            for how in ((), ("+tcp",), ("+noedns",)):
                assert dig(*how, name) == addresses, (name, how)
    assert dig("+search", "+domain=mesh.test", "real") == [INSIDE]
    assert dig("-x", world.real.v4) == ["real.mesh.test."] == dig("-x", world.real.v6)
    assert sorted(dig("+noedns", "many.corp.example")) == sorted(MANY)
    assert sorted(dig("+tcp", "many.corp.example")) == sorted(MANY)
    assert dig("AAAA", "wiki.corp.example") == ["2001:db8::7"]


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_node(world):
    out = json.loads(world.run("node", "-e", """
        const dns = require("dns").promises;
        (async () => {
            const got = [];
            for (const f of [() => dns.resolve4("real.mesh.test"), () => dns.resolve4("wiki.corp.example"),
                             () => dns.resolve6("wiki.corp.example"), () => dns.resolve4("www.public.example"),
                             () => dns.reverse("100.64.0.1"), async () => (await dns.resolve4("many.corp.example")).length,
                             async () => (await dns.lookup("real", {family: 4})).address, () => dns.resolve4("nobody.mesh.test")])
                got.push(await f().catch(e => e.code));
            console.log(JSON.stringify(got));
        })();
        """))
    assert out == [[INSIDE], ["203.0.113.7"], ["2001:db8::7"], ["203.0.113.81"], ["real.mesh.test"], 60, INSIDE, "ENOTFOUND"]


@pytest.mark.skipif(not shutil.which("javac"), reason="javac is not installed")
def test_java(world):
    folder = world.node.home
    (folder / "Look.java").write_text("""
        import java.net.InetAddress;
        import java.util.Hashtable;
        import javax.naming.directory.InitialDirContext;
        public class Look {
            public static void main(String[] words) throws Exception {
                for (String name : new String[] {"real", "real.mesh.test", "wiki.corp.example", "www.public.example"})
                    System.out.println(InetAddress.getByName(name).getHostAddress());
                System.out.println(InetAddress.getByName("100.64.0.1").getCanonicalHostName());
                Hashtable<String, String> env = new Hashtable<>();
                env.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
                InitialDirContext dns = new InitialDirContext(env);
                for (String name : new String[] {"real.mesh.test", "wiki.corp.example"})
                    System.out.println(dns.getAttributes("dns:/" + name, new String[] {"A"}).get("A").get());
            }
        }
        """)
    world.net.lab.run(["javac", "-d", folder, folder / "Look.java"], timeout=60)
    (folder / "Look.class").chmod(0o644)
    out = world.run("java", "-Xint", "-Djava.net.preferIPv4Stack=false", "-cp", str(folder), "Look", timeout=60)
    assert out.split() == [INSIDE, INSIDE, "203.0.113.7", "203.0.113.81", "real.mesh.test", INSIDE, "203.0.113.7"]


@pytest.mark.skipif(not importlib.util.find_spec("pycares"), reason="pycares is not installed")
def test_c_ares(world):
    code = mesh_script("""
import pycares
got = {}
channel = pycares.Channel()
names = sys.argv[1:]
for name in names:
    def done(result, error, name=name):
        got[name] = sorted({n.addr[0] if isinstance(n.addr[0], str) else n.addr[0].decode() for n in result.nodes}) if not error else "error"
    channel.getaddrinfo(name, None, family=AF_INET, callback=done)
end = time.time() + 10
while len(got) < len(names) and time.time() < end:
    time.sleep(0.05)
    if not hasattr(channel, "wait"):
        r, w = channel.getsock()
        r, w, _ = select.select(r, w, [], 0.1)
        for fd in r: channel.process_fd(fd, pycares.ARES_SOCKET_BAD)
        for fd in w: channel.process_fd(pycares.ARES_SOCKET_BAD, fd)
print(json.dumps(got))
""")
    asked = [case for case in CASES if "." in case[0]]
    # As root: this Python may lie where others may not look.
    words = world.node.wrapped([sys.executable, "-c", code, *(name for name, _ in asked), "nobody.mesh.test"])
    out = json.loads(world.net.lab.run(words, Place(world.node.site.space), world.node.env).stdout)
    assert out == {**dict(asked), "nobody.mesh.test": "error"}


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_also_through_the_proxy(world):
    page = """
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
        """
    with world.real.served(page) as port:
        for name in ("real", "real.mesh.test", "grafana", "inside.corp.example"):
            for how in ((), ("-x", "socks5h://127.0.0.1:1055")):
                assert world.run("curl", "-sS", "--max-time", "10", *how, f"http://{name}:{port}/",
                                 wrapped=not how) == f"{name}:{port}"
        # A stranger's name does not lead into the mesh, nor to this host.
        for name in ("evil.public.example", "local.public.example"):
            with pytest.raises(Failure):
                world.run("curl", "-sS", "--max-time", "10", "-x", "socks5h://127.0.0.1:1055",
                          f"http://{name}:{port}/", wrapped=False)
        assert "which is left out" in world.node.said()


def test_the_daemon_asks_as_before_after_a_restart(world):
    world.node.stop()
    assert resolve(world, "wiki.corp.example") == -3  # never asked elsewhere
    world.node.again().wait_running()
    wait_until(lambda: resolve(world, "wiki.corp.example") == ["203.0.113.7"], 30, "names again")
