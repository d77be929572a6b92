"""Local ports that several sockets share, as of programs that dial from the port they listen on, and ports that are
taken again at once: nothing of the daemon's is in their way, and each connection knows its own peer and its own error."""
import subprocess
import textwrap

import pytest

from worlds import free_port, python, python_spawn

ECHO = """
    s = listener("::", v6only=False)
    say("ready", s.getsockname()[1])
    kept = []
    while True:
        kept.append(s.accept()[0])
"""
SHARED = """
    def shared(port=0, *options, host="::"):
        s = socket(family_of(host))
        if s.family == AF_INET6:
            s.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, 0)
        for option in options or [SO_REUSEPORT]:
            s.setsockopt(SOL_SOCKET, option, 1)
        s.settimeout(30)
        s.bind((host, port))
        return s
    def name(number):
        return errno.errorcode.get(number, number)
    def wait(s):
        select.select([], [s], [], 30)
        return name(s.getsockopt(SOL_SOCKET, SO_ERROR))
"""


def run(node, code, *args):
    return python(node, textwrap.dedent(SHARED) + textwrap.dedent(code), *args)


def spawn(node, code, *args, **options):
    return python_spawn(node, textwrap.dedent(SHARED) + textwrap.dedent(code), *args, **options)


@pytest.fixture(scope="module")
def server(world):
    """Of both families; and the number of a port where nobody listens."""
    process = python_spawn(world.b, ECHO, ready=r"ready \d+")
    yield process.wait_for(r"ready (\d+)")[1], free_port()
    process.stop()


def two_hosts(world):
    return "::ffff:" + world.b.v4, world.b.v6


def test_connections_from_one_port_know_their_peers(world, server):
    got = run(world.a, """
        hosts, port = sys.argv[1:3], int(sys.argv[3])
        first = shared()
        second = shared(first.getsockname()[1])
        for s, host in zip((first, second), hosts):
            s.connect((host, port))
        print(json.dumps([s.getpeername()[:2] for s in (first, second, first)]))
    """, *two_hosts(world), server[0])
    v4, v6 = ([host, int(server[0])] for host in two_hosts(world))
    assert got == [v4, v6, v4]


@pytest.mark.parametrize("asked", ["so_error", "connect", "recv"])
def test_a_refused_dial_has_its_own_error_beside_one_that_waits(world, server, asked):
    """Its port was dialled from once more before it asks."""
    if asked == "recv" and world.name == "traced":
        pytest.skip("told by recv to wrapped programs only, see limits.md")
    got = run(world.a, """
        asked, refusing, other, port, closed = sys.argv[1], *sys.argv[2:4], int(sys.argv[4]), int(sys.argv[5])
        first = shared()
        second = shared(first.getsockname()[1])
        first.setblocking(False)
        begun = first.connect_ex((refusing, closed))
        second.connect((other, port))
        select.select([], [first], [], 30)
        if asked == "so_error":
            error = first.getsockopt(SOL_SOCKET, SO_ERROR)
        elif asked == "connect":
            error = first.connect_ex((refusing, closed))
        else:
            try:
                first.recv(1)
            except OSError as e:
                error = e.errno
        print(json.dumps([name(begun), name(error), second.getsockopt(SOL_SOCKET, SO_ERROR), second.getpeername()[0]]))
    """, asked, *two_hosts(world), *server)
    assert got == ["EINPROGRESS", "ECONNREFUSED", 0, world.b.v6]


def test_a_dial_that_waits_is_not_told_the_error_of_another_from_its_port(world, server):
    got = run(world.a, """
        refusing, other, port, closed = *sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])
        first = shared()
        second = shared(first.getsockname()[1])
        first.connect((other, port))
        said = name(second.connect_ex((refusing, closed)))
        print(json.dumps([said, name(first.getsockopt(SOL_SOCKET, SO_ERROR)), first.getpeername()[0],
                          first.getsockname()[0]]))
    """, *two_hosts(world), *server)
    assert got == ["ECONNREFUSED", 0, world.b.v6, world.a.v6]


def test_dials_from_one_port_at_once_come_to_whom_they_ask(world):
    """Two threads, to two services of one peer: where one port cannot have both, somebody is refused, and nobody is led to
    the other service."""
    server = python_spawn(world.b, """
        servers = [listener("0.0.0.0") for i in range(2)]
        say("ready", *[s.getsockname()[1] for s in servers])
        kept = []
        while True:
            for s in select.select(servers, [], [])[0]:
                kept.append(s.accept()[0])
                try:
                    kept[-1].sendall(b"%d" % s.getsockname()[1])
                except OSError:
                    pass
    """, ready=r"ready \d+")
    got = run(world.a, """
        def dial(s, host, port, heard):
            together.wait()
            try:
                s.connect((host, int(port)))
                heard.append("asked" if s.recv(9).decode() == port else "other")
            except OSError as e:
                heard.append(name(e.errno))
        together = threading.Barrier(2)
        heard = []
        for i in range(300):
            first = shared(0, SO_REUSEADDR, SO_REUSEPORT, host="0.0.0.0")
            second = shared(first.getsockname()[1], SO_REUSEADDR, SO_REUSEPORT, host="0.0.0.0")
            threads = [threading.Thread(target=dial, args=(s, sys.argv[1], port, heard))
                       for s, port in zip((first, second), sys.argv[2:])]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for s in (first, second):
                s.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                s.close()
        print(json.dumps(sorted(set(heard))))
    """, world.b.v4, *server.wait_for(r"ready (\d+) (\d+)").groups())
    server.stop()
    assert set(got) <= {"asked", "EADDRNOTAVAIL"} and "asked" in got


def test_the_port_of_a_refused_dial_can_be_bound_again_at_once(world, server):
    """A program that chose it knows nothing of anybody who might keep it, and need not ask to share it. Who closes in the
    instant of the failure may be faster than the daemon, and find it kept for a second: so it may try again."""
    got = python(world.a, """
        def again(host, port, reuse=False, listening=False):
            s = socket()
            s.setsockopt(SOL_SOCKET, SO_REUSEADDR, reuse)
            try:
                s.bind((host, port))
                if listening:
                    s.listen()
            except OSError as e:
                return errno.errorcode[e.errno]
            return s
        def once(own, reuse):
            first = again(own, 0)
            port = first.getsockname()[1]
            first.close()
            s = again(own, port, reuse)
            assert s.connect_ex((sys.argv[2], int(sys.argv[3]))) == errno.ECONNREFUSED
            time.sleep(0.1)
            s.close()
            s = again(own, port, listening=True)
            return s if isinstance(s, str) else s.close() or "taken"
        answers = []
        for own in (sys.argv[1], "0.0.0.0"):
            for reuse in (False, True):
                for i in range(4):
                    answer = once(own, reuse)
                    if answer == "taken":
                        break
                answers.append(answer)
        print(json.dumps(answers))
    """, world.a.v4, world.b.v4, server[1])
    assert got == ["taken"] * 4


@pytest.mark.parametrize("options", ["SO_REUSEPORT", "SO_REUSEADDR", "SO_REUSEADDR, SO_REUSEPORT"])
def test_a_port_that_a_peer_has_dialled_from_can_be_shared(world, options):
    """The peer's port is not this machine's: who listens there, in the way of programs that share ports, may."""
    listening = python_spawn(world.a, ECHO, ready=r"ready \d+")
    port = listening.wait_for(r"ready (\d+)")[1]
    caller = spawn(world.b, """
        s = shared(0, SO_REUSEADDR, SO_REUSEPORT, host=sys.argv[2])
        s.connect((sys.argv[1], int(sys.argv[3])))
        say("ready", s.getsockname()[1])
        time.sleep(60)
    """, world.a.v4, world.b.v4, port, ready=r"ready \d+")
    theirs = caller.wait_for(r"ready (\d+)")[1]
    got = run(world.a, f"""
        s = shared(int(sys.argv[1]), {options}, host="0.0.0.0")
        s.listen()
        print(json.dumps(s.getsockname()))
    """, theirs)
    caller.kill(9)
    listening.stop()
    assert got == ["0.0.0.0", int(theirs)]


# Listens, and dials from the same port when it reads "d"; says what it hears on any connection, and resets them all for "r".
MEETING = """
    own, other, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    options = SO_REUSEADDR, SO_REUSEPORT
    def reset(s):
        s.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    server = shared(port, *options, host=own)
    server.listen()
    server.setblocking(False)
    say("ready")
    turn, met = 0, []
    while True:
        for s in select.select([0, server, *met], [], [])[0]:
            if s == 0:
                word = os.read(0, 1)
                if word != b"d":
                    for old in met:
                        reset(old)
                    met.clear()
                    if not word:
                        sys.exit()
                    turn += 1
                    say("reset", turn)
                    continue
                new = shared(port, *options, host=own)
                error = new.connect_ex((other, port))
                say("dialled", turn, name(error))
                if error:
                    new.close()
                    continue
            elif s is server:
                try:
                    new, peer = server.accept()
                except OSError:
                    continue
                say("accepted", turn, *peer)
            else:
                try:
                    heard = s.recv(20).decode()
                except OSError:
                    heard = ""
                if heard:
                    say("heard", turn, heard, s.getpeername()[0])
                elif s in met:
                    met.remove(s)
                continue
            met.append(new)
            new.sendall(own.encode())
"""


def test_peers_that_listen_and_dial_on_one_port_find_each_other(world):
    """Both at once, and each binds that port for every dial: libp2p, and who opens ways through NATs. The kernel's own may
    make one connection of two dials, or refuse the second of them."""
    port = free_port()
    ends = [spawn(me, MEETING, me.v4, them.v4, port, stdin=subprocess.PIPE)
            for me, them in ((world.a, world.b), (world.b, world.a))]
    for turn in range(1, 11):
        for word, answer in ((b"r", rf"reset {turn}\n"), (b"d", rf"dialled {turn} ")):
            for end in ends:
                end.popen.stdin.write(word)
                end.popen.stdin.flush()
            for end in ends:
                end.wait_for(answer)
        for end, other in zip(ends, (world.b, world.a)):
            said = end.wait_for(rf"dialled {turn} (\w+)\n")[1]
            assert said in ("0", "EADDRNOTAVAIL")
            end.wait_for(rf"heard {turn} {other.v4} {other.v4}\n")
    for end in ends:
        end.popen.stdin.close()
        assert end.wait() == 0
