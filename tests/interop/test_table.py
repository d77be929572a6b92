"""Every kind of node with every kind of node, directly and relayed, in every way programs talk."""
import json
import re
from itertools import product

import pytest

PARTNERS = ["userspace", "tun", "ours"]
CELLS = list(product(PARTNERS, ["direct", "relayed"]))
SLOW = [("tun", "relayed"), ("ours", "relayed")]


@pytest.fixture(scope="module", params=[
    pytest.param(cell, marks=[pytest.mark.slow] if cell in SLOW else []) for cell in CELLS],
    ids=["-".join(cell) for cell in CELLS])
def pair(request, net):
    """(ours, the other, is_relayed); the relayed path is made by a router that lets no UDP through."""
    other, path = request.param
    site = "blocked" if path == "relayed" else "plain"
    ours, other = net.nodes(("ours", site), (other, "plain", 1))
    ours.wait_peer(other.name)
    other.wait_peer(ours.name)
    yield ours, other, path == "relayed"


@pytest.fixture(params=["ours dials", "the other dials"])
def way(request, pair):
    """(client, server)"""
    ours, other, _ = pair
    return (ours, other) if request.param == "ours dials" else (other, ours)


ECHO_ALL = """
    s = listener(sys.argv[1], backlog=512)
    say("ready", s.getsockname()[1])
    def serve(c):
        while data := c.recv(65536):
            c.sendall(data)
        c.close()
    while True:
        c, _ = s.accept()
        threading.Thread(target=serve, args=(c,), daemon=True).start()
    """


@pytest.mark.parametrize("family", [4, 6])
def test_tcp_carries_a_conversation(way, family):
    client, server = way
    with server.served(ECHO_ALL, "::" if family == 6 else "0.0.0.0") as port:
        client.program("""
            s = dial(sys.argv[1], sys.argv[2])
            for n in range(50):
                s.sendall(block(n, 1000))
                assert recv_exactly(s, 1000) == block(n, 1000), n
            s.shutdown(SHUT_WR)
            assert s.recv(1) == b""
            """, server.v6 if family == 6 else server.v4, port)


# The server does what the first line of a connection asks for and remembers how it went; "how" asks for that.
ENDS = """
    import queue
    SIZE = 300_000
    s = listener(sys.argv[1])
    say("ready", s.getsockname()[1])
    hard = struct.pack("ii", 1, 0)
    def how_it_ends(c):
        try:
            data = recv_all(c)
        except ConnectionResetError:
            return "reset"
        return "whole" if data == block(2, 8) * (SIZE // 8) else f"{len(data)} bytes"
    def send_all(c):
        c.sendall(block(1, 8) * (SIZE // 8))
    def serve(c, asked):
        if asked == "client first":
            how = how_it_ends(c)
            send_all(c)
            c.close()
            return how
        if asked == "client resets":
            c.sendall(b"go")
            return how_it_ends(c)
        if asked == "server resets":
            c.sendall(b"some")
            recv_exactly(c, 4)
            c.setsockopt(SOL_SOCKET, SO_LINGER, hard)
            c.close()
            return "reset"
        send_all(c)  # "server first", "both at once"
        c.shutdown(SHUT_WR)
        return how_it_ends(c)
    how = queue.Queue()
    def one(c):
        asked = recv_exactly(c, 16).decode().strip()
        if asked == "how":
            c.sendall(how.get(timeout=20).encode())
        else:
            how.put(serve(c, asked))
        c.close()
    while True:
        threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()
    """


@pytest.mark.parametrize("family", [4, 6])
def test_every_way_to_end_a_connection(way, family):
    """Active, passive and simultaneous close, half-close each way, a reset from each end."""
    client, server = way
    with server.served(ENDS, "::" if family == 6 else "0.0.0.0") as port:
        ends = client.program("""
            SIZE = 300_000
            def ask(what):
                s = dial(sys.argv[1], sys.argv[2])
                s.settimeout(20)
                s.sendall(what.ljust(16).encode())
                return s
            def send_all(s):
                s.sendall(block(2, 8) * (SIZE // 8))
            def how_it_ends(s):
                try:
                    data = recv_all(s)
                except ConnectionResetError:
                    return "reset"
                return "whole" if data == block(1, 8) * (SIZE // 8) else f"{len(data)} bytes"
            ends = {}
            for what in "client first", "server first", "both at once", "client resets", "server resets":
                s = ask(what)
                if what == "client first":
                    send_all(s)
                    s.shutdown(SHUT_WR)
                    mine = how_it_ends(s)
                elif what == "server first":
                    mine = how_it_ends(s)
                    try:
                        send_all(s)
                        s.shutdown(SHUT_WR)
                    except OSError:
                        mine += ", then closed"
                elif what == "both at once":
                    send_all(s)
                    s.shutdown(SHUT_WR)
                    mine = how_it_ends(s)
                elif what == "client resets":
                    assert recv_exactly(s, 2) == b"go"
                    s.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
                    mine = "reset"
                else:
                    assert recv_exactly(s, 4) == b"some"
                    s.sendall(b"more")
                    mine = how_it_ends(s)
                s.close()
                ends[what] = [mine, recv_all(ask("how")).decode()]
            print(json.dumps(ends))
            """, server.v6 if family == 6 else server.v4, port, timeout=120)
    if server.name.startswith("userspace") or client.name.startswith("userspace"):
        # It hands a reset on as an end, and its proxy ends both directions with the first.
        assert ends.pop("client resets") == ["reset", "0 bytes"]
        assert ends.pop("server resets") == ["0 bytes", "reset"]
    else:
        assert ends.pop("client resets") == ends.pop("server resets") == ["reset", "reset"]
    if client.name.startswith("userspace"):
        assert ends["client first"][1] == "whole" and ends["server first"][0].startswith("whole")
    else:
        assert ends == {what: ["whole", "whole"] for what in ("client first", "server first", "both at once")}


def test_udp_carries_datagrams_of_many_sizes(way):
    client, server = way
    with server.served("""
            s = socket(AF_INET, SOCK_DGRAM)
            s.bind(("0.0.0.0", 0))
            say("ready", s.getsockname()[1])
            while True:
                data, who = s.recvfrom(65536)
                s.sendto(data, who)
            """) as port:
        lost = client.program("""
            d = Datagrams(sys.argv[1], sys.argv[2], timeout=1)
            lost = 0
            for size in [1, 100, 1200, 1252] * 10:
                for attempt in range(4):
                    d.send(block(size, max(size, 9))[:size])
                    try:
                        assert d.recv() == block(size, max(size, 9))[:size], size
                        break
                    except TimeoutError:
                        lost += 1
                else:
                    raise SystemExit(f"nothing came back of {size} bytes")
            say(lost)
            """, server.v4, port)
        assert lost <= 3


def test_icmp_echo_is_answered(way):
    client, server = way
    client.echo_request(server.v4)


def test_tailscale_ping_is_answered_on_the_path_that_should_be(way, pair):
    client, server = way
    relayed = pair[2]
    said = client.ping(server.v4, "-c", "5", *(["--until-direct=false"] if relayed else []))
    line = r"^pong from (\S+) \(%s\) via (DERP\(lab1\)|10\.77\.\d+\.\d+:\d+) in \d+m?s$" % re.escape(server.v4)
    pongs = re.findall(line, said, re.MULTILINE)
    assert pongs and len(pongs) == len(said.strip().splitlines()), said
    assert {name for name, _ in pongs} == {server.name}
    assert relayed == pongs[-1][1].startswith("DERP"), said


@pytest.mark.parametrize("kind", ["--tsmp"])
def test_other_pings_are_answered(way, kind):
    client, server = way
    assert f"pong from {server.name} ({server.v4}" in client.ping(server.v4, kind, "-c", "3")


@pytest.mark.parametrize("direction", ["push", "pull"])
def test_100_megabytes_arrive_whole(pair, direction):
    ours, other, _ = pair
    with other.served("""
            s = listener("0.0.0.0")
            say("ready", s.getsockname()[1])
            while True:
                c, _ = s.accept()
                if recv_exactly(c, 4) == b"push":
                    h, total = hashlib.sha256(), 0
                    while data := c.recv(1 << 20):
                        h.update(data)
                        total += len(data)
                    c.sendall(f"{total} {h.hexdigest()}".encode())
                else:
                    for n in range(1600):
                        c.sendall(block(n, 65536))
                c.close()
            """) as port:
        ours.program("""
            expected = hashlib.sha256()
            for n in range(1600):
                expected.update(block(n, 65536))
            s = dial(sys.argv[1], sys.argv[2])
            s.settimeout(60)
            s.sendall(sys.argv[3].encode())
            if sys.argv[3] == "push":
                for n in range(1600):
                    s.sendall(block(n, 65536))
                s.shutdown(SHUT_WR)
                assert recv_all(s).decode() == f"{1600 * 65536} {expected.hexdigest()}"
            else:
                h, total = hashlib.sha256(), 0
                while data := s.recv(1 << 20):
                    h.update(data)
                    total += len(data)
                assert (total, h.hexdigest()) == (1600 * 65536, expected.hexdigest())
            """, other.v4, port, direction, timeout=90)


def test_200_connections_at_once(way):
    client, server = way
    with server.served(ECHO_ALL, "0.0.0.0") as port:
        client.program("""
            failures, gate = [], threading.Barrier(200)
            def one(n):
                try:
                    s = dial(sys.argv[1], sys.argv[2], 30)
                    gate.wait(30)  # all 200 are open now
                    s.sendall(block(n, 3000))
                    if recv_exactly(s, 3000) != block(n, 3000):
                        failures.append(n)
                    s.close()
                except BaseException as e:
                    failures.append(f"{n}: {e!r}")
            threads = [threading.Thread(target=one, args=(n,)) for n in range(200)]
            for t in threads: t.start()
            for t in threads: t.join()
            assert not failures, failures[:5]
            """, server.v4, port, timeout=60)


def test_a_port_nobody_listens_on_is_refused(way):
    client, server = way
    client.program("""
        try:
            dial(sys.argv[1], 9)
        except ConnectionRefusedError:
            pass
        else:
            raise SystemExit("connected")
        """, server.v4)


def test_the_real_status_shows_ours_as_its_own_kind(pair, net):
    ours, other, relayed = pair
    other.ping(ours.v4, "-c", "3", check=False)
    own_kind = net.node("userspace" if other.name.startswith("tun") else "tun", "plain", 1)
    shown, usual = (other.wait_peer(node.name, lambda peer: peer and peer["Relay"]) for node in (ours, own_kind))
    assert shown["DNSName"] == f"{ours.name}.mesh.test."
    assert shown["HostName"] == ours.name
    assert shown["OS"] == usual["OS"] == "linux"
    assert shown["Relay"] == usual["Relay"] == "lab1"
    assert shown["TailscaleIPs"] == ours.addresses
    assert shown["UserID"] == usual["UserID"]
    # PeerAPI is what a node offers to Taildrop and exit-node clients: not ours to offer.
    optional = {"PeerAPIURL", "sshHostKeys", "CapMap", "Capabilities", "KeyExpiry"}
    assert set(shown) - optional == set(usual) - optional
    for flag in ("Online", "InNetworkMap", "InMagicSock", "InEngine"):
        assert shown[flag] is True, flag
    assert shown["LastHandshake"][:4] != "0001"
    assert bool(shown["CurAddr"]) == (not relayed)
    line = next(line for line in other.ctl("status").stdout.splitlines() if f" {ours.name} " in line)
    path = re.escape(shown["CurAddr"]) if not relayed else ""
    assert re.search(rf'active; direct {path}' if not relayed else r'active; relay "lab1"', line), line


def test_the_real_whois_knows_ours(pair):
    ours, other, _ = pair
    whois = json.loads(other.ctl("whois", "--json", f"{ours.v4}:1234").stdout)
    assert whois["Node"]["Name"] == f"{ours.name}.mesh.test."
    assert whois["Node"]["Addresses"] == [f"{ours.v4}/32", f"{ours.v6}/128"]
    assert whois["Node"]["Hostinfo"]["OS"] == "linux"
    assert whois["Node"]["Hostinfo"]["Hostname"] == ours.name
    assert whois["UserProfile"]["LoginName"]
    assert whois["Node"]["MachineAuthorized"] is True


# What programs read of it.
WHOIS = ("ID", "StableID", "Name", "ComputedName", "ComputedNameWithHost", "User", "Key", "Addresses", "AllowedIPs",
         "MachineAuthorized")


def test_our_whois_knows_the_real_one(pair):
    ours, other, _ = pair
    mine = json.loads(ours.ctl("whois", "--json", other.v4).stdout)
    usual = json.loads(other.ctl("whois", "--json", other.v4).stdout)
    assert [mine["Node"][key] for key in WHOIS] == [usual["Node"][key] for key in WHOIS]
    assert mine["Node"]["Name"] == f"{other.name}.mesh.test."
    assert mine["Node"]["Addresses"] == [f"{other.v4}/32", f"{other.v6}/128"]
    assert mine["UserProfile"]["LoginName"]
    text = ours.ctl("whois", f"{other.v4}:80").stdout
    assert re.search(rf"^Machine:\n  Name: +{other.name}\.mesh\.test$", text, re.MULTILINE), text
    refused = ours.ctl("whois", "100.64.99.99", check=False)
    assert refused.returncode == 1 and "peer not found" in refused.stderr + refused.stdout


def test_our_status_shows_the_real_one(pair):
    ours, other, relayed = pair
    ours.ping(other.v4, "-c", "3", check=False)
    shown = ours.wait_peer(other.name)
    assert shown["TailscaleIPs"] == other.addresses
    assert shown["Online"] is True and shown["Relay"] == "lab1"
    assert bool(shown["CurAddr"]) == (not relayed)
    line = next(line for line in ours.ctl("status").stdout.splitlines() if f" {other.name} " in line)
    assert re.match(rf"{other.v4} +{other.name} +\S+ +linux +active; ", line), line
    assert ours.ctl("ip", "-4", other.name).stdout.strip() == other.v4
    assert ours.ctl("ip").stdout.split() == ours.addresses


def test_netcheck_agrees_with_the_router(pair):
    ours, _, relayed = pair
    report = json.loads(ours.ctl("netcheck", "--format", "json").stdout)
    assert report["UDP"] is not relayed
    assert report["PreferredDERP"] == 900 or relayed
    if not relayed:
        assert re.fullmatch(r"10\.77\.\d+\.2:\d+", report["GlobalV4"])
        assert list(report["RegionLatency"]) == ["900"] and report["RegionLatency"]["900"] > 0
    assert "* Nearest DERP:" in ours.ctl("netcheck").stdout
