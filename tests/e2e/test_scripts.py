"""What scripts start and make goes when they end."""
import os
import re
import signal
import subprocess
import sys

import pytest

from lab import ROOT


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_two_nodes_leaves_nothing_when_it_is_ended(number):
    script = subprocess.Popen([sys.executable, "-B", ROOT / "scripts/two-nodes", "sleep", "600"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = ""
    while "The nodes end" not in said:
        line = script.stdout.readline()
        assert line, f"it ended: {said}"
        said += line
    folder = re.search(r"MESHWRAP_DIR=(/\S+)/[^/]+/run", said)[1]
    assert os.path.exists(folder)
    script.send_signal(number)
    assert script.wait(60) != 0
    assert not os.path.exists(folder)
    assert not subprocess.run(["pgrep", "-f", f"meshd.*{folder}/"], stdout=subprocess.PIPE, check=False).stdout
