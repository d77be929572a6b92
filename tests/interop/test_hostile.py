"""Servers that misbehave: the daemon lives, its other flows never stop, and it comes back by itself."""
import re
import time

import pytest

from flow import Flow
from peers import QUICK
from tailnet import Tailnet
from wire import SERVER, Site

from lab import PYTHON, ROOT, Place, wait_until

pytestmark = pytest.mark.meshwrap

BEFORE = ["close", "silence", "garbage", "endless garbage", "500", "429", "redirect", "endless head",
          "bad length", "half a line", "drip", "switch and close", "switch and silence", "switch and garbage"]
MIDWAY = ["flip bits", "cut", "cut early", "twice", "lose", "reorder", "freeze"]
COORDINATOR = [*BEFORE, *MIDWAY, "endless body", "no json", "deep json", "noise error", "noise error without end",
               "noise response forged", "noise response too long", "noise record first"]
RELAY = [*BEFORE, *MIDWAY, "no tls", "derp wrong magic", "derp short key", "derp zero key", "derp forged info",
         "derp huge frame", "derp half a frame", "derp packets first", "derp unknown frames"]
SECONDS = 1 if QUICK else 2


def alternately(modes, first):
    """Every other one is left out where it must be short; of what both do wrong, each does the other half."""
    return [pytest.param(mode, marks=[pytest.mark.slow] if (n + first) % 2 else []) for n, mode in enumerate(modes)]


class Meddled:
    def __init__(self, lab):
        self.net = net = Tailnet(lab, relay_port=4443)
        self.modes, site = {}, Site(net, "plain")
        self.victim = f"10.77.{site.number}.2"
        relay = net.relays[0]
        self.meddle("coordinator", 8081, 8080)
        self.meddle("relay", 443, 4443, *(relay.folder / f"{relay.address}.{end}" for end in ("crt", "key")))
        self.real = net.join("tun", name="real")
        self.hidden = net.join("tun", Site(net, "blocked"), name="hidden")
        self.ours = net.make("ours", site, name="ours").begin(key=net.reusable, login=f"http://{SERVER}:8081")
        self.ours.wait_running()
        for peer in (self.real, self.hidden):
            self.ours.wait_peer(peer.name)
            peer.wait_peer(self.ours.name)
        self.flow = Flow(self.ours, self.real)
        self.renamed = 0

    def meddle(self, name, port, upstream, *certificate):
        self.modes[name] = self.net.lab.tmp / f"mode-{name}"
        self.set(name, "pass")
        process = self.net.lab.spawn([PYTHON, ROOT / "tests/interop/meddler.py", SERVER, port, upstream,
                                      self.modes[name], *certificate], Place(self.net.wan), log=f"meddler-{name}")
        process.wait_for("ready")

    def set(self, name, mode):
        """At once: a reader sees the old or the new."""
        new = self.modes[name].with_suffix(".new")
        new.write_text(f"{mode} {self.victim}")
        new.rename(self.modes[name])

    def daemon_pid(self):
        return self.ours.daemon.pid

    def rss_kb(self):
        status = open(f"/proc/{self.daemon_pid()}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1))

    def suffer(self, name, mode):
        lines, memory = self.ours.said().count("\n"), self.rss_kb()
        self.set(name, mode)
        try:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                self.flow.goes_on(10, blocks=10)
        finally:
            self.set(name, "pass")
        assert self.ours.daemon.popen.poll() is None, self.ours.said()[-3000:]
        said = self.ours.said()
        assert said.count("\n") - lines < 20, said[-3000:]
        assert "\x1b" not in said and "\nlog: line" not in said
        assert self.rss_kb() - memory < 16 * 1024
        self.flow.goes_on(10)

    def map_is_live(self):
        """A change at the server reaches us."""
        self.renamed += 1
        name = f"hidden-{self.renamed}"
        self.net.hs("nodes", "rename", name, "-i", self.net.hs.id_of(self.hidden_name()))
        self.ours.wait_peer(name, timeout=40)

    def hidden_name(self):
        return next(node["given_name"] for node in self.net.hs.nodes().values() if node["name"] == "hidden")

    def relay_is_live(self):
        """Whom only the relay reaches is reached."""
        wait_until(lambda: "via DERP(lab1)" in self.ours.ping(
            self.hidden.v4, "-c", "1", "--timeout", "2s", "--until-direct=false", check=False), 40,
            f"the relay does not carry:\n{self.ours.said()[-3000:]}")


@pytest.fixture(scope="module")
def meddled(own_lab):
    meddled = Meddled(own_lab)
    yield meddled
    assert meddled.flow.finish() < 4.5
    assert meddled.ours.stop() == 0


@pytest.mark.parametrize("mode", alternately(COORDINATOR, 0))
def test_a_coordinator_that_misbehaves(meddled, mode):
    meddled.suffer("coordinator", mode)


def test_the_map_is_live_again(meddled):
    meddled.map_is_live()


@pytest.mark.parametrize("mode", alternately(RELAY, 1))
def test_a_relay_that_misbehaves(meddled, mode):
    meddled.suffer("relay", mode)


def test_the_relay_carries_again(meddled):
    meddled.relay_is_live()
    meddled.map_is_live()
