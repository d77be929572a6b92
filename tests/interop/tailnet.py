"""A whole tailnet on this machine: coordinator, relays, routers and nodes of every kind.

Everything real is real: Headscale, derper, tailscaled, the kernel's NAT. A Tailnet owns one wire
("wan", a bridge with 10.77.0.1 on it) where Headscale and the relays listen; each node lives in a
namespace of its own, a Site, that reaches the wire directly or through a router:

- plain: no router;
- easy:  a NAT that keeps ports, so every destination sees the same address (endpoint-independent),
         and that lets in only who was written to, from the very port (as Linux does);
- cone:  the same, but it lets in whoever writes to a port that is in use;
- hard:  a NAT that picks a new port for every destination;
- blocked: an easy one that lets no UDP through.

The three kinds of node speak one language here (run, spawn, ctl, status, ...): Ours is meshd and
meshctl as uid 65534 under tests/rented; Real is tailscaled and tailscale, with a TUN or without.
With MESHWRAP_INTEROP=reference "ours" is tailscaled with a TUN too: what the tests ask of us is
then asked of the original, which proves the tests.
"""
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/e2e")]
from lab import PYTHON, SANITIZER, Failure, Place, wait_until  # noqa: E402
from worlds import CAN_NETNS, CAN_RENT, CAN_TUN, PRELUDE, nft  # noqa: E402

REFERENCE = os.environ.get("MESHWRAP_INTEROP") == "reference"
QUICK = os.environ.get("MESHWRAP_INTEROP", "quick" if os.environ.get("CI") == "true" else "") == "quick"
PEERS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshwrap-peers"
NEEDED = ("headscale", "derper", "tailscaled", "tailscale")
SERVER = "10.77.0.1"
SUFFIX = "mesh.test"
QUIET = {"TS_NO_LOGS_NO_SUPPORT": "true", "TS_DEBUG_DISABLE_PORTLIST": "true"}

# Programs of the tests: what worlds.py gives, and the mesh through tailscaled's proxy where there is
# no TUN, so that one text runs on every kind of node.
MESH_PRELUDE = PRELUDE + '''
SOCKS = os.environ.get("MESH_SOCKS")
def socks_address(host, port):
    family = family_of(host)
    return bytes([4 if family == AF_INET6 else 1]) + inet_pton(family, host) + struct.pack(">H", int(port))
def socks_ask(command, host, port, timeout):
    s = create_connection(("127.0.0.1", int(SOCKS)), timeout)
    s.sendall(b"\\5\\1\\0")
    assert recv_exactly(s, 2) == b"\\5\\0"
    s.sendall(bytes([5, command, 0]) + socks_address(host, port))
    head = recv_exactly(s, 4)
    if len(head) < 4 or head[1]:
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"the proxy says {head.hex()}")
    bound = recv_exactly(s, {1: 6, 4: 18}[head[3]])
    return s, struct.unpack(">H", bound[-2:])[0]
def dial(host, port, timeout=30):
    return socks_ask(1, host, port, timeout)[0] if SOCKS else tcp(host, port, timeout)
class Datagrams:
    """A UDP client of one peer."""
    def __init__(self, host, port, timeout=3):
        self.to, self.head = (host, int(port)), b""
        if SOCKS:
            self.control, relay = socks_ask(3, "0.0.0.0", 0, timeout)
            self.head = b"\\0\\0\\0" + socks_address(host, port)
            self.s, self.to = socket(AF_INET, SOCK_DGRAM), ("127.0.0.1", relay)
        else:
            self.s = socket(family_of(host), SOCK_DGRAM)
        self.s.settimeout(timeout)
    def send(self, data):
        self.s.sendto(self.head + data, self.to)
    def recv(self):
        return self.s.recv(65536)[len(self.head):]
def block(n, size=16384):
    """The n-th piece of an endless stream which is the same everywhere."""
    return n.to_bytes(8, "big") + FILLER[: size - 8]
FILLER = random.Random(7).randbytes(1 << 16)
'''

_numbers = itertools.count()


def missing():
    """Why these tests cannot run here; None if they can."""
    if not CAN_NETNS:
        return "needs root and network namespaces"
    if not CAN_TUN:
        return "needs a TUN device for the real peers"
    if not CAN_RENT and not REFERENCE:
        return "needs python3-seccomp for tests/rented"
    lost = [name for name in NEEDED if not (PEERS / name).exists()]
    return f"{', '.join(lost)} not in {PEERS}: run tests/peers/build (needs Go)" if lost else None


def build_peers():
    """Builds the real peers unless they are there; minutes the first time. Needs Go."""
    if any(not (PEERS / name).exists() for name in NEEDED) and shutil.which("go") and CAN_TUN:
        print("building the real peers, some minutes, once", flush=True)
        subprocess.run([ROOT / "tests/peers/build", PEERS], timeout=600, check=False)


class Site:
    """A namespace on the wire; router is None or the namespace of the NAT before it."""

    def __init__(self, net, kind):
        self.net, self.lab, self.kind = net, net.lab, kind
        self.number = number = next(net.numbers)
        self.space = self.lab.namespace(f"s{number}")
        self.router = None
        if kind == "plain":
            self.wire(self.space, "eth0", f"10.77.{number}.2/16")
            self.ip("route", "add", "default", "via", SERVER)
            return
        self.router = self.lab.namespace(f"r{number}")
        self.wire(self.router, "wan", f"10.77.{number}.1/16")
        self.lab.run(["ip", "link", "add", "lan", "netns", self.router, "type", "veth", "peer",
                      "name", "eth0", "netns", self.space])
        for space, device, address in ((self.router, "lan", 1), (self.space, "eth0", 2)):
            self.lab.run(["ip", "-n", space, "addr", "add", f"192.168.{number}.{address}/24", "dev", device])
            self.lab.run(["ip", "-n", space, "link", "set", device, "up"])
        self.ip("route", "add", "default", "via", f"192.168.{number}.1")
        self.lab.run(["ip", "netns", "exec", self.router, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
        how = "fully-random" if kind == "hard" else ""
        # As routers do, what nobody asked for is dropped. (A reject would leave a conntrack entry
        # that spoils hole punching.)
        nft(self.lab, self.router, f"""
            table ip nat {{
                chain post {{
                    type nat hook postrouting priority 100;
                    oifname "wan" masquerade {how}
                }}
            }}
            table ip fw {{
                chain in {{
                    type filter hook input priority 0;
                    iifname "wan" ct state new drop
                }}
            }}""")
        if kind == "cone":
            nft(self.lab, self.router, f"""
                table ip cone {{
                    chain pre {{
                        type nat hook prerouting priority -100;
                        iifname "wan" meta l4proto udp dnat to 192.168.{number}.2
                    }}
                }}""")
        if kind == "blocked":
            self.block_udp()

    def wire(self, space, device, address):
        """A cable from there to the wire."""
        end = f"w{self.number}"
        self.lab.run(["ip", "link", "add", end, "netns", self.net.wan, "type", "veth", "peer",
                      "name", device, "netns", space])
        self.lab.run(["ip", "-n", self.net.wan, "link", "set", end, "master", "br0", "up"])
        self.lab.run(["ip", "-n", space, "addr", "add", address, "dev", device])
        self.lab.run(["ip", "-n", space, "link", "set", device, "up"])

    def ip(self, *words):
        self.lab.run(["ip", "-n", self.space, *words])

    def block_udp(self):
        nft(self.lab, self.router, """
            table ip block {
                chain forward {
                    type filter hook forward priority 0;
                    meta l4proto udp drop
                }
            }""")

    def unblock_udp(self):
        nft(self.lab, self.router, "delete table ip block")

    def move(self, last):
        """Another IP address for the node of a plain site, as when a laptop changes networks."""
        self.ip("addr", "flush", "dev", "eth0")
        self.ip("addr", "add", f"10.77.{self.number}.{last}/16", "dev", "eth0")
        self.ip("route", "add", "default", "via", SERVER)


class Server:
    """A program on the wire that may be stopped and started again."""

    def __init__(self, net, name):
        self.net, self.lab, self.name = net, net.lab, name
        self.process = None

    def spawn(self, argv, ready):
        self.process = self.lab.spawn([PEERS / argv[0], *argv[1:]], Place(self.net.wan), QUIET, log=self.name)
        self.process.wait_for(ready, 30)
        return self

    def stop(self, number=signal.SIGTERM):
        self.process.stop(number)


class Relay(Server):
    """derper with a certificate of its own making, which the map pins, and a STUN server."""

    def __init__(self, net, number, port=443):
        super().__init__(net, f"derper{number}")
        self.port = port
        self.region, self.address = 899 + number, f"10.77.0.{number}"
        self.folder = self.lab.folder(self.name)

    def start(self):
        self.spawn(["derper", "-hostname", self.address, "-certmode", "manual", "-certdir", self.folder,
                    "-a", f"{self.address}:{self.port}", "-http-port", "-1", "-c", self.folder / "key.json"],
                   r"derper: serving on")
        return self

    @property
    def pin(self):
        return self.process.wait_for(r'"CertName":"([^"]+)"').group(1)


class Coordinator(Server):
    """Headscale. extra: more of its configuration, in place of the usual, as a dictionary."""

    def __init__(self, net, tls=None, port=8080, extra=None):
        super().__init__(net, f"headscale{port}")
        self.port, self.tls, self.extra = port, tls, extra or {}
        self.url = f"http{'s' if tls else ''}://{SERVER}:{port}"
        self.folder = self.lab.folder(self.name)
        self.config = self.folder / "config.json"

    def write(self, relays):
        # JSON is YAML but for the numbers of the regions, which YAML's reader wants without quotes.
        derp = json.dumps({"regions": {str(r.region): {
            "regionid": r.region, "regioncode": f"lab{r.region - 899}", "regionname": f"Lab {r.region - 899}",
            "nodes": [{"name": f"{r.region}a", "regionid": r.region, "hostname": r.address,
                       "ipv4": r.address, "stunport": 3478, "derpport": 443, "certname": r.pin}]}
            for r in relays}})
        (self.folder / "derp.yaml").write_text(re.sub(r'"(\d+)": ', r"\1: ", derp))
        config = {
            "server_url": self.url, "listen_addr": f"{SERVER}:{self.port}",
            "metrics_listen_addr": f"127.0.0.1:{self.port + 1000}",
            "grpc_listen_addr": f"127.0.0.1:{self.port + 2000}", "grpc_allow_insecure": True,
            "noise": {"private_key_path": str(self.folder / "noise_private.key")},
            "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48", "allocation": "sequential"},
            "derp": {"server": {"enabled": False}, "urls": [], "paths": [str(self.folder / "derp.yaml")],
                     "auto_update_enabled": False},
            "disable_check_updates": True, "ephemeral_node_inactivity_timeout": "30m",
            "database": {"type": "sqlite", "sqlite": {"path": str(self.folder / "db.sqlite"),
                                                      "write_ahead_log": True}},
            "log": {"format": "text", "level": "info"}, "policy": {"mode": "database"},
            "dns": {"magic_dns": True, "base_domain": SUFFIX, "override_local_dns": False,
                    "nameservers": {"global": [], "split": {}}, "search_domains": [], "extra_records": []},
            # The path of a Unix socket is short, the lab's folder is not always.
            "unix_socket": str(self.folder / "hs.sock"), "unix_socket_permission": "0770",
            "logtail": {"enabled": False}, "randomize_client_port": False, **self.extra}
        if self.tls:
            config |= {"tls_cert_path": str(self.tls[0]), "tls_key_path": str(self.tls[1])}
        self.config.write_text(json.dumps(config))
        return self

    def start(self):
        self.spawn(["headscale", "-c", self.config, "serve"], r"listening and serving HTTP on")
        return self

    def __call__(self, *words, check=True):
        """The headscale command; its answer as a value."""
        out = self.lab.run([PEERS / "headscale", "-c", self.config, *words, "-o", "json"],
                           Place(self.net.wan), QUIET, check=check).stdout
        try:
            return json.loads(out)
        except ValueError:
            return out

    def make_user(self):
        wait_until(lambda: isinstance(self("users", "list", check=False), (list, type(None))), 20, self.name)
        self("users", "create", "lab")

    def key(self, *flags, expiration="24h"):
        """A new key: its text. flags: --reusable, --ephemeral, --tags."""
        return self.key_with_id(*flags, expiration=expiration)[0]

    def key_with_id(self, *flags, expiration="24h"):
        made = self("preauthkeys", "create", "--user", "1", "--expiration", expiration, *flags)
        return made["key"], str(made["id"])

    def nodes(self):
        return {node["name"]: node for node in self("nodes", "list") or []}

    def id_of(self, name):
        return str(next(node["id"] for node in self.nodes().values() if node["given_name"] == name))

    def policy(self, policy):
        path = self.folder / "policy.json"
        path.write_text(json.dumps(policy))
        self("policy", "set", "-f", str(path))


class Tailnet:
    """relay_port: where the relays truly listen; the map says 443 all the same."""

    def __init__(self, lab, relays=1, relay_port=443, **options):
        self.lab = lab
        self.numbers = itertools.count(1)
        self.wan = lab.namespace("wan")
        # An address of its own: else it takes the lowest of its cables', which changes when one is plugged in,
        # and the old one, in everybody's ARP tables, leads nowhere for half a minute.
        lab.run(["ip", "-n", self.wan, "link", "add", "br0", "address", "02:00:0a:4d:00:01", "type", "bridge"])
        lab.run(["ip", "-n", self.wan, "link", "set", "br0", "up"])
        for number in range(1, relays + 1):
            lab.run(["ip", "-n", self.wan, "addr", "add", f"10.77.0.{number}/16", "dev", "br0"])
        self.relays = [Relay(self, number, relay_port).start() for number in range(1, relays + 1)]
        self.hs = Coordinator(self, **options).write(self.relays).start()
        self.hs.make_user()
        self.reusable = self.hs.key("--reusable")
        self.named = {}

    def make(self, kind, site="plain", name=None):
        """A node that has not begun; kind: ours, userspace or tun."""
        place = Site(self, site) if isinstance(site, str) else site
        name = name or f"{kind}-{place.kind}-{next(_numbers)}"
        if kind == "ours" and not REFERENCE:
            return Ours(self, place, name)
        return Real(self, place, name, "userspace" if kind == "userspace" else "tun")

    def join(self, kind, site="plain", name=None, **options):
        return self.make(kind, site, name).begin(key=self.reusable, **options).wait_running()

    def node(self, kind, site="plain", number=0):
        """A running node that tests share; nobody may hurt it."""
        key = (kind, site, number)
        if key not in self.named:
            self.named[key] = self.join(kind, site, f"{kind}-{site}-{number}")
        return self.named[key]

    def nodes(self, *keys):
        """The same, several at once."""
        threads, errors = [], []

        def bring(key):
            try:
                self.node(*key)
            except Failure as failure:
                errors.append(failure)
        for key in dict.fromkeys(keys):
            threads.append(threading.Thread(target=bring, args=(key,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return [self.node(*key) for key in keys]


class MeshNode:
    """What all kinds have in common. The daemon's state is in home/state."""

    def __init__(self, net, site, name, place):
        self.net, self.lab, self.site, self.name, self.place = net, net.lab, site, name, place
        self.home = self.lab.folder(name, place.uid)
        self.state = self.home / "state"
        self.daemon = None
        self.logs = []
        self.options = {}
        self._self = None

    # ---- what it is ----

    def status(self):
        result = self.ctl("status", "--json", check=False)
        try:
            return json.loads(result.stdout)
        except ValueError:
            return {"BackendState": f"(no answer: {result.stderr.strip()[:200]})"}

    def backend(self):
        return self.status()["BackendState"]

    def wait_running(self, timeout=30):
        def running():
            status = self.status()
            if self.daemon.popen.poll() is not None:
                raise Failure(f"the daemon of {self.name} ended with {self.daemon.popen.returncode}:\n"
                              f"{self.said()[-3000:]}")
            return status if status["BackendState"] == "Running" and status.get("TailscaleIPs") else None
        try:
            self._self = wait_until(running, timeout, f"{self.name} is not Running")
        except Failure as failure:
            raise Failure(f"{failure}; status says {self.status()['BackendState']}:\n{self.said()[-3000:]}") from None
        return self

    @property
    def addresses(self):
        return self._self["TailscaleIPs"]

    @property
    def v4(self):
        return next(address for address in self.addresses if ":" not in address)

    @property
    def v6(self):
        return next(address for address in self.addresses if ":" in address)

    @property
    def key(self):
        return self.status()["Self"]["PublicKey"]

    def peer(self, other):
        """What its status says about another node; None if it knows none of this name or address."""
        for peer in (self.status().get("Peer") or {}).values():
            if other in (peer["DNSName"].split(".")[0], *(peer["TailscaleIPs"] or ())):
                return peer
        return None

    def wait_peer(self, other, condition=bool, timeout=10):
        return wait_until(lambda: (lambda peer: peer if condition(peer) else None)(self.peer(other)), timeout,
                          f"{self.name} and its peer {other}")

    def wait_gone(self, other, timeout=10):
        wait_until(lambda: self.peer(other) is None, timeout, f"{self.name} still knows {other}")

    # ---- its programs ----

    def program(self, code, *args, **options):
        """Runs Python there; what it printed, as a value where it is JSON."""
        out = self.run([PYTHON, "-c", MESH_PRELUDE + textwrap.dedent(code), *map(str, args)], **options).stdout
        try:
            return json.loads(out)
        except ValueError:
            return out

    def begin_program(self, code, *args, ready=r"ready", **options):
        process = self.spawn([PYTHON, "-c", MESH_PRELUDE + textwrap.dedent(code), *map(str, args)],
                             log="python", **options)
        process.wait_for(ready)
        return process

    def serve(self, code, *args):
        """A program there that says "ready PORT"; gives the port. It ends with the lab."""
        process = self.begin_program(code, *args, ready=r"ready \d+")
        return int(process.wait_for(r"ready (\d+)").group(1))

    @contextmanager
    def served(self, code, *args):
        process = self.begin_program(code, *args, ready=r"ready \d+")
        yield int(process.wait_for(r"ready (\d+)").group(1))
        process.stop(signal.SIGKILL)

    def ping(self, other, *flags, check=True, timeout=40):
        return self.ctl("ping", *flags, other, check=check, timeout=timeout).stdout

    # ---- its life ----

    def stop(self, number=signal.SIGTERM):
        return self.daemon.stop(number)

    def again(self):
        """Starts it again on its state, as it was begun."""
        return self.begin(**self.options)

    def said(self):
        return "\n".join(process.text for process in self.logs)

    def complaint(self, pattern, timeout=15):
        """Until it says something that matches; the match."""
        return wait_until(lambda: re.search(pattern, self.said(), re.IGNORECASE), timeout,
                          f"{self.name} never said {pattern!r} but\n{self.said()[-3000:]}\n")

    def check_logs(self):
        for process in self.logs:
            if SANITIZER.search(process.text):
                raise Failure(f"{self.name}:\n{process.text[-6000:]}")


class Real(MeshNode):
    """tailscaled; mode: userspace or tun."""

    def __init__(self, net, site, name, mode):
        super().__init__(net, site, name, Place(site.space))
        self.mode = mode
        self.socket = self.home / "ts.sock"

    def begin(self, key=None, login=None, ephemeral=False, env=None, flags=()):
        self.options = dict(login=login, ephemeral=ephemeral, env=env, flags=flags)
        how = ["--tun=userspace-networking", "--socks5-server=127.0.0.1:1055"] if self.mode == "userspace" else []
        state = ["--state=mem:"] if ephemeral else []
        known = (self.state / "tailscaled.state").exists() and not ephemeral
        self.daemon = self.lab.spawn([PEERS / "tailscaled", *how, *state, f"--statedir={self.state}",
                                      f"--socket={self.socket}"],
                                     self.place, {**QUIET, **(env or {})}, log=f"tailscaled-{self.name}")
        self.logs.append(self.daemon)
        wait_until(lambda: self.ctl("status", check=False).stdout, 20, f"tailscaled of {self.name}")
        if not known or key:
            self.up(key, login)
        return self

    def up(self, key=None, login=None, *more):
        words = ["up", f"--login-server={login or self.net.hs.url}", f"--hostname={self.name}", "--timeout=60s",
                 *([f"--auth-key={key}"] if key else []), *(self.options.get("flags") or ["--accept-dns=false"]), *more]
        process = self.lab.spawn([PEERS / "tailscale", f"--socket={self.socket}", *words], self.place, QUIET,
                                 log=f"up-{self.name}")
        self.logs.append(process)
        return process

    def renew(self, key):
        """What it takes after the node key has expired."""
        self.up(key, None, "--force-reauth")

    def ctl(self, *words, **options):
        options.setdefault("env", QUIET)
        return self.lab.run([PEERS / "tailscale", f"--socket={self.socket}", *words], self.place, **options)

    @property
    def env(self):
        return {"MESH_SOCKS": "1055"} if self.mode == "userspace" else {}

    def run(self, argv, env=None, **options):
        return self.lab.run(argv, self.place, {**self.env, **(env or {})}, cwd=self.home, **options)

    def spawn(self, argv, env=None, **options):
        return self.lab.spawn(argv, self.place, {**self.env, **(env or {})}, cwd=self.home, **options)

    def echo_request(self, address):
        """One ICMP echo and its reply, as this kind does it."""
        if self.mode == "tun":
            self.run(["ping", "-c", "3", "-i", "0.2", "-W", "3", address])
        else:
            self.ping(address, "--icmp", "-c", "3")


class Ours(MeshNode):
    """meshd as nobody, in a rented container as far as a process can tell."""

    alive = []

    def __init__(self, net, site, name):
        super().__init__(net, site, name, Place(site.space, "user"))
        self.alive.append(self)
        self.dir = self.home / "run"

    def write_key(self, key):
        path = self.home / "authkey"
        path.write_text(f"{key}\n")
        path.chmod(0o600)
        os.chown(path, self.place.uid, self.place.uid)
        return path

    def begin(self, key=None, login=None, ephemeral=False, env=None, flags=()):
        self.options = dict(key=key, login=login, ephemeral=ephemeral, env=env, flags=flags)
        words = [self.lab.binary("meshd"), "--login-server", login or self.net.hs.url, "--hostname", self.name,
                 "--dir", self.dir, *(["--auth-key-file", self.write_key(key)] if key else []),
                 *([] if ephemeral else ["--state", self.state]), *flags]
        self.daemon = self.lab.spawn(words, self.place,
                                     {"UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1", **(env or {})},
                                     log=f"meshd-{self.name}", cwd=self.home)
        self.logs.append(self.daemon)
        return self

    def renew(self, key):
        """Nothing: with a key at hand it renews itself."""

    @property
    def env(self):
        return {"MESHWRAP_DIR": str(self.dir)}

    def wrapped(self, argv):
        return ["env", f"LD_PRELOAD={self.lab.binary('shim')}", *argv]

    def run(self, argv, env=None, wrapped=True, **options):
        return self.lab.run(self.wrapped(argv) if wrapped else argv, self.place, {**self.env, **(env or {})},
                            cwd=self.home, **options)

    def spawn(self, argv, env=None, wrapped=True, **options):
        return self.lab.spawn(self.wrapped(argv) if wrapped else argv, self.place, {**self.env, **(env or {})},
                              cwd=self.home, **options)

    def ctl(self, *words, **options):
        # Not under rented: it takes a quarter of a second to get there, and this is asked often.
        return self.lab.run([self.lab.binary("meshctl"), *words], Place(self.site.space),
                            {**self.env, **options.pop("env", {})}, **options)

    def meshrun(self, *words, **options):
        return self.run([self.lab.binary("meshrun"), *words], wrapped=False, **options)

    def echo_request(self, address):
        self.ping(address, "--icmp", "-c", "3")


class Flow:
    """A stream that runs until it is told to end: client -> server -> client, every byte compared.

    speed: bytes a second, at most.
    """

    ECHO = """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        c, _ = s.accept()
        while data := c.recv(65536):
            c.sendall(data)
        c.shutdown(SHUT_WR)
        c.close()
        say("echoed all")
        """
    CLIENT = """
        host, port, stop, speed = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
        s = dial(host, port)
        s.settimeout(None)
        sent = [None]
        def send():
            n, begun = 0, time.monotonic()
            while sent[0] is None:
                if os.path.exists(stop):
                    sent[0] = n + 1
                s.sendall(block(n))
                n += 1
                time.sleep(max(0, begun + n * 16384 / speed - time.monotonic()))
                begun = max(begun, time.monotonic() - n * 16384 / speed - 0.5)
        threading.Thread(target=send, daemon=True).start()
        say("ready")
        n, said, last, longest = 0, 0, time.monotonic(), 0
        while n != sent[0]:
            got = recv_exactly(s, 16384)
            now = time.monotonic()
            longest, last = max(longest, now - last), now
            assert got == block(n), f"block {n} is not what was sent: {len(got)} bytes"
            n += 1
            if now - said > 0.1:
                said = now
                say("at", n)
        if not SOCKS:  # the proxy closes both ways at once, and loses what is under way
            s.shutdown(SHUT_WR)
            assert s.recv(1) == b""
        say("whole", n, longest)
        """

    def __init__(self, client, server, speed=2_000_000):
        self.lab = client.lab
        self.client_node, self.server_node = client, server
        self.server = server.begin_program(self.ECHO, ready=r"ready \d+")
        port = self.server.wait_for(r"ready (\d+)").group(1)
        self.end = self.lab.tmp / f"stop-{next(_numbers)}"
        try:
            self.client = client.begin_program(self.CLIENT, server.v4, port, self.end, speed)
        except Failure as failure:
            raise Failure(f"{failure}\n{client.name} of {server.name}: {client.peer(server.name)}\n"
                          f"{server.name} of {client.name}: {server.peer(client.name)}\n"
                          f"{client.said()[-3000:]}\n{server.said()[-3000:]}") from None
        self.goes_on(10)

    @property
    def blocks(self):
        said = re.findall(r"^at (\d+)$", self.client.text, re.MULTILINE)
        return int(said[-1]) if said else 0

    def goes_on(self, timeout, blocks=20):
        """Until so many more blocks have come back."""
        begun, now = time.monotonic(), self.blocks
        wait_until(lambda: self.blocks >= now + blocks or self.client.popen.poll() is not None, timeout,
                   f"the stream {self.client_node.name} -> {self.server_node.name} stands still")
        if self.client.popen.poll() is not None:
            raise Failure(f"the stream ended early: {self.client.text[-1500:]}\n{self.server.text[-500:]}")
        return time.monotonic() - begun

    def finish(self):
        """Ends it; every byte came back in order. The longest silence, in seconds."""
        self.end.touch()
        if self.client.wait(30) != 0:
            raise Failure(f"the stream: {self.client.text[-1500:]}\n{self.server.text[-500:]}")
        return float(self.client.wait_for(r"whole (\d+) (\S+)").group(2))


def now():
    return time.monotonic()
