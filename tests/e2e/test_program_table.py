"""The table of programs: what scripts/programs counts as passed."""
import importlib.util
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from worlds import CAN_NETNS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not CAN_NETNS, reason="needs network namespaces")

SEND = """
import socket, sys
host, port, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with socket.create_connection((host, port), 20) as s:
    s.sendall(bytes(size))
    s.shutdown(socket.SHUT_WR)
    print(len(s.makefile("rb").read()))
"""
ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as listener:
    print("ready", flush=True)
    conn = listener.accept()[0]
    data = conn.makefile("rb").read()
    conn.sendall(data[:int(sys.argv[3])])
    conn.close()
"""


@pytest.fixture(scope="module")
def table():
    """scripts/programs, and the module of its checks."""
    loader = SourceFileLoader("scripts_programs", str(ROOT / "scripts/programs"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    path = list(sys.path)
    loader.exec_module(module)
    sys.path[:] = path
    return module


def run(table, client, server, there, back, **options):
    """How a row fares that sends so many bytes from a side to one, and has so many back."""
    def row(pair):
        side, far = getattr(pair, client), getattr(pair, server)
        port = table.base.free_port()
        far.spawn(table.base.PYTHON, "-c", ECHO, far.v4, port, back).wait_for("ready")
        assert side.run(table.base.PYTHON, "-c", SEND, far.v4, port, there) == f"{back}\n"
        return "1.0"
    return table.run_one(table.base.Check("row", row, "A row", "what it does", **options), keep=False)


def test_a_row_that_crosses_the_mesh_both_ways_passes(table):
    outcome, version, text = run(table, "a", "b", 300_000, 200_000, carries=200_000)
    assert (outcome, version) == ("passed", "1.0"), text
    assert "node-a had 2" in text and "node-b had 3" in text, text


def test_a_row_whose_programs_talk_on_one_node_only_has_failed(table):
    outcome, _, text = run(table, "a", "a", 300_000, 300_000)
    assert outcome == "failed" and "the mesh did not carry" in text, text
    assert re.search(r"node-b had \d{1,3} bytes", text), text  # none, or a handshake


def test_a_row_that_moves_less_than_it_says_in_one_direction_has_failed(table):
    outcome, _, text = run(table, "a", "b", 300_000, 1000, carries=200_000)
    assert outcome == "failed" and "the mesh did not carry" in text and "node-b had 3" in text, text


def test_no_row_may_do_without(table):
    with pytest.raises(ValueError, match="too few"):
        table.base.Check("row", None, "A row", "what it does", carries=0)
    assert all(check.carries >= table.base.FLOOR for check in table.base.CHECKS.values())
