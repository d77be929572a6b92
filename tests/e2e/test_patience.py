"""Keepalive and TCP_USER_TIMEOUT: a machine that vanished is noticed when the program asked for it."""
import os
import re
import signal
import time

import pytest

from worlds import CAN_NETNS, REFERENCE, Lab, World, nft, python, python_spawn, wait_until

pytestmark = pytest.mark.skipif(not CAN_NETNS, reason="needs root and network namespaces")

# What a program sets, and what it does until it hears of its end. Each hears what it was and when.
HEARS = r"""
KEEPALIVE = [(SOL_SOCKET, SO_KEEPALIVE, 1), (IPPROTO_TCP, TCP_KEEPIDLE, 1), (IPPROTO_TCP, TCP_KEEPINTVL, 2),
             (IPPROTO_TCP, TCP_KEEPCNT, 2)]
USER_TIMEOUT = [(IPPROTO_TCP, TCP_USER_TIMEOUT, 2000)]

was_cut = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: was_cut.set())

def heard(name, what):
    os.write(1, f"heard {name} {what} {time.monotonic()}\n".encode())  # whole: many say it at once

def has_set(s, options):
    for option in options:
        s.setsockopt(*option)

def learn(s, how):
    if how == "ask":
        error = s.getsockopt(SOL_SOCKET, SO_ERROR)
        return not error and not s.recv(65536), error
    if how == "write":
        return os.write(s.fileno(), b"x") == 0, 0
    return not (os.read(s.fileno(), 65536) if how == "read" else s.recv(65536)), 0

def hear(name, s, talks, how):
    while True:
        if talks and was_cut.is_set():
            s.send(b"x")
            talks = False
        if select.select([s], [], [], 0.05)[0]:
            try:
                ended, error = learn(s, how)
                if ended:
                    heard(name, "end")
                    return
            except OSError as e:
                error = e.errno
            if error:
                heard(name, errno.errorcode[error])
                return

def begin(*args):
    threading.Thread(target=hear, args=args, daemon=True).start()
"""

# name: options, set before the connect (or on the listener), talks once the wire is cut, how it hears
CASES = """
CASES = {
    "kept_before": (KEEPALIVE, True, False, "recv"),
    "kept_after": (KEEPALIVE, False, False, "recv"),
    "kept_asked": (KEEPALIVE, True, False, "ask"),
    "kept_read": (KEEPALIVE, True, False, "read"),
    "kept_write": (KEEPALIVE, False, False, "write"),
    "timed_before": (USER_TIMEOUT, True, True, "recv"),
    "timed_after": (USER_TIMEOUT, False, True, "recv"),
    "timed_asked": (USER_TIMEOUT, False, True, "ask"),
}
"""
NAMES = ["kept_before", "kept_after", "kept_asked", "kept_read", "kept_write", "timed_before", "timed_after",
         "timed_asked"]


@pytest.fixture
def world():
    with Lab() as lab:
        world = World("reference" if REFERENCE else "two", lab).make()
        if not world.is_reference:
            world.start()
        yield world
        if not world.is_reference:
            world.finish()


def cut_off(world):
    """Nothing arrives on the wire any more, on either side, and nobody is told. Gives when that began."""
    began = time.monotonic()
    for space in world.spaces:
        nft(world.lab, space, """
            table inet cut {
                chain in { type filter hook input priority -10; iifname "eth0" drop; }
            }""")
    return began


def serve(world, accepts):
    """A listener for each case, of either family in turn; the accepted ones hear as the case says, or only read."""
    server = python_spawn(world.b, HEARS + CASES + f"""
accepts = {accepts!r}
ports = {{}}
def serve(name, l):
    options, before, talks, how = CASES[name]
    while True:
        c, peer = l.accept()
        if accepts and not before:
            has_set(c, options)
        c.sendall(b"!")
        begin("accepted_" + name, c, accepts and talks, how if accepts else "recv")
for i, (name, case) in enumerate(CASES.items()):
    host = sys.argv[1 + i % 2]
    l = listener(host)
    if accepts and case[1]:
        has_set(l, case[0])
    ports[host + " " + name] = l.getsockname()[1]
    threading.Thread(target=serve, args=(name, l), daemon=True).start()
say("ready", json.dumps(ports))
time.sleep(600)
""", world.b.v4, world.b.v6, ready="ready .*")
    server.ports = server.wait_for("ready (.*)").group(1)
    return server


def dial(world, server, dials):
    """A connection for each case, on which it is the dialling side or not that does what the case says."""
    return python_spawn(world.a, HEARS + CASES + f"""
dials = {dials!r}
for place, port in json.loads(sys.argv[1]).items():
    host, name = place.split()
    options, before, talks, how = CASES[name]
    s = socket(family_of(host), SOCK_STREAM)
    if dials and before:
        has_set(s, options)
    s.connect((host, port))
    if dials and not before:
        has_set(s, options)
    assert s.recv(1) == b"!"
    begin("dialled_" + name, s, dials and talks, how if dials else "recv")
say("ready")
time.sleep(600)
""", server.ports)


def check(process, side, cut):
    for name in NAMES:
        what, when = process.wait_for(rf"heard {side}_{name} (\w+) (\S+)", 40).groups()
        assert (name, what) == (name, "ETIMEDOUT")
        # 2 s, or 5 from the last word; some more on a busy machine, and never a quarter of an hour.
        assert 1 < float(when) - cut < 30, f"{name} after {float(when) - cut} s"


@pytest.mark.parametrize("side", ["dialled", "accepted"])
def test_a_peer_that_vanished_is_noticed_in_time(world, side):
    server = serve(world, side == "accepted")
    client = dial(world, server, side == "dialled")
    time.sleep(6)  # longer than any patience: while the peer is there nothing ends
    assert "heard" not in client.text + server.text
    cut = cut_off(world)
    hears = client if side == "dialled" else server
    hears.kill(signal.SIGUSR1)  # who talks says something now
    check(hears, side, cut)


@pytest.mark.parametrize("number", ["time", "intvl", "probes"])
def test_keepalive_without_one_of_the_systems_numbers_keeps_nobody_from_connecting(world, number):
    """A kernel takes nought for them, and for that it is the least there is."""
    for space in world.spaces:
        world.lab.run(["ip", "netns", "exec", space, "sysctl", "-qw", f"net.ipv4.tcp_keepalive_{number}=0"])
    server = python_spawn(world.b, """
l = listener(sys.argv[1])
l.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
say("ready", l.getsockname()[1])
while True:
    c = l.accept()[0]
    c.sendall(recv_exactly(c, 5))
""", world.b.v4, ready=r"ready \d+")
    assert python(world.a, """
for before in (True, False):
    s = socket(AF_INET, SOCK_STREAM)
    if before:
        s.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    s.connect((sys.argv[1], int(sys.argv[2])))
    s.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    time.sleep(1.5)
    s.sendall(b"hello")
    assert recv_exactly(s, 5) == b"hello"
say(json.dumps("both"))
""", world.b.v4, server.wait_for(r"ready (\d+)").group(1)) == "both"


def go_spawn(node, go, *words):
    """A Go program, which is traced: it calls no libc."""
    meshrun = [] if REFERENCE else [node.lab.binary("meshrun"), "--"]
    process = node.spawn([*meshrun, go, *words], wrapped=False, log="go")
    process.program = int(process.wait_for(r"ready (\d+)").group(1))
    return process


def go_serve(world, go):
    """A Go server with keepalive on each connection, and its address for either family."""
    server = go_spawn(world.b, go, "patient-serve", f"{world.b.v4}:0", f"[{world.b.v6}]:0")
    return server, re.findall(r"listens (\S+)", server.text)


def heard_in_time(process, name, count, what):
    """Has each of them heard of its end, as that?"""
    wait_until(lambda: process.text.count(f"heard {name} ") >= count, 40, f"{name} hears of it")
    assert process.text.count(f"heard {name} {what} ") == count, process.text


def test_a_go_program_hears_in_time_that_its_peer_vanished(world, go):
    server, addresses = go_serve(world, go)
    client = go_spawn(world.a, go, "patient", *addresses)
    time.sleep(6)  # longer than any patience: while the peer is there nothing ends
    assert "heard" not in client.text + server.text
    cut_off(world)
    os.kill(client.program, signal.SIGUSR1)
    heard_in_time(client, "dialled_kept", 2, "ETIMEDOUT")
    heard_in_time(client, "dialled_kept_before", 2, "ETIMEDOUT")
    # Of what is under way the kernel on the way to the daemon knows nothing.
    heard_in_time(client, "dialled_timed", 2, "ETIMEDOUT" if REFERENCE else "ECONNRESET")
    heard_in_time(server, "accepted_kept", 8, "ETIMEDOUT")
    assert "heard dialled_plain" not in client.text


def test_a_silence_that_ends_in_time_is_survived(world):
    """Also what was said in it arrives, on either side."""
    options = """
def keep(s):
    for option in [(SOL_SOCKET, SO_KEEPALIVE, 1), (IPPROTO_TCP, TCP_KEEPIDLE, 1), (IPPROTO_TCP, TCP_KEEPINTVL, 1),
                   (IPPROTO_TCP, TCP_KEEPCNT, 100)]:
        s.setsockopt(*option)
told = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: told.set())
def talk(s):
    while not told.wait(1):
        pass
    s.sendall(b"said in silence")
    say("said")
    say("got", recv_exactly(s, 15).decode())
"""
    server = python_spawn(world.b, options + """
l = listener("0.0.0.0")
say("ready", l.getsockname()[1])
s = l.accept()[0]
keep(s)
talk(s)
""", ready=r"ready (\d+)")
    client = python_spawn(world.a, options + """
s = tcp(sys.argv[1], sys.argv[2], 60)
keep(s)
say("ready")
talk(s)
""", world.b.v4, server.wait_for(r"ready (\d+)").group(1))
    time.sleep(2)
    cut_off(world)
    time.sleep(5)
    for process in (client, server):
        process.kill(signal.SIGUSR1)
        process.wait_for("said")
    for space in world.spaces:
        world.lab.run(["ip", "netns", "exec", space, "nft", "delete", "table", "inet", "cut"])
    for process in (client, server):
        process.wait_for("got said in silence")
