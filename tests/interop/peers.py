"""The real peers: where they are, and whether the tests that need them can run here.

MESHWRAP_INTEROP=reference puts tailscaled in our place: what the tests ask of us is then asked of
the original, which proves the tests. MESHWRAP_INTEROP=quick leaves out those marked slow.
"""
import os
import shutil
import subprocess
from pathlib import Path

from lab import ROOT
from worlds import CAN_NETNS, CAN_RENT, CAN_TUN

REFERENCE = os.environ.get("MESHWRAP_INTEROP") == "reference"
QUICK = os.environ.get("MESHWRAP_INTEROP", "quick" if os.environ.get("CI") == "true" else "") == "quick"
PEERS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "meshwrap-peers"
NEEDED = ("headscale", "derper", "tailscaled", "tailscale")
QUIET = {"TS_NO_LOGS_NO_SUPPORT": "true", "TS_DEBUG_DISABLE_PORTLIST": "true"}


def missing():
    """Why these tests cannot run here; None if they can."""
    if not CAN_NETNS:
        return "needs root and network namespaces"
    if not CAN_TUN:
        return "needs a TUN device for the real peers"
    if not CAN_RENT and not REFERENCE:
        return "needs a sandbox as tests/rented.c makes it"
    lost = [name for name in NEEDED if not (PEERS / name).exists()]
    return f"{', '.join(lost)} not in {PEERS}: run tests/peers/build (needs Go)" if lost else None


def build_peers():
    """Builds the real peers unless they are there; minutes the first time. Needs Go."""
    if any(not (PEERS / name).exists() for name in NEEDED) and shutil.which("go") and CAN_TUN:
        print("building the real peers, some minutes, once", flush=True)
        subprocess.run([ROOT / "tests/peers/build", PEERS], timeout=600, check=False)
