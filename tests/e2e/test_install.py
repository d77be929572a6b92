"""What scripts/programs --install does to the machine, with an apt-get that only notes what it was asked."""
import os
import subprocess
from pathlib import Path

import pytest

from worlds import PYTHON

ROOT = Path(__file__).resolve().parents[2]
# As Debian's packages do when they are installed, it asks the policy whether a service may start.
APT_GET = """#!/bin/sh
told=nothing
[ ! -e "$POLICY" ] || { "$POLICY" some-service start; told=$?; }
echo "$DEBIAN_FRONTEND $told $*" >>"$NOTES"
case " $* " in *" install "*) exit "$INSTALLED" ;; esac
"""
INSTALL = """
import importlib.machinery, importlib.util, os, pathlib, sys
loader = importlib.machinery.SourceFileLoader("programs", sys.argv[1])
programs = importlib.util.module_from_spec(importlib.util.spec_from_loader("programs", loader))
loader.exec_module(programs)
programs.POLICY = pathlib.Path(os.environ["POLICY"])
programs.install([programs.base.Check("some", None, "", "", apt=("one", "two"), programs=("no-such-program-anywhere",))])
"""


def install(folder, installed=0):
    """Its exit status, and what apt-get noted: the front end, what the policy said, and the last words."""
    apt_get, notes = folder / "apt-get", folder / "notes"
    apt_get.write_text(APT_GET)
    apt_get.chmod(0o755)
    env = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "POLICY": str(folder / "policy-rc.d"), "NOTES": str(notes),
           "INSTALLED": str(installed)}
    result = subprocess.run([PYTHON, "-B", "-c", INSTALL, ROOT / "scripts/programs"], env=env, capture_output=True, text=True, timeout=60)
    lines = [line.split() for line in notes.read_text().splitlines()]
    return result.returncode, [(*words[:2], "update" if words[-1] == "update" else " ".join(words[words.index("install"):])) for words in lines]


@pytest.mark.parametrize("installed", [0, 100])
def test_packages_are_installed_from_fresh_lists_and_start_no_service(tmp_path, installed):
    status, asked = install(tmp_path, installed)
    assert asked == [("noninteractive", "101", "update"), ("noninteractive", "101", "install -y --no-install-recommends one two")]
    assert (status == 0) == (installed == 0)
    assert not (tmp_path / "policy-rc.d").exists()


def test_a_policy_that_is_there_stays(tmp_path):
    policy = tmp_path / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 7\n")
    policy.chmod(0o755)
    status, asked = install(tmp_path)
    assert status == 0 and [told for _, told, _ in asked] == ["7", "7"]
    assert policy.read_text() == "#!/bin/sh\nexit 7\n"
