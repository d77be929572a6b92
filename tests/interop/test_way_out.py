"""Where only an HTTP proxy leads out: to the coordination server and the relays, and by those to the peers."""
import base64
import json
import os
import re
import shutil
import signal

import pytest

from flow import Flow, talks
from servers import certified
from tailnet import Tailnet
from wire import SERVER, Site

from lab import PYTHON, ROOT, Failure, Place, wait_until
from worlds import nft

# Of http:// servers the original asks by a plain request, which this proxy does not know.
pytestmark = pytest.mark.meshwrap

PROXY = f"{SERVER}:3128"
PLAIN = "us er:p@ss:Wz7q"
LOGIN = "us%20er:p%40ss:Wz7q"


class Proxy:
    """On the wire, where it may be stopped and started again."""

    def __init__(self, net, port, *words):
        self.net, self.port, self.words = net, port, words
        self.deny_file = net.lab.folder(f"proxy{port}") / "deny"
        self.logs = []

    def start(self):
        process = self.net.lab.spawn([PYTHON, ROOT / "tests/interop/way_out.py", SERVER, self.port, self.deny_file,
                                      *self.words], Place(self.net.wan), log=f"proxy{self.port}")
        process.wait_for("ready")
        self.logs.append(process)
        return self

    def stop(self):
        self.logs[-1].stop(signal.SIGKILL)

    def asked(self, server, status):
        """How often it said so."""
        return sum(len(re.findall(rf"(?m)^{re.escape(server)} {status}$", log.text)) for log in self.logs)


@pytest.fixture(scope="module")
def net(own_lab):
    yield Tailnet(own_lab)


@pytest.fixture(scope="module")
def proxy(net):
    return Proxy(net, 3128).start()


@pytest.fixture(scope="module")
def real(net):
    return net.node("tun")


def walled(net):
    """A site from which nothing but the proxies can be reached."""
    site = Site(net, "easy")
    nft(net.lab, site.router, f"""
        table ip wall {{
            chain forward {{
                type filter hook forward priority 0; policy drop;
                ct state established,related accept
                ip daddr {SERVER} tcp dport {{ 3128, 3129, 3130 }} accept
            }}
        }}""")
    return site


@pytest.fixture(scope="module")
def site(net):
    """Where nodes live one after the other."""
    return walled(net)


@pytest.fixture
def node(net, site, proxy):
    node = net.make("ours", site)
    yield node
    if node.daemon:
        node.stop(signal.SIGKILL)


def proxies(url=f"http://{PROXY}"):
    return {"HTTP_PROXY": url, "https_proxy": url}


def test_a_node_joins_and_reaches_others_by_relay(net, node, proxy, real):
    with pytest.raises(Failure):
        node.run([PYTHON, "-c", f"import socket; socket.create_connection(('{SERVER}', 8080), 2)"], wrapped=False)
    node.begin(key=net.reusable, env=proxies()).wait_running()
    node.complaint(rf"HTTP_PROXY names the proxy {re.escape(PROXY)}")
    other = net.make("ours", walled(net)).begin(key=net.reusable, env=proxies()).wait_running()
    for peer in (real, other):
        node.wait_peer(peer.name)
        peer.wait_peer(node.name)
        talks(node, peer)
        assert node.peer(peer.name)["CurAddr"] == "" and node.peer(peer.name)["Relay"] == "lab1"
    assert proxy.asked(f"{SERVER}:8080", 200) >= 4 and proxy.asked(f"{SERVER}:443", 200) >= 2
    assert node.status()["Control"]["Proxy"] == PROXY
    assert f"* Proxy to relays: {PROXY}" in node.ctl("netcheck", timeout=60).stdout
    other.stop()


@pytest.mark.slow
def test_without_the_variables_there_is_no_way(net, node):
    node.begin(key=net.reusable).complaint(r"cannot connect to 10\.77\.0\.1 in time|the server does not answer", 30)
    assert node.backend() != "Running"


@pytest.fixture(scope="module")
def named(net):
    """A server that only the second proxy knows by its name, and who is let out there. (server, CA, proxy)"""
    server, ca = certified(net, "DNS:headscale.lab")
    yield server, ca, Proxy(net, 3129, "--login", PLAIN, f"headscale.lab={SERVER}").start()
    server.stop()


@pytest.mark.parametrize("login, complaint", [
    ("", rf"the proxy {re.escape(SERVER)}:3129 asks for user and password: give them as in https_proxy="),
    ("us%20er:wrong@", rf"the proxy {re.escape(SERVER)}:3129 does not take the user and password in https_proxy: 407"),
])
def test_who_does_not_log_in_is_told(node, named, login, complaint):
    server, ca, _ = named
    node.begin(key=server.key(), login="https://headscale.lab:8443",
               env=proxies(f"http://{login}{SERVER}:3129") | {"SSL_CERT_FILE": str(ca)}).complaint(complaint)
    assert "wrong" not in node.said() + json.dumps(node.status())


def test_names_are_the_proxys_and_the_certificate_is_the_servers(node, named):
    server, ca, proxy = named
    node.begin(key=server.key(), login="https://headscale.lab:8443", flags=["--log-level", "debug"],
               env=proxies(f"http://{LOGIN}@{SERVER}:3129") | {"SSL_CERT_FILE": str(ca)}).wait_running()
    assert proxy.asked("headscale.lab:8443", 200) >= 2
    wait_until(lambda: proxy.asked(f"{SERVER}:443", 200), 30, "the relay was never asked for")
    said = node.said() + json.dumps(node.status()) + node.ctl("netcheck", timeout=60).stdout
    assert "Wz7q" not in said and base64.b64encode(PLAIN.encode()).decode().rstrip("=") not in said


def test_what_the_proxy_refuses_is_told_and_tried_again(net, node, proxy):
    proxy.deny_file.touch()
    try:
        node.begin(key=net.reusable, env=proxies()).complaint(
            rf"the proxy {re.escape(PROXY)} refused {SERVER}:8080: 403 Forbidden")
        assert node.backend() != "Running"
    finally:
        proxy.deny_file.unlink()
    node.wait_running(60)


def test_a_proxy_goes_and_comes_back(net, node, proxy, real):
    node.begin(key=net.reusable, env=proxies()).wait_running()
    node.wait_peer(real.name)
    real.wait_peer(node.name)
    flow = Flow(node, real, speed=200_000)
    proxy.stop()
    try:
        wait_until(lambda: "cannot connect to the proxy" in json.dumps(node.status()["Health"]), 30, "it is told")
    finally:
        proxy.start()
    wait_until(lambda: not node.status()["Health"], 90, "healthy again")
    wait_until(lambda: node.status()["Relays"][0]["Connected"], 90, "the relay again")
    flow.goes_on(60)
    flow.finish()


def test_exceptions_are_reached_straight(net, proxy):
    node = net.make("ours")
    env = {**proxies("http://127.0.0.1:9"), "NO_PROXY": "10.77.0.0/16"}
    node.begin(key=net.reusable, env=env).wait_running()
    assert node.status()["Control"]["Proxy"] == ""
    node.stop()


@pytest.fixture
def squid(net):
    """The proxy that most have, asking for a login; the folder with its access.log."""
    folder = net.lab.folder("squid")
    folder.chmod(0o777)  # it does not stay root
    hashed = net.lab.run(["openssl", "passwd", "-apr1", PLAIN.split(":", 1)[1]]).stdout
    (folder / "users").write_text(f"{PLAIN.split(':', 1)[0]}:{hashed}")
    (folder / "conf").write_text(f"""
        http_port {SERVER}:3130
        auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/users
        auth_param basic realm the lab
        acl known proxy_auth REQUIRED
        http_access allow known
        http_access deny all
        access_log stdio:{folder}/access.log
        cache_log {folder}/cache.log
        pid_filename {folder}/pid
        coredump_dir {folder}
        visible_hostname squid.lab
        cache deny all
        """)
    process = net.lab.spawn(["squid", "-N", "-f", folder / "conf"], Place(net.wan), log="squid")
    log = folder / "cache.log"
    wait_until(lambda: log.exists() and "Accepting HTTP" in log.read_text(), 30, "squid is not ready")
    yield folder
    process.stop(signal.SIGKILL)


@pytest.mark.skipif(not shutil.which("squid"), reason="no squid")
def test_squid_leads_out(net, node, squid, real):
    node.begin(key=net.reusable, env=proxies(f"http://{LOGIN}@{SERVER}:3130")).wait_running()
    node.wait_peer(real.name)
    real.wait_peer(node.name)
    talks(node, real)
    flow = Flow(node, real, speed=400_000)
    flow.finish()
    node.stop()
    wait_until(lambda: "CONNECT 10.77.0.1:443" in (squid / "access.log").read_text(), 10, "the relay's tunnel is told")


def test_a_socks_proxy_is_refused_in_a_sentence(net, node):
    node.begin(key=net.reusable, env={"HTTP_PROXY": f"socks5h://u:secret@{PROXY}"}).complaint(
        r"HTTP_PROXY names a SOCKS proxy")
    assert "secret" not in node.said() + json.dumps(node.status())


def test_meshrun_hands_the_variables_on(net, node, proxy, real):
    before = proxy.asked(f"{SERVER}:8080", 200)
    port = real.serve("""
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        while True:
            c, _ = s.accept()
            c.sendall(recv_exactly(c, 5))
        """)
    env = {"MESHWRAP_DIR": str(node.home / "own"), "TS_HOSTNAME": node.name, "TS_LOGIN_SERVER": net.hs.url,
           "TS_AUTHKEY": net.hs.key("--ephemeral"), **proxies()}
    program = node.lab.spawn([node.lab.binary("meshrun"), "--", PYTHON, "-c", """
import os, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
s.sendall(b"hello")
assert s.recv(5) == b"hello"
print("HTTP_PROXY" in os.environ, "ready", flush=True)
time.sleep(60)
""", real.name, port], node.place, env, cwd=node.home, log="meshrun")
    program.wait_for(r"(?m)^True ready", 40)
    assert proxy.asked(f"{SERVER}:8080", 200) >= before + 2
    for pid in net.lab.run(["ip", "netns", "pids", node.site.space]).stdout.split():
        os.kill(int(pid), signal.SIGTERM)
    wait_until(lambda: node.name not in net.hs.nodes(), 30, "the ephemeral node is still there")
