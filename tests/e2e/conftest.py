"""The fixtures of the end-to-end tests; worlds.py says what the worlds are."""
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from worlds import (CAN_NETNS, CAN_TUN, REFERENCE, TRACED, BareLab, Failure, Lab, Peer, Place, World,
                    behaviour_world_names, make_foreign_pair, python_spawn, rented, shared_world, world_names)

HERE = Path(__file__).resolve().parent
BEHAVIOUR_FILES = ["test_behaviours", "test_connect", "test_addresses", "test_ports", "test_streams"]


@pytest.fixture(scope="session")
def session_lab():
    with Lab(keep=bool(os.environ.get("MESHWRAP_KEEP"))) if not REFERENCE else BareLab() as lab:
        yield lab


@pytest.fixture(scope="session")
def world(request, session_lab):
    """Two running nodes that many tests share; nobody may hurt their daemons."""
    yield from shared_world(request.param, session_lab)


@pytest.fixture(scope="session")
def go_build(session_lab):
    """A function that builds what a source of Go says, by go build's words, and gives its path."""
    compiler = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if not compiler:
        pytest.skip("needs Go")

    def build(name, source, *words, cgo=False):
        target = session_lab.tmp / name
        subprocess.run([compiler, "build", *words, "-o", target, HERE / source], check=True, cwd=session_lab.tmp,
                       env={**os.environ, "CGO_ENABLED": str(int(cgo)), "GO111MODULE": "off"})
        return target
    return build


@pytest.fixture(scope="session")
def go(go_build):
    """A Go program, which uses no libc: traced.go."""
    return go_build("traced-go", "traced.go")


@pytest.fixture(scope="session")
def static(session_lab):
    """A static program that makes its system calls itself: traced.c."""
    target = session_lab.tmp / "traced-c"
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-O1", "-static", "-o", target, HERE / "traced.c", "-lpthread"],
                   check=True)
    return target


@pytest.fixture
def own_world(request):
    """The same for one test alone: its daemons may be stopped and killed. param: one or two."""
    name = getattr(request, "param", "two" if CAN_NETNS else "one")
    with Lab() as lab:
        world = World(name, lab).make()
        world.start()
        yield world
        for node in (world.a, world.b):
            node.check_logs()
        assert world.leaked() == 0


@pytest.fixture
def lab():
    with Lab() as lab:
        yield lab


@pytest.fixture
def place(lab):
    return Place(lab.namespace("cli") if CAN_NETNS else None, rented("user"))


@pytest.fixture
def pair(lab, place):
    """Two nodes of a file each in one place, which have not begun; the first knows of a third, which is down."""
    a, b = lab.node("node-a", 1, place), lab.node("node-b", 2, place)
    a.write_config([b, Peer("node-c", 3)])
    b.write_config([a])
    yield a, b
    for node in (a, b):
        node.check_logs()


@pytest.fixture
def running(pair):
    a, b = pair
    a.start()
    b.start()
    return a, b


def pytest_generate_tests(metafunc):
    """The files that test behaviours of the kernel do so with traced programs, too."""
    module = metafunc.module
    if "world" in metafunc.fixturenames and not hasattr(module, "world"):
        names = behaviour_world_names() if module.__name__ in BEHAVIOUR_FILES else world_names()
        metafunc.parametrize("world", names, indirect=True, scope="session")


def pytest_collection_modifyitems(items):
    """In the reference and traced worlds only what is possible there; what began early comes last."""
    if REFERENCE:
        items[:] = [item for item in items if "world" in item.fixturenames
                    and not item.get_closest_marker("meshwrap")]
    if TRACED:
        items[:] = [item for item in items if "world" in item.fixturenames
                    and not item.get_closest_marker("libc")]
    items.sort(key=lambda item: any(name.startswith("early_") for name in item.fixturenames))


def pytest_sessionstart(session):
    if not REFERENCE:
        try:
            Lab().close()
        except Failure as failure:
            pytest.exit(str(failure), 2)


def pytest_configure(config):
    config.addinivalue_line("markers", "meshwrap: asks for more than a kernel with a TUN gives")
    config.addinivalue_line("markers", "libc: asks functions of libc that a tracer does not see")


@pytest.fixture(scope="session")
def blob():
    """50 MB that nothing compresses and their hash."""
    data = b"".join(hashlib.sha512(i.to_bytes(4, "big")).digest() * 8 for i in range(50_000_000 // 512 + 1))
    data = data[:50_000_000]
    return data, hashlib.sha256(data).hexdigest()


@pytest.fixture(scope="session", autouse=True)
def begin_early(request):
    """What takes minutes (fixtures early_*) begins first, and its tests come last."""
    for item in request.session.items:
        for name in item.fixturenames:
            if name.startswith("early_"):
                request.getfixturevalue(name)


@pytest.fixture(scope="session")
def early_dial(session_lab):
    """A blocking connect to a peer that is down."""
    world = World("one", session_lab).make().start()
    yield python_spawn(world.a, """
        start = time.monotonic()
        say("begun")
        try:
            socket().connect(("100.64.0.3", 80))
            say("ended connected", 0)
        except OSError as e:
            say("ended", errno.errorcode[e.errno], time.monotonic() - start)
    """, ready="begun")
    world.finish()


class Rekeys:
    """meshd and wireguard-go with one stream that never ends; dialler is who began the session."""

    def __init__(self, lab, dialler):
        self.lab, self.dialler = lab, dialler
        self.node, self.foreign = make_foreign_pair(lab)
        server, client = (self.foreign, self.node) if dialler == "meshd" else (self.node, self.foreign)
        code = """
            s = listener("0.0.0.0")
            say("ready", s.getsockname()[1])
            c, _ = s.accept()
            while data := c.recv(65536):
                c.sendall(data)
        """
        self.server = python_spawn(server, code, ready=r"ready \d+")
        port = self.server.wait_for(r"ready (\d+)").group(1)
        self.client = python_spawn(client, """
            s = tcp(sys.argv[1], sys.argv[2])
            longest, i = 0, 0
            say("begun")
            while not os.path.exists(sys.argv[3]):
                sent = random.Random(i).randbytes(3000)
                start = time.monotonic()
                s.sendall(sent)
                assert recv_exactly(s, 3000) == sent
                longest = max(longest, time.monotonic() - start)
                i += 1
                time.sleep(0.1)
            say("ended", i, longest)
        """, server.v4, port, lab.tmp / f"stop-{dialler}", ready="begun")
        self.begun = time.monotonic()
        self.first = self.foreign.ask("get=1\n")["last_handshake_time_sec"]

    def finish(self):
        (self.lab.tmp / f"stop-{self.dialler}").touch()
        assert self.client.wait() == 0
        return self.client.wait_for(r"ended (\d+) (\S+)").groups()


@pytest.fixture(scope="session")
def early_rekeys(session_lab):
    if not CAN_TUN:
        pytest.skip("needs root and a TUN device")
    pairs = [Rekeys(session_lab, dialler) for dialler in ("meshd", "wireguard-go")]
    yield pairs
    for pair in pairs:
        pair.node.stop()
        pair.node.check_logs()
        pair.foreign.stop()
