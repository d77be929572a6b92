"""Mesh nodes on this machine: for scripts/demo, two-nodes and bench, and for tests/e2e.

A Lab owns a folder under /tmp and everything that is started or made, and takes all of it away
again. A Node is one meshd with its WireGuard file; its programs run wrapped or bare. A Place says
where processes run: in which network namespace, with which privileges. As an ordinary user there
is one place, here.

The built binaries are copied into the lab's folder first: other users (the tests run as nobody)
need not be able to read the clone.
"""
import base64
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "/usr/bin/python3"
BINARIES = {"meshd": "daemon/meshd", "meshctl": "daemon/ctl/meshctl", "meshrun": "preload/meshrun",
            "shim": "preload/libmeshwrap.so"}
OPTIONAL = {"shim-musl": "preload/libmeshwrap-musl.so"}  # where musl-gcc is installed
NOBODY = 65534
HALF_LINE_S = 0.3
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|runtime error:|Assertion .* failed")


def build_folder():
    return Path(os.environ.get("MESHWRAP_BUILD") or ROOT / "build").resolve()


class Failure(Exception):
    """Something did not do what it should; the text says what, for a person."""


def new_keys():
    """(private, public), as a WireGuard file writes them. The raw keys end openssl's DER forms."""
    private = subprocess.run(["openssl", "genpkey", "-algorithm", "X25519", "-outform", "DER"],
                             check=True, capture_output=True).stdout
    public = subprocess.run(["openssl", "pkey", "-inform", "DER", "-pubout", "-outform", "DER"],
                            check=True, capture_output=True, input=private).stdout
    return tuple(base64.b64encode(der[-32:]).decode() for der in (private, public))


# Within which a program says what it is to say, or ends: a machine that others use may be very slow. What is to
# be quick is measured where that is asserted.
PATIENCE_S = 60

_ports = set()
_numbers = itertools.count()


def free_port(kind=socket.SOCK_STREAM):
    """A port nobody has, below the range the kernel hands out for outgoing connections."""
    for _ in range(1000):
        port = 20000 + int.from_bytes(os.urandom(2), "big") % 10000
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        if port not in _ports:
            _ports.add(port)
            return port
    raise Failure("no free port between 20000 and 30000")


def end_in_order():
    """For a script: SIGTERM ends it as Ctrl-C does, so that the Lab takes away what it has made."""
    def end(number, _):
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)
    signal.signal(signal.SIGTERM, end)


def wait_until(condition, timeout, what):
    """Asks often at first: what takes milliseconds is to be seen as that."""
    end, pause = time.monotonic() + timeout, 0.001
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise Failure(f"{what}: nothing after {timeout:g} s")
        time.sleep(pause)
        pause = min(pause * 1.2, 0.02)


def shown(argv):
    """A command as a person wants to read it: programs given as text are left out."""
    return " ".join("..." if "\n" in str(word) else str(word) for word in argv)[:300]


class Process:
    """A program in the background, its output in a file."""

    def __init__(self, argv, env, cwd, log, stdin=subprocess.DEVNULL):
        self.argv, self.log = argv, log
        with open(log, "ab") as out:
            self.popen = subprocess.Popen(argv, env=env, cwd=cwd, stdin=stdin, stdout=out,
                                          stderr=subprocess.STDOUT, start_new_session=True)
        self.pid = self.popen.pid

    @property
    def text(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern, timeout=PATIENCE_S):
        """
        Until the output matches; the match. Fails when the program ends without it. What stands at the
        very end may be the first half of a line: it counts when nothing has followed for a while.
        """
        seen, since = None, 0

        def look():
            nonlocal seen, since
            ended = self.popen.poll() is not None
            text = self.text
            match = re.search(pattern, text)
            if match and match.end() == len(text) and not ended:
                if text != seen:
                    seen, since = text, time.monotonic()
                if time.monotonic() - since < HALF_LINE_S:
                    return None
            if ended and not match:
                raise Failure(f"{shown(self.argv)}\nended with {self.popen.returncode}"
                              f" and never said {pattern!r}. It said:\n{self.text[-3000:]}")
            return match
        try:
            return wait_until(look, timeout, f"waiting for {pattern!r}")
        except Failure as failure:
            raise Failure(f"{failure}; {shown(self.argv)} said:\n{self.text[-3000:]}") from None

    def wait(self, timeout=PATIENCE_S):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.stop(signal.SIGKILL)
            raise Failure(f"{shown(self.argv)}\ndid not end in {timeout} s. It said:\n"
                          f"{self.text[-3000:]}") from None

    def kill(self, number):
        os.kill(self.pid, number)

    def stop(self, number=signal.SIGTERM, timeout=PATIENCE_S / 2):
        """Ends it and what it started; its exit status, negative for a signal."""
        if self.popen.poll() is None:
            self.kill(number)
        try:
            status = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.popen.wait() if status is None else status


class Place:
    """Where processes run. rented: None, "user" (uid 65534), "gvisor" (the same, and
    without seccomp's notification) or "root" (uid 0 without power)."""

    def __init__(self, netns=None, rented=None):
        self.netns, self.rented = netns, rented

    @property
    def uid(self):
        return NOBODY if self.rented in ("user", "gvisor") else os.geteuid()

    def argv(self, argv):
        front = ["ip", "netns", "exec", self.netns] if self.netns else []
        if self.rented:
            front.append(str(build_folder() / "tests/rented"))
            front += {"root": ["--root"], "gvisor": ["--gvisor-like"]}.get(self.rented, [])
        return front + [str(word) for word in argv]


HERE = Place()


class Lab:
    def __init__(self, keep=False):
        self.build = build_folder()
        self.tmp = Path(tempfile.mkdtemp(prefix="meshwrap-", dir="/tmp"))
        self.tmp.chmod(0o755)
        self.nodes, self.counter = [], 0
        self.undo = ExitStack()
        if not keep:
            self.undo.callback(shutil.rmtree, self.tmp, ignore_errors=True)
        present = [path for path in OPTIONAL.values() if BINARIES and (self.build / path).exists()]
        for path in [*BINARIES.values(), *present]:
            if not (self.build / path).exists():
                self.close()
                raise Failure(f"{self.build / path} is missing: build first, with "
                              f"'meson setup build && ninja -C build'")
            target = self.tmp / "build" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.build / path, target)
            target.chmod(0o755)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.undo.close()

    def binary(self, name):
        return str(self.tmp / "build" / BINARIES[name])

    def folder(self, name, uid=None):
        """A folder of its own, that this user may write."""
        self.counter += 1
        path = self.tmp / f"{self.counter:03}-{name}"
        path.mkdir(mode=0o755)
        if uid is not None and uid != os.geteuid():
            os.chown(path, uid, uid)
        return path

    def spawn(self, argv, place=HERE, env=None, cwd=None, log="program", stdin=subprocess.DEVNULL):
        self.counter += 1
        path = self.tmp / f"{self.counter:03}-{log}.log"
        process = Process(place.argv(argv), {**os.environ, **(env or {})}, cwd or self.tmp, path, stdin)
        self.undo.callback(process.stop, signal.SIGKILL)
        return process

    def run(self, argv, place=HERE, env=None, cwd=None, timeout=PATIENCE_S, check=True, text=True, input=None):
        """Runs it to its end, within timeout. check: a status other than 0 is a Failure."""
        words = place.argv(argv)
        process = subprocess.Popen(words, env={**os.environ, **(env or {})}, cwd=cwd or self.tmp,
                                   stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=text,
                                   start_new_session=True)
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise Failure(f"{shown(argv)}\ndid not end in {timeout} s: "
                          f"{str(out)[-1500:]} {str(err)[-1500:]}") from None
        result = subprocess.CompletedProcess(words, process.returncode, out, err)
        if check and result.returncode:
            raise Failure(f"{shown(argv)}\nended with {result.returncode}:\n"
                          f"{str(out)[-1500:]}\n{str(err)[-1500:]}")
        return result

    # ---- network namespaces (root only) ----

    def namespace(self, name):
        """A new network namespace with lo up; its real name."""
        real = f"mw{os.getpid()}x{next(_numbers):x}{name}"
        self.run(["ip", "netns", "add", real])
        self.undo.callback(subprocess.run, ["ip", "netns", "del", real], check=False)
        self.run(["ip", "-n", real, "link", "set", "lo", "up"])
        return real

    def link(self, left, right, subnet="192.0.2"):
        """eth0 in both, joined; left has .1 and right has .2 of the subnet."""
        self.run(["ip", "link", "add", "eth0", "netns", left, "type", "veth",
                  "peer", "name", "eth0", "netns", right])
        for number, name in enumerate((left, right), 1):
            self.run(["ip", "-n", name, "addr", "add", f"{subnet}.{number}/24", "dev", "eth0"])
            self.run(["ip", "-n", name, "link", "set", "eth0", "up"])

    def node(self, name, number, place=HERE, host="127.0.0.1", **options):
        node = Node(self, name, number, place, host, **options)
        self.nodes.append(node)
        return node


class Peer:
    """What the other side must know of a node."""

    def __init__(self, name, number, host="127.0.0.1"):
        self.name, self.number, self.host = name, number, host
        self.private, self.public = new_keys()
        self.v4, self.v6 = f"100.64.0.{number}", f"fd7a:115c:a1e0::{number:x}"
        self.port = free_port(socket.SOCK_DGRAM)


class Node(Peer):
    """One meshd. Its runtime folder is dir; programs run by it are wrapped unless told otherwise."""

    def __init__(self, lab, name, number, place=HERE, host="127.0.0.1", mtu=None):
        super().__init__(name, number, host)
        self.lab, self.place, self.mtu = lab, place, mtu
        self.home = lab.folder(name, place.uid)
        self.dir = self.home / "run"
        self.config = self.home / "wg.conf"
        self.daemon = None
        self.logs = []

    def write_config(self, peers, keepalive=0):
        """The WireGuard file: this node, and these peers with their endpoints."""
        lines = ["[Interface]", f"# Name = {self.name}", f"PrivateKey = {self.private}",
                 f"Address = {self.v4}/10, {self.v6}/48", f"ListenPort = {self.port}"]
        if self.mtu:
            lines.append(f"MTU = {self.mtu}")
        for peer in peers:
            lines += ["", "[Peer]", f"# Name = {peer.name}", f"PublicKey = {peer.public}",
                      f"AllowedIPs = {peer.v4}/32, {peer.v6}/128"]
            if peer.host:
                lines.append(f"Endpoint = {peer.host}:{peer.port}")
            if keepalive:
                lines.append(f"PersistentKeepalive = {keepalive}")
        self.write(self.config, "\n".join(lines) + "\n", 0o600)

    def write(self, path, text, mode=0o644):
        path.write_text(text)
        path.chmod(mode)
        if self.place.uid != os.geteuid():
            os.chown(path, self.place.uid, self.place.uid)
        return path

    def start(self, timeout=PATIENCE_S, env=None, files=None):
        """files: its limit of open files, which it cannot raise."""
        env = {"UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1", **(env or {})}
        front = ["prlimit", f"--nofile={files}:{files}"] if files else []
        self.daemon = self.lab.spawn([*front, self.lab.binary("meshd"), "--config", self.config, "--dir", self.dir],
                                     self.place, env, log=f"meshd-{self.name}")
        self.logs.append(self.daemon)
        self.daemon.wait_for(r"\bready\b", timeout)
        return self

    def stop(self):
        """Ends the daemon as an administrator would, and insists on a clean end."""
        status = self.daemon.stop()
        if status != 0:
            raise Failure(f"meshd of {self.name} ended with {status}:\n{self.daemon.text[-4000:]}")

    def check_logs(self):
        """A sanitizer's complaint or a failed assertion in any of its daemons' logs is a Failure."""
        for daemon in self.logs:
            if SANITIZER.search(daemon.text):
                raise Failure(f"meshd of {self.name}:\n{daemon.text[-6000:]}")

    @property
    def env(self):
        return {"MESHWRAP_DIR": str(self.dir)}

    def argv(self, argv, wrapped=True):
        # Only the program itself is preloaded, not what brings it to its place.
        return ["env", f"LD_PRELOAD={self.lab.binary('shim')}", *argv] if wrapped else argv

    def run(self, argv, wrapped=True, env=None, **options):
        return self.lab.run(self.argv(argv, wrapped), self.place, {**self.env, **(env or {})},
                            cwd=self.home, **options)

    def spawn(self, argv, wrapped=True, env=None, **options):
        return self.lab.spawn(self.argv(argv, wrapped), self.place, {**self.env, **(env or {})},
                              cwd=self.home, **options)

    def ctl(self, *words, **options):
        return self.run([self.lab.binary("meshctl"), *words], wrapped=False, **options)

    def meshrun(self, *words, **options):
        return self.run([self.lab.binary("meshrun"), *words], wrapped=False, **options)

    def rss_kb(self):
        status = Path(f"/proc/{self.daemon.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.daemon.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class WireGuardGo(Peer):
    """The foreign peer: wireguard-go on a TUN device in a network namespace."""

    def __init__(self, lab, name, number, netns, host, mtu=None):
        super().__init__(name, number, host)
        self.lab, self.place, self.mtu = lab, Place(netns), mtu or 1420
        self.home = lab.folder(name)
        self.device = f"wg{os.getpid()}x{next(_numbers):x}"  # its control socket's name, so unique
        self.daemon = None

    @staticmethod
    def program():
        """One built by tests/peers/build is newer than Debian's, and is preferred."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        built = cache / "meshwrap-peers/wireguard-go"
        return str(built) if built.exists() else shutil.which("wireguard-go")

    def ask(self, text):
        """One exchange on its control socket; the answer, as a dictionary of the last values."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(PATIENCE_S)
            control.connect(f"/var/run/wireguard/{self.device}.sock")
            control.sendall(text.encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n\n"):
                piece = control.recv(65536)
                if not piece:
                    break
                answer += piece
        values = dict(line.split("=", 1) for line in answer.decode().split("\n") if "=" in line)
        if values.get("errno") != "0":
            raise Failure(f"wireguard-go refused: {answer.decode()}")
        return values

    def start(self, peers):
        def as_hex(key):
            return base64.b64decode(key).hex()

        # Userspace on purpose: it warns where the kernel could do the same, and goes on.
        self.daemon = self.lab.spawn([self.program(), "-f", self.device], self.place,
                                     {"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"},
                                     log=f"wireguard-go-{self.name}")

        def answers():
            try:
                return self.ask("get=1\n")
            except OSError:
                return None
        wait_until(answers, PATIENCE_S, "wireguard-go's control socket")
        lines = ["set=1", f"private_key={as_hex(self.private)}", f"listen_port={self.port}"]
        for peer in peers:
            lines += [f"public_key={as_hex(peer.public)}", f"allowed_ip={peer.v4}/32",
                      f"allowed_ip={peer.v6}/128"]
            if peer.host:
                lines.append(f"endpoint={peer.host}:{peer.port}")
        self.ask("\n".join(lines) + "\n")
        inside = ["ip", "-n", self.place.netns]
        self.lab.run([*inside, "link", "set", self.device, "mtu", str(self.mtu)])
        self.lab.run([*inside, "addr", "add", f"{self.v4}/10", "dev", self.device])
        self.lab.run([*inside, "-6", "addr", "add", f"{self.v6}/48", "dev", self.device, "nodad"])
        self.lab.run([*inside, "link", "set", self.device, "up"])
        return self

    def stop(self):
        self.daemon.stop()

    def run(self, argv, env=None, **options):
        return self.lab.run(argv, self.place, env, cwd=self.home, **options)

    def spawn(self, argv, env=None, **options):
        return self.lab.spawn(argv, self.place, env, cwd=self.home, **options)

    rss_kb, cpu_seconds = Node.rss_kb, Node.cpu_seconds
