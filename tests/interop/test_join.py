"""Becoming a node, staying one and ceasing to be one: keys, states, servers that come and go."""
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from flow import Flow, talks
from peers import REFERENCE
from servers import certified
from tailnet import Tailnet
from wire import SERVER, Site

from lab import PYTHON, Failure, wait_until

REFUSED = r"auth-?key not found|invalid pre auth key|authkey (expired|already used|revoked)"


@pytest.fixture(scope="module")
def net(own_lab):
    """Of this module alone: its server is stopped now and then."""
    yield Tailnet(own_lab)


@pytest.fixture(scope="module")
def site(net):
    """Where nodes live one after the other."""
    return Site(net, "plain")


@pytest.fixture
def node(net, site):
    """One node that has not begun."""
    node = net.make("ours", site)
    yield node
    if node.daemon:
        node.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def real(net):
    return net.node("tun")


# ---- keys ----

def test_a_single_use_key_serves_once_and_the_node_comes_back_with_it(net, node, real):
    key = net.hs.key()
    node.begin(key=key).wait_running()
    first = node.addresses, node.key
    real.wait_peer(node.name)
    talks(node, real)
    node.stop()
    node.again().wait_running()
    assert (node.addresses, node.key) == first
    talks(node, real)
    other = net.make("ours")
    other.begin(key=key).complaint(r"authkey already used")
    assert other.backend() != "Running"
    other.stop(signal.SIGKILL)


def test_a_reusable_key_serves_many(net, node):
    node.begin(key=net.reusable).wait_running()
    other = net.make("ours").begin(key=net.reusable).wait_running()
    assert set(node.addresses).isdisjoint(other.addresses)
    other.stop()


def test_an_ephemeral_node_leaves_when_it_ends(net, node, real):
    node.begin(key=net.hs.key("--ephemeral"), ephemeral=True).wait_running()
    real.wait_peer(node.name)
    assert node.name in net.hs.nodes()
    assert node.stop() == 0
    wait_until(lambda: node.name not in net.hs.nodes(), 30, "Headscale still has the ephemeral node")
    real.wait_gone(node.name)


def test_an_expired_key_is_refused(net, node):
    key = net.hs.key("--reusable", expiration="1s")
    time.sleep(1.2)
    node.begin(key=key).complaint(r"authkey expired")
    assert node.backend() != "Running"


def test_a_revoked_key_is_refused(net, node):
    key, number = net.hs.key_with_id("--reusable")
    net.hs("preauthkeys", "expire", "--id", number)
    node.begin(key=key).complaint(r"authkey (expired|revoked)")
    assert node.backend() != "Running"


def test_a_deleted_key_is_refused(net, node):
    key, number = net.hs.key_with_id("--reusable")
    net.hs("preauthkeys", "delete", "--id", number)
    node.begin(key=key).complaint(REFUSED)


def test_a_wrong_key_is_refused_once_and_not_over_and_over(net, node):
    node.begin(key="hskey-auth-" + "x" * 12 + "-" + "y" * 64).complaint(REFUSED)
    time.sleep(2)
    assert len(re.findall(REFUSED, net.hs.process.text)) < 40
    assert node.backend() != "Running"


def test_a_hostname_that_is_taken_gets_another_name(net, node, real):
    node.begin(key=net.reusable).wait_running()
    twin = net.make("ours", name=node.name).begin(key=net.reusable).wait_running()
    name = twin.status()["Self"]["DNSName"].split(".")[0]
    assert name != node.name and name.startswith(node.name)
    assert real.wait_peer(name)["TailscaleIPs"] == twin.addresses
    assert real.wait_peer(node.name)["TailscaleIPs"] == node.addresses
    twin.stop()


@pytest.mark.meshwrap
def test_a_hostname_that_no_dns_would_take_is_made_one(net, site, real):
    node = net.make("ours", site, name="My-Laptop.2")
    node.begin(key=net.reusable).wait_running()
    assert re.fullmatch(r"my-laptop(-2)?", node.status()["Self"]["DNSName"].split(".")[0])
    node.stop()


# ---- node keys ----

def test_an_expired_node_comes_back_with_a_new_key_and_its_old_addresses(net, node, real):
    node.begin(key=net.reusable).wait_running()
    addresses, key, number = node.addresses, node.key, net.hs.id_of(node.name)
    real.wait_peer(node.name)
    net.hs("nodes", "expire", "-i", number)
    if REFERENCE:
        wait_until(lambda: node.backend() == "NeedsLogin", 30, "expired")
    node.renew(net.reusable)
    wait_until(lambda: node.status().get("Self", {}).get("PublicKey") not in (key, None)
               and node.backend() == "Running", 20, f"a new node key:\n{node.said()[-2000:]}")
    node.wait_running()
    assert node.addresses == addresses and net.hs.id_of(node.name) == number
    real.wait_peer(node.name, lambda peer: peer and peer["PublicKey"] == node.key and not peer.get("Expired"))
    talks(node, real)


def test_an_expired_node_without_a_key_asks_for_a_login(net, node):
    node.begin(key=net.hs.key()).wait_running()
    net.hs("nodes", "expire", "-i", net.hs.id_of(node.name))
    wait_until(lambda: node.backend() == "NeedsLogin", 30, f"NeedsLogin:\n{node.said()[-2000:]}")
    node.stop(signal.SIGKILL)


def test_a_deleted_node_registers_again(net, node, real):
    node.begin(key=net.reusable).wait_running()
    net.hs("nodes", "delete", "-i", net.hs.id_of(node.name), "--force")
    # Headscale leaves the stream of a node that it deletes open, unless it has news for it just then.
    net.hs.stop()
    net.hs.start()
    node.renew(net.reusable)
    wait_until(lambda: node.name in net.hs.nodes(), 30, f"registered again:\n{node.said()[-2000:]}")
    expected = sorted(net.hs.nodes()[node.name]["ip_addresses"])  # a new node has new ones
    wait_until(lambda: sorted(node.wait_running().addresses) == expected, 20, "its new addresses")
    real.wait_peer(node.name, lambda peer: peer and peer["TailscaleIPs"] == node.addresses)
    talks(node, real)


def test_logout_ends_the_node(net, node, real):
    node.begin(key=net.reusable).wait_running()
    real.wait_peer(node.name)
    node.ctl("logout")
    wait_until(lambda: node.backend() == "NeedsLogin", 30, "NeedsLogin after logout")
    shown = node.status()
    assert (shown["TailscaleIPs"], shown["Peer"], shown["CurrentTailnet"]) == (None, None, None)
    assert (shown["Self"]["HostName"], shown["Self"]["TailscaleIPs"], shown["Self"]["Online"]) == (node.name, None, False)
    said = node.ctl("ip", check=False)
    assert (said.returncode, said.stdout, said.stderr.strip()) == (1, "", "no current Tailscale IPs; state: NeedsLogin")
    if not REFERENCE:
        said = node.ctl("status", check=False)
        assert (said.returncode, said.stdout) == (1, "Logged out.\nWhy: this node was logged out; 'meshctl up' logs it in again\n")
    expired = net.hs.nodes().get(node.name)
    assert expired is None or expired["expiry"]
    real.wait_peer(node.name, lambda peer: peer is None or peer.get("Expired"))


def test_down_and_up_leave_the_node_its_identity(net, node, real):
    node.begin(key=net.reusable).wait_running()
    before = node.addresses, node.key
    talks(node, real)
    node.ctl("down")
    assert node.backend() == "Stopped"
    asked = node.ctl("ping", "-c", "1", real.name, check=False)
    assert asked.returncode == 1 and "Tailscale is stopped." in asked.stdout + asked.stderr
    real.wait_peer(node.name, lambda peer: peer and not peer["Online"], timeout=20)
    node.ctl("up", *([f"--login-server={net.hs.url}", f"--hostname={node.name}", "--accept-dns=false"]
                     if REFERENCE else []))
    node.wait_running()
    assert (node.addresses, node.key) == before
    talks(node, real)


def test_interactive_login_says_where_to_go(net, node, real):
    node.begin(key=None)
    url = node.complaint(re.escape(net.hs.url) + r"/register/(\S+)")
    assert node.backend() == "NeedsLogin"
    assert node.status()["AuthURL"] == url.group(0)
    net.hs("nodes", "register", "--user", "lab", "--key", url.group(1))
    node.wait_running()
    talks(node, real)


# ---- servers ----

def test_the_server_restarts_and_nobody_notices(net, node, real):
    node.begin(key=net.reusable).wait_running()
    real.wait_peer(node.name)
    flow = Flow(node, real)
    net.hs.stop()
    flow.goes_on(20)
    net.hs.start()
    other = net.make("ours").begin(key=net.reusable).wait_running()
    node.wait_peer(other.name, timeout=40)
    real.wait_peer(other.name, timeout=40)
    other.stop()
    flow.goes_on(20)
    assert flow.finish() < 4.5


@pytest.mark.meshwrap
def test_without_the_server_the_mesh_goes_on_and_a_restart_uses_the_saved_map(net, node, real):
    node.begin(key=net.reusable).wait_running()
    real.wait_peer(node.name)
    talks(node, real)
    before = node.addresses, node.key
    net.hs.stop()
    try:
        talks(node, real)
        node.stop(signal.SIGKILL)
        node.again().wait_running()
        assert (node.addresses, node.key) == before
        talks(node, real)
        assert json.dumps(node.status()["Health"]) != "[]"
        assert node.program("say(json.dumps(getaddrinfo(sys.argv[1], 80)[0][4][0]))", real.name) == real.v4
    finally:
        net.hs.start()
    wait_until(lambda: not node.status()["Health"], 60, "healthy again")


@pytest.mark.skipif(os.environ.get("NIGHTLY") != "true", reason="takes an hour")
def test_an_hour_without_the_server(net, node, real):
    node.begin(key=net.reusable).wait_running()
    real.wait_peer(node.name)
    other = net.make("ours").begin(key=net.reusable).wait_running()
    node.wait_peer(other.name)
    flow = Flow(node, real, speed=200_000)
    begun = time.monotonic()
    net.hs.stop()
    try:
        while time.monotonic() - begun < 3600:
            time.sleep(60)
            talks(node, real)
            talks(node, other)
            flow.goes_on(20)
    finally:
        net.hs.start()
    wait_until(lambda: not node.status()["Health"], 150, "healthy again")
    late = net.make("ours").begin(key=net.reusable).wait_running()
    node.wait_peer(late.name, timeout=40)
    talks(node, late)
    late.stop()
    other.stop()
    assert flow.finish() < 4.5


@pytest.mark.meshwrap
def test_a_server_with_another_key_is_refused(net, node, real):
    node.begin(key=net.reusable).wait_running()
    talks(node, real)
    key = net.hs.folder / "noise_private.key"
    saved = key.read_text()
    net.hs.stop()
    key.unlink()
    net.hs.start()
    try:
        node.complaint(r"(another|different|changed|new|not the).{0,60}key|key.{0,80}(changed|differs|another|is not)",
                       30)
        talks(node, real)  # the peers are not to blame
        node.stop()
        # Usable with the map of the last run; Running is said only until the server has shown its key.
        node.again().complaint(r"meshd: node \S+ ready at", 15)
        talks(node, real)
    finally:
        net.hs.stop()
        key.write_text(saved)
        net.hs.start()
    other = net.make("ours").begin(key=net.reusable).wait_running()
    node.wait_peer(other.name, timeout=60)
    other.stop()


@pytest.fixture(scope="module")
def https(net):
    """A second Headscale, with a certificate that only its own CA vouches for. (server, CA)"""
    server, ca = certified(net, f"IP:{SERVER}")
    yield server, ca
    server.stop()


def test_https_with_the_ca_that_was_given(https, node):
    server, ca = https
    node.begin(key=server.key(), login=server.url, env={"SSL_CERT_FILE": str(ca)}).wait_running()
    assert node.status()["Self"]["Online"]


def test_https_with_an_unknown_ca_is_refused(https, node):
    server, _ = https
    node.begin(key=server.key(), login=server.url).complaint(r"certificate", 20)
    assert node.backend() != "Running" and node.name not in server.nodes()


# ---- the state ----

def state_file(node):
    return node.state / "state.json"


@pytest.mark.meshwrap
def test_the_state_is_one_file_for_its_owner_alone(net, node):
    node.begin(key=net.reusable).wait_running()
    assert list(node.state.iterdir()) == [state_file(node)]
    state = state_file(node).stat()
    assert state.st_mode & 0o7777 == 0o600 and state.st_uid == node.place.uid
    assert node.state.stat().st_mode & 0o077 == 0


@pytest.mark.meshwrap
def test_sigkill_at_any_moment_leaves_the_same_node(net, node, real):
    node.begin(key=net.reusable).wait_running()
    before = node.addresses, node.key, net.hs.id_of(node.name)
    for attempt in range(8):
        node.stop(signal.SIGKILL)
        node.again()
        time.sleep(int.from_bytes(os.urandom(2), "big") / 65536 * 1.2)
    node.stop(signal.SIGKILL)
    node.again().wait_running()
    assert (node.addresses, node.key, net.hs.id_of(node.name)) == before
    talks(node, real)


@pytest.mark.meshwrap
def test_sigkill_during_the_first_join_costs_no_second_node(net, site):
    """The key that registers is on disk before it is used."""
    for delay in (0.02, 0.05, 0.1, 0.2, 0.3):
        node = net.make("ours", site, name=f"torn-{int(delay * 1000)}")
        key = net.hs.key()
        node.begin(key=key)
        time.sleep(delay)
        node.stop(signal.SIGKILL)
        node.again().wait_running()
        node.stop()
        assert sum(name.startswith(node.name) for name in net.hs.nodes()) == 1


@pytest.mark.meshwrap
def test_a_state_file_that_was_cut_is_never_taken_for_whole(net, node):
    """The daemon refuses it, says which, and touches nothing."""
    node.begin(key=net.reusable).wait_running()
    node.stop()
    path = state_file(node)
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    node.again()
    wait_until(lambda: node.daemon.popen.poll() is not None, 30, "the daemon takes half a state for whole")
    assert node.daemon.popen.returncode > 0 and str(path) in node.daemon.text
    assert path.read_bytes() == half


# ---- meshrun, the environment, secrets ----

def processes(space):
    """(command line, environment) of whatever runs in a namespace."""
    words = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=True)
    for pid in words.stdout.split():
        try:
            yield pid, b"".join(Path(f"/proc/{pid}/{what}").read_bytes() for what in ("cmdline", "environ"))
        except OSError:
            continue


@pytest.mark.meshwrap
@pytest.mark.parametrize("how", ["environment", "file in the environment", "key file"])
def test_meshrun_joins_and_the_key_reaches_nobody(net, real, how):
    node = net.make("ours")
    node.dir = node.home / "run"
    key = net.hs.key("--ephemeral")
    env = {"MESHWRAP_DIR": str(node.dir), "TS_HOSTNAME": node.name}
    words = ["--login-server", net.hs.url]
    if how == "environment":
        env["TS_AUTHKEY"] = key
    elif how == "file in the environment":
        env |= {"TS_AUTHKEY": f"file:{node.write_key(key)}", "TS_LOGIN_SERVER": net.hs.url}
        words = []
    else:
        words += ["--auth-key-file", node.write_key(key)]
    program = node.lab.spawn([node.lab.binary("meshrun"), *words, "--", PYTHON, "-c", """
import os, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
s.sendall(b"hello")
assert s.recv(5) == b"hello"
print("TS_AUTHKEY" in os.environ, "ready", flush=True)
time.sleep(60)
""", real.name, real.serve("""
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        while True:
            c, _ = s.accept()
            c.sendall(recv_exactly(c, 5))
        """)], node.place, env, cwd=node.home, log="meshrun")
    program.wait_for(r"(?m)^False ready", 30)
    secret = key.encode()
    seen = list(processes(node.site.space))
    assert len(seen) >= 2
    assert [pid for pid, text in seen if secret in text] == []
    for path in [*node.home.rglob("*"), program.log]:
        if path.is_file() and path != node.home / "authkey":
            assert secret not in path.read_bytes(), path
    # No state was asked for, so the node is ephemeral, and nothing of it is on disk.
    name = json.loads(net.lab.run([node.lab.binary("meshctl"), "status", "--json"], node.place,
                                  {"MESHWRAP_DIR": str(node.dir)}).stdout)["Self"]["HostName"]
    assert name == node.name
    for pid, _ in seen:
        os.kill(int(pid), signal.SIGTERM)
    wait_until(lambda: node.name not in net.hs.nodes(), 30, "the ephemeral node is still there")


@pytest.mark.meshwrap
def test_a_key_on_the_command_line_is_not_an_option(net, node):
    with pytest.raises(Failure):
        node.meshrun("--login-server", net.hs.url, f"--auth-key={net.reusable}", "true")


@pytest.mark.meshwrap
def test_state_dir_from_the_environment_keeps_the_node(net, node):
    env = {"TS_STATE_DIR": str(node.state), "TS_HOSTNAME": node.name, "TS_LOGIN_SERVER": net.hs.url,
           "TS_AUTHKEY": f"file:{node.write_key(net.hs.key())}"}

    def run():
        daemon = node.lab.spawn([node.lab.binary("meshd"), "--dir", node.dir], node.place, env, cwd=node.home)
        node.daemon = daemon
        node.logs.append(daemon)
        node.wait_running()
        assert daemon.stop() == 0
        return node.addresses
    assert run() == run()
