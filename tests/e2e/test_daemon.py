"""No daemon, a killed daemon, a daemon that comes back: fail closed, fail soon, come back."""
import os
import re
import signal
import time
from subprocess import DEVNULL, PIPE, Popen

import pytest

from worlds import CAN_NETNS, PYTHON, elapsed, free_port, python, python_spawn, script, wait_until

from leap import Leap

TRY = """
    answers = {}
    def attempt(name, function):
        start = time.monotonic()
        try:
            function()
            answers[name] = ["fine", 0]
        except gaierror as e:
            answers[name] = ["gaierror", time.monotonic() - start]
        except OSError as e:
            answers[name] = [errno.errorcode.get(e.errno, str(e)), time.monotonic() - start]
    own = listener("127.0.0.1")
    for host in ("100.64.0.2", "fd7a:115c:a1e0::2", "100.64.9.9"):
        attempt("tcp " + host, lambda: tcp(host, 80, 5))
        attempt("udp " + host, lambda: socket(family_of(host), SOCK_DGRAM).sendto(b"x", (host, 53)))
    attempt("loopback", lambda: tcp("127.0.0.1", own.getsockname()[1]))
    attempt("localhost", lambda: getaddrinfo("localhost", 80))
    print(json.dumps(answers))
"""
UNREACHABLE = {"ENETUNREACH", "EHOSTUNREACH"}


def check_closed(answers):
    for name, (what, took) in answers.items():
        if name.startswith(("tcp", "udp")):
            assert what in UNREACHABLE and took < 3, name
    assert answers["loopback"][0] == "fine" and answers["localhost"][0] == "fine"


def test_without_a_daemon_mesh_addresses_are_unreachable(own_world):
    world = own_world
    world.a.stop()
    check_closed(python(world.a, TRY))


def test_without_a_runtime_folder_mesh_addresses_are_unreachable(own_world):
    world = own_world
    check_closed(python(world.a, TRY, env={"MESHWRAP_DIR": str(world.lab.tmp / "nowhere")}))


def test_after_a_kill_mesh_addresses_are_unreachable(own_world):
    world = own_world
    world.a.daemon.stop(signal.SIGKILL)
    check_closed(python(world.a, TRY))


def test_the_shim_is_silent_without_a_daemon(own_world):
    world = own_world
    world.a.stop()
    result = world.a.run(["curl", "-s", "http://100.64.0.2/"], check=False)
    assert result.stdout == "" and result.stderr == "" and result.returncode == 7


def stream_server(world):
    server = python_spawn(world.b, """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        while True:
            c, _ = s.accept()
            def serve(c):
                try:
                    if recv_exactly(c, 1) == b"e":  # echo
                        while data := c.recv(100):
                            c.sendall(data)
                    while True:  # source
                        c.sendall(b"x" * 65536)
                        time.sleep(0.001)
                except OSError as e:
                    say("server saw", errno.errorcode.get(e.errno))
            threading.Thread(target=serve, args=(c,), daemon=True).start()
    """, ready=r"ready \d+")
    return server, server.wait_for(r"ready (\d+)").group(1)


READ = """
    s = tcp(*sys.argv[1:])
    s.sendall(b"s")
    total = len(recv_exactly(s, 1_000_000))
    say("ready")
    start = time.monotonic()
    try:
        while data := s.recv(1 << 20):
            pass
        say("ended cleanly", 0)
    except OSError as e:
        say("ended", errno.errorcode.get(e.errno, str(e)), time.monotonic())
"""


def test_a_killed_daemon_cuts_streams_with_an_error(own_world):
    """Never with a clean end: the program would take half a file for a whole one."""
    world = own_world
    _, port = stream_server(world)
    client = python_spawn(world.a, READ, world.b.v4, port)
    world.a.daemon.stop(signal.SIGKILL)
    assert client.wait_for("ended (.*)", 20).group(1).split()[0] in ("ECONNRESET", "EPIPE", "ENETUNREACH")


def test_a_stopped_daemon_cuts_streams_with_an_error(own_world):
    world = own_world
    server, port = stream_server(world)
    client = python_spawn(world.a, READ, world.b.v4, port)
    world.a.stop()
    assert client.wait_for("ended (.*)", 20).group(1).split()[0] in ("ECONNRESET", "EPIPE", "ENETUNREACH")
    assert server.wait_for("server saw (.*)", 20).group(1) in ("ECONNRESET", "EPIPE")


def test_a_connect_that_waits_fails_soon_when_the_daemon_dies(own_world):
    world = own_world
    client = python_spawn(world.a, """
        s = socket()
        say("ready")
        start = time.monotonic()
        say("got", errno.errorcode.get(s.connect_ex(("100.64.0.3", 80))))
    """)
    wait_until(lambda: python(world.a, """
        print(json.dumps(any(line.split()[3] == "02" for line in open("/proc/net/tcp").readlines()[1:])))
    """, wrapped=False), 5, "a connect in SYN_SENT")
    world.a.daemon.stop(signal.SIGKILL)
    got, took = elapsed(lambda: client.wait_for("got (.*)").group(1))
    assert got in UNREACHABLE | {"ECONNREFUSED", "ETIMEDOUT", "ECONNABORTED"} and took < 10


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_programs_go_on_when_the_daemon_comes_back(own_world, how):
    """The same process, which mapped the predecessor's map, dials before, without, and again."""
    world = own_world
    _, port = stream_server(world)
    client = python_spawn(world.a, """
        def once(n):
            try:
                s = tcp("node-b", sys.argv[1], 15)
                s.sendall(b"eping")
                say("step", n, recv_exactly(s, 4).decode())
            except (OSError, gaierror) as e:
                say("step", n, type(e).__name__)
        for n in range(3):
            once(n)
            sys.stdin.readline()
    """, port, ready="step 0 ping", stdin=PIPE)

    def step(n):
        client.popen.stdin.write(b"\n")
        client.popen.stdin.flush()
        return client.wait_for(f"step {n} (.*)").group(1)
    world.a.stop() if how == "stopped" else world.a.daemon.stop(signal.SIGKILL)
    assert step(1) != "ping"
    world.a.start()
    assert step(2) == "ping"


def test_a_runtime_folder_that_was_removed_is_made_anew(own_world):
    """As by "rm -rf /tmp/*". Programs that run go on, with what they have open, and new ones find the daemon."""
    world = own_world
    node, (_, port) = world.a, stream_server(world)
    client = python_spawn(node, """
        old = tcp("node-b", sys.argv[1])
        def ping(s):
            s.sendall(b"eping")
            return recv_exactly(s, 4).decode()
        for n in range(3):
            say("step", n, ping(tcp("node-b", sys.argv[1])), old.getpeername()[0])
            sys.stdin.readline()
        old.sendall(b"eping")
        say("old", recv_exactly(old, 4).decode())
    """, port, ready="step 0 ping 100.64.0.2", stdin=PIPE)
    whole = {path.name for path in node.dir.iterdir()}
    for step, gone in ((1, node.dir), (2, node.dir / "map")):
        node.lab.run(["rm", "-rf", gone], check=False)  # which may meet what is made anew
        wait_until(lambda: all((node.dir / name).exists() for name in whole), 60, "the folder anew")
        client.popen.stdin.write(b"\n")
        client.popen.stdin.flush()
        client.wait_for(f"step {step} ping {world.b.v4}")
        # New ones: by the shim alone and by meshrun, with names, which only the map has.
        code = script(f"""
            s = tcp("node-b", {port})
            s.sendall(b"eping")
            print(recv_exactly(s, 4).decode())
        """)
        assert node.run([PYTHON, "-c", code]).stdout == "ping\n"
        assert node.meshrun("--", PYTHON, "-c", code).stdout == "ping\n"
        assert "node-b" in node.ctl("status").stdout
    client.popen.stdin.write(b"\n")
    client.popen.stdin.flush()
    client.wait_for("old ping")
    assert len(re.findall("made anew", node.daemon.text)) >= 2, node.daemon.text
    node.stop()
    assert not (node.dir / "control").exists()


def test_peers_reach_us_after_we_came_back(own_world):
    world = own_world
    _, port = stream_server(world)
    ask = """
        s = tcp("node-b", sys.argv[1], 20)
        s.sendall(b"eping")
        print(recv_exactly(s, 4).decode())
    """
    assert python(world.a, ask, port) == "ping\n"
    world.b.daemon.stop(signal.SIGKILL)
    world.b.start()
    out, took = elapsed(python, world.a, ask, port)
    assert out == "ping\n" and took < 20


def test_streams_of_a_peer_that_lost_its_memory_are_reset(own_world):
    world = own_world
    _, port = stream_server(world)
    client = python_spawn(world.a, """
        s = tcp("node-b", sys.argv[1])
        s.sendall(b"eping")
        recv_exactly(s, 4)
        say("ready")
        sys.stdin.readline()
        try:
            s.sendall(b"ping")
            say("got", recv_exactly(s, 4))
        except OSError as e:
            say("got", errno.errorcode.get(e.errno, str(e)))
    """, port, stdin=PIPE)
    world.b.daemon.stop(signal.SIGKILL)
    world.b.start()
    client.popen.stdin.write(b"\n")
    client.popen.stdin.flush()
    assert client.wait_for("got (.*)", 60).group(1) == "ECONNRESET"


@pytest.fixture
def leap(own_world):
    """Makes both daemons live in a later hour. a's machine sleeps till then, b's is awake."""
    world, leap = own_world, Leap(own_world.lab)
    for node in (world.a, world.b):
        node.stop()
        node.start(env=leap.env(awake=node is world.b))
    return lambda hours: leap.to(hours, world.a, world.b)


def test_the_first_connect_of_a_machine_that_wakes_up_is_quick(own_world, leap):
    """Keys that the peer has forgotten are made anew at once."""
    world = own_world
    _, port = stream_server(world)
    connect = "start = time.monotonic(); tcp(*sys.argv[1:]); print(time.monotonic() - start)"
    for hours in (0, 1, 9, 100):
        leap(hours)
        assert python(world.a, connect, world.b.v4, port) < 3
        leap(hours + 0.01)  # all is said, and the keys are young


def test_streams_go_on_when_the_machine_wakes_up(own_world, leap):
    """And nothing turns in circles because so much falls due at once."""
    world = own_world
    server, port = stream_server(world)
    client = python_spawn(world.a, """
        s = tcp(*sys.argv[1:])
        s.sendall(b"e")
        def echo():
            start = time.monotonic()
            s.sendall(b"hello")
            assert recv_exactly(s, 5) == b"hello"
            return time.monotonic() - start
        echo()
        say("ready")
        for line in sys.stdin:
            say("took", line.strip(), echo())
    """, world.b.v4, port, stdin=PIPE)
    for hours in (1, 9, 100):
        leap(hours)
        before = [node.cpu_seconds() for node in (world.a, world.b)]
        client.popen.stdin.write(b"%d\n" % hours)
        client.popen.stdin.flush()
        assert float(client.wait_for(rf"took {hours} (\S+)").group(1)) < 3
        time.sleep(0.5)
        for node, then in zip((world.a, world.b), before):
            assert node.cpu_seconds() - then < 0.25
    assert "server saw" not in server.text


def test_four_daemons_side_by_side(lab):
    """In one network namespace, each with its own part of loopback, everyone reaching everyone."""
    from worlds import Place, rented
    place = Place(lab.namespace("four") if CAN_NETNS else None, rented("user"))
    nodes = [lab.node(f"n{i}", i, place) for i in (1, 2, 3, 4)]
    for node in nodes:
        node.write_config([other for other in nodes if other is not node])
    port = free_port()  # all listen on the same port, each on its own address
    for node in nodes:
        node.start()
    servers = [python_spawn(node, """
        s = listener(sys.argv[1], sys.argv[2])
        say("ready")
        while True:
            c, peer = s.accept()
            c.sendall(json.dumps([sys.argv[1], peer[0]]).encode())
            c.close()
    """, node.v4, port) for node in nodes]
    for node in nodes:
        got = python(node, """
            print(json.dumps([json.loads(recv_all(tcp(host, sys.argv[1]))) for host in sys.argv[2:]]))
        """, port, *[other.v4 for other in nodes])
        assert got == [[other.v4, node.v4] for other in nodes]
    for server in servers:
        server.stop()
    for node in nodes:
        node.stop()
        node.check_logs()


def test_a_daemon_leaves_nothing_behind(own_world):
    world = own_world
    python(world.a, "tcp(*sys.argv[1:]).close()", world.b.v4, stream_server(world)[1])
    world.a.stop()
    left = sorted(path.name for path in world.a.dir.iterdir()) if world.a.dir.exists() else []
    assert "control" not in left and "api" not in left


def fill(pipe):
    """Until there is no room for a byte."""
    os.set_blocking(pipe, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(pipe, b"x" * size)
        except BlockingIOError:
            pass
    os.set_blocking(pipe, True)


def test_a_log_that_nobody_reads_stops_nothing(own_world):
    world = own_world
    world.a.stop()
    reader, pipe = os.pipe()
    fill(pipe)
    daemon = Popen(world.a.place.argv([world.lab.binary("meshd"), "--config", world.a.config, "--dir", world.a.dir,
                                       "--log-level", "debug"]), stdin=DEVNULL, stdout=DEVNULL, stderr=pipe)
    try:
        wait_until(lambda: world.a.ctl("status", check=False).returncode == 0, 30, "an answer")
        _, port = stream_server(world)
        for _ in range(3):
            assert python(world.a, """
                s = tcp("node-b", sys.argv[1])
                s.sendall(b"eping")
                print(recv_exactly(s, 4).decode())
            """, port) == "ping\n"
        daemon.terminate()
        assert daemon.wait(15) == 0
    finally:
        daemon.kill()
        daemon.wait()
        os.close(reader)
        os.close(pipe)


def test_an_idle_daemon_is_small_and_rests(own_world):
    """8 MB, and no CPU while nothing happens; a sanitizer has its own memory."""
    node = own_world.a
    if b"__asan_init" in own_world.lab.tmp.joinpath("build/daemon/meshd").read_bytes():
        pytest.skip("the sanitizer's memory is counted, too")
    assert node.rss_kb() < 8 << 10

    def ran():
        with open(f"/proc/{node.daemon.pid}/schedstat", encoding="ascii") as stat:
            ran_ns, _, times = map(int, stat.read().split())
            return ran_ns, times

    def second():
        before = ran()
        time.sleep(1)
        return tuple(now - then for now, then in zip(ran(), before))
    # A timer may fall into one of them; what runs all the time is in each.
    ran_ns, times = min(second() for _ in range(3))
    assert ran_ns < 500_000  # 0.05 %
    assert times == 0, "it was woken"
