"""meshctl reload: a WireGuard file that has changed, while programs and their flows go on."""
import json
import os
import re
import signal
from pathlib import Path
from subprocess import PIPE

import pytest

from worlds import CAN_NETNS, NOBODY, Peer, Place, Traced, echo_server, needs_netns, python_spawn, rented, wait_until

from lab import new_keys
from test_cli import check_sentence, run_meshd

pytestmark = pytest.mark.meshwrap


@pytest.fixture
def three(lab):
    """node-a and node-b know each other; node-c knows node-a, which does not know it yet."""
    place = Place(lab.namespace("reload") if CAN_NETNS else None, rented("user"))
    a, b, c = (lab.node(f"node-{'abc'[i]}", i + 1, place) for i in range(3))
    a.write_config([b])
    b.write_config([a])
    c.write_config([a])
    for node in (a, b, c):
        node.start()
    yield a, b, c
    for node in (a, b, c):
        node.check_logs()


def reload(node, **counts):
    """Reads the file again, and insists on how many peers were added and so on."""
    said = json.loads(node.ctl("reload", "--json").stdout)
    assert said == {**{"Added": 0, "Changed": 0, "Removed": 0, "Unchanged": 0}, **counts}


@pytest.fixture
def port_a(three):
    yield from echo_server(three[0], "::")


@pytest.fixture
def port_b(three):
    yield from echo_server(three[1], "::")


@pytest.fixture
def port_c(three):
    yield from echo_server(three[2], "::", datagrams=True)


class Transfer:
    """Bytes from one node to the other until they are enough, byte for byte the same."""

    def __init__(self, sender, receiver):
        self.receiver = python_spawn(receiver, """
            s = listener("0.0.0.0")
            say("ready", s.getsockname()[1])
            c, _ = s.accept()
            got, count = hashlib.sha256(), 0
            while data := c.recv(1 << 20):
                got.update(data)
                count += len(data)
            say("got", count, got.hexdigest())
        """, ready=r"ready \d+")
        self.sender = python_spawn(sender, """
            s = tcp(*sys.argv[1:])
            sent, count = hashlib.sha256(), 0
            said = "begun"
            while not select.select([sys.stdin], [], [], 0)[0]:
                data = random.randbytes(50_000)
                s.sendall(data)
                sent.update(data)
                count += len(data)
                time.sleep(0.01)
                if said:
                    say(said)
                    said = None
            s.shutdown(SHUT_WR)
            say("sent", count, sent.hexdigest())
        """, receiver.v4, self.receiver.wait_for(r"ready (\d+)").group(1), stdin=PIPE, ready="begun")

    def finish(self):
        self.sender.popen.stdin.close()
        sent = self.sender.wait_for(r"sent (\d+ \w+)", 30).group(1)
        assert self.receiver.wait_for(r"got (\d+ \w+)", 30).group(1) == sent


class User:
    """One program that does what it is told, so that it is older than what it meets."""

    def __init__(self, node):
        self.count = 0
        self.process = python_spawn(node, """
            def attempt(function):
                try:
                    return function()
                except gaierror as e:
                    return "gaierror"
                except TimeoutError:
                    return "ETIMEDOUT"
                except OSError as e:
                    return errno.errorcode.get(e.errno, str(e))
            def echo(s):
                s.sendall(b"ping")
                return recv_exactly(s, 4).decode()
            def connect(name, host, port):
                open_ones[name] = create_connection((host, int(port)), 10)
                return echo(open_ones[name])
            def udp(host, port):
                s = socket(family_of(host), SOCK_DGRAM)
                s.settimeout(10)
                s.sendto(b"pong", (host, int(port)))
                return s.recv(4).decode()
            def resolve(name):
                return " ".join(sorted({i[4][0] for i in getaddrinfo(name, 80)}))
            def wait_for_the_end(name):
                open_ones[name].settimeout(20)
                return "end" if open_ones[name].recv(1) == b"" else "data"
            open_ones = {}
            say("ready")
            for line in sys.stdin:
                number, what = line.strip().split(" ", 1)
                say("answer", number, attempt(lambda: eval(what)))
        """, stdin=PIPE)

    def ask(self, what):
        self.count += 1
        self.process.popen.stdin.write(f"{self.count} {what}\n".encode())
        self.process.popen.stdin.flush()
        return self.process.wait_for(rf"answer {self.count} (.*)", 40).group(1)


def test_a_peer_comes_changes_and_goes_while_a_transfer_with_another_goes_on(three, port_b, port_c):
    a, b, c = three
    transfer, user = Transfer(a, b), User(a)
    assert user.ask(f'connect("b", "node-b", {port_b})') == "ping"
    assert user.ask(f'connect("c", "node-c", {port_c})') == "gaierror"
    assert user.ask(f'connect("c", "{c.v4}", {port_c})') == "EHOSTUNREACH"

    # It comes.
    a.write_config([b, c])
    assert a.ctl("reload").stdout == "peers: 1 added, 0 changed, 0 removed, 1 as before\n"
    for host in ("node-c", "node-c.mesh", c.v4, c.v6):
        assert user.ask(f'connect("c", "{host}", {port_c})') == "ping"
    assert user.ask(f'udp("{c.v4}", {port_c})') == "pong"
    assert set(user.ask('resolve("node-c")').split()) == {c.v4, c.v6}
    assert {"node-b", "node-c"} <= set(a.ctl("status").stdout.split())
    # And is a peer as any other: it calls, and is seen as what it is.
    server = python_spawn(a, """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        print(s.accept()[1][0], flush=True)
    """, ready=r"ready \d+")
    c.run(["nc", "-zw", "10", a.v4, server.wait_for(r"ready (\d+)").group(1)])
    server.wait_for(re.escape(c.v4))

    # It changes: a name, an address more, a port. Its flows go on under the same session.
    text = a.config.read_text()
    text = text.replace("# Name = node-c", "# Name = gpu-7\nPersistentKeepalive = 5")
    text = text.replace(f"AllowedIPs = {c.v4}/32", f"AllowedIPs = 100.64.9.0/24, {c.v4}/32")
    a.config.write_text(text)
    reload(a, Changed=1, Unchanged=1)
    assert user.ask('echo(open_ones["c"])') == "ping"
    assert user.ask(f'connect("c", "gpu-7", {port_c})') == "ping"
    assert user.ask('resolve("node-c")') == "gaierror"
    assert "100.64.9.0/24" in a.ctl("status", "--json").stdout
    reload(a, Unchanged=2)

    # It goes, and programs hear of it.
    for name, host in (("4", c.v4), ("6", c.v6)):
        assert user.ask(f'connect("{name}", "{host}", {port_c})') == "ping"
    a.write_config([b])
    reload(a, Removed=1, Unchanged=1)
    for name in "46":
        assert user.ask(f'wait_for_the_end("{name}")') == "ECONNRESET"
    assert user.ask('resolve("gpu-7")') == "gaierror"
    for host in (c.v4, c.v6):
        assert user.ask(f'connect("x", "{host}", {port_c})') == "EHOSTUNREACH"
        assert user.ask(f'udp("{host}", {port_c})') in ("EHOSTUNREACH", "ENETUNREACH")
    assert c.run(["nc", "-zw", "3", a.v4, port_b], check=False).returncode != 0
    assert b.run(["nc", "-zw", "10", a.v4, port_b]).returncode == 0
    assert "node-c" not in a.ctl("status").stdout and "gpu-7" not in a.ctl("status").stdout

    # All the time, with the one that stayed:
    assert user.ask('echo(open_ones["b"])') == "ping"
    transfer.finish()


def test_all_of_many_new_peers_are_greeted(three):
    """A few in each round of the loop; a peer that has not answered is asked again after 5 s only."""
    a, b, _ = three
    peers = python_spawn(b, """
        s = socket(AF_INET, SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
        s.settimeout(30)
        say("ready", s.getsockname()[1])
        initiations = {s.recv(2048)[4:8]}
        end = time.monotonic() + 10
        while len(initiations) < 60 and time.monotonic() < end:
            initiations.add(s.recv(2048)[4:8])
        say("greeted", len(initiations))
    """, ready=r"ready \d+")
    many = [Peer(f"p{number}", number) for number in range(10, 70)]
    for peer in many:
        peer.port = int(peers.wait_for(r"ready (\d+)").group(1))
    a.write_config([b, *many])
    reload(a, Added=60, Unchanged=1)
    assert peers.wait_for(r"greeted (\d+)", 60).group(1) == "60"


def test_a_peer_that_goes_hears_that_its_flows_are_over(three, port_a):
    """By the session that it still has, whoever began them."""
    a, b, c = three
    a.write_config([b, c])
    reload(a, Added=1, Unchanged=1)
    server, user = python_spawn(c, """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        c, _ = s.accept()
        c.settimeout(40)
        c.sendall(recv_exactly(c, 4))
        try:
            say("ended", c.recv(1))
        except OSError as e:
            say("ended", errno.errorcode.get(e.errno, type(e).__name__))
    """, ready=r"ready \d+"), User(a)
    far = User(c)
    assert user.ask(f'connect("c", "{c.v4}", {server.wait_for("ready (.*)").group(1)})') == "ping"
    assert far.ask(f'connect("a", "{a.v6}", {port_a})') == "ping"
    a.write_config([b])
    reload(a, Removed=1, Unchanged=1)
    assert far.ask('wait_for_the_end("a")') == "ECONNRESET"
    assert server.wait_for("ended (.*)", 20).group(1) == "ECONNRESET"
    assert user.ask('wait_for_the_end("c")') == "ECONNRESET"


def test_a_traced_program_meets_the_new_peer_too(three, port_c):
    a, b, c = three
    user = User(Traced(a))
    assert user.ask(f'connect("c", "{c.v4}", {port_c})') == "EHOSTUNREACH"
    a.write_config([b, c])
    reload(a, Added=1, Unchanged=1)
    assert user.ask(f'connect("c", "{c.v4}", {port_c})') == "ping"
    assert user.ask(f'udp("{c.v6}", {port_c})') == "pong"
    a.write_config([b])
    reload(a, Removed=1, Unchanged=1)
    assert user.ask('wait_for_the_end("c")') == "ECONNRESET"
    assert user.ask(f'connect("c", "{c.v4}", {port_c})') == "EHOSTUNREACH"


def test_a_program_that_waits_for_a_peer_hears_that_it_is_gone(three):
    """Its connect ends at once, not after the two minutes that a silent peer is asked."""
    a, b, _ = three
    silent = Peer("node-s", 9)
    a.write_config([b, silent])
    reload(a, Added=1, Unchanged=1)
    waiting = python_spawn(a, """
        errors = []
        def dial(host, timeout):
            try:
                errors.append(str(create_connection((host, 80), timeout)))
            except OSError as e:
                errors.append(errno.errorcode.get(e.errno, str(e)))
        threads = [threading.Thread(target=dial, args=(host, timeout)) for host in sys.argv[1:]
                   for timeout in (None, 100) for _ in range(10)]
        for thread in threads:
            thread.start()
        say("ready")
        for thread in threads:
            thread.join()
        say("ended", json.dumps({error: errors.count(error) for error in errors}))
    """, silent.v4, silent.v6)
    wait_until(lambda: json.loads(a.ctl("status", "--json").stdout)["Edge"]["Flows"] == 40, 20, "40 dials")
    a.write_config([b])
    reload(a, Removed=1, Unchanged=1)
    assert json.loads(waiting.wait_for("ended (.*)", 20).group(1)) == {"EHOSTUNREACH": 40}


def test_an_address_may_go_to_another_peer(three, port_c):
    """As where a node is replaced: another key, the same address. The flows of before are not its."""
    a, b, c = three
    user, old = User(a), Peer("node-c", 3)
    old.port = c.port
    a.write_config([b, c])
    reload(a, Added=1, Unchanged=1)
    assert user.ask(f'connect("before", "node-c", {port_c})') == "ping"
    a.write_config([b, old])
    reload(a, Added=1, Removed=1, Unchanged=1)
    assert user.ask('wait_for_the_end("before")') == "ECONNRESET"
    # And from one that stays to another: node-b gets what was node-c's.
    a.config.write_text(a.config.read_text().replace(f"{c.v4}/32", "100.64.0.77/32").replace(
        f"{b.v4}/32", f"{b.v4}/32, {c.v4}/32"))
    reload(a, Changed=2)
    status = json.loads(a.ctl("status", "--json").stdout)
    assert [c.v4 in peer["TailscaleIPs"] for peer in status["Peer"].values() if peer["HostName"] == "node-b"] == [True]


def test_a_peer_may_move_and_endpoints_may_be_names(three, port_b, port_c):
    a, b, c = three
    transfer, user = Transfer(a, b), User(a)
    a.write_config([b, c])
    reload(a, Added=1, Unchanged=1)
    assert user.ask(f'connect("c", "node-c", {port_c})') == "ping"
    # To another port, where it has forgotten everything and does not know where node-a is.
    c.stop()
    c.port = Peer("other", 9).port
    unknown = Peer("node-a", 1)
    unknown.public, unknown.host = a.public, None
    c.write_config([unknown])
    c.start()
    a.write_config([b, c])
    reload(a, Changed=1, Unchanged=1)
    wait_until(lambda: user.ask(f'connect("c", "node-c", {port_c})') == "ping", 30, "a session where it is now")
    # By name, which is the same place.
    a.config.write_text(a.config.read_text().replace(f"127.0.0.1:{c.port}", f"localhost:{c.port}"))
    reload(a, Changed=1, Unchanged=1)
    assert user.ask('echo(open_ones["c"])') == "ping"
    # Without one it stays where it is.
    a.config.write_text(re.sub(r"Endpoint = localhost:.*\n", "", a.config.read_text()))
    reload(a, Changed=1, Unchanged=1)
    assert user.ask('echo(open_ones["c"])') == "ping"
    # A new peer by name.
    a.write_config([b])
    reload(a, Removed=1, Unchanged=1)
    a.write_config([b, c])
    a.config.write_text(a.config.read_text().replace(f"127.0.0.1:{c.port}", f"localhost:{c.port}"))
    reload(a, Added=1, Unchanged=1)
    wait_until(lambda: user.ask(f'connect("c", "node-c", {port_c})') == "ping", 30, "its name to be found")
    transfer.finish()


def test_a_preshared_key_is_that_of_the_next_session(three, port_b):
    a, b, _ = three
    user, (key, _) = User(a), new_keys()
    assert user.ask(f'connect("b", "node-b", {port_b})') == "ping"

    def set_key(node):
        text = node.config.read_text()
        node.config.write_text(text.replace("AllowedIPs", f"PresharedKey = {key}\nAllowedIPs", 1))
        reload(node, Changed=1)
    set_key(a)
    assert user.ask('echo(open_ones["b"])') == "ping", "the session goes on"
    b.stop()
    b.start()  # with the file of before
    assert user.ask(f'attempt(lambda: create_connection(("node-b", {port_b}), 4))') == "ETIMEDOUT"
    set_key(b)
    wait_until(lambda: user.ask(f'connect("b", "node-b", {port_b})') == "ping", 30, "a session with the key")


BAD = [
    (r"PublicKey = (.{40}).*", r"PublicKey = \1", "line 9: PublicKey is not a key"),
    (r"PublicKey = .*", "PublicKey = " + "A" * 43 + "=", "line 9: PublicKey is not a key"),
    (r"AllowedIPs = .*", "AllowedIPs = 100.64.0.0/33", "line 10: AllowedIPs: 100.64.0.0/33 is not"),
    (r"AllowedIPs = .*", "AllowedIPs = 0.0.0.0/0", "peer node-b: 0.0.0.0/0 is too wide"),
    (r"Endpoint = .*", "Endpoint = no-such-host.invalid:1", "no-such-host.invalid does not exist"),
    (r"\[Peer\]", "[Pear]", "line 7: not a section"),
    (r"\Z", "[Peer]\nPublicKey = OWN\n", "this peer's PublicKey is this node's own"),
    (r"\Z", "[Peer]\nPublicKey = NEW\nEndpoint = x.invalid:1\n", "x.invalid does not exist"),
    (r"\Z", "[Peer]\nPublicKey = NEW\nAllowedIPs = 127.0.0.0/16\n", "127.0.0.0/16 holds loopback"),
    (r"[\s\S]*", "", "line 1: the file has no .Interface. section"),
]


@pytest.fixture
def untouched(three, port_b):
    """What is refused changes nothing: for the file, the programs, the counts."""
    a, b, _ = three
    user = User(a)
    assert user.ask(f'connect("b", "node-b", {port_b})') == "ping"

    def state():
        status = json.loads(a.ctl("status", "--json").stdout)
        return [status["Self"]["TailscaleIPs"], status["ListenPort"], status["MTU"],
                {key: [peer["DNSName"], peer["AllowedIPs"], peer["CurAddr"], peer["LastHandshake"]]
                 for key, peer in status["Peer"].items()}]
    text, before = a.config.read_text(), state()

    def check(*words):
        result = a.ctl("reload", check=False)
        check_sentence(result, *words)
        assert result.stdout == "" and state() == before
        assert user.ask('echo(open_ones["b"])') == "ping"
        assert user.ask(f'connect("again", "node-b.mesh", {port_b})') == "ping"
        assert user.ask('resolve("gpu-9")') == "gaierror"
        assert user.ask('connect("x", "100.64.0.9", 80)') == "EHOSTUNREACH"
        return result.stderr
    yield a, text, check
    a.config.unlink(missing_ok=True)
    a.write(a.config, text, 0o600)
    reload(a, Unchanged=1)


@pytest.mark.parametrize("find, replace, sentence", BAD, ids=[sentence for _, _, sentence in BAD])
def test_a_bad_file_is_refused_as_at_start_and_nothing_is_changed(untouched, find, replace, sentence):
    a, text, check = untouched
    replace = replace.replace("OWN", a.public).replace("NEW", new_keys()[1])
    # What is good beside what is bad is not done, either.
    good = f"[Peer]\n# Name = gpu-9\nPublicKey = {new_keys()[1]}\nAllowedIPs = 100.64.0.9/32\n"
    changed = re.sub(find, replace, text, count=1) + (good if replace else "")
    assert changed != text
    a.config.write_text(changed)
    said = check(sentence)
    other = a.lab.node("other", 7, a.place)
    other.config.write_text(changed.replace(f"ListenPort = {a.port}", f"ListenPort = {other.port}"))
    at_start = run_meshd(other).stderr.replace(str(other.config), str(a.config))
    assert at_start == f"meshd: {said}"


@pytest.mark.parametrize("changes, names", [
    ([(r"PrivateKey = .*", "PrivateKey = NEW")], "PrivateKey"),
    ([(r"Address = 100.64.0.1", "Address = 100.64.0.5")], "Address"),
    ([(r"ListenPort = .*", "ListenPort = 9")], "ListenPort"),
    ([(r"Address =", "MTU = 1300\nAddress =")], "MTU"),
    ([(r"PrivateKey = .*", "PrivateKey = NEW"), (r"Address = .*/10", "Address = 100.64.0.1/11"),
      (r"Address =", "MTU = 1300\nAddress =")], "PrivateKey, Address and MTU"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_needs_a_restart_is_named_and_nothing_is_changed(untouched, changes, names):
    a, text, check = untouched
    for find, replace in changes:
        text = re.sub(find, replace.replace("NEW", new_keys()[0]), text, count=1)
    a.config.write_text(text + f"[Peer]\n# Name = gpu-9\nPublicKey = {new_keys()[1]}\nAllowedIPs = 100.64.0.9/32\n")
    check(f"{re.escape(str(a.config))}: {names} cannot change while meshd runs, so nothing was changed; restart it")


def test_a_file_that_is_no_file_any_more_is_refused(untouched):
    a, _, check = untouched
    a.config.unlink()
    check("cannot read .*wg.conf: No such file")
    a.config.mkdir()
    check("cannot read .*wg.conf: Is a directory")
    a.config.rmdir()
    os.mkfifo(a.config)
    a.config.chmod(0o666)
    check("wg.conf is no ordinary file, which could be read a second time")


def test_words_that_do_not_belong_there_are_told(three):
    a, _, _ = three
    check_sentence(a.ctl("reload", "now", check=False), "too many")
    check_sentence(a.ctl("reload", "--fast", check=False), "fast")


def test_a_comment_of_somebody_else_is_no_name(lab):
    place = Place(lab.namespace("names") if CAN_NETNS else None, rented("user"))
    a, b = lab.node("node-a", 1, place), lab.node("node-b", 2, place)
    a.write_config([b])
    a.config.write_text(a.config.read_text().replace("# Name = node-b", "# Name = Bob's laptop (old)"))
    a.start()
    a.daemon.wait_for(r"no host name .*, so taken for a plain comment: Name \(line 8\)")
    a.config.write_text(a.config.read_text().replace("Bob's laptop (old)", "bob"))
    reload(a, Changed=1)
    assert a.ctl("ip", "bob").stdout.split() == [b.v4, b.v6]
    a.stop()
    a.check_logs()


def test_meshruns_daemon_reads_the_path_it_was_given(lab):
    """A relative one, too, wherever the program and who asks are."""
    place = Place(lab.namespace("meshrun") if CAN_NETNS else None, rented("user"))
    a, b = lab.node("node-a", 1, place), lab.node("node-b", 2, place)
    a.config = a.home / f"{lab.tmp.name}.conf"  # found in the daemon's words, and nobody else's
    a.write_config([b])

    def daemon():
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"meshd") and a.config.name.encode() in words:
                return int(pid)
        return None
    a.meshrun("--dir", a.dir, "--config", a.config.name, "--", "true")
    pid = daemon()
    try:
        a.write_config([b, Peer("node-c", 3)])
        said = a.lab.run([a.lab.binary("meshctl"), "reload"], a.place, a.env, cwd="/").stdout
        assert said == "peers: 1 added, 0 changed, 0 removed, 1 as before\n"
        assert a.run(["getent", "hosts", "node-c"]).stdout
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not daemon(), 30, "the daemon's end")


@needs_netns
def test_who_may_use_the_daemon_may_not_reload_it(lab):
    """Only its own user and root, as with down and logout."""
    place = Place(lab.namespace("rights"), rented("user"))
    a, b = lab.node("node-a", 1, place), lab.node("node-b", 2, place)
    a.write_config([b])
    daemon = a.spawn([lab.binary("meshd"), "--config", a.config, "--dir", a.dir, "--allow-all-users"], wrapped=False)
    daemon.wait_for(r"\bready\b")

    def ask(uid, *words):
        return lab.run(["ip", "netns", "exec", place.netns, "setpriv", "--reuid", str(uid), "--regid", str(uid),
                        "--clear-groups", lab.binary("meshctl"), *words], env=a.env, check=False)
    a.write_config([b, Peer("node-c", 3)])
    assert "node-b" in ask(NOBODY - 1, "status").stdout
    check_sentence(ask(NOBODY - 1, "reload"), "only the daemon's own user and root may do that")
    assert "node-c" not in a.ctl("status").stdout
    assert ask(0, "reload").stdout == "peers: 1 added, 0 changed, 0 removed, 1 as before\n"
    assert ask(place.uid, "reload").stdout == "peers: 0 added, 0 changed, 0 removed, 2 as before\n"
    assert daemon.stop() == 0
