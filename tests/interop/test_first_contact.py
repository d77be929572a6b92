"""The first words to a peer of whom we have only just heard, and who has not yet heard of us: soon, whatever was lost."""
import time

import pytest

HELLO = """
    s = listener("0.0.0.0")
    say("ready", s.getsockname()[1])
    while True:
        c, _ = s.accept()
        c.sendall(b"hello")
        c.close()
    """

DIAL = """
    s = dial(sys.argv[1], sys.argv[2])
    assert recv_all(s) == b"hello"
    """

# The server tells others of a newcomer 0.8 s later; what nobody repeats is lost until then, and WireGuard
# by itself repeats after 5 s. The programs' own start is counted, too.
SOON = 4.5


def there(kind):
    return pytest.param(kind, marks=pytest.mark.slow) if kind == "tun" else kind


@pytest.fixture(scope="module", params=[there("userspace"), there("tun"), there("ours")])
def host(request, net):
    """It was there first; serves HELLO at its port."""
    node = net.join(request.param)
    node.port = node.serve(HELLO)
    yield node
    node.stop()


@pytest.fixture(params=["blocked", pytest.param("plain", marks=pytest.mark.slow)])
def newcomer(request, host, net):
    node = net.join("ours", request.param)
    yield node
    node.stop()


@pytest.mark.parametrize("word", ["dial", "disco", "tsmp"])
def test_a_newcomer_reaches_who_was_there_soon(newcomer, host, word):
    start = time.monotonic()
    if word == "dial":
        newcomer.program(DIAL, host.v4, host.port)
    else:
        said = newcomer.ping(host.v4, *["--tsmp"] * (word == "tsmp"), "--until-direct=false", "-c", "1")
        assert said.startswith(f"pong from {host.name} ({host.v4}"), said
    assert time.monotonic() - start < SOON


@pytest.fixture(scope="module")
def ours(net):
    """Our side of those that are not new; no UDP."""
    node = net.join("ours", "blocked")
    yield node
    node.stop()


@pytest.mark.parametrize("kind", ["userspace", there("tun"), there("ours")])
@pytest.mark.parametrize("word", ["disco", pytest.param("tsmp", marks=pytest.mark.slow)])
def test_who_was_there_reaches_a_newcomer_soon(ours, net, kind, word):
    newcomer = net.join(kind)
    ours.wait_peer(newcomer.name)
    start = time.monotonic()
    said = ours.ping(newcomer.v4, *["--tsmp"] * (word == "tsmp"), "--until-direct=false", "-c", "1")
    assert said.startswith(f"pong from {newcomer.name} ({newcomer.v4}"), said
    assert time.monotonic() - start < SOON
    newcomer.stop()
