"""connect(): when it succeeds, when it fails, with what, and what epoll says meanwhile."""
import signal
import time

import pytest

from worlds import elapsed, free_port, python, python_spawn

# Connects in several ways; for each: what came back, and after how long.
CONNECT = """
    host, port, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    def name(number):
        return errno.errorcode.get(number, number)
    def blocking():
        s = socket(family_of(host))
        s.setsockopt(SOL_SOCKET, SO_SNDTIMEO, struct.pack("ll", int(limit), 0))
        try:
            s.connect((host, port))
            return "connected"
        except OSError as e:
            return name(e.errno)
    def with_epoll(flags):
        s = socket(family_of(host))
        s.setblocking(False)
        ep = select.epoll()
        ep.register(s, select.EPOLLIN | select.EPOLLOUT | flags)  # before connect(), as libuv may
        early = ep.poll(0)
        assert all(events & select.EPOLLHUP for _, events in early), early
        first = s.connect_ex((host, port))
        if first != errno.EINPROGRESS:
            return name(first)
        end = time.monotonic() + limit
        while time.monotonic() < end:
            for _, events in ep.poll(0.1):
                if events == select.EPOLLOUT | select.EPOLLHUP:
                    continue  # the event of a socket that has not begun, still queued
                error = s.getsockopt(SOL_SOCKET, SO_ERROR)
                assert s.getsockopt(SOL_SOCKET, SO_ERROR) == 0  # asking clears it
                return name(error) if error else "connected" if events & select.EPOLLOUT else events
        return "nothing"
    def with_poll():
        s = socket(family_of(host))
        s.setblocking(False)
        first = s.connect_ex((host, port))
        if first != errno.EINPROGRESS:
            return name(first)
        p = select.poll()
        p.register(s, select.POLLOUT)
        if not p.poll(limit * 1000):
            return "nothing"
        second = s.connect_ex((host, port))  # the other way to learn the outcome
        return name(second) if second else "connected"
    answer = {}
    for label, how in (("blocking", blocking), ("level", lambda: with_epoll(0)),
                       ("edge", lambda: with_epoll(select.EPOLLET)), ("poll", with_poll)):
        start = time.monotonic()
        answer[label] = [how(), time.monotonic() - start]
    print(json.dumps(answer))
"""


def outcomes(node, host, port, limit=10):
    answer = python(node, CONNECT, host, port, limit, timeout=limit * 4 + 20)
    return {how: what for how, (what, _) in answer.items()}, max(took for _, took in answer.values())


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_connect_succeeds_every_way(world, family):
    server = python_spawn(world.b, """
        s = listener(sys.argv[1])
        say("ready", s.getsockname()[1])
        while True:
            s.accept()
    """, {"v4": "0.0.0.0", "v6": "::"}[family], ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    got, took = outcomes(world.a, getattr(world.b, family), port)
    server.stop()
    assert set(got.values()) == {"connected"} and took < 5


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_closed_port_is_refused(world, family):
    got, took = outcomes(world.a, getattr(world.b, family), free_port())
    assert set(got.values()) == {"ECONNREFUSED"}
    assert took < 5


@pytest.mark.meshwrap
@pytest.mark.parametrize("host", ["100.64.9.9", "100.127.255.254", "fd7a:115c:a1e0::99"])
def test_unknown_peer_is_unreachable_at_once(world, host):
    got, took = outcomes(world.a, host, 80)
    assert set(got.values()) <= {"ENETUNREACH", "EHOSTUNREACH"}
    assert took < 3


@pytest.mark.meshwrap
@pytest.mark.parametrize("host", ["100.64.0.4", "fd7a:115c:a1e0::4"])
def test_peer_without_endpoint_is_unreachable_at_once(world, host):
    got, took = outcomes(world.a, host, 80)
    assert set(got.values()) <= {"ENETUNREACH", "EHOSTUNREACH"}
    assert took < 3


@pytest.mark.meshwrap
def test_datagrams_to_an_unknown_peer_are_unreachable(world):
    got = python(world.a, """
        answers = []
        for host in ("100.64.9.9", "fd7a:115c:a1e0::99"):
            for how in ("sendto", "connect"):
                u = socket(family_of(host), SOCK_DGRAM)
                try:
                    if how == "connect":
                        u.connect((host, 53))
                        u.send(b"x")
                    else:
                        u.sendto(b"x", (host, 53))
                    answers.append("sent")
                except OSError as e:
                    answers.append(errno.errorcode[e.errno])
        print(json.dumps(answers))
    """)
    assert set(got) <= {"ENETUNREACH", "EHOSTUNREACH"}


@pytest.mark.meshwrap
def test_peer_that_is_down_keeps_a_connect_waiting(world):
    """As any host that does not answer: the program's own limit ends it, with the kernel's errno."""
    got, took = outcomes(world.a, "100.64.0.3", 80, 2)
    assert got["blocking"] in ("EINPROGRESS", "EAGAIN")
    assert got["edge"] == got["level"] == got["poll"] == "nothing"
    assert took < 6


@pytest.mark.meshwrap
def test_curl_gives_up_on_a_peer_that_is_down(world):
    result, took = elapsed(world.a.run, ["curl", "-sS", "--connect-timeout", "1", "http://node-c/"], check=False)
    assert result.returncode == 28 and took < 15


@pytest.mark.meshwrap
def test_not_writable_before_the_far_side_has_answered(own_world):
    """The far daemon is stopped, so nothing can have answered; then it goes on."""
    world = own_world
    server = python_spawn(world.b, """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        while True:
            s.accept()[0].sendall(b"hello")
    """, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    code = """
        s = socket()
        s.setblocking(False)
        ep = select.epoll()
        ep.register(s, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        ep.poll(0)
        first = s.connect_ex((sys.argv[1], int(sys.argv[2])))
        early = ep.poll(float(sys.argv[3]))
        again = s.connect_ex((sys.argv[1], int(sys.argv[2])))
        say("waiting", errno.errorcode[first], early, errno.errorcode[again])
        events = ep.poll(40)
        say("then", bool(events and events[0][1] & select.EPOLLOUT), s.getsockopt(SOL_SOCKET, SO_ERROR),
            s.connect_ex((sys.argv[1], int(sys.argv[2]))), s.connect_ex((sys.argv[1], int(sys.argv[2]))))
        s.settimeout(10)
        say(recv_exactly(s, 5))
    """
    python(world.a, "tcp(*sys.argv[1:]).close()", world.b.v4, port)  # a session exists
    world.b.daemon.kill(signal.SIGSTOP)
    try:
        client = python_spawn(world.a, code, world.b.v4, port, 1.0, ready="waiting")
        assert client.wait_for("waiting .*").group(0) == "waiting EINPROGRESS [] EALREADY"
    finally:
        world.b.daemon.kill(signal.SIGCONT)
    # Linux: 0 once, then EISCONN (106).
    assert client.wait_for("then .*").group(0) == "then True 0 0 106"
    assert client.wait() == 0
    assert "b'hello'" in client.text


@pytest.mark.meshwrap
def test_blocking_connect_can_be_interrupted_and_closed(world):
    got = python(world.a, """
        answers = []
        signal.signal(signal.SIGALRM, lambda *_: answers.append("alarm") or 1 / 0)
        s = socket()
        try:
            signal.setitimer(signal.ITIMER_REAL, 1)
            s.connect(("100.64.0.3", 80))
        except ZeroDivisionError:
            answers.append("interrupted")
        s.close()
        print(json.dumps(answers))
    """)
    assert got == ["alarm", "interrupted"]


def test_many_refused_connects_have_the_true_errno(world):
    """The kernel itself wakes some of them as connected for an instant; the program must not see it."""
    got = python(world.a, """
        count = {}
        for i in range(300):
            s = socket()
            s.setblocking(False)
            error = s.connect_ex((sys.argv[1], int(sys.argv[2])))
            if error == errno.EINPROGRESS:
                p = select.poll()
                p.register(s, select.POLLOUT)
                p.poll(20000)
                error = s.getsockopt(SOL_SOCKET, SO_ERROR)
            count[errno.errorcode.get(error, error)] = count.get(errno.errorcode.get(error, error), 0) + 1
            s.close()
        print(json.dumps(count))
    """, world.b.v4, free_port(), timeout=60)
    assert got == {"ECONNREFUSED": 300}


@pytest.mark.meshwrap
def test_the_errno_of_a_refused_connect_is_not_anothers(world):
    """The kernel forgets the port of a refused connect; the next one may get it before the program has asked.

    The daemon keeps the port, but on a busy machine the program may be faster, once."""
    got = python(world.a, """
        host, closed = sys.argv[1], int(sys.argv[2])
        def dial(host, to, port):
            s = socket()
            s.setblocking(False)
            s.setsockopt(IPPROTO_IP, 51, struct.pack("I", port | port << 16))  # IP_LOCAL_PORT_RANGE
            return s, s.connect_ex((host, to))
        found = []
        for i in range(20):
            with socket() as probe:
                probe.bind(("0.0.0.0", 0))
                port = probe.getsockname()[1]
            try:
                refused, begun = dial(host, closed, port)
            except OSError:
                sys.exit(print('"none"'))
            if begun != errno.EINPROGRESS:
                continue  # somebody else has it
            p = select.poll()
            p.register(refused, select.POLLOUT)
            p.poll(20000)
            other, also = dial("100.64.0.3", 80, port)  # who is down, so it waits
            found.append(errno.errorcode.get(refused.getsockopt(SOL_SOCKET, SO_ERROR)))
            refused.close()
            other.close()
        print(json.dumps(found))
    """, world.b.v4, free_port(), timeout=120)
    if got == "none":
        pytest.skip("this kernel has no IP_LOCAL_PORT_RANGE")
    assert got.count("ECONNREFUSED") > len(got) / 2, got


@pytest.mark.meshwrap
def test_far_listener_that_is_full_does_not_look_connected(world):
    """Backlog 0 and nobody accepts: the far side's kernel drops further SYNs, and so we wait."""
    server = python_spawn(world.b, """
        s = listener("127.0.0.1", 0, backlog=0)
        first = tcp("127.0.0.1", s.getsockname()[1])
        say("ready", s.getsockname()[1])
        time.sleep(1000)
    """, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    got, _ = outcomes(world.a, world.b.v4, port, 1)
    server.stop()
    assert got["edge"] == got["level"] == got["poll"] == "nothing"


@pytest.mark.meshwrap
def test_peer_that_is_down_times_out_in_the_end(early_dial):
    what, took = early_dial.wait_for(r"ended (\w+) (\S+)", 180).groups()
    assert what in ("ETIMEDOUT", "EHOSTUNREACH")
    assert float(took) < 150


def test_a_multipath_socket_gets_every_byte(world):
    """One that is met by a simultaneous open would lose the first byte sent to it (Linux 6.18)."""
    server = python_spawn(world.b, """
        s = listener(sys.argv[1])
        say("ready", s.getsockname()[1])
        while True:
            c, _ = s.accept()
            c.sendall(b"0123456789" * 100_000)
            c.close()
    """, world.b.v4, ready=r"ready (\d+)")
    port = int(server.wait_for(r"ready (\d+)")[1])
    answer = python(world.a, """
        host, port, closed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
        def multipath():
            try:
                s = socket(AF_INET, SOCK_STREAM, 262)
            except OSError:
                print(json.dumps("none"))
                sys.exit()
            s.settimeout(20)
            return s
        told = []
        for _ in range(5):
            s = multipath()
            s.connect((host, port))
            told.append([recv_all(s) == b"0123456789" * 100_000, s.getpeername() == (host, port), s.getsockname()[0]])
        refused = multipath().connect_ex((host, closed))
        print(json.dumps([told, errno.errorcode.get(refused, refused)]))
    """, world.b.v4, port, free_port())
    server.stop()
    if answer == "none":
        pytest.skip("this kernel has no multipath TCP")
    assert answer == [[[True, True, world.a.v4]] * 5, "ECONNREFUSED"]


def test_without_syn_hold_a_slow_peer_is_waited_for(own_world):
    """The daemon answers the shim only when the far side has answered."""
    a, b = own_world.a, own_world.b
    a.stop()
    a.daemon = a.lab.spawn([a.lab.binary("meshd"), "--config", a.config, "--dir", a.dir, "--no-syn-hold"], a.place,
                           log="meshd-a")
    a.daemon.wait_for(r"\bready\b")
    b.stop()
    port = free_port()
    client = python_spawn(a, """
        say("ready")
        begun = time.monotonic()
        try:
            tcp(sys.argv[1], sys.argv[2], None)
            say("connected", round(time.monotonic() - begun, 1))
        except OSError as e:
            say("failed", e, round(time.monotonic() - begun, 1))
    """, b.v4, port)
    time.sleep(6)
    assert "failed" not in client.text, client.text
    server = python_spawn(b, """
        s = listener("0.0.0.0", sys.argv[1])
        say("ready")
        s.accept()
        time.sleep(60)
    """, port)
    b.start()
    client.wait_for("connected", 40)
    server.stop()


FULL_AND_OTHER = """
    full, other = listener("::", v6only=False, backlog=0), listener("::", v6only=False)
    at = ("127.0.0.1", full.getsockname()[1])
    fillers = [socket() for _ in range(2)]
    for s in fillers:
        s.setblocking(False)
        s.connect_ex(at)
    say("ready", at[1], other.getsockname()[1])
    keep = other.accept()[0]
    keep.sendall(b"other")
    while True:
        full.accept()[0].sendall(b"full")
"""
# Two dials from one port: how they begin, then what each hears.
TWO_FROM_ONE_PORT = """
    def shared(port=0):
        s = socket(AF_INET6)
        s.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
        s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
        s.bind(("::", port))
        s.setblocking(False)
        return s
    def begin(s, host, to):
        return errno.errorcode[s.connect_ex((host, int(to)))]
    def heard(s, limit):
        return [each.recv(9).decode() for each in select.select([s], [], [], limit)[0]]
    limit = float(sys.argv[5])
    first = shared()
    second = shared(first.getsockname()[1])  # before a node in the same namespace meets the first there
    begun, also = begin(first, *sys.argv[1:3]), begin(second, *sys.argv[3:5])
    print(json.dumps([begun, also, heard(second, limit) if also == "EINPROGRESS" else [], heard(first, limit)]))
"""


def dial_twice(world, host, other_host, limit):
    server = python_spawn(world.b, FULL_AND_OTHER, ready=r"ready \d+ \d+")
    full, other = server.wait_for(r"ready (\d+) (\d+)").groups()
    got = python(world.a, TWO_FROM_ONE_PORT, host, full, other_host, other, limit)
    server.stop(9)
    return got


def test_a_dial_is_led_to_its_own_port_when_another_shares_its_source(world):
    """As of programs that dial from the port they listen on. The kernel's own allows both at once, see limits.md."""
    mapped = "::ffff:" + world.b.v4
    assert dial_twice(world, mapped, mapped, 2) in (["EINPROGRESS", "EADDRNOTAVAIL", [], []],
                                                    ["EINPROGRESS", "EINPROGRESS", ["other"], ["full"]])


def test_dials_of_two_addresses_may_share_their_source(world):
    assert dial_twice(world, "::ffff:" + world.b.v4, world.b.v6, 20) == ["EINPROGRESS", "EINPROGRESS", ["other"], ["full"]]


def test_threads_may_dial_from_one_port(world):
    """The daemon has the question of one before the other has called connect()."""
    server = python_spawn(world.b, """
        s = listener("::", v6only=False)
        say("ready", s.getsockname()[1])
        while True:
            s.accept()[0].close()
    """, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)")[1]
    got = python(world.a, """
        start, seen = threading.Barrier(2), []
        def dial(s, host):
            start.wait()
            try:
                s.connect((host, int(sys.argv[3])))
                seen.append("connected")
            except OSError as e:
                seen.append(type(e).__name__)
            s.close()
        for i in range(40):
            pair = [socket(AF_INET6) for _ in range(2)]
            for s in pair:
                s.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
                s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
                s.bind(("::", pair[0].getsockname()[1]))
                s.settimeout(10)
            threads = [threading.Thread(target=dial, args=each) for each in zip(pair, sys.argv[1:3])]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if seen.count("connected") < len(seen):
                break
        print(json.dumps(sorted(set(seen))))
    """, "::ffff:" + world.b.v4, world.b.v6, port, timeout=60)
    server.stop(9)
    assert got == ["connected"]


def test_a_dial_that_was_given_up_does_not_reach_the_programs_own_listener(world):
    """Of a program that dials from the port it listens on, and is answered too late."""
    server = python_spawn(world.b, FULL_AND_OTHER, ready=r"ready \d+ \d+")
    full, other = server.wait_for(r"ready (\d+) (\d+)").groups()
    got = python(world.a, """
        host, full, other = sys.argv[1:]
        def shared(port=0):
            s = socket()
            s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
            s.bind(("0.0.0.0", port))
            return s
        own = shared()
        own.listen()
        given_up = shared(own.getsockname()[1])
        given_up.settimeout(0.5)
        try:
            given_up.connect((host, int(full)))
        except TimeoutError:
            given_up.close()
        said = recv_exactly(tcp(host, other), 5).decode()  # from now on it is answered
        own.settimeout(5)
        try:
            print(json.dumps([said, own.accept()[1]]))
        except TimeoutError:
            print(json.dumps([said, "nobody"]))
    """, world.b.v4, full, other)
    server.stop(9)
    assert got == ["other", "nobody"]
