"""How packets find their way: NATs of all kinds, relays that die, addresses that change.

Beneath every change runs a stream whose bytes are compared both ways: none may be lost.
"""
import signal
import time

import pytest

from flow import Flow
from tailnet import Tailnet
from wire import Site

from lab import Failure, wait_until

OTHERS = ["userspace", pytest.param("tun", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def net(own_lab):
    """Of this module alone, with two relays that may be stopped."""
    yield Tailnet(own_lab, relays=2)


def path(node, other):
    """direct, relay or none: the way of what node last sent to other."""
    peer = node.peer(other.name)
    if not peer or not peer["Active"]:
        return "none"
    return "direct" if peer["CurAddr"] else "relay"


def wait_path(node, other, kind, timeout=20):
    try:
        wait_until(lambda: path(node, other) == kind, timeout, f"{node.name} reaches {other.name} not by {kind}")
    except Failure as failure:
        raise Failure(f"{failure}, but by {path(node, other)}: {node.peer(other.name)}") from None


def both(net, *keys):
    one, other = net.nodes(*keys)
    one.wait_peer(other.name)
    other.wait_peer(one.name)
    return one, other


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("sites, expected", [
    (("plain", "easy"), "direct"), (("easy", "plain"), "direct"), (("easy", "easy"), "direct"),
    (("hard", "cone"), "direct"), (("cone", "hard"), "direct"), (("plain", "hard"), "direct"),
    (("hard", "plain"), "direct"),
    (("hard", "hard"), "relay"), (("blocked", "easy"), "relay"), (("plain", "blocked"), "relay"),
], ids=lambda value: "-".join(value) if isinstance(value, tuple) else value)
def test_the_way_that_the_nats_allow(net, other, sites, expected):
    one, two = both(net, ("ours", sites[0]), (other, sites[1]))
    flow = Flow(one, two)
    if expected == "direct":
        wait_path(one, two, "direct")
        wait_path(two, one, "direct")
    else:
        time.sleep(3)  # as long as a direct way takes where there is one
        assert (path(one, two), path(two, one)) == ("relay", "relay")
    flow.goes_on(20)
    assert flow.finish() < 5


@pytest.mark.parametrize("other", OTHERS)
def test_udp_is_blocked_and_unblocked_under_a_stream(net, other):
    """Direct, then the relay, then direct again."""
    site = Site(net, "easy")
    one = net.join("ours", site)
    two = net.node(other, "easy")
    two.wait_peer(one.name)
    flow = Flow(one, two)
    wait_path(one, two, "direct")
    site.block_udp()
    flow.goes_on(20)
    wait_path(one, two, "relay", 30)
    site.unblock_udp()
    wait_path(one, two, "direct", 45)
    wait_path(two, one, "direct", 45)
    flow.goes_on(20)
    assert flow.finish() < 15
    one.stop()


@pytest.mark.parametrize("who", ["ours moves", "the other moves"])
@pytest.mark.parametrize("other", OTHERS)
def test_an_address_changes_under_a_stream(net, other, who):
    kinds = ("ours", other) if who == "ours moves" else (other, "ours")
    site = Site(net, "plain")
    one = net.join(kinds[0], site)
    two = net.node(kinds[1], "plain")
    two.wait_peer(one.name)
    flow = Flow(one, two)
    wait_path(one, two, "direct")
    site.move(99)
    flow.goes_on(30)
    wait_path(one, two, "direct", 30)
    wait_until(lambda: two.peer(one.name)["CurAddr"].startswith(f"10.77.{site.number}.99:"), 30,
               f"{two.name} does not see the new address")
    flow.goes_on(20)
    flow.finish()
    one.stop()


def home_of(node):
    return node.status()["Self"]["Relay"]


def relay_of(net, node):
    return net.relays[int(home_of(node).removeprefix("lab")) - 1]


@pytest.mark.parametrize("other", OTHERS)
def test_the_relay_restarts_under_a_stream(net, other):
    one, two = both(net, ("ours", "blocked"), (other, "easy"))
    flow = Flow(one, two)
    wait_until(lambda: home_of(one) and home_of(two), 30, "no home")
    for relay in {relay_of(net, one), relay_of(net, two)}:
        relay.stop(signal.SIGKILL)
        relay.start()
    flow.goes_on(30)
    wait_path(one, two, "relay")
    flow.finish()


def wait_another_home(net, node, lost, timeout):
    wait_until(lambda: home_of(node) not in ("", lost), timeout,
               f"{node.name} stays with {lost}:\n{node.said()[-2500:]}")


@pytest.mark.meshwrap
def test_the_home_relay_dies_and_another_takes_its_place(net):
    """Headscale tells the peers where the new home is. (tailscaled waits some minutes with that.)"""
    one, two = both(net, ("ours", "blocked"), ("userspace", "easy"))
    flow = Flow(one, two)
    wait_until(lambda: home_of(one), 30, "no home")
    dead, lost = relay_of(net, one), home_of(one)
    dead.stop(signal.SIGKILL)
    try:
        wait_another_home(net, one, lost, 25)
        flow.goes_on(90)
    finally:
        dead.start()
    flow.goes_on(60)
    flow.finish()


@pytest.mark.meshwrap
def test_a_node_that_has_just_joined_is_reached_at_once(net):
    """Its home is known some hundred milliseconds later; what was sent before is sent again then."""
    one = net.node("ours", "plain")
    for site in ("easy", "blocked"):
        two = net.join("userspace", site)
        one.wait_peer(two.name)
        two.wait_peer(one.name)
        begun = time.monotonic()
        Flow(one, two).finish()
        assert time.monotonic() - begun < 4.5  # a handshake's retry comes after 5 s
        two.stop()


def test_no_relay_at_all_leaves_the_direct_way_alone(net):
    one, two = both(net, ("ours", "plain"), ("tun", "plain"))
    flow = Flow(one, two)
    wait_path(one, two, "direct")
    for relay in net.relays:
        relay.stop(signal.SIGKILL)
    try:
        begun = time.monotonic()
        while time.monotonic() < begun + 5:
            flow.goes_on(10)
        assert path(one, two) == path(two, one) == "direct"
    finally:
        for relay in net.relays:
            relay.start()
    assert flow.finish() < 4.5


@pytest.mark.parametrize("other", OTHERS)
def test_the_other_side_restarts(net, other):
    """A new disco key, a new session: new streams work within seconds."""
    one = net.node("ours", "easy")
    two = net.join(other, "easy")
    one.wait_peer(two.name)
    Flow(one, two).finish()
    two.stop()
    two.again().wait_running()
    Flow(one, two).finish()
    wait_path(one, two, "direct")
    two.stop()
    one.wait_peer(two.name, lambda peer: peer and not peer["Online"], timeout=20)


@pytest.mark.meshwrap
def test_what_goes_by_a_relay_is_counted_in_the_status(net):
    one, two = both(net, ("ours", "blocked"), ("userspace", "easy"))
    Flow(one, two).finish()

    def home():
        return [relay["Connected"] for relay in one.status()["Relays"] if relay["Home"]] == [True]
    wait_until(home, 20, "the home relay")
    assert sum(relay["TxPackets"] for relay in one.status()["Relays"]) > 20
    assert one.status()["Control"]["EntriesIgnored"] == 0


def test_we_restart_and_the_other_side_goes_on(net):
    one = net.join("ours", "easy")
    two = net.node("tun", "easy")
    two.wait_peer(one.name)
    Flow(two, one).finish()
    one.stop()
    one.again().wait_running()
    flow = Flow(two, one)
    wait_path(two, one, "direct")
    flow.finish()
    one.stop()
