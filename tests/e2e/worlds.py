"""Worlds for the end-to-end tests: two nodes, and where they run.

- one:  both nodes in one network namespace, which has nothing but lo; as uid 65534 under
        tests/rented.c (no capability, no_new_privs, Docker's seccomp profile, no TUN).
- gvisor: the same as one where seccomp's notification is refused, too; only for traced programs.
- traced: the same as one, but programs are traced instead of wrapped, also those that the shim could
        enter. For the behaviours; MESHWRAP_E2E=traced asks for it everywhere.
- two:  each node in a namespace of its own, joined by a wire; under tests/rented.c --root. Whatever
        leaves on the wire for a mesh address is counted, and the count must stay 0.
- reference: no meshwrap at all: two namespaces with the mesh addresses on a wire. What the kernel
        does there is what a program may expect, so the tests must pass there, too. Only when
        MESHWRAP_E2E=reference asks; it checks the tests.

Without root there is only "one", here, with the privileges we have.
"""
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / folder) for folder in ("scripts", "tests")]
import lab as lab_module  # noqa: E402
from lab import HERE, NOBODY, PYTHON, Failure, Lab, Peer, Place, WireGuardGo, free_port, wait_until  # noqa: E402,F401

IS_ROOT = os.geteuid() == 0
REFERENCE = os.environ.get("MESHWRAP_E2E") == "reference"
TRACED = os.environ.get("MESHWRAP_E2E") == "traced"
# What programs of the tests find; script() adds the modules that they name.
MODULES = ("asyncio", "errno", "hashlib", "json", "os", "random", "select", "signal", "struct", "threading", "time")
PRELUDE = """
from socket import *
def say(*words):
    print(*words, flush=True)
def sha(data):
    from hashlib import sha256
    return sha256(data).hexdigest()
def recv_exactly(s, n):
    out = bytearray()
    while len(out) < n:
        piece = s.recv(min(n - len(out), 1 << 20))
        if not piece:
            break
        out += piece
    return bytes(out)
def recv_all(s):
    out = bytearray()
    while True:
        piece = s.recv(1 << 20)
        if not piece:
            return bytes(out)
        out += piece
def family_of(host):
    return AF_INET6 if ":" in host else AF_INET
def tcp(host, port, timeout=30):
    s = socket(family_of(host), SOCK_STREAM)
    s.settimeout(timeout)
    s.connect((host, int(port)))
    return s
def listener(host, port=0, v6only=None, backlog=128):
    s = socket(family_of(host), SOCK_STREAM)
    s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    if v6only is not None:
        s.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, v6only)
    s.bind((host, int(port)))
    s.listen(backlog)
    return s
"""


def can(*argv):
    try:
        return subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, check=False).returncode == 0
    except FileNotFoundError:
        return False


CAN_NETNS = IS_ROOT and can("unshare", "--net", "--mount", "true")
CAN_RENT = IS_ROOT and can(str(lab_module.build_folder() / "tests/rented"), "true")
CAN_TUN = CAN_NETNS and os.path.exists("/dev/net/tun")


def rented(kind):
    return kind if CAN_RENT else None


def script(*parts):
    """A program of these parts behind PRELUDE. Only what it names is imported: all of MODULES takes
    longer than what most tests do, and thousands of programs are started."""
    text = "\n".join(textwrap.dedent(part) for part in parts)
    used = [name for name in MODULES if re.search(rf"\b{name}\b", text)]
    return f"import {', '.join(['sys', *used])}\n{PRELUDE}\n{text}"


def python(node, code, *args, **options):
    """Runs Python in a node, and gives what it printed (as a value when it is JSON)."""
    words = [PYTHON, "-c", script(code), *map(str, args)]
    out = node.run(words, **options).stdout
    try:
        return json.loads(out)
    except ValueError:
        return out


def python_spawn(node, code, *args, ready=r"ready", **options):
    """Starts Python in a node and waits until it says ready."""
    words = [PYTHON, "-c", script(code), *map(str, args)]
    process = node.spawn(words, log="python", **options)
    process.wait_for(ready)
    return process


def echo_server(node, host="0.0.0.0", datagrams=False):
    """An ordinary echo server on the node, for a fixture; host "::" takes both families. Yields its port."""
    server = python_spawn(node, """
        async def serve(reader, writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()
        class Datagrams(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport
            def datagram_received(self, data, peer):
                self.transport.sendto(data, peer)
        async def main():
            host, datagrams = sys.argv[1:]
            v6 = ":" in host
            s = create_server((host, 0), family=AF_INET6 if v6 else AF_INET, dualstack_ipv6=v6, backlog=1024)
            server = await asyncio.start_server(serve, sock=s, backlog=1024)
            port = s.getsockname()[1]
            if datagrams == "True":
                await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, (host, port))
            say("ready", port)
            await server.serve_forever()
        asyncio.run(main())
    """, host, datagrams, ready=r"ready \d+")
    yield server.wait_for(r"ready (\d+)").group(1)
    server.stop()


def check_sentence(result, *words):
    """One line on stderr that has these words, a status that says failure, and no key."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert result.returncode != 0, "it must not succeed"
    assert len(lines) == 1, result.stderr
    for word in words:
        assert re.search(word, lines[0]), f"{word!r} not in: {lines[0]}"
    assert not re.search(r"[A-Za-z0-9+/]{42,}=", lines[0]), "a key is shown"


def daemons(node):
    """Process ids of meshd for this node's folder, by their command lines."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"meshd") and (str(node.dir).encode() in words or str(node.config).encode() in words):
            found.add(int(pid))
    return found


class Traced:
    """A node whose programs are traced, also those that the shim could enter."""

    def __init__(self, node):
        self.node, self.lab, self.env = node, node.lab, {"MESHWRAP_TRACE": "1"}

    def argv(self, argv):
        return [self.lab.binary("meshrun"), "--", *argv]

    def run(self, argv, env=None, **options):
        return self.node.run(self.argv(argv), wrapped=False, env={**self.env, **(env or {})}, **options)

    def spawn(self, argv, env=None, **options):
        return self.node.spawn(self.argv(argv), wrapped=False, env={**self.env, **(env or {})}, **options)


def trace(node):
    """From now on its programs are traced, also those that the shim could enter."""
    inside = node.argv
    node.argv = lambda argv, wrapped=True: inside(
        ["env", "MESHWRAP_TRACE=1", node.lab.binary("meshrun"), "--", *argv] if wrapped else argv, wrapped=False)


class KernelNode(Peer):
    """A node of the reference world: the mesh addresses are on an interface."""

    is_reference = True

    def __init__(self, lab, name, number, netns):
        super().__init__(name, number)
        self.lab, self.place = lab, Place(netns)
        self.home = lab.folder(name)

    def run(self, argv, wrapped=True, env=None, **options):
        return self.lab.run(argv, self.place, env, cwd=self.home, **options)

    def spawn(self, argv, wrapped=True, env=None, **options):
        return self.lab.spawn(argv, self.place, env, cwd=self.home, **options)

    def write(self, path, text, mode=0o644):
        path.write_text(text)
        return path


class World:
    def __init__(self, name, lab):
        self.name, self.lab = name, lab
        self.is_reference = name == "reference"
        self.spaces = []
        self.a = self.b = None

    def make(self):
        return getattr(self, f"make_{self.name}")()

    def make_one(self):
        self.spaces = [self.lab.namespace("one")] if CAN_NETNS else []
        place = Place(self.spaces[0] if self.spaces else None, rented("user"))
        return self.nodes([place, place], ["127.0.0.1", "127.0.0.1"])

    def make_traced(self):
        self.make_one()
        trace(self.a)
        trace(self.b)
        return self

    def make_gvisor(self):
        self.spaces = [self.lab.namespace("gvisor")]
        place = Place(self.spaces[0], "gvisor")
        return self.nodes([place, place], ["127.0.0.1", "127.0.0.1"])

    def make_two(self):
        self.wire()
        places = [Place(space, rented("root")) for space in self.spaces]
        return self.nodes(places, ["192.0.2.1", "192.0.2.2"])

    def make_reference(self):
        self.wire()
        for number, space in enumerate(self.spaces, 1):
            self.lab.run(["ip", "-n", space, "addr", "add", f"100.64.0.{number}/10", "dev", "eth0"])
            self.lab.run(["ip", "-n", space, "addr", "add", f"fd7a:115c:a1e0::{number}/48", "dev",
                          "eth0", "nodad"])
            folder = Path("/etc/netns") / space
            folder.mkdir(parents=True)
            self.lab.undo.callback(lambda f=folder: [p.unlink() for p in f.iterdir()] and f.rmdir())
            hosts = ["127.0.0.1 localhost"]
            hosts += [f"{address}{i} node-{'ab'[i - 1]}.mesh node-{'ab'[i - 1]}" for i in (1, 2)
                      for address in ("100.64.0.", "fd7a:115c:a1e0::")]
            (folder / "hosts").write_text("\n".join(hosts) + "\n")
        self.a, self.b = (KernelNode(self.lab, f"node-{'ab'[i]}", i + 1, space)
                          for i, space in enumerate(self.spaces))
        return self

    def wire(self):
        self.spaces = [self.lab.namespace(side) for side in "ab"]
        self.lab.link(*self.spaces)
        for space in self.spaces:
            self.lab.run(["ip", "-n", space, "route", "add", "default", "dev", "eth0"])
            self.lab.run(["ip", "-n", space, "-6", "route", "add", "default", "dev", "eth0"])
            if self.is_reference:
                continue
            nft(self.lab, space, """
                table inet leak {
                    counter leaked { }
                    counter asked { }
                    chain out {
                        type filter hook output priority 0;
                        oifname "eth0" ip daddr 100.64.0.0/10 counter name leaked
                        oifname "eth0" ip6 daddr fd7a:115c:a1e0::/48 counter name leaked
                        oifname "eth0" udp dport 53 counter name asked
                    }
                }""")

        for space in self.spaces:  # until then IPv6 has no source but ::1
            tentative = ["ip", "-n", space, "-6", "addr", "show", "dev", "eth0", "tentative"]
            wait_until(lambda words=tentative: self.lab.run(words).stdout == "", 30, "the wire's IPv6 addresses")

    def nodes(self, places, hosts):
        """node-a and node-b, which know each other, and of a node-c that is down."""
        self.a = self.lab.node("node-a", 1, places[0], hosts[0])
        self.b = self.lab.node("node-b", 2, places[1], hosts[1])
        down = Peer("node-c", 3, hosts[1])
        lost = Peer("node-d", 4, None)
        self.a.write_config([self.b, down, lost])
        self.b.write_config([self.a, down])
        return self

    def start(self):
        self.a.start()
        self.b.start()
        return self

    def leaked(self, counter="leaked"):
        """Packets for mesh addresses that left on the real network; counter "asked": for name servers."""
        packets = 0
        for space in self.spaces if len(self.spaces) == 2 and not self.is_reference else []:
            text = self.lab.run(["ip", "netns", "exec", space, "nft", "-j", "list", "counter", "inet",
                                 "leak", counter]).stdout
            packets += sum(item["counter"]["packets"] for item in json.loads(text)["nftables"]
                           if "counter" in item)
        return packets

    def finish(self):
        for node in (self.a, self.b):
            node.check_logs()
            if node.daemon and node.daemon.popen.poll() is None:
                node.stop()
                node.check_logs()
        assert self.leaked() == 0


class BareLab(Lab):
    """Of the reference world: nothing needs to be built."""

    def __init__(self):
        lab_module.BINARIES = {}
        super().__init__()


def world_names():
    if REFERENCE:
        return ["reference"]
    if TRACED:
        return ["traced"]
    return ["one", "two"] if CAN_NETNS else ["one"]


def behaviour_world_names():
    """Wrapped and traced."""
    return world_names() if REFERENCE or TRACED else [*world_names(), "traced"]


def traced_world_names():
    """For programs that are traced: also where a sandbox knows no notification."""
    return [*world_names(), *(["gvisor"] if CAN_RENT and CAN_NETNS and not REFERENCE else [])]


def shared_world(name, lab):
    """What a fixture yields: a world that runs as long as its tests."""
    world = World(name, lab).make()
    if not world.is_reference:
        world.start()
    yield world
    if not world.is_reference:
        world.finish()


def needs_netns(function):
    return pytest.mark.skipif(not CAN_NETNS, reason="needs root and network namespaces")(function)


def needs_tun(function):
    return pytest.mark.skipif(not CAN_TUN, reason="needs root and a TUN device")(function)


def nft(lab, space, rules):
    lab.run(["ip", "netns", "exec", space, "nft", "-f", "-"], input=rules)


def lose(lab, space, percent):
    """From now on every so many of the datagrams that arrive there on the wire are lost."""
    nft(lab, space, f"""
        table inet loss {{
            chain in {{
                type filter hook input priority 0;
                iifname "eth0" meta l4proto udp numgen random mod 100 < {percent} drop
            }}
        }}""")


def make_foreign_pair(lab):
    """meshd and wireguard-go, each in a namespace, on a wire; (node, foreign), both started."""
    spaces = [lab.namespace(side) for side in "ab"]
    lab.link(*spaces)
    node = lab.node("node-a", 1, Place(spaces[0], rented("user")), "192.0.2.1")
    foreign = WireGuardGo(lab, "node-b", 2, spaces[1], "192.0.2.2")
    node.write_config([foreign])
    node.start()
    foreign.start([node])
    return node, foreign


def elapsed(function, *args, **options):
    start = time.monotonic()
    return function(*args, **options), time.monotonic() - start
