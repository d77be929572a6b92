"""meshd against wireguard-go on a TUN device: another WireGuard, and the kernel's own TCP/IP."""
import hashlib
import signal
import time

import pytest

from worlds import CAN_TUN, elapsed, free_port, lose, make_foreign_pair, python, python_spawn

pytestmark = pytest.mark.skipif(not CAN_TUN, reason="needs root and a TUN device")

# Answers each connection with the hash of what it got, then with as many bytes.
MIRROR = """
    s = listener(sys.argv[1], 0)
    say("ready", s.getsockname()[1])
    def serve(c):
        got = recv_all(c)
        c.sendall(sha(got).encode() + got[::-1])
        c.close()
    while True:
        threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""
SEND = """
    right = []
    def one(i):
        step = "connect"
        try:
            s = tcp(sys.argv[1], sys.argv[2], 60)
            sent = random.Random(i).randbytes(int(sys.argv[3]))
            step = "send"
            s.sendall(sent)
            s.shutdown(SHUT_WR)
            step = "receive"
            got = recv_all(s)
            right.append(got == sha(sent).encode() + sent[::-1])
        except OSError as e:
            right.append(f"{step}: {e}")
    threads = [threading.Thread(target=one, args=(i,)) for i in range(int(sys.argv[4]))]
    [t.start() for t in threads]
    [t.join() for t in threads]
    print(json.dumps(right))
"""


@pytest.fixture(scope="module")
def pair(session_lab):
    node, foreign = make_foreign_pair(session_lab)
    yield node, foreign
    node.check_logs()
    node.stop()
    foreign.stop()


@pytest.fixture
def own_pair(lab):
    node, foreign = make_foreign_pair(lab)
    yield node, foreign
    node.check_logs()


def exchange(client, server, family="v4", size=10_000_000, count=1, timeout=90):
    """Bytes both ways over count streams; all of them come back right."""
    process = python_spawn(server, MIRROR, {"v4": "0.0.0.0", "v6": "::"}[family], ready=r"ready \d+")
    port = process.wait_for(r"ready (\d+)").group(1)
    right = python(client, SEND, getattr(server, family), port, size, count, timeout=timeout)
    process.stop()
    assert right == [True] * count


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("dialler", ["meshd", "wireguard-go"])
def test_streams_in_both_directions(pair, dialler, family):
    node, foreign = pair
    client, server = (node, foreign) if dialler == "meshd" else (foreign, node)
    exchange(client, server, family, 20_000_000)


@pytest.mark.parametrize("dialler", ["meshd", "wireguard-go"])
def test_thirty_streams_at_once(pair, dialler):
    node, foreign = pair
    client, server = (node, foreign) if dialler == "meshd" else (foreign, node)
    exchange(client, server, "v4", 1_000_000, 30)


def test_curl_fetches_from_the_foreign_side(pair, blob):
    node, foreign = pair
    (foreign.home / "blob").write_bytes(blob[0])
    port = free_port()
    server = foreign.spawn(["/usr/bin/python3", "-u", "-m", "http.server", "-d", foreign.home, "-b", foreign.v4, port],
                           log="http")
    server.wait_for("Serving")
    out = node.home / "fetched"
    node.run(["curl", "-sS", "--max-time", "100", "-o", out, f"http://node-b:{port}/blob"], timeout=110)
    server.stop()
    assert hashlib.sha256(out.read_bytes()).hexdigest() == blob[1]


@pytest.mark.parametrize("size", [56, 1300, 4000])
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_we_answer_the_kernels_ping(pair, family, size):
    node, foreign = pair
    out = foreign.run(["ping", "-n", "-c", "5", "-i", "0.1", "-W", "10", "-s", size, getattr(node, family)]).stdout
    assert "5 received" in out or "5 packets received" in out


def test_we_ping_the_kernel(pair):
    node, foreign = pair
    assert foreign.name in node.ctl("ping", "node-b").stdout or foreign.v4 in node.ctl("ping", "node-b").stdout


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("dialler", ["meshd", "wireguard-go"])
def test_datagrams_of_all_sizes(pair, dialler, family):
    node, foreign = pair
    client, server = (node, foreign) if dialler == "meshd" else (foreign, node)
    process = python_spawn(server, """
        u = socket(family_of(sys.argv[1]), SOCK_DGRAM)
        u.bind((sys.argv[1], 0))
        say("ready", u.getsockname()[1])
        while True:
            data, peer = u.recvfrom(65536)
            u.sendto(json.dumps([sha(data), peer[:2]]).encode(), peer)
    """, {"v4": "0.0.0.0", "v6": "::"}[family], ready=r"ready \d+")
    port = process.wait_for(r"ready (\d+)").group(1)
    wrong = python(client, """
        u = socket(family_of(sys.argv[1]), SOCK_DGRAM)
        wrong, old = [], []
        for size in (0, 1, 100, 1371, 1372, 1373, 1391, 1392, 1393, 1500, 3000, 9000, 30000, 60000):
            sent = random.Random(size).randbytes(size)
            for attempt in range(3):
                u.settimeout(1 + 5 * attempt)
                u.sendto(sent, (sys.argv[1], int(sys.argv[2])))
                try:
                    got, peer = u.recvfrom(1000)
                    while json.loads(got)[0] in old:  # an answer more, to what was sent twice
                        got, peer = u.recvfrom(1000)
                    if json.loads(got) != [sha(sent), [sys.argv[3], u.getsockname()[1]]]:
                        wrong.append([size, got.decode()])
                    break
                except TimeoutError:
                    pass
            else:
                wrong.append([size, "no answer"])
            if attempt:
                old.append(sha(sent))
        print(json.dumps(wrong))
    """, getattr(server, family), port, getattr(client, family), timeout=60)
    process.stop()
    assert wrong == []


REFUSED = """
    answers = []
    for kind in (SOCK_STREAM, SOCK_DGRAM):
        s = socket(AF_INET, kind)
        s.settimeout(0.6)
        try:
            s.connect((sys.argv[1], int(sys.argv[2])))
            for attempt in range(30):  # by UDP, a refusal reaches the program with what it sends next
                try:
                    s.send(b"x")
                    s.recv(1)
                except TimeoutError:
                    pass
            answers.append("nothing")
        except OSError as e:
            answers.append(errno.errorcode.get(e.errno, str(e)))
    print(json.dumps(answers))
"""


def test_the_foreign_kernels_refusal_reaches_us(pair):
    node, foreign = pair
    answers, took = elapsed(python, node, REFUSED, foreign.v4, free_port())
    assert answers == ["ECONNREFUSED", "ECONNREFUSED"] and took < 15


def test_our_refusal_reaches_the_foreign_kernel(pair):
    node, foreign = pair
    answers, took = elapsed(python, foreign, REFUSED, node.v4, free_port())
    assert answers == ["ECONNREFUSED", "ECONNREFUSED"] and took < 15


def test_the_kernels_reset_reaches_us(pair):
    node, foreign = pair
    server = python_spawn(foreign, """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        c, _ = s.accept()
        c.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        c.close()
    """, ready=r"ready \d+")
    out = python(node, """
        try:
            s = tcp(*sys.argv[1:])
            print(repr(s.recv(1)))
        except ConnectionResetError:
            print("reset")
    """, foreign.v4, server.wait_for(r"ready (\d+)").group(1))
    assert out == "reset\n"


@pytest.mark.parametrize("dialler", ["meshd", "wireguard-go"])
def test_one_packet_in_a_hundred_lost(own_pair, dialler):
    node, foreign = own_pair
    for space in (node.place.netns, foreign.place.netns):
        lose(node.lab, space, 1)
    client, server = (node, foreign) if dialler == "meshd" else (foreign, node)
    exchange(client, server, "v4", 5_000_000, 3)


def test_meshd_starts_again(own_pair):
    node, foreign = own_pair
    exchange(foreign, node, size=1000)
    node.stop()
    node.start()
    exchange(node, foreign, size=1_000_000)
    exchange(foreign, node, size=1_000_000)


def test_meshd_is_killed_and_starts_again(own_pair):
    node, foreign = own_pair
    exchange(node, foreign, size=1000)
    node.daemon.stop(signal.SIGKILL)
    node.start()
    # The foreign side has a session we know nothing of; it must not take longer than a handshake.
    exchange(foreign, node, size=1_000_000)
    exchange(node, foreign, size=1_000_000)


def test_wireguard_go_starts_again(own_pair):
    node, foreign = own_pair
    exchange(node, foreign, size=1000)
    foreign.stop()
    foreign.start([node])
    exchange(node, foreign, size=1_000_000)
    exchange(foreign, node, size=1_000_000)


def test_the_foreign_peer_moves(own_pair):
    node, foreign = own_pair
    space = foreign.place.netns
    exchange(node, foreign, size=1000)
    node.lab.run(["ip", "-n", space, "addr", "flush", "dev", "eth0"])
    node.lab.run(["ip", "-n", space, "addr", "add", "192.0.2.22/24", "dev", "eth0"])
    exchange(foreign, node, size=1_000_000)  # it speaks first, and so we learn
    exchange(node, foreign, size=1_000_000)


@pytest.mark.parametrize("number", [0, 1], ids=["meshd", "wireguard-go"])
def test_a_stream_outlives_rekeys(early_rekeys, number):
    """After 120 s its initiator makes new keys; nothing may be lost, nor wait."""
    pair = early_rekeys[number]
    while time.monotonic() < pair.begun + 128:
        assert pair.client.popen.poll() is None, pair.client.text
        time.sleep(0.5)
    last = pair.foreign.ask("get=1\n")["last_handshake_time_sec"]
    rounds, longest = pair.finish()
    assert int(last) >= int(pair.first) + 115
    assert int(rounds) > 200 and float(longest) < 4
