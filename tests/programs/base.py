"""Real programs between two nodes: what a check is, and the two nodes.

A check is a function of a Pair. It starts its program on the nodes with nothing but meshrun in
front, and returns the version it tested; a Failure says what was wrong. The nodes are meshd in file
mode, each in a network namespace of its own, both under tests/rented.c as nobody.

What passed by shared memory, or past the mesh, looks the same to a program as what crossed it. So the
daemons' counters are read around each check, and one whose bytes did not cross, both ways, has failed.
FLOOR is for checks that say little; one that moves more says how much of it must have crossed.

What a check needs and Debian does not have comes by pip into a virtual environment in the cache
folder, with scripts/programs --install.
"""
import atexit
import json
import os
import random
import re
import shutil
import subprocess
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

from lab import PYTHON, Failure, Lab, Place, free_port, wait_until


def copy_for_all():
    """The files of this folder where every user can read them: a clone may lie in root's home."""
    folder = Path(tempfile.mkdtemp(prefix="meshwrap-helpers-", dir="/tmp"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    for file in Path(__file__).resolve().parent.iterdir():
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
            (folder / file.name).chmod(0o644)
    return folder


HERE = copy_for_all()
CACHE = Path(os.environ.get("MESHWRAP_PROGRAMS") or "/var/tmp/meshwrap-programs")
VENV = CACHE / "venv"
CHECKS = {}
FLOOR = 1000  # a few connections; with no traffic of programs there is a handshake at most


class Skip(Exception):
    """The check cannot run here; the text says why."""


@dataclass
class Check:
    name: str
    run: object
    title: str            # as the table names it
    proves: str           # what was done, for the table
    setting: str = ""     # what the user has to set, if anything
    carries: int = FLOOR  # bytes that each node must have had from the other
    cheap: bool = False
    apt: tuple = ()       # Debian's packages
    pip: tuple = ()
    programs: tuple = ()  # that must be there
    build: object = None  # makes those that no registry has, from source

    def __post_init__(self):
        if self.carries < FLOOR:
            raise ValueError(f"{self.name}: {self.carries} bytes are too few to tell that anything crossed the mesh")

    def missing(self):
        """What is not installed, or None."""
        for name in self.programs:
            if not find(name):
                return name
        for name in self.pip:
            module = re.split(r"[\[<>=]", name)[0]
            if not pip_paths(module):
                return f"Python's {module}"
        return None


def check(name, title, proves, **options):
    def register(function):
        CHECKS[name] = Check(name, function, title, proves, **options)
        return function
    return register


def find(name):
    """A program's path, also where only root's PATH or no PATH leads. A name with slashes may be any file."""
    if "/" in name:
        return name if os.path.exists(name) else None
    places = [os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/go/bin", str(VENV / "bin"),
              "/usr/lib/postgresql/15/bin", "/usr/lib/rabbitmq/bin"]
    return shutil.which(name, path=":".join(places))


def first_version(text):
    match = re.search(r"\d+(\.\d+)+\S*", text)
    return match.group(0).rstrip(".,;)\"") if match else "?"


def version_of(*argv):
    """The first version number a program tells of itself."""
    result = subprocess.run([find(argv[0]) or argv[0], *argv[1:]], capture_output=True, text=True,
                            stdin=subprocess.DEVNULL, check=False, timeout=60)
    return first_version(result.stdout + result.stderr)


def pip_paths(name):
    """Where pip notes that it is installed; an old package without a wheel has an egg's note."""
    return list(VENV.glob(f"lib/python3*/site-packages/{name.replace('-', '_')}-*-info"))


def pip_version(name):
    for path in pip_paths(name):
        return path.name.removeprefix(name.replace("-", "_") + "-").split("-")[0].removesuffix(".dist").removesuffix(".egg")
    return "?"


def expect(condition, text):
    if not condition:
        raise Failure(text)


class Side:
    """One node, and how programs are run on it."""

    def __init__(self, pair, node):
        self.pair, self.node, self.lab = pair, node, pair.lab
        self.name, self.v4, self.v6, self.home = node.name, node.v4, node.v6, node.home
        self.meshrun = node.lab.binary("meshrun")

    def folder(self, name):
        return self.lab.folder(name, self.node.place.uid)

    def write(self, path, text, mode=0o644):
        return self.node.write(path, textwrap.dedent(text), mode)

    def words(self, argv):
        program = find(str(argv[0])) or argv[0]
        return [self.meshrun, "--", program, *map(str, argv[1:])]

    def run(self, *argv, **options):
        """Runs it to its end; what it printed."""
        return self.full(*argv, **options).stdout

    def full(self, *argv, **options):
        return self.node.run(self.words(argv), wrapped=False, **options)

    def spawn(self, *argv, log=None, **options):
        process = self.node.spawn(self.words(argv), wrapped=False, log=log or Path(str(argv[0])).name, **options)
        self.pair.started.append(process)
        return process

    def python(self, *argv, **options):
        """Debian's Python runs a file of tests/programs, or with venv=True the environment's does."""
        return self.run(*self.python_words(argv, options), **options)

    def python_spawn(self, *argv, ready="ready", timeout=60, **options):
        process = self.spawn(*self.python_words(argv, options), log=Path(str(argv[0])).stem, **options)
        process.wait_for(ready, timeout)
        return process

    @staticmethod
    def python_words(argv, options):
        python = VENV / "bin/python3" if options.pop("venv", False) else PYTHON
        return [python, HERE / argv[0], *argv[1:]]

    def bare(self, *argv, **options):
        """Without meshrun, but in the node's place."""
        return self.node.run([find(str(argv[0])) or argv[0], *map(str, argv[1:])], wrapped=False, **options).stdout

    def heard(self):
        """Bytes from the other node, as this node's daemon counts what WireGuard brought."""
        peers = json.loads(self.node.ctl("--json", "status").stdout)["Peer"].values()
        return sum(peer["RxBytes"] for peer in peers)

    def wait_for_port(self, port, host="127.0.0.1", timeout=60):
        code = ("import socket,sys; host, port = sys.argv[1], int(sys.argv[2]);"
                " sys.exit(socket.socket(10 if ':' in host else 2).connect_ex((host, port)))")
        words = [self.meshrun, "--", PYTHON, "-c", code, host, str(port)]
        wait_until(lambda: not self.node.run(words, wrapped=False, check=False).returncode, timeout,
                   f"port {port} on {self.name}")

    def wait_until_bound(self, port, timeout=60):
        """Until something listens there, without a connection of ours."""
        wait_until(lambda: f":{port} " in self.node.run(["ss", "-Hlntu"], wrapped=False).stdout, timeout, f"port {port} on {self.name}")


class Rented(Place):
    """A namespace, under tests/rented.c, whose user is called mesh there and has a shell (sshd wants that)."""

    def __init__(self, lab, netns):
        super().__init__(netns, "user")
        lines = Path("/etc/passwd").read_text().splitlines()
        self.passwd = lab.folder("passwd") / "passwd"
        self.passwd.write_text("\n".join(
            "mesh::65534:65534:mesh:/tmp:/bin/sh" if line.startswith("nobody:") else line for line in lines) + "\n")

    def argv(self, argv):
        mount = 'mount --bind "$0" /etc/passwd && exec "$@"'
        inner = super().argv(argv)[4:]
        return ["ip", "netns", "exec", self.netns, "unshare", "-m", "sh", "-c", mount, str(self.passwd), *inner]


# As in a container: programs ask for the route to 192.0.2.0 and suchlike, which is on no network of theirs.
SUBNET = "172.31.9"
# Nothing but WireGuard passes between the nodes: what a program sends past the mesh is refused.
WALL = """
    table inet wall {{
        chain out {{
            type filter hook output priority 0
            oifname "eth0" udp sport != {port} reject
            oifname "eth0" meta l4proto != udp reject
        }}
    }}
"""


class Pair:
    """The two nodes of a check, and a file whose content is compared."""

    def __init__(self, lab):
        self.lab, self.started = lab, []
        spaces = [lab.namespace(side) for side in "ab"]
        lab.link(*spaces, subnet=SUBNET)
        for number, space in enumerate(spaces, 1):
            lab.run(["ip", "-n", space, "route", "add", "default", "via", f"{SUBNET}.{3 - number}"])
        nodes = [lab.node(f"node-{side}", i + 1, Rented(lab, space), f"{SUBNET}.{i + 1}")
                 for i, (side, space) in enumerate(zip("ab", spaces))]
        nodes[0].write_config([nodes[1]])
        nodes[1].write_config([nodes[0]])
        for node in nodes:
            lab.run(["ip", "netns", "exec", node.place.netns, "nft", "-f", "-"], input=WALL.format(port=node.port))
            node.start()
        self.a, self.b = (Side(self, node) for node in nodes)
        self.blob = random.Random(11).randbytes(8_000_000)
        self.before = self.heard()

    def heard(self):
        return {side.name: side.heard() for side in (self.a, self.b)}

    @property
    def ways(self):
        """(client, server, the server's address or name): both directions, by both."""
        for client, server in ((self.a, self.b), (self.b, self.a)):
            for host in (server.v4, server.name):
                yield client, server, host

    def stop_programs(self):
        for process in reversed(self.started):
            process.stop(timeout=5)
        self.started.clear()

    def finish(self):
        for side in (self.a, self.b):
            side.node.check_logs()
            expect(side.node.daemon.popen.poll() is None, f"meshd of {side.name} has died")

    def expect_carried(self, least, before=None):
        """That each node has had so many bytes from the other since then, or since the start; how many it were."""
        heard = {name: now - (before or self.before)[name] for name, now in self.heard().items()}
        told = ", ".join(f"{name} had {count:,} bytes" for name, count in heard.items())
        expect(min(heard.values()) >= least, f"the mesh did not carry what the programs say they sent: {told} from the other node, not {least:,}")
        return told


__all__ = ["CACHE", "CHECKS", "HERE", "PYTHON", "VENV", "Failure", "Lab", "Pair", "Skip", "check", "expect", "find",
           "first_version", "free_port", "pip_version", "re", "time", "version_of", "wait_until"]
