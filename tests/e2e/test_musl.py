"""Programs linked with musl, as on Alpine: the shim that was built for musl is inside them, and
children of either libc keep the mesh."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from worlds import PYTHON, echo_server, python

HERE = Path(__file__).resolve().parent
MUSL_GCC = shutil.which("musl-gcc")
pytestmark = [pytest.mark.meshwrap, pytest.mark.skipif(not MUSL_GCC, reason="needs musl-gcc")]
OWN = "libmeshwrap-musl.so alone\n"


def compiled(lab, name, *options):
    target = lab.tmp / name
    subprocess.run([MUSL_GCC, "-D_GNU_SOURCE", "-O1", *options, "-o", target, HERE / "musl.c"], check=True)
    return target


@pytest.fixture(scope="session")
def musl(session_lab):
    return compiled(session_lab, "musl")


@pytest.fixture(scope="session")
def static(session_lab):
    return compiled(session_lab, "musl-static", "-static")


def meshrun(node, *words):
    return [node.lab.binary("meshrun"), "--", *map(str, words)]


def run(node, *words, **options):
    return node.run(meshrun(node, *words), wrapped=False, **options).stdout


def spawn(node, *words):
    process = node.spawn(meshrun(node, *words), wrapped=False, log="musl")
    return process, process.wait_for(r"ready (\d+)").group(1)


@pytest.fixture(scope="module")
def echo(world):
    """An ordinary echo server of both families on node-b."""
    yield from echo_server(world.b, "::")


def test_the_shim_is_inside_and_nobody_traces(world, musl):
    assert run(world.a, musl, "inside") == OWN


def test_it_dials_by_address_and_by_name(world, musl, echo):
    for host in (world.b.v4, "node-b", "node-b.mesh"):
        assert run(world.a, musl, "ends", host, echo) == f"hello {world.a.v4} {world.b.v4}\n"
    assert run(world.a, musl, "ends", world.b.v6, echo) == f"hello {world.a.v6} {world.b.v6}\n"


def test_names_and_interfaces_are_the_meshs(world, musl):
    assert run(world.a, musl, "names", "node-b") == f"node-b.mesh {world.b.v4} {world.b.v6} {world.b.v4}\n"
    assert world.a.v4 in run(world.a, musl, "interfaces")
    assert run(world.a, musl, "names", "no-such.mesh", check=False).startswith("error ")


def test_it_serves_programs_of_either_libc(world, musl):
    server, port = spawn(world.b, musl, "serve")
    assert run(world.a, musl, "ends", world.b.v4, port) == f"hello {world.a.v4} {world.b.v4}\n"
    server.wait_for(rf"from (::ffff:)?{world.a.v4}\n")
    assert python(world.a, """
        s = tcp(sys.argv[1], sys.argv[2])
        sent = random.Random(1).randbytes(3_000_000)
        threading.Thread(target=s.sendall, args=(sent,)).start()
        say(json.dumps(recv_exactly(s, len(sent)) == sent))
    """, world.b.v6, port) is True
    server.wait_for(rf"from {world.a.v6}\n")
    server.stop()


def test_datagrams_in_both_ways(world, musl):
    server, port = spawn(world.b, musl, "serve-datagrams")
    assert run(world.a, musl, "datagram", world.b.v4, port) == f"hello {world.b.v4}\n"
    server.wait_for(rf"from {world.a.v4}\n")
    server.stop()


def test_threads_with_small_stacks(world, musl, echo):
    assert run(world.a, musl, "threads", "node-b", echo) == "all\n"


def test_children_of_either_libc_get_their_own_shim(world, musl, echo):
    wanted = f"hello {world.a.v4} {world.b.v4}\n"
    code = ("import socket, sys; s = socket.create_connection(sys.argv[1:3]); s.sendall(b'hello'); "
            "print(s.recv(5).decode(), s.getsockname()[0], s.getpeername()[0])")
    assert run(world.a, musl, "exec", PYTHON, "-c", code, world.b.v4, echo) == wanted
    assert run(world.a, musl, "exec", "/usr/bin/env", "-i", musl, "ends", world.b.v4, echo) == wanted
    assert run(world.a, "/usr/bin/env", "-i", musl, "inside") == OWN
    assert run(world.a, musl, "exec", "/usr/bin/env", "-i", musl, "exec", musl, "inside") == OWN
    empty = "import subprocess, sys; print(subprocess.run(sys.argv[1:], env={}, capture_output=True, text=True).stdout)"
    assert run(world.a, PYTHON, "-c", empty, musl, "inside").strip() == OWN.strip()


def test_a_shell_of_the_other_libc_and_its_children_are_on_the_mesh(world, musl, echo):
    done = world.a.run(meshrun(world.a, musl, "system", f"true; {musl} ends {world.b.v4} {echo}; {musl} inside"),
                       wrapped=False)
    assert done.stdout == f"hello {world.a.v4} {world.b.v4}\n{OWN}" and done.stderr == ""


def test_scripts_are_judged_by_their_interpreter(world, musl):
    script = world.lab.tmp / "script"
    script.write_text(f"#!{musl} inside\n")
    script.chmod(0o755)
    assert run(world.a, script) == OWN
    assert run(world.a, "/bin/sh", "-c", f"{script}; true") == OWN


def test_a_static_program_sees_the_mesh_interface(world, static):
    """Its list comes by recv(), which gives no address and so stops for no filter."""
    assert f"tailscale0 {world.a.v4}\n" in run(world.a, static, "interfaces")


def test_a_static_program_is_traced_and_starts_a_dynamic_one(world, musl, static, echo):
    wanted = f"hello {world.a.v4} {world.b.v4}\n"
    assert run(world.a, static, "ends", world.b.v4, echo) == wanted
    assert run(world.a, static, "exec", musl, "ends", world.b.v4, echo) == wanted
    assert run(world.a, musl, "exec", static, "ends", world.b.v4, echo) == wanted


def test_without_the_shim_for_musl_it_is_traced(world, musl, echo):
    """Also as a child, whose parent has the shim inside."""
    folder = world.lab.tmp / "without"
    folder.mkdir(exist_ok=True)
    for name in ("meshrun", "shim"):
        shutil.copy2(world.lab.binary(name), folder)
    for words in ([musl], ["/usr/bin/env", "-i", musl]):
        words = [folder / "meshrun", "--", *words, "inside"]
        assert world.a.run([*map(str, words)], wrapped=False).stdout == "none traced\n"
    words = [folder / "meshrun", "--", musl, "ends", world.b.v4, echo]
    assert world.a.run([*map(str, words)], wrapped=False).stdout == f"hello {world.a.v4} {world.b.v4}\n"
    assert not os.path.exists(folder / "libmeshwrap-musl.so")


def test_with_a_shim_for_musl_that_was_cut_it_is_traced(world, musl):
    """musl would go on without it, and the program past the mesh."""
    folder = world.lab.tmp / "cut"
    folder.mkdir(exist_ok=True)
    shim = Path(world.lab.binary("shim"))
    for path in (world.lab.binary("meshrun"), shim, shim.with_name("libmeshwrap-musl.so")):
        shutil.copy2(path, folder)
    os.truncate(folder / "libmeshwrap-musl.so", 65536)
    told = f"meshrun: libmeshwrap-musl.so beside meshrun is damaged, .*; install meshwrap again. Until then {musl} is traced\n"
    for words in ([musl], ["/usr/bin/env", "-i", musl]):
        words = [folder / "meshrun", "--", *words, "inside"]
        done = world.a.run([*map(str, words)], wrapped=False)
        assert done.stdout == "none traced\n"
        assert re.fullmatch(told, done.stderr)
