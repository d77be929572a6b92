"""The fixtures of the tests with real peers; tailnet.py says what a tailnet is."""
import os
import signal

import pytest

import tailnet as tailnet_module
from tailnet import QUICK, REFERENCE, Tailnet, build_peers, missing

from lab import Failure, Lab
from worlds import BareLab


def make_lab():
    return BareLab() if REFERENCE else Lab(keep=bool(os.environ.get("MESHWRAP_KEEP")))


def end_well(number, frame):
    """Whoever ends us (timeout, CI) shall not leave namespaces and servers behind."""
    raise KeyboardInterrupt


def pytest_configure(config):
    signal.signal(signal.SIGTERM, end_well)
    config.addinivalue_line("markers", "meshwrap: asks for more than the original gives")
    config.addinivalue_line("markers", "slow: one more of a kind; left out where CI or "
                                       "MESHWRAP_INTEROP=quick wants it short")


def pytest_collection_modifyitems(items):
    if REFERENCE:
        items[:] = [item for item in items if not item.get_closest_marker("meshwrap")]
    if QUICK:
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    build_peers()
    why = missing()
    if why:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=why))


def pytest_sessionstart(session):
    if not REFERENCE:
        try:
            Lab().close()
        except Failure as failure:
            pytest.exit(str(failure), 2)


@pytest.fixture(scope="session")
def lab():
    with make_lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def net(lab):
    """One tailnet with one relay, and every node its own site: for whatever hurts nobody."""
    yield Tailnet(lab)


@pytest.fixture(scope="module")
def own_lab():
    """For a module that stops servers or writes policies."""
    with make_lab() as lab:
        yield lab


@pytest.fixture(autouse=True)
def whole_daemons():
    """No sanitizer spoke and no assertion failed in any daemon of ours."""
    yield
    for node in tailnet_module.Ours.alive:
        node.check_logs()
