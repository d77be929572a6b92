"""The behaviours that tools of this kind get wrong, each with the kernel's own answer to compare with.

BEHAVIOURS says where each is tested. What is in this file passes in the reference world, too. All files it
names run wrapped and traced.
"""
import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from worlds import free_port, python, python_spawn

HERE = "test_behaviours"
BEHAVIOURS = {
    "non-blocking connect is silent until the peer answers": ["test_connect:test_not_writable_before_the_far_side_has_answered",
                                                              "test_connect:test_far_listener_that_is_full_does_not_look_connected"],
    "refused, unreachable and timed out are told apart": ["test_connect:test_closed_port_is_refused",
                                                          "test_connect:test_unknown_peer_is_unreachable_at_once",
                                                          "test_connect:test_peer_that_is_down_times_out_in_the_end"],
    "epoll before connect": ["test_connect:test_connect_succeeds_every_way", f"{HERE}:test_one_socket_in_every_kind_of_epoll"],
    "epoll through io_uring": ["shim/test_uring.c:test_a_poll_by_io_uring_waits_for_the_dial"],
    "a wildcard listener serves the mesh and this machine": [f"{HERE}:test_a_wildcard_listener_knows_where_its_clients_are"],
    "a listener on the mesh address serves the mesh only": [f"{HERE}:test_a_mesh_listener_is_not_reached_otherwise"],
    "EADDRINUSE and SO_REUSEPORT": [f"{HERE}:test_ports_in_use", f"{HERE}:test_listeners_that_share_a_port_share_its_clients"],
    "port 0 and getsockname": [f"{HERE}:test_a_port_of_the_kernels_choice_is_reached"],
    "the own mesh address": ["test_addresses:test_program_reaches_its_own_mesh_address",
                             "test_addresses:test_own_mesh_address_with_a_closed_port_is_refused"],
    "UDP connect tells the own address": ["test_addresses:test_udp_connect_tells_the_own_address",
                                          "test_what_ip:test_udp_connect_to_a_public_address_tells_the_mesh_address"],
    "one UDP socket and many peers": [f"{HERE}:test_a_udp_server_answers_many_by_pktinfo"],
    "large datagrams": ["test_addresses:test_datagrams_of_all_sizes", "test_addresses:test_a_datagram_too_big_for_ip_is_refused"],
    "a refused datagram is ECONNREFUSED": [f"{HERE}:test_a_connected_udp_socket_learns_that_nobody_listens"],
    "half-closed streams": ["test_streams:test_data_after_the_client_has_finished_arrives",
                            "test_streams:test_data_after_the_server_has_finished_arrives"],
    "resets": ["test_streams:test_server_reset_reaches_the_client", "test_streams:test_client_reset_reaches_the_server",
               "test_streams:test_closing_with_unread_data_resets"],
    "backpressure": ["test_streams:test_slow_reader_stops_the_sender"],
    "fork and a shared socket": ["test_programs:test_prefork_server_shares_one_listener",
                                 f"{HERE}:test_a_child_goes_on_when_its_parent_closes"],
    "vfork and posix_spawn among threads": [f"{HERE}:test_a_storm_of_children_among_threads"],
    "exec keeps sockets": [f"{HERE}:test_an_accepted_socket_is_handed_to_a_new_program",
                           "shim/test_process.c:test_a_connection_keeps_its_names_across_exec"],
    "SCM_RIGHTS": [f"{HERE}:test_a_socket_sent_to_another_process"],
    "threads, signals, cancellation": ["shim/test_process.c:test_blocked_calls_are_cancellation_points",
                                       "shim/test_process.c:test_signal_handlers_may_use_the_mesh_while_it_is_used"],
    "early use": [f"{HERE}:test_programs_with_sanitizers_allocators_and_preloads_of_their_own",
                  f"{HERE}:test_programs_built_oddly_need_nothing_but_meshrun"],
    "closed and exhausted descriptors": ["shim/test_process.c:test_it_works_with_every_descriptor_closed",
                                         "shim/test_process.c:test_it_works_without_a_free_descriptor",
                                         f"{HERE}:test_a_daemonised_child_that_closed_everything"],
    "IPv6 and mapped addresses": ["test_addresses:test_mapped_address_is_dialled_from_a_v6_socket",
                                  "test_addresses:test_v6_only_listener_takes_v6_and_refuses_v4",
                                  f"{HERE}:test_one_listener_for_both_families"],
    "the daemon dies and comes back": ["test_daemon:test_a_killed_daemon_cuts_streams_with_an_error",
                                       "test_daemon:test_programs_go_on_when_the_daemon_comes_back"],
}

ECHO = """
    s = listener(sys.argv[1], sys.argv[2], 0 if sys.argv[1] == "::" else None)
    say("ready", s.getsockname()[1])
    while True:
        c, peer = s.accept()
        c.sendall(json.dumps([peer[0], c.getsockname()[0], c.getpeername()[0]]).encode())
        c.close()
"""
HAS_CC = shutil.which("gcc")


def functions_of(file):
    path = Path(__file__).parent / f"{file}.py"
    if file.startswith("shim/"):
        return (Path(__file__).parents[1] / file).read_text()
    tree = ast.parse(path.read_text())
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def test_every_behaviour_is_tested():
    assert len(BEHAVIOURS) == 25
    for behaviour, tests in BEHAVIOURS.items():
        for test in tests:
            file, name = test.split(":")
            assert name in functions_of(file), behaviour


def serve(node, host, port=0):
    server = python_spawn(node, ECHO, host, port, ready=r"ready \d+")
    return server, int(server.wait_for(r"ready (\d+)").group(1))


def ask(node, host, port, **options):
    """What the echo server saw of a client, or the client's errno."""
    return python(node, """
        try:
            print(recv_all(tcp(sys.argv[1], sys.argv[2])).decode())
        except OSError as e:
            print(json.dumps(errno.errorcode[e.errno]))
    """, host, port, **options)


def test_one_socket_in_every_kind_of_epoll(world):
    """Level, edge, one-shot, a second epoll and a nested one: each tells of one connection, in time."""
    server, port = serve(world.b, "0.0.0.0")
    got = python(world.a, """
        s = socket()
        s.setblocking(False)
        level, edge, once, outer = (select.epoll() for _ in range(4))
        level.register(s, select.EPOLLOUT)
        outer.register(level.fileno(), select.EPOLLIN)
        edge.register(s, select.EPOLLOUT | select.EPOLLET)
        once.register(s, select.EPOLLOUT | select.EPOLLONESHOT)
        for ep in (edge, once):
            ep.poll(0)  # a fresh socket is "hung up", which is told at once
        once.modify(s, select.EPOLLOUT | select.EPOLLONESHOT)
        once.poll(0)
        begun = s.connect_ex((sys.argv[1], int(sys.argv[2])))
        once.modify(s, select.EPOLLOUT | select.EPOLLONESHOT)
        def events(ep):
            return [e & select.EPOLLOUT for _, e in ep.poll(5) if e & select.EPOLLOUT and not e & select.EPOLLHUP]
        end, told = time.monotonic() + 20, {}
        while time.monotonic() < end and len(told) < 4:
            for name, ep in (("level", level), ("edge", edge), ("once", once)):
                if name not in told and events(ep):
                    told[name] = True
            if "outer" not in told and outer.poll(0):
                told["outer"] = True
        again = [len(events(level)), len(edge.poll(0)), len(once.poll(0))]
        print(json.dumps([begun == errno.EINPROGRESS, sorted(told), again[0], again[2]]))
    """, world.b.v4, port)
    server.stop()
    assert got == [True, ["edge", "level", "once", "outer"], 1, 0]


def test_a_wildcard_listener_knows_where_its_clients_are(world):
    server, port = serve(world.b, "0.0.0.0")
    assert ask(world.a, world.b.v4, port) == [world.a.v4, world.b.v4, world.a.v4]
    assert ask(world.b, "127.0.0.1", port) == ["127.0.0.1"] * 3
    assert ask(world.b, world.b.v4, port) == [world.b.v4] * 3
    server.stop()


def test_a_mesh_listener_is_not_reached_otherwise(world):
    server, port = serve(world.b, world.b.v4)
    assert ask(world.a, world.b.v4, port)[0] == world.a.v4
    assert ask(world.b, "127.0.0.1", port) == "ECONNREFUSED"
    if len(world.spaces) == 2 and not world.is_reference:
        assert ask(world.a, "192.0.2.2", port) == "ECONNREFUSED"
    server.stop()


def test_ports_in_use(world):
    got = python(world.a, """
        own, answers = sys.argv[1], []
        def take(host, reuse=False, listening=True):
            s = socket(family_of(host))
            if reuse:
                s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
            try:
                s.bind((host, port))
                if listening:
                    s.listen()
                answers.append("taken")
                return s
            except OSError as e:
                answers.append(errno.errorcode[e.errno])
        held = socket()
        held.bind((own, 0))
        held.listen()
        port = held.getsockname()[1]
        a = take(own), take("0.0.0.0"), take("127.0.0.1")
        held.close()
        b = take("0.0.0.0")  # 127.0.0.1 is held by a
        del a
        c = take(own, True), take(own, True), take(own)
        print(json.dumps(answers))
    """, world.a.v4)
    assert got == ["EADDRINUSE", "EADDRINUSE", "taken", "EADDRINUSE", "taken", "taken", "EADDRINUSE"]


def test_listeners_that_share_a_port_share_its_clients(world):
    port = free_port()
    servers = python_spawn(world.b, """
        for i in range(4):
            if os.fork() == 0:
                s = socket()
                s.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
                s.bind((sys.argv[1], int(sys.argv[2])))
                s.listen(128)
                os.write(1, b"up\\n")
                while True:
                    s.accept()[0].sendall(b"%d" % i)
        say("ready")
        time.sleep(60)
    """, world.b.v4, port, ready=r"(?s)(up.*){4}")
    got = python(world.a, """
        seen = [recv_exactly(tcp(sys.argv[1], sys.argv[2]), 1).decode() for _ in range(80)]
        print(json.dumps(sorted(set(seen))))
    """, world.b.v4, port)
    servers.kill(9)
    assert got in (["0", "1", "2", "3"], [0, 1, 2, 3]) or len(got) >= 3


def test_a_port_of_the_kernels_choice_is_reached(world):
    server, port = serve(world.b, "::")
    assert port > 1023
    assert ask(world.a, world.b.v6, port) == [world.a.v6, world.b.v6, world.a.v6]
    server.stop()
    got = python(world.a, """
        s = socket(AF_INET6)
        before = s.getsockname()[:2]
        s.bind(("::", 0))
        print(json.dumps([before, s.getsockname()[0], s.getsockname()[1] > 0]))
    """)
    assert got == [["::", 0], "::", True]


def test_a_udp_server_answers_many_by_pktinfo(world):
    """Each answer leaves from the address that was asked, and gets to the one who asked."""
    server = python_spawn(world.b, """
        s = socket(AF_INET, SOCK_DGRAM)
        s.setsockopt(IPPROTO_IP, 8, 1)  # IP_PKTINFO
        s.bind(("0.0.0.0", 0))
        say("ready", s.getsockname()[1])
        while True:
            data, control, _, peer = s.recvmsg(100, 256)
            index, _, to = struct.unpack("i4s4s", control[0][2])
            known = if_indextoname(index)
            info = struct.pack("i4s4s", 0, to, b"\\0" * 4)
            s.sendmsg([data + b" " + peer[0].encode() + b" " + inet_ntoa(to).encode()],
                      [(IPPROTO_IP, 8, info)], 0, peer)
    """, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    got = python(world.a, """
        wrong = 0
        socks = [socket(AF_INET, SOCK_DGRAM) for _ in range(200)]
        for i, s in enumerate(socks):
            s.settimeout(20)
            s.sendmsg([b"%d" % i], [], 0, (sys.argv[1], int(sys.argv[2])))
        for i, s in enumerate(socks):
            data, peer = s.recvfrom(100)
            if data.split() != [b"%d" % i, sys.argv[3].encode(), sys.argv[1].encode()] or peer[0] != sys.argv[1]:
                wrong += 1
        print(wrong)
    """, world.b.v4, port, world.a.v4)
    server.stop()
    assert got == 0


def test_a_connected_udp_socket_learns_that_nobody_listens(world):
    got = python(world.a, """
        u = socket(AF_INET, SOCK_DGRAM)
        u.connect((sys.argv[1], int(sys.argv[2])))
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                u.send(b"x")
                time.sleep(0.05)
            except OSError as e:
                print(json.dumps(errno.errorcode[e.errno]))
                break
    """, world.b.v4, free_port())
    assert got == "ECONNREFUSED"


def test_a_child_goes_on_when_its_parent_closes(world):
    server = python_spawn(world.b, """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while True:
            c, peer = s.accept()
            if os.fork() == 0:
                s.close()
                time.sleep(0.2)  # the parent has closed it by then
                c.sendall(c.getpeername()[0].encode() + recv_all(c))
                os._exit(0)
            c.close()
    """, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    got = python(world.a, """
        s = tcp(sys.argv[1], sys.argv[2])
        if os.fork() == 0:
            s.sendall(b" from the child")
            s.shutdown(SHUT_WR)
            os._exit(0)
        print(json.dumps(recv_all(s).decode()))
    """, world.b.v4, port)
    server.stop()
    assert got == f"{world.a.v4} from the child"


def test_a_storm_of_children_among_threads(world):
    """subprocess uses vfork: a child must leave no trace in the memory it shares."""
    server, port = serve(world.b, "0.0.0.0")
    got = python(world.a, """
        import subprocess
        host, port, bad = sys.argv[1], sys.argv[2], []
        def dial():
            for _ in range(30):
                if json.loads(recv_all(tcp(host, port)))[0] != sys.argv[3]:
                    bad.append("dial")
        def spawn():
            for i in range(30):
                if subprocess.run(["/bin/sh", "-c", "exit 7"]).returncode != 7:
                    bad.append("spawn")
        threads = [threading.Thread(target=f) for f in (dial, spawn) * 4]
        for t in threads: t.start()
        for t in threads: t.join()
        print(json.dumps(bad))
    """, world.b.v4, port, world.a.v4, timeout=60)
    server.stop()
    assert got == []


def test_an_accepted_socket_is_handed_to_a_new_program(world):
    """As inetd does it, with an environment of the parent's making."""
    server = python_spawn(world.b, """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        while True:
            c, _ = s.accept()
            if os.fork() == 0:
                os.dup2(c.fileno(), 0)
                os.dup2(c.fileno(), 1)
                os.execve(sys.executable, [sys.executable, "-c", "import socket; s = socket.socket(fileno=0); "
                          "print(s.getpeername()[0], s.getsockname()[0])"], {"PATH": "/bin:/usr/bin"})
            c.close()
    """, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    got = python(world.a, "print(json.dumps(recv_all(tcp(sys.argv[1], sys.argv[2])).decode()))", world.b.v4, port)
    server.stop()
    assert got.split() == [world.a.v4, world.b.v4]


@pytest.mark.parametrize("receiver", ["wrapped", "plain"])
def test_a_socket_sent_to_another_process(world, receiver):
    """A process without the shim can use it all the same, and sees the peer's stand-in on loopback."""
    server, port = serve(world.b, "0.0.0.0")
    path = f"@{world.name}-rights-{receiver}-{port}"
    other = python_spawn(world.a, """
        u = socket(AF_UNIX)
        u.bind("\\0" + sys.argv[1][1:])
        u.listen()
        say("ready")
        c, _ = u.accept()
        _, fds, _, _ = recv_fds(c, 10, 1)
        s = socket(fileno=fds[0])
        s.setblocking(True)  # the sender had a time limit, which is a flag of the open socket
        say("got", s.getpeername()[0], recv_all(s).decode())
    """, path, wrapped=receiver == "wrapped")
    python(world.a, """
        s = tcp(sys.argv[2], sys.argv[3])
        u = socket(AF_UNIX)
        u.connect("\\0" + sys.argv[1][1:])
        send_fds(u, [b"x"], [s.fileno()])
    """, path, world.b.v4, port)
    peer, seen = other.wait_for(r"got (\S+) (.*)\n").groups()
    server.stop()
    assert json.loads(seen) == [world.a.v4, world.b.v4, world.a.v4]
    if receiver == "wrapped" or world.is_reference:
        assert peer == world.b.v4
    else:
        assert peer.startswith("127.")


PROBE = r"""
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static int early = -1;
__attribute__((constructor)) static void before_main(void)
{
	early = socket(AF_INET, SOCK_STREAM, 0);
}
int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
	char *text = calloc(1, 200);
	ssize_t n, len = 0;

	inet_pton(AF_INET, argv[1], &to.sin_addr);
	if (connect(early, (struct sockaddr *)&to, sizeof(to)) < 0) {
		perror("connect");
		return 1;
	}
	while ((n = recv(early, text + len, 199 - len, 0)) > 0)
		len += n;
	puts(text);
	free(text);
	return 0;
}
"""
PRELOADED = """
#include <sys/socket.h>
#include <unistd.h>
__attribute__((constructor)) static void before_main(void)
{
	close(socket(AF_INET, SOCK_DGRAM, 0));
}
"""


@pytest.mark.skipif(not HAS_CC, reason="needs a C compiler")
@pytest.mark.meshwrap
@pytest.mark.parametrize("kind", ["gcc -fsanitize=address", "gcc -fsanitize=thread", "gcc -fsanitize=undefined",
                                  "clang -fsanitize=address", "clang -fsanitize=thread", "clang -fsanitize=memory",
                                  "gcc -Wl,--no-as-needed -l:libjemalloc.so.2", "gcc -static-pie"])
def test_programs_built_oddly_need_nothing_but_meshrun(world, kind):
    """Started by meshrun, and by a shell with an environment of its own."""
    compiler, *flags = kind.split()
    source = world.a.write(world.a.home / "probe.c", PROBE)
    program = world.a.home / re.sub(r"\W", "-", kind)
    if not shutil.which(compiler) or subprocess.run([compiler, "-g", "-o", program, source, *flags],
                                                    capture_output=True, check=False).returncode:
        pytest.skip(f"cannot build with {kind}")
    server, port = serve(world.b, "0.0.0.0")
    # Some sanitizers want the layout of memory that a kernel without randomness gives.
    front = ["setarch", "-R", world.lab.binary("meshrun"), "--"]
    own = "ASAN_OPTIONS=detect_leaks=0"
    for words in ([], ["/bin/sh", "-c", '"$@"; true', "sh"], ["env", "-i"], ["env", own], ["env", "-i", own]):
        done = world.a.run([*front, *words, program, world.b.v4, str(port)], wrapped=False)
        assert json.loads(done.stdout) == [world.a.v4, world.b.v4, world.a.v4] and done.stderr == "", words
    server.stop()


@pytest.mark.skipif(not HAS_CC, reason="needs a C compiler")
@pytest.mark.parametrize("kind", ["plain", "address", "thread", "undefined", "jemalloc", "own-first", "own-last"])
def test_programs_with_sanitizers_allocators_and_preloads_of_their_own(world, kind):
    place, preload = world.a.home, []
    source = world.a.write(place / "probe.c", PROBE)
    program = place / f"probe-{kind}"
    flags = [f"-fsanitize={kind}"] if kind in ("address", "thread", "undefined") else []
    subprocess.run(["gcc", "-g", "-o", program, source, *flags], check=True)
    if kind == "jemalloc":
        found = list(Path("/usr/lib").glob("*/libjemalloc.so.2"))
        if not found:
            pytest.skip("jemalloc is not installed")
        preload = [str(found[0])]
    if kind.startswith("own"):
        library = place / "own.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, world.a.write(place / "own.c", PRELOADED)], check=True)
        preload = [str(library)]
    if kind == "address":
        preload = [subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True,
                                  check=True).stdout.strip()]
    shim = [] if world.is_reference else [str(world.lab.binary("shim"))]
    order = shim + preload if kind == "own-last" else preload + shim
    server, port = serve(world.b, "0.0.0.0")
    words = ["env", *([f"LD_PRELOAD={':'.join(order)}"] if order else []), program, world.b.v4, str(port)]
    # A thread sanitizer wants the layout of memory that a kernel without randomness gives.
    words = ["setarch", "-R", *words] if kind == "thread" else words
    out = world.a.run(words, wrapped=False).stdout
    server.stop()
    assert json.loads(out) == [world.a.v4, world.b.v4, world.a.v4]


def test_a_daemonised_child_that_closed_everything(world):
    server, port = serve(world.b, "0.0.0.0")
    out = world.a.home / "daemonised"
    got = python(world.a, """
        import resource
        out = sys.argv[3]
        if os.path.exists(out):
            os.unlink(out)
        if os.fork() == 0:
            os.setsid()
            if os.fork():
                os._exit(0)
            os.closerange(0, 65536)
            s = socket()  # becomes descriptor 0
            s.connect((sys.argv[1], int(sys.argv[2])))
            text = recv_all(s)
            os.chdir("/")
            with open(out + ".new", "wb") as f:
                f.write(b"%d " % s.fileno() + text)
            os.rename(out + ".new", out)
            os._exit(0)
        end = time.monotonic() + 20
        while not os.path.exists(out) and time.monotonic() < end:
            time.sleep(0.02)
        number, text = open(out).read().split(" ", 1)
        # With no descriptor left a connect fails for that reason, and works again afterwards.
        s, taken = socket(), []
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        try:
            while True:
                taken.append(os.dup(0))
        except OSError as e:
            reason = e.errno
        first = s.connect_ex((sys.argv[1], int(sys.argv[2])))
        for fd in taken:
            os.close(fd)
        second = s.connect_ex((sys.argv[1], int(sys.argv[2]))) if first else 0
        print(json.dumps([int(number), json.loads(text), reason == errno.EMFILE,
                          first in (0, errno.ENOBUFS), second]))
    """, world.b.v4, port, out)
    server.stop()
    assert got == [0, [world.a.v4, world.b.v4, world.a.v4], True, True, 0]


def test_one_listener_for_both_families(world):
    """A socket for both shows IPv4 clients as mapped, each end of them."""
    server, port = serve(world.b, "::")
    mapped = ["::ffff:" + world.a.v4, "::ffff:" + world.b.v4, "::ffff:" + world.a.v4]
    assert ask(world.a, world.b.v4, port) == mapped
    assert ask(world.a, world.b.v6, port) == [world.a.v6, world.b.v6, world.a.v6]
    server.stop()
