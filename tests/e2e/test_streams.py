"""Streams: ends of both kinds, late data, slow readers, many bytes, lost packets."""
import pytest

from worlds import lose, needs_netns, python, python_spawn

BOUND_MB = 48  # what the kernels and the two daemons may hold of one stream, buffers included


def serve(node, body, *args, host="0.0.0.0", **options):
    """A server that does body with each connection, c, one after another."""
    indented = "\n".join("        " + line for line in body.strip("\n").splitlines())
    server = python_spawn(node, f"""
s = listener({host!r})
say("ready", s.getsockname()[1])
while True:
    c, peer = s.accept()
    if True:
{indented}
""", *args, ready=r"ready \d+", **options)
    server.port = int(server.wait_for(r"ready (\d+)").group(1))
    return server


def test_data_after_the_client_has_finished_arrives(world):
    server = serve(world.b, """
got = recv_all(c)
time.sleep(0.5)
c.sendall(sha(got).encode() + b"late" * 250000)
c.close()
""")
    out = python(world.a, """
        s = tcp(*sys.argv[1:])
        sent = random.Random(2).randbytes(3_000_000)
        s.sendall(sent)
        s.shutdown(SHUT_WR)
        got = recv_all(s)
        print(json.dumps([got[:64] == sha(sent).encode(), got[64:] == b"late" * 250000]))
    """, world.b.v4, server.port)
    server.stop()
    assert out == [True, True]


def test_data_after_the_server_has_finished_arrives(world):
    server = serve(world.b, """
c.sendall(b"all I have")
c.shutdown(SHUT_WR)
say("got", sha(recv_all(c)))
c.close()
""")
    out = python(world.a, """
        s = tcp(*sys.argv[1:])
        first = recv_all(s)
        time.sleep(0.5)
        sent = random.Random(3).randbytes(3_000_000)
        s.sendall(sent)
        s.close()
        print(json.dumps([first.decode(), sha(sent)]))
    """, world.b.v4, server.port)
    assert out[0] == "all I have"
    assert server.wait_for(r"got (\w+)").group(1) == out[1]
    server.stop()


def test_server_reset_reaches_the_client(world):
    server = serve(world.b, """
recv_exactly(c, 5)
c.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
c.close()
""")
    out = python(world.a, """
        s = tcp(*sys.argv[1:])
        s.sendall(b"hello")
        try:
            out = repr(s.recv(10))
        except OSError as e:
            out = errno.errorcode[e.errno]
        print(json.dumps(out))
    """, world.b.v4, server.port)
    server.stop()
    assert out == "ECONNRESET"


def test_client_reset_reaches_the_server(world):
    server = serve(world.b, """
c.sendall(b"hello")
try:
    say("got", c.recv(10))
except OSError as e:
    say("got", errno.errorcode[e.errno])
""")
    python(world.a, """
        s = tcp(*sys.argv[1:])
        recv_exactly(s, 5)
        s.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    """, world.b.v4, server.port)
    assert server.wait_for("got (.*)").group(1) == "ECONNRESET"
    server.stop()


def test_closing_with_unread_data_resets(world):
    server = serve(world.b, """
c.recv(1, MSG_PEEK)  # the request is here
c.close()
""")
    out = python(world.a, """
        s = tcp(*sys.argv[1:])
        s.sendall(b"x" * 5000)
        try:
            out = repr(s.recv(10))
        except OSError as e:
            out = errno.errorcode[e.errno]
        print(json.dumps(out))
    """, world.b.v4, server.port)
    server.stop()
    assert out == "ECONNRESET"


def test_a_process_that_is_killed_closes_its_streams(world):
    server = serve(world.b, """
c.sendall(b"hello")
say("got", c.recv(10))
""")
    client = python_spawn(world.a, """
        s = tcp(*sys.argv[1:])
        recv_exactly(s, 5)
        say("ready")
        time.sleep(1000)
    """, world.b.v4, server.port)
    client.stop(9)
    assert server.wait_for("got (.*)").group(1) == "b''"
    server.stop()


@pytest.mark.parametrize("reader", ["server", "client"])
def test_slow_reader_stops_the_sender(world, reader):
    """Memory stays bounded while nobody reads, and then every byte arrives."""
    write = """
sent, digest = 0, hashlib.sha256()
block = random.Random(4).randbytes(1 << 16)
c.settimeout(2)
try:
    while sent < 200 << 20:
        n = c.send(block[sent % (1 << 16):])
        digest.update(block[sent % (1 << 16):][:n])
        sent += n
except TimeoutError:
    pass
say("blocked", sent)
c.settimeout(60)
c.shutdown(SHUT_WR)
say("sent", digest.hexdigest(), recv_exactly(c, 1))
"""
    read = """
say("connected")
while not os.path.exists(sys.argv[3]):
    time.sleep(0.05)
say("got", sha(recv_all(c)))
c.sendall(b"!")
"""
    go = world.lab.folder("go", world.a.place.uid) / "go"
    server = serve(world.b, read if reader == "server" else write, "-", "-", go)
    before = None if world.is_reference else [node.rss_kb() for node in (world.a, world.b)]
    client = python_spawn(world.a, "c = tcp(*sys.argv[1:3])\n" + (read if reader == "client" else write),
                          world.b.v4, server.port, go, ready="")
    sender, receiver = (server, client) if reader == "client" else (client, server)
    receiver.wait_for("connected")
    blocked = int(sender.wait_for(r"blocked (\d+)", 60).group(1))
    assert blocked < BOUND_MB << 20
    if before:
        grown = [node.rss_kb() - kb for node, kb in zip((world.a, world.b), before)]
        assert max(grown) < BOUND_MB << 10
    go.touch()
    digest = sender.wait_for(r"sent (\w+)", 60).group(1)
    assert receiver.wait_for(r"got (\w+)", 60).group(1) == digest
    server.stop()


def test_small_messages_are_not_held_back(world):
    server = serve(world.b, """
c.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
while data := c.recv(100):
    c.sendall(data)
""")
    median = python(world.a, """
        s = tcp(*sys.argv[1:])
        s.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        times = []
        for i in range(300):
            start = time.monotonic()
            s.sendall(b"%08d" % i)
            assert recv_exactly(s, 8) == b"%08d" % i
            times.append(time.monotonic() - start)
        print(sorted(times)[150])
    """, world.b.v4, server.port)
    server.stop()
    assert median < 0.02


def test_a_message_of_many_parts_by_sendmsg_and_peek(world):
    server = serve(world.b, """
peeked = c.recv(4, MSG_PEEK | MSG_WAITALL)
got = c.recv(9, MSG_WAITALL)
data, _, _, _ = c.recvmsg(100)
c.sendall(peeked + got + data)
c.close()
""")
    out = python(world.a, """
        s = tcp(*sys.argv[1:])
        s.sendmsg([b"one", b"two", b"333"])
        time.sleep(0.2)
        s.sendmsg([b"four"])
        print(json.dumps(recv_all(s).decode()))
    """, world.b.v4, server.port)
    server.stop()
    assert out == "onetonetwo333four"


def test_an_idle_connection_survives(world):
    """A connection that says nothing for a while is still there."""
    server = serve(world.b, """
first = c.recv(10)
time.sleep(3)
c.sendall(first)
c.close()
""")
    out = python(world.a, """
        s = tcp(*sys.argv[1:])
        s.sendall(b"idle")
        print(json.dumps(recv_all(s).decode()))
    """, world.b.v4, server.port)
    server.stop()
    assert out == "idle"


@needs_netns
@pytest.mark.parametrize("own_world", ["two"], indirect=True)
def test_lost_packets_cost_time_and_no_bytes(own_world):
    world = own_world
    for space in world.spaces:
        lose(world.lab, space, 1)
    server = serve(world.b, """
got = recv_all(c)
c.sendall(got[::-1])
c.close()
""")
    out = python(world.a, """
        right = []
        for i in range(3):
            s = tcp(*sys.argv[1:])
            sent = random.Random(i).randbytes(5_000_000)
            s.sendall(sent)
            s.shutdown(SHUT_WR)
            right.append(recv_all(s) == sent[::-1])
        print(json.dumps(right))
    """, world.b.v4, server.port, timeout=90)
    server.stop()
    assert out == [True] * 3


@needs_netns
@pytest.mark.parametrize("own_world", ["two"], indirect=True)
def test_a_node_that_moves_keeps_its_streams(own_world):
    """Its address changes in the middle; the peer follows its authenticated packets."""
    world = own_world
    server = serve(world.b, """
while data := c.recv(100000):
    c.sendall(data)
""")
    client = python_spawn(world.a, """
        s = tcp(*sys.argv[1:])
        for i in range(400):
            sent = random.Random(i).randbytes(20000)
            s.sendall(sent)
            assert recv_exactly(s, 20000) == sent
            if i == 20:
                say("ready")
            time.sleep(0.005)
        say("done")
    """, world.b.v4, server.port)
    space = world.spaces[0]
    world.lab.run(["ip", "-n", space, "addr", "add", "192.0.2.11/24", "dev", "eth0"])
    world.lab.run(["ip", "-n", space, "addr", "del", "192.0.2.1/24", "dev", "eth0"])
    # Deleting the primary may take others and the route along.
    world.lab.run(["ip", "-n", space, "addr", "add", "192.0.2.11/24", "dev", "eth0"], check=False)
    world.lab.run(["ip", "-n", space, "route", "replace", "default", "dev", "eth0"])
    client.wait_for("done", 90)
    server.stop()
    assert "192.0.2.11" in world.b.ctl("status").stdout
