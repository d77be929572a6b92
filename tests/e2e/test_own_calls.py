"""Dynamic programs with system call instructions of their own: no function of libc shows them, but their file does."""
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from test_trace_programs import REFUSE
from worlds import PYTHON, echo_server, python, shared_world, traced_world_names

pytestmark = pytest.mark.meshwrap
HERE = Path(__file__).parent
PT_INTERP = 3


@pytest.fixture(scope="module", params=traced_world_names())
def world(request, session_lab):
    yield from shared_world(request.param, session_lab)


@pytest.fixture(scope="module", params=["gcc -O2", "gcc -O0", "musl-gcc -O2"])
def own(request, session_lab):
    words = request.param.split()
    if not shutil.which(words[0]):
        pytest.skip(f"needs {words[0]}")
    target = session_lab.tmp / "-".join(["own-calls", *words])
    subprocess.run([*words, "-D_GNU_SOURCE", "-o", target, HERE / "own_calls.c"], check=True)
    return target


@pytest.fixture(scope="module")
def echo(world):
    """Servers of streams and of datagrams on node-b, of the same port."""
    yield from echo_server(world.b, datagrams=True)


def meshrun(node, *words):
    return [node.lab.binary("meshrun"), *map(str, words)]


def run(node, *words, **options):
    return node.run(meshrun(node, "--", *words), wrapped=False, **options).stdout


def test_connect_and_names_of_ends(world, own, echo):
    assert run(world.a, own, "dial", world.b.v4, echo) == f"hello {world.a.v4} {world.b.v4}\n"


def test_a_changed_programs_linker_is_named_at_the_end(world, own, echo):
    """So patchelf leaves it, and so what is to be found behind the first 64 KiB."""
    program, at = bytearray(own.read_bytes()), own.stat().st_size + 100000
    table, size, count = *struct.unpack_from("<Q", program, 32), *struct.unpack_from("<HH", program, 54)
    for part in range(table, table + size * count, size):
        kind, offset, length = *struct.unpack_from("<I", program, part), *struct.unpack_from("<Q16xQ", program, part + 8)
        if kind == PT_INTERP:
            name = program[offset:offset + length]
            struct.pack_into("<Q", program, part + 8, at)
    changed = own.with_name(f"{own.name}-changed")
    changed.write_bytes(program.ljust(at, b"\0") + name)
    changed.chmod(0o755)
    assert run(world.a, changed, "dial", world.b.v4, echo) == f"hello {world.a.v4} {world.b.v4}\n"
    assert run(world.a, "env", changed, "dial", world.b.v4, echo) == f"hello {world.a.v4} {world.b.v4}\n"


def test_bind_and_accept(world, own):
    server = world.b.spawn(meshrun(world.b, "--", own, "serve", world.b.v4, 0), wrapped=False, log="own")
    port = server.wait_for(r"ready (\d+)").group(1)
    code = """
        s = socket()
        s.connect((sys.argv[1], int(sys.argv[2])))
        say(s.recv(99).decode())
    """
    assert python(world.a, code, world.b.v4, port).strip() == "welcome"
    server.wait_for(f"from {world.a.v4}")
    server.stop()


def test_datagrams(world, own, echo):
    assert run(world.a, own, "datagram", world.b.v4, echo) == f"hello from {world.b.v4}\n"


def test_children_are_seen_as_well(world, own, echo):
    """By exec and by spawn, of a dynamic parent with its environment and without, and of a static one."""
    expected = f"hello {world.a.v4} {world.b.v4}\n"
    words = [own, "dial", world.b.v4, echo]
    assert run(world.a, "sh", "-c", 'exec "$@"', "sh", *words) == expected
    assert run(world.a, "env", "-i", *words) == expected
    code = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
    assert run(world.a, PYTHON, "-c", code, *words) == expected


def test_children_of_traced_programs(world, own, static, echo):
    """They inherit the tracer and the shim; one of the two must serve them, and not both."""
    expected = f"hello {world.a.v4} {world.b.v4}\n"
    words = [own, "dial", world.b.v4, echo]
    assert run(world.a, static, "exec", *words) == expected
    assert run(world.a, static, "exec", "sh", "-c", '"$@"; true', "sh", *words) == expected
    assert run(world.a, static, "exec", "env", "-i", *words) == expected
    assert run(world.a, own, "dial", world.b.v4, echo, env={"MESHWRAP_TRACE": "1"}) == expected


def test_children_named_by_a_descriptor_alone(world, own, static, echo):
    """fexecve(), of a dynamic program with calls of its own and of a static one, which have a name all the same."""
    code = "import os, sys; os.execve(os.open(sys.argv[1], os.O_RDONLY), sys.argv[1:], {})"
    assert run(world.a, PYTHON, "-c", code, own, "dial", world.b.v4, echo) == f"hello {world.a.v4} {world.b.v4}\n"
    assert run(world.a, PYTHON, "-c", code, static, "ends", world.b.v4, echo) == f"{world.a.v4} {world.b.v4}\n"


def test_children_of_it_have_the_shim_again(world, own):
    """The tracer stands by, as for every dynamic child of a static program."""
    code = "print(open('/proc/self/maps').read().count('/libmeshwrap') > 0)"
    assert run(world.a, own, "exec", PYTHON, "-c", code) == "True\n"
    assert "TracerPid:\t0\n" not in run(world.a, own, "exec", "cat", "/proc/self/status")


def test_explain_says_why(world, own, echo):
    said = world.a.run(meshrun(world.a, "--explain", "--", own, "dial", world.b.v4, echo), wrapped=False).stderr
    assert f"exec {own}: by the tracer (makes network calls of its own, past libc)" in said
    words = ["sh", "-c", '"$@"; true', "sh", own, "dial", world.b.v4, echo]
    said = world.a.run(meshrun(world.a, "--explain", "--", *words), wrapped=False).stderr
    assert f"exec {own}: by the tracer (it makes network calls of its own)" in said


def test_ordinary_programs_are_not_traced(world):
    """The shim serves them, as ever, whatever else they have in their code."""
    for words in (["sh", "-c", "cat /proc/$$/status"], [PYTHON, "-c", "print(open('/proc/self/status').read())"],
                  [shutil.which("perl"), "-e", "open F, '/proc/self/status'; print <F>"]):
        assert "TracerPid:\t0\n" in run(world.a, *words)


def test_zero_turns_the_look_off(world, own):
    """The calls go past the shim then, and to the kernel, which has no such address."""
    said = run(world.a, own, "serve", world.a.v4, "0", env={"MESHWRAP_TRACE": "0"}, check=False)
    assert said.startswith("bind: errno 99")


@pytest.mark.parametrize("call", ["ptrace", "prctl"])
def test_without_a_tracer_it_runs_as_before_and_says_so(world, own, call):
    """In a sandbox that refuses what tracing needs: the shim serves what goes by way of libc."""
    pytest.importorskip("seccomp")
    what = "by tracing it (ptrace)" if call == "ptrace" else "by a seccomp filter"
    for before in ([], ["sh", "-c", '"$@"; true', "sh"]):
        words = [PYTHON, "-c", REFUSE, call, *meshrun(world.a, "--explain", "--", *before, own, "none", "-", "-")]
        # A sanitized meshrun looks for leaks by these calls itself.
        done = world.a.run(words, wrapped=False, env={"ASAN_OPTIONS": "detect_leaks=0"})
        assert (f"meshrun: {own} makes network calls of its own, past libc. They can only be put on the mesh {what}, "
                "which this system refuses: Operation not permitted\n") in done.stderr
        assert f": on in {own.name}\n" in done.stderr


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_under_another_tracer_it_runs_as_before(world, own):
    words = ["strace", "-f", "-o", "/dev/null", "-e", "trace=none", *meshrun(world.a, "--", own, "none", "-", "-")]
    done = world.a.run(words, wrapped=False)
    assert "makes network calls of its own, past libc. They can only be" in done.stderr
