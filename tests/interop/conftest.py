"""The fixtures of the tests with real peers; tailnet.py says what a tailnet is."""
import os
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/e2e")]
from nodes import Ours  # noqa: E402
from peers import QUICK, REFERENCE, build_peers, missing  # noqa: E402
from tailnet import Tailnet  # noqa: E402

from lab import Failure, Lab  # noqa: E402
from worlds import BareLab  # noqa: E402


@contextmanager
def opened_lab():
    """A lab. What its nodes said is read once more before it goes, and nobody looks for it afterwards."""
    with BareLab() if REFERENCE else Lab(keep=bool(os.environ.get("MESHWRAP_KEEP"))) as lab:
        try:
            yield lab
            check_logs(lab)
        finally:
            Ours.alive[:] = [node for node in Ours.alive if node.lab is not lab]


def check_logs(lab=None):
    for node in Ours.alive:
        if lab in (None, node.lab):
            node.check_logs()


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
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # it is for this machine's internet, not for the lab's
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
    with opened_lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def net(lab):
    """One tailnet with one relay, and every node its own site: for whatever hurts nobody."""
    yield Tailnet(lab)


@pytest.fixture(scope="module")
def own_lab():
    """For a module that stops servers or writes policies."""
    with opened_lab() as lab:
        yield lab


@pytest.fixture(autouse=True)
def whole_daemons():
    """No sanitizer spoke and no assertion failed in any daemon of ours."""
    yield
    check_logs()
