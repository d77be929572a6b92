"""What programs see of addresses and names: their own, their peer's, and who reaches whom."""
import json

import pytest

from worlds import free_port, python, python_spawn

# Serves TCP and UDP on one port of argv[1]; tells each client what it saw.
SERVER = """
    host, port, v6only = sys.argv[1], int(sys.argv[2]), {"1": 1, "0": 0, "-": None}[sys.argv[3]]
    t = listener(host, port, v6only)
    u = socket(family_of(host), SOCK_DGRAM)
    if v6only is not None:
        u.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, v6only)
    u.bind((host, port))
    def over_tcp():
        while True:
            c, peer = t.accept()
            seen = {"accept": peer[:2], "getpeername": c.getpeername()[:2], "getsockname": c.getsockname()[:2]}
            c.sendall(json.dumps(seen).encode())
            c.close()
    threading.Thread(target=over_tcp, daemon=True).start()
    say("ready")
    while True:
        data, ancillary, flags, peer = u.recvmsg(65536)
        u.sendto(json.dumps({"recvmsg": peer[:2], "data": data.decode()}).encode(), peer)
"""

# Asks such a server by TCP, then by UDP, connected and not.
CLIENT = """
    host, port = sys.argv[1], int(sys.argv[2])
    answer = {}
    try:
        s = tcp(host, port, 10)
        answer["tcp"] = dict(json.loads(recv_all(s)), me=s.getsockname()[:2], peer=s.getpeername()[:2])
    except OSError as e:
        answer["tcp"] = errno.errorcode[e.errno] if e.errno else str(e)
    for how in ("sendto", "connected"):
        u = socket(family_of(host), SOCK_DGRAM)
        u.settimeout(0.6)
        try:
            if how == "connected":
                u.connect((host, port))
            # A refusal reaches the program with what it sends next.
            for attempt in range(5 if how == "sendto" and isinstance(answer["tcp"], str) else 30):
                try:
                    u.send(b"hello") if how == "connected" else u.sendto(b"hello", (host, port))
                    data, peer = u.recvfrom(65536)
                    break
                except TimeoutError:
                    data, peer = b'"nothing"', None
            answer[how] = dict(json.loads(data), me=u.getsockname()[:2], peer=peer[:2]) if peer else "nothing"
        except OSError as e:
            answer[how] = errno.errorcode[e.errno] if e.errno else str(e)
    print(json.dumps(answer))
"""


def serve(node, host, v6only="-", port=None, **options):
    port = port or free_port()
    server = python_spawn(node, SERVER, host, port, v6only, **options)
    server.port = port
    return server


def mapped(address, is_mapped):
    return f"::ffff:{address}" if is_mapped else address


def check_answer(answer, client, server, port, is_mapped=False):
    """Both ends agree, and everybody has the mesh addresses and the true ports."""
    seen = answer["tcp"]
    me, peer = [client[0], seen["me"][1]], [server, port]
    assert (seen["me"], seen["peer"]) == (me, peer)
    me_there = [mapped(client[0], is_mapped), me[1]]
    assert seen["accept"] == seen["getpeername"] == me_there
    assert seen["getsockname"] == [mapped(server, is_mapped), port]
    for how in ("sendto", "connected"):
        seen = answer[how]
        assert seen["data"] == "hello" and seen["peer"] == peer
        assert seen["recvmsg"] == [mapped(client[0], is_mapped), seen["me"][1]]
    assert answer["connected"]["me"][0] == client[0]


@pytest.mark.parametrize("bound", ["any", "mesh", "dual"])
@pytest.mark.parametrize("family", ["v4", "v6"])
def test_both_ends_see_mesh_addresses_and_true_ports(world, family, bound):
    if bound == "dual":
        host, v6only = "::", "0"
    else:
        any_address = "0.0.0.0" if family == "v4" else "::"
        host, v6only = (any_address if bound == "any" else getattr(world.b, family)), "-"
    server = serve(world.b, host, v6only)
    target = getattr(world.b, family)
    answer = python(world.a, CLIENT, target, server.port)
    server.stop()
    check_answer(answer, [getattr(world.a, family)], target, server.port, bound == "dual" and family == "v4")


def test_mapped_address_is_dialled_from_a_v6_socket(world):
    server = serve(world.b, "0.0.0.0")
    answer = python(world.a, CLIENT, f"::ffff:{world.b.v4}", server.port)
    server.stop()
    assert answer["tcp"]["accept"][0] == world.a.v4
    assert answer["tcp"]["me"][0] == f"::ffff:{world.a.v4}"
    assert answer["tcp"]["peer"][0] == f"::ffff:{world.b.v4}"
    for how in ("sendto", "connected"):
        assert answer[how]["peer"] == [f"::ffff:{world.b.v4}", server.port]
        assert answer[how]["recvmsg"][0] == world.a.v4


def test_v6_only_listener_takes_v6_and_refuses_v4(world):
    server = serve(world.b, "::", "1")
    over_v6 = python(world.a, CLIENT, world.b.v6, server.port)
    over_v4 = python(world.a, CLIENT, world.b.v4, server.port)
    server.stop()
    check_answer(over_v6, [world.a.v6], world.b.v6, server.port)
    assert over_v4["tcp"] == "ECONNREFUSED" and over_v4["connected"] == "ECONNREFUSED"


def test_v4_and_v6_listeners_share_a_port(world):
    port = free_port()
    servers = [serve(world.b, "0.0.0.0", port=port), serve(world.b, "::", "1", port=port)]
    over_v4 = python(world.a, CLIENT, world.b.v4, port)
    over_v6 = python(world.a, CLIENT, world.b.v6, port)
    for server in servers:
        server.stop()
    check_answer(over_v4, [world.a.v4], world.b.v4, port)
    check_answer(over_v6, [world.a.v6], world.b.v6, port)


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("bound", ["any", "mesh", pytest.param("loopback", marks=pytest.mark.meshwrap)])
def test_program_reaches_its_own_mesh_address(world, bound, family):
    own = getattr(world.a, family)
    host = {"any": {"v4": "0.0.0.0", "v6": "::"}[family], "mesh": own,
            "loopback": {"v4": "127.0.0.1", "v6": "::1"}[family]}[bound]
    server = serve(world.a, host)
    answer = python(world.a, CLIENT, own, server.port)
    server.stop()
    assert answer["tcp"]["peer"] == [own, server.port]
    assert answer["connected"]["data"] == "hello"
    if bound == "loopback":
        return  # reached as what it is: the peer's address is loopback's
    assert answer["tcp"]["me"][0] == own and answer["tcp"]["accept"] == answer["tcp"]["me"]
    assert answer["tcp"]["getsockname"] == [own, server.port]
    assert answer["connected"]["recvmsg"] == answer["connected"]["me"]


def test_own_mesh_address_with_a_closed_port_is_refused(world):
    answer = python(world.a, CLIENT, world.a.v4, free_port())
    assert answer["tcp"] == "ECONNREFUSED" and answer["connected"] == "ECONNREFUSED"


@pytest.mark.meshwrap
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "::", "::1"])
def test_programs_started_without_the_shim_are_reached(world, host):
    server = serve(world.b, host, wrapped=False)
    family = "v6" if host == "::1" else "v4"
    answer = python(world.a, CLIENT, getattr(world.b, family), server.port)
    over_v6 = python(world.a, CLIENT, world.b.v6, server.port)
    server.stop()
    for seen in (answer, over_v6):
        assert seen["tcp"]["peer"][1] == server.port
        assert seen["connected"]["data"] == "hello" and seen["sendto"]["data"] == "hello"


@pytest.mark.meshwrap
def test_programs_without_the_shim_can_tell_peers_apart(world):
    server = serve(world.b, "0.0.0.0", wrapped=False)
    answer = python(world.a, CLIENT, world.b.v4, server.port)
    server.stop()
    seen = answer["tcp"]["accept"]
    assert seen[0].startswith("127.") and seen[0] != "127.0.0.1"
    assert seen[1] == answer["tcp"]["me"][1]


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_client_keeps_the_address_and_port_it_bound(world, family):
    server = serve(world.b, {"v4": "0.0.0.0", "v6": "::"}[family])
    seen = python(world.a, """
        own, host, port, source = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        answers = []
        for address in (own, "0.0.0.0" if family_of(own) == AF_INET else "::"):
            s = socket(family_of(own))
            s.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            s.bind((address, source))
            bound = s.getsockname()[:2]
            s.settimeout(10)
            s.connect((host, port))
            answers.append([bound, s.getsockname()[:2], json.loads(recv_all(s))["accept"]])
            s.close()
            source += 1
        print(json.dumps(answers))
    """, getattr(world.a, family), getattr(world.b, family), server.port, source := free_port())
    server.stop()
    own = getattr(world.a, family)
    any_address = {"v4": "0.0.0.0", "v6": "::"}[family]
    assert seen == [[[own, source], [own, source], [own, source]],
                    [[any_address, source + 1], [own, source + 1], [own, source + 1]]]


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_datagrams_of_all_sizes(world, family):
    server = python_spawn(world.b, """
        u = socket(family_of(sys.argv[1]), SOCK_DGRAM)
        u.setsockopt(SOL_SOCKET, SO_RCVBUF, 4 << 20)
        u.bind((sys.argv[1], 0))
        say("ready", u.getsockname()[1])
        while True:
            data, peer = u.recvfrom(65536)
            u.sendto(data, peer)
    """, {"v4": "0.0.0.0", "v6": "::"}[family], ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    wrong = python(world.a, """
        u = socket(family_of(sys.argv[1]), SOCK_DGRAM)
        wrong, old = [], []
        sizes = [0, 1, 2, 100, 500, 1000, 1200, 1230, 1231, 1232, 1233, 1252, 1253, 1280, 1371, 1372, 1373, 1391, 1392, 1393,
                 1400, 1420, 1472, 1473, 1500, 2000, 2744, 2745, 4000, 8000, 9000, 16000, 32000, 50000, 60000]
        for size in sizes + random.Random(7).sample(range(1, 60000), 100):
            sent = random.Random(size).randbytes(size)
            for attempt in range(3):
                u.settimeout(1 + 5 * attempt)
                u.sendto(sent, (sys.argv[1], int(sys.argv[2])))
                try:
                    data, peer = u.recvfrom(65536)
                    while data != sent and data in old:  # an answer more, to what was sent twice
                        data, peer = u.recvfrom(65536)
                except TimeoutError:
                    continue
                if data != sent or list(peer[:2]) != [sys.argv[1], int(sys.argv[2])]:
                    wrong.append([size, len(data), peer[:2]])
                break
            else:
                wrong.append([size, "no answer"])
            if attempt:
                old.append(sent)
        print(json.dumps(wrong))
    """, getattr(world.b, family), port, timeout=90)
    server.stop()
    assert wrong == []


def test_a_datagram_too_big_for_ip_is_refused(world):
    errors = python(world.a, """
        u = socket(AF_INET, SOCK_DGRAM)
        try:
            u.sendto(b"x" * 65508, (sys.argv[1], 9))
        except OSError as e:
            print(json.dumps(errno.errorcode[e.errno]))
    """, world.b.v4)
    assert errors == "EMSGSIZE"


def test_names_resolve_to_mesh_addresses(world):
    asked = world.leaked("asked")
    names = python(world.a, """
        def look(*args, **options):
            return sorted({found[4][0] for found in getaddrinfo(*args, **options)})
        print(json.dumps({
            "both": look("node-b", 80), "full": look("node-b.mesh", 80), "v4": look("node-b", 80, AF_INET),
            "v6": look("node-b", 80, AF_INET6), "case": look("NODE-B", None), "self": look("node-a", 1),
            "number": look(sys.argv[1], 80), "gethostbyname": gethostbyname("node-b"),
            "ex": gethostbyname_ex("node-b")[2],
            "service": sorted({found[4][1] for found in getaddrinfo("node-b", "http")}),
            "types": sorted({found[1] for found in getaddrinfo("node-b", 80)}),
            "reverse": getnameinfo((sys.argv[1], 80), 0), "reverse6": getnameinfo((sys.argv[2], 80), 0)[0],
            "numeric": getnameinfo((sys.argv[1], 80), NI_NUMERICHOST | NI_NUMERICSERV),
            "byaddr": gethostbyaddr(sys.argv[1])[0],
        }))
    """, world.b.v4, world.b.v6)
    both = sorted([world.b.v4, world.b.v6])
    assert names["both"] == names["full"] == both
    assert names["v4"] == [world.b.v4] and names["v6"] == [world.b.v6]
    assert world.b.v4 in names["case"]
    assert names["self"] == sorted([world.a.v4, world.a.v6])
    assert names["number"] == [world.b.v4]
    assert names["gethostbyname"] == world.b.v4 and names["ex"] == [world.b.v4]
    assert names["service"] == [80] and names["types"] == [1, 2, 3]
    assert names["reverse"] == ["node-b.mesh", "http"] and names["reverse6"] == "node-b.mesh"
    assert names["numeric"] == [world.b.v4, "80"]
    assert names["byaddr"] == "node-b.mesh"
    assert world.leaked("asked") == asked, "a name server was asked for a mesh name"


@pytest.mark.meshwrap
def test_unknown_names_of_the_mesh_fail_here_and_other_names_are_left_alone(world):
    asked = world.leaked("asked")
    names = python(world.a, """
        start = time.monotonic()
        try:
            gethostbyname("node-x.mesh")
        except gaierror:
            print(json.dumps([gethostbyname("localhost"), time.monotonic() - start < 4]))  # a server is waited for 5 s
    """)
    assert names == ["127.0.0.1", True]
    assert world.leaked("asked") == asked


def test_getent_finds_the_nodes(world):
    found = world.a.run(["getent", "ahosts", "node-b"]).stdout
    assert {line.split()[0] for line in found.splitlines()} == {world.b.v4, world.b.v6}
    assert world.b.v4 in world.a.run(["getent", "ahostsv4", "node-b"]).stdout


def test_interface_list_has_the_mesh_addresses(world):
    listed = world.a.run(["hostname", "-I"]).stdout.split()
    assert world.a.v4 in listed and world.a.v6 in listed


@pytest.mark.meshwrap
def test_interface_names_and_numbers_agree(world):
    names = python(world.a, """
        names = dict((name, number) for number, name in if_nameindex())
        print(json.dumps([names.get("tailscale0"), if_nametoindex("tailscale0"),
                          if_indextoname(if_nametoindex("tailscale0")), "lo" in names]))
    """)
    assert names[0] == names[1] and names[2:] == ["tailscale0", True]


def test_own_mesh_address_can_be_bound_and_others_cannot(world):
    seen = python(world.a, """
        answers = []
        for host in sys.argv[1:]:
            for kind in (SOCK_STREAM, SOCK_DGRAM):
                with socket(family_of(host), kind) as s:
                    try:
                        s.bind((host, 0))
                        answers.append(s.getsockname()[0])
                    except OSError as e:
                        answers.append(errno.errorcode[e.errno])
        print(json.dumps(answers))
    """, world.a.v4, world.a.v6, world.b.v4, world.b.v6)
    assert seen == [world.a.v4] * 2 + [world.a.v6] * 2 + ["EADDRNOTAVAIL"] * 4


def test_udp_connect_tells_the_own_address(world):
    seen = python(world.a, """
        answers = []
        for host in sys.argv[1:]:
            s = socket(family_of(host), SOCK_DGRAM)
            s.connect((host, 9))
            answers += [s.getsockname()[0], s.getpeername()[:2]]
        print(json.dumps(answers))
    """, world.b.v4, world.b.v6)
    assert seen == [world.a.v4, [world.b.v4, 9], world.a.v6, [world.b.v6, 9]]


@pytest.mark.parametrize("port", ["chosen", "the kernel's"])
def test_a_datagram_socket_that_connects_later_misses_nothing(world, port):
    """To connect one on any address gives it an address, and takes the one away at which it was reached."""
    server = python_spawn(world.b, """
        u = socket(AF_INET, SOCK_DGRAM)
        u.bind(("0.0.0.0", 0))
        say("ready", u.getsockname()[1])
        while True:
            data, peer = u.recvfrom(100)
            try:
                u.sendto(b"hello", (peer[0], int(data)))
            except ConnectionRefusedError:
                say("refused")
    """, ready=r"ready \d+")
    got = python(world.a, """
        to = sys.argv[1], int(sys.argv[2])
        u, helper = socket(AF_INET, SOCK_DGRAM), socket(AF_INET, SOCK_DGRAM)
        if sys.argv[3] == "chosen":
            u.bind(("0.0.0.0", 0))
        u.settimeout(5)
        u.sendto(b"9", to)
        own = b"%d" % u.getsockname()[1]
        answers = []
        for step in ("before", "after"):
            if step == "after":
                u.connect(to)
            helper.sendto(own, to)
            answers.append(u.recvfrom(100)[0].decode())
            time.sleep(0.01)
        print(json.dumps([answers, u.getsockname()[0]]))
    """, world.b.v4, server.wait_for(r"ready (\d+)").group(1), port)
    server.stop()
    assert got == [["hello", "hello"], world.a.v4] and "refused" not in server.text


@pytest.mark.meshwrap
def test_a_datagram_socket_goes_in_and_out_of_the_mesh(world):
    """On a real interface it keeps the source that it had first, and is not answered on the other side."""
    server = python_spawn(world.b, """
        u = socket(AF_INET, SOCK_DGRAM)
        u.bind(("0.0.0.0", 0))
        say("ready", u.getsockname()[1])
        while True:
            data, peer = u.recvfrom(99)
            u.sendto(data, peer)
    """, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)")[1]
    outside, connected = "127.0.0.9", []
    if len(world.spaces) == 2:
        outside = "192.0.2.2"
        connected = ["at:outside to:mesh", "at:mesh to:outside", "to:mesh at:mesh to:outside"]  # see limits.md
    got = python(world.a, """
        mesh, outside = (sys.argv[1], int(sys.argv[2])), (sys.argv[3], 9)
        def steps(words):
            u = socket(AF_INET, SOCK_DGRAM)
            u.settimeout(20)
            for word in words.split():
                verb, where = word.split(":")
                where = mesh if where == "mesh" else outside
                try:
                    if verb == "to":
                        u.sendto(b"x", where)
                    else:
                        u.connect(where)
                        if where == mesh:
                            u.send(b"x")
                    if where == mesh:
                        u.recv(9)
                except OSError as e:
                    return [word, errno.errorcode.get(e.errno, str(e))]
        print(json.dumps([steps(words) for words in sys.argv[4:]]))
    """, world.b.v4, port, outside, "to:mesh to:outside to:mesh at:outside at:mesh", "at:mesh at:outside at:mesh at:outside",
                 "to:mesh at:mesh at:outside at:mesh", *connected)
    server.stop(9)
    assert got == [None, None, None, ["to:mesh", "ENETUNREACH"], *[["to:outside", "ENETUNREACH"]] * 2][:len(got)]


def test_two_programs_talk_udp_from_bound_ports(world):
    """Neither side is a client: both have a port and send first, as RTP or a gossip protocol does."""
    ports = free_port(), free_port()
    code = """
        own, other, sent, got = sys.argv[1], sys.argv[2], 0, set()
        u = socket(AF_INET, SOCK_DGRAM)
        u.bind((own if sys.argv[5] == "mesh" else "0.0.0.0", int(sys.argv[3])))
        u.settimeout(0.2)
        say("ready")
        for i in range(60):
            u.sendto(b"%d" % i, (other, int(sys.argv[4])))
            try:
                data, peer = u.recvfrom(100)
                got.add((peer[0], peer[1]))
            except (TimeoutError, ConnectionRefusedError):
                pass
            if len(got) and i > 40:
                break
        say("got", json.dumps(sorted(got)))
    """
    left = python_spawn(world.a, code, world.a.v4, world.b.v4, *ports, "mesh")
    right = python_spawn(world.b, code, world.b.v4, world.a.v4, *reversed(ports), "any")
    assert json.loads(left.wait_for(r"got (.*)\n").group(1)) == [[world.b.v4, ports[1]]]
    assert json.loads(right.wait_for(r"got (.*)\n").group(1)) == [[world.a.v4, ports[0]]]
