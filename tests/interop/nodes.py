"""Nodes of a tailnet, ours and real ones, that speak one language: run, spawn, ctl, status, ...

Ours is meshd and meshctl as uid 65534 under tests/rented.c; Real is tailscaled and tailscale, with a
TUN or without.
"""
import json
import os
import re
import signal
from contextlib import contextmanager

from peers import PEERS, QUIET

from lab import PYTHON, SANITIZER, Failure, Place, wait_until
from worlds import script

# Programs of the tests: what worlds.py gives, and the mesh through tailscaled's proxy where there is
# no TUN, so that one text runs on every kind of node.
MESH_PRELUDE = '''
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
'''
BLOCKS = '''
def block(n, size=16384):
    """The n-th piece of an endless stream which is the same everywhere."""
    return n.to_bytes(8, "big") + FILLER[: size - 8]
FILLER = random.Random(7).randbytes(1 << 16)
'''


def mesh_script(code):
    return script(MESH_PRELUDE, BLOCKS if "block(" in code else "", code)


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

    def wait_running(self, timeout=60):
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

    def wait_peer(self, other, condition=bool, timeout=30):
        return wait_until(lambda: (lambda peer: peer if condition(peer) else None)(self.peer(other)), timeout,
                          f"{self.name} and its peer {other}")

    def wait_gone(self, other, timeout=30):
        wait_until(lambda: self.peer(other) is None, timeout, f"{self.name} still knows {other}")

    # ---- its programs ----

    def program(self, code, *args, **options):
        """Runs Python there; what it printed, as a value where it is JSON."""
        out = self.run([PYTHON, "-c", mesh_script(code), *map(str, args)], **options).stdout
        try:
            return json.loads(out)
        except ValueError:
            return out

    def begin_program(self, code, *args, ready=r"ready", **options):
        process = self.spawn([PYTHON, "-c", mesh_script(code), *map(str, args)],
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

    def complaint(self, pattern, timeout=30):
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

    def wait_peer(self, other, condition=bool, timeout=30):
        """Its status shows a peer some time before the kernel has the route to it."""
        peer = super().wait_peer(other, condition, timeout)
        if self.mode == "tun" and condition is bool:
            for address in peer["TailscaleIPs"]:
                wait_until(lambda to=address: "dev tailscale" in self.run(["ip", "route", "get", to], check=False).stdout,
                           timeout, f"{self.name} and its route to {other}, {address}")
        return peer

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
        return self.run([self.lab.binary("meshctl"), *words], wrapped=False, **options)

    def meshrun(self, *words, **options):
        return self.run([self.lab.binary("meshrun"), *words], wrapped=False, **options)

    def echo_request(self, address):
        self.ping(address, "--icmp", "-c", "3")
