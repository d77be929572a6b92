"""Programs that run with other rights than who starts them: no library gets into these."""
import os
import re
import shutil
import subprocess

import pytest

from worlds import NOBODY, needs_netns

pytestmark = pytest.mark.meshwrap
REFUSAL = "runs with other rights than yours (set-uid or file capabilities), so it cannot be put on the mesh\n"


@pytest.fixture(scope="module", params=["set-uid", "capabilities"])
def gaining(request, session_lab):
    """A copy of env that gains rights when an ordinary user starts it."""
    path = session_lab.tmp / f"gaining-{request.param}"
    shutil.copy("/usr/bin/env", path)
    if request.param == "set-uid":
        path.chmod(0o4755)
    elif not shutil.which("setcap"):
        pytest.skip("needs setcap")
    elif subprocess.run(["setcap", "cap_net_raw+ep", path], check=False).returncode:
        pytest.skip("needs a file system with capabilities")
    return path


def run(node, *words, **options):
    """As an ordinary user, who may still gain rights: not under tests/rented.c, which forbids that."""
    front = ["ip", "netns", "exec", node.place.netns, "setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY),
             "--clear-groups"]
    return node.lab.run([*front, node.lab.binary("meshrun"), *words], env=node.env, check=False, **options)


@pytest.fixture(scope="module")
def node(world):
    if not os.geteuid() == 0 or world.name != "one" or not world.spaces:
        pytest.skip("needs root, and the world of an ordinary user")
    return world.a


@needs_netns
def test_the_program_itself_is_refused_in_one_sentence(node, gaining):
    done = run(node, "--", gaining)
    assert (done.returncode, done.stdout, done.stderr) == (126, "", f"meshrun: {gaining} {REFUSAL}")


@needs_netns
def test_a_child_is_left_alone_and_that_is_said_once(node, gaining):
    """By the shell, and by shells it forked."""
    script = f"{gaining} true && ({gaining} true; ({gaining} true)) && {gaining} WORD=1 | grep ^WORD="
    done = run(node, "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (0, "WORD=1\n")
    assert re.fullmatch(rf"meshwrap\[\d+\]: {gaining} runs outside the mesh: it has other rights than its parent "
                        r"\(set-uid\)\n", done.stderr)


@needs_netns
def test_explain_tells_it_of_each(node, gaining):
    done = run(node, "--explain", "--", "sh", "-c", f"{gaining} true; {gaining} true; true")
    assert done.stderr.count(f"exec {gaining}: left alone (set-uid)") == 2 and "outside" not in done.stderr
