"""What a node may be told when it joins: whose certificate to believe, which tags to ask for, whose routes to take,
to let nobody in, and a server's new key. And netcheck, in each of its forms."""
import json
import re
import signal
import subprocess

import pytest

from servers import certified
from wire import SERVER, Site

from lab import Failure, wait_until

# The options are meshd's, and some sentences are our own.
pytestmark = pytest.mark.meshwrap

ROUTES = {"192.168.77.1": "192.168.77.0/24", "fd00:77::1": "fd00:77::1/128", "fd00:78::1": "fd00:78::/64"}


@pytest.fixture(scope="module")
def https(net):
    """A Headscale of this module alone, with a certificate that only its own CA vouches for. (server, CA)"""
    server, ca = certified(net, f"IP:{SERVER}")
    server.policy({"tagOwners": {"tag:web": ["lab@"]},
                   "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]})
    yield server, ca
    server.stop()


@pytest.fixture(scope="module")
def site(net):
    """Where nodes live one after the other."""
    return Site(net, "plain")


@pytest.fixture
def node(net, site):
    node = net.make("ours", site)
    yield node
    if node.daemon:
        node.stop(signal.SIGKILL)


# ---- --ca ----

def test_a_server_with_a_private_ca_is_joined_and_named_again(https, node):
    server, ca = https
    node.begin(key=server.key(), login=server.url, flags=["--ca", ca]).wait_running()
    assert node.status()["Self"]["Online"]
    assert node.meshrun("--login-server", f"{server.url}/", "--", "echo", "ran").stdout == "ran\n"
    for words, but in ((["--login-server", "https://elsewhere.test"], "not of https://elsewhere.test"),
                       (["--config", ca], f"and was not started from {ca}")):
        refused = node.meshrun(*words, "--", "echo", "ran", check=False)
        assert refused.returncode == 1 and not refused.stdout
        assert f"is a node of {server.url}, {but}: end it" in refused.stderr


def test_another_ca_is_not_enough_and_the_sentence_names_it(net, https, node):
    server, _ = https
    other = net.lab.folder("other-ca") / "other.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-keyout", other.with_suffix(".key"), "-out", other, "-subj", "/CN=another CA", "-days", "30"],
                   check=True, capture_output=True)
    node.begin(key=server.key(), login=server.url, flags=["--ca", other]).complaint(
        rf"certificate of {re.escape(SERVER)} is from an issuer that is not in {re.escape(str(other))}")
    assert node.backend() != "Running" and node.name not in server.nodes()


# ---- --advertise-tags ----

def ask(https, node, tag):
    """Begins it without a key, and registers it as an administrator would."""
    server, ca = https
    node.begin(login=server.url, flags=["--ca", ca, "--advertise-tags", tag])
    url = node.complaint(re.escape(server.url) + r"/register/(\S+)")
    server("nodes", "register", "--user", "lab", "--key", url.group(1))


def test_a_tag_that_its_owner_asks_for_is_given(https, node):
    ask(https, node, "tag:web")
    node.wait_running()
    assert node.status()["Self"]["Tags"] == ["tag:web"]
    assert https[0].nodes()[node.name]["tags"] == ["tag:web"]


def test_a_tag_that_is_not_ones_own_is_refused(https, node):
    with pytest.raises(Failure, match=r"requested tags \[tag:host\] are invalid or not permitted"):
        ask(https, node, "tag:host")
    assert node.backend() == "NeedsLogin" and node.name not in https[0].nodes()


def test_with_a_users_key_the_sentence_says_where_tags_come_from(https, node):
    server, ca = https
    node.begin(key=server.key(), login=server.url, flags=["--ca", ca, "--advertise-tags", "tag:web"]).complaint(
        r"requested tags \[tag:web\] .*Make a key that has them .*--tags tag:web\).*without --advertise-tags")
    assert node.backend() == "NeedsLogin"
    node.stop()
    node.begin(key=server.key("--tags", "tag:web"), login=server.url, flags=["--ca", ca]).wait_running()
    assert node.status()["Self"]["Tags"] == ["tag:web"]


# ---- --trust-new-server-key ----

def test_a_server_that_was_set_up_anew_is_trusted_only_when_the_user_says_so(https, node):
    server, ca = https
    usual = dict(key=server.key("--reusable"), login=server.url)
    node.begin(**usual, flags=["--ca", ca]).wait_running()
    before = node.addresses
    node.stop()
    server.stop()
    (server.folder / "noise_private.key").unlink()
    server.start()
    node.again().complaint(rf"the key of the server {re.escape(server.url)} has changed .*--trust-new-server-key")
    assert node.backend() != "Running"
    node.stop()
    node.begin(**usual, flags=["--ca", ca, "--trust-new-server-key"]).complaint("the new server key is trusted")

    def connected():
        """The saved map makes it Running before that."""
        wait_until(lambda: node.status().get("Control", {}).get("Connected"), 20, f"a server's answer:\n{node.said()}")
        node.wait_running()
    connected()
    assert node.addresses == before
    node.stop()
    said = len(node.said())
    node.begin(**usual, flags=["--ca", ca])
    connected()
    assert "has changed" not in node.said()[said:]


# ---- beside a daemon that runs already ----

START_ONLY = {"config", "login-server", "auth-key-file", "auth-key-fd", "dir", "no-syn-hold"}


def known_options(node):
    """Name: variable or None, of all that meshd's help has."""
    text = node.run([node.lab.binary("meshd"), "--help"], wrapped=False).stdout
    entries = [re.match(r"--([a-z0-9-]+)", entry) and entry for entry in re.split(r"(?m)^  (?=--)", text)]
    names = {re.match(r"--([a-z0-9-]+)", entry)[1]: re.search(r"(?m)\b((?:TS|MESHWRAP)_[A-Z0-9_]+)$", entry)
             for entry in entries if entry}
    return {name: variable and variable[1] for name, variable in names.items() if name not in START_ONLY}


def test_every_option_that_the_running_daemon_does_not_have_is_told(https, node):
    server, ca = https
    flags = ["--ca", ca, "--shields-up", "--accept-dns=false", "--capability-version", "113"]
    node.begin(key=server.key(), login=server.url, flags=flags).wait_running()
    has, known = node.status()["Options"], known_options(node)
    assert set(has) == set(known), "status tells each"
    start, variables = f"but the daemon of {node.dir} runs already", {}
    for name, variable in known.items():
        value = {"true": "false", "false": "true"}.get(has[name], "77")
        is_off = has[name] in ("", "false")
        said = f"is {value}, {start}, {'without it' if is_off else f'with {has[name]}'}\n"
        word = f"--{name}" if value == "true" else f"--{name}={value}"
        ran = node.meshrun(word, "--", "echo", "ran")
        assert (ran.stdout, ran.stderr) == ("ran\n", f"meshrun: --{name} {said}")
        if variable:
            variables[variable] = has[name]
            assert node.meshrun("--", "echo", "ran", env={variable: value}).stderr == f"meshrun: {variable} {said}"
    assert len(variables) == len(known) - 2, "only --allow-all-users and --trust-new-server-key have none"
    same = node.meshrun("--login-server", server.url, *flags, "--", "echo", "ran",
                        env={**variables, "TS_LOGIN_SERVER": server.url, "TS_EXTRA_ARGS": f"--hostname {node.name}"})
    assert (same.stdout, same.stderr) == ("ran\n", "")


def test_the_environment_that_the_daemon_was_started_with_says_the_same_again(https, node):
    server, ca = https
    env = {"TS_LOGIN_SERVER": f"{server.url}/", "TS_AUTHKEY": f"file:{node.write_key(server.key())}", "TS_HOSTNAME": node.name,
           "TS_STATE_DIR": "state", "MESHWRAP_CA": str(ca), "TS_ACCEPT_DNS": "0", "TS_ACCEPT_ROUTES": "yes", "TS_PORT": "0",
           "MESHWRAP_WORKERS": "1", "MESHWRAP_LOG_LEVEL": "debug", "TS_EXTRA_ARGS": "--shields-up --ssh -accept-dns=false"}
    node.daemon = node.lab.spawn([node.lab.binary("meshd"), "--dir", node.dir], node.place, env, cwd=node.home)
    node.logs.append(node.daemon)
    node.wait_running()
    said = node.meshrun("--", "echo", "ran", env=env)
    assert (said.stdout, said.stderr) == ("ran\n", "")


# ---- --accept-routes ----

DIAL = """
    try:
        s = tcp(sys.argv[1], sys.argv[2], float(sys.argv[3]))
        print(json.dumps(recv_exactly(s, 100).decode()))
    except OSError as e:
        print(json.dumps(errno.errorcode.get(e.errno, "ETIMEDOUT")))
    """


@pytest.fixture
def router(net):
    """The shared real node, which offers routes meanwhile."""
    real = net.node("tun")
    addresses = [[address + route[route.index("/"):], "dev", "lo"] for address, route in ROUTES.items()]
    for words in addresses:
        real.site.ip("addr", "add", *words, *(["nodad"] if ":" in words[0] else []))
    real.ctl("set", f"--advertise-routes={','.join(ROUTES.values())}")
    yield real
    real.ctl("set", "--advertise-routes=")
    for words in addresses:
        real.site.ip("addr", "del", *words)


def test_subnet_routes_are_taken_by_who_accepts_them(net, node, router):
    """Of a real router, from when they are approved until they are taken back."""
    number, others = net.hs.id_of(router.name), net.node("ours")
    node.begin(key=net.reusable, flags=["--accept-routes"]).wait_running()

    def approve(routes):
        net.hs("nodes", "approve-routes", "-i", number, "-r", ",".join(routes))
        for one in (node, others):
            one.wait_peer(router.name, lambda peer: peer and sorted(peer.get("PrimaryRoutes") or []) == sorted(routes))
    router.wait_peer(node.name)
    with router.served("""
            s = listener("::")
            say("ready", s.getsockname()[1])
            while True:
                c, who = s.accept()
                c.sendall(who[0].encode())
                c.close()
            """) as port:
        approve(ROUTES.values())
        for address, own in zip(ROUTES, (f"::ffff:{node.v4}", node.v6)):
            assert node.program(DIAL, address, port, 20) == own, "the router sees the node itself"
        assert node.program(DIAL, "fd00:78::1", port, 20) == "EHOSTUNREACH", "it has no mirror"
        assert others.program(DIAL, "192.168.77.1", port, 1) == "ETIMEDOUT"
        approve([])
        wait_until(lambda: node.program(DIAL, "192.168.77.1", port, 1) == "ETIMEDOUT", 30, "the end of the routes")
        assert node.program(DIAL, router.v4, port, 20) == f"::ffff:{node.v4}", "the router itself stays"


# ---- --shields-up ----

def test_shields_up_keep_out_what_comes_in_and_nothing_else(net, node):
    real = net.node("tun")
    node.begin(key=net.reusable, flags=["--shields-up"]).wait_running()
    real.wait_peer(node.name)
    node.wait_peer(real.name)
    answering = """
        s, u = listener("0.0.0.0"), socket(AF_INET, SOCK_DGRAM)
        u.bind(("0.0.0.0", s.getsockname()[1]))
        say("ready", s.getsockname()[1])
        while True:
            for one in select.select([s, u], [], [])[0]:
                if one is u:
                    data, who = u.recvfrom(100)
                    u.sendto(data, who)
                else:
                    s.accept()[0].sendall(b"hello")
        """
    trying = """
        got = []
        try:
            got.append(recv_exactly(tcp(sys.argv[1], sys.argv[2], float(sys.argv[3])), 5).decode())
        except OSError:
            pass
        d = Datagrams(sys.argv[1], sys.argv[2], float(sys.argv[3]))
        try:
            d.send(b"hello")
            got.append(d.recv().decode())
        except OSError:
            pass
        print(json.dumps(got))
        """
    with real.served(answering) as there, node.served(answering) as here:
        assert node.program(trying, real.v4, there, 20) == ["hello", "hello"]
        assert real.program(trying, node.v4, here, 1) == []
        assert node.program(trying, node.v4, here, 20) == ["hello", "hello"], "this node's own programs are no others"
    assert node.status()["Filter"]["NoRule"] >= 2
    assert "pong from" in real.ping(node.v4, "-c", "1", "--until-direct=false"), "the node itself is seen"


# ---- netcheck ----

def test_every_form_of_netcheck_reports_what_the_original_does(net):
    ours, real = net.nodes(("ours",), ("tun",))
    original = json.loads(real.ctl("netcheck", "--format=json").stdout)
    forms = [("netcheck", "--json"), ("--json", "netcheck"), ("netcheck", "--format", "json"),
             ("netcheck", "--format=json-line")]
    for words in forms:
        said = ours.ctl(*words)
        report = json.loads(said.stdout)
        assert set(report) == set(original), words
        for key in ("UDP", "IPv4", "PreferredDERP", "MappingVariesByDestIP"):
            assert report[key] == original[key], (words, key)
        assert "not yet considered a stable interface" in said.stderr
        assert (said.stdout.count("\n") == 1) == ("json-line" in words[-1])
    refused = ours.ctl("netcheck", "--format=xml", check=False)
    assert refused.returncode == 1 and refused.stderr == 'unknown output format "xml"\n'
