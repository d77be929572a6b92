"""Traced programs under load, among others, and in odd places."""
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from worlds import PYTHON, echo_server, python, shared_world, traced_world_names

pytestmark = pytest.mark.meshwrap
HERE = Path(__file__).resolve().parent
RUSTC = shutil.which("rustc") or shutil.which("rustc", path=os.path.expanduser("~/.cargo/bin"))
MUSL, GNU = "x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"


@pytest.fixture(scope="module", params=traced_world_names())
def world(request, session_lab):
    yield from shared_world(request.param, session_lab)


def has_target(target):
    root = RUSTC and subprocess.run([RUSTC, "--print", "sysroot"], capture_output=True, text=True, check=False)
    return bool(root) and (Path(root.stdout.strip()) / "lib/rustlib" / target / "lib").is_dir()


@pytest.fixture(scope="session", params=[MUSL, GNU])
def rust(request, session_lab):
    """A static Rust program, with musl inside or with glibc."""
    if not has_target(request.param):
        pytest.skip(f"needs Rust's {request.param}")
    target = session_lab.tmp / f"traced-{request.param}"
    subprocess.run([RUSTC, "-O", "--target", request.param, "-C", "target-feature=+crt-static", "-o", target,
                    HERE / "traced.rs"], check=True, cwd=session_lab.tmp)
    return target


def meshrun(node, *words):
    return [node.lab.binary("meshrun"), "--", *map(str, words)]


def run(node, *words, **options):
    return node.run(meshrun(node, *words), wrapped=False, **options).stdout


def spawn(node, *words, **options):
    process = node.spawn(meshrun(node, *words), wrapped=False, log="traced", **options)
    return process, process.wait_for(r"ready (\d+)").group(1)


@pytest.fixture(scope="module")
def echo(world):
    """An ordinary echo server on node-b."""
    yield from echo_server(world.b)


def test_rust_talks_to_rust_and_to_the_others(world, rust, echo):
    server, port = spawn(world.b, rust, "serve", "0.0.0.0:0")
    said = run(world.a, rust, "ends", f"{world.b.v4}:{port}")
    assert said == f"{world.a.v4} {world.b.v4}:{port}\n"
    server.wait_for(rf"from {world.a.v4}:\d+ at {world.b.v4}:{port}\n")
    server.wait_for(r"echoed 1048576\n")
    assert run(world.a, rust, "ends", f"{world.b.v4}:{echo}") == f"{world.a.v4} {world.b.v4}:{echo}\n"
    assert python(world.a, """
        s = tcp(sys.argv[1], sys.argv[2])
        s.sendall(b"hello")
        print(json.dumps(recv_exactly(s, 5).decode()))
    """, world.b.v4, port) == "hello"
    server.stop()


def test_rust_threads_and_datagrams(world, rust, go, echo):
    assert run(world.a, rust, "threads", f"{world.b.v4}:{echo}", 40) == "good 40\n"
    server, port = spawn(world.b, go, "udp-serve", "0.0.0.0:0")
    said = run(world.a, rust, "datagram", f"{world.b.v4}:{port}")
    assert re.fullmatch(rf"{re.escape(world.a.v4)}:\d+ hello from {re.escape(world.b.v4)}:{port}\n", said)
    server.stop()


def test_five_hundred_connections_of_a_go_client_to_a_go_server(world, go):
    """All are open at the same time, and each gets its own bytes, and then again over the same connections."""
    server, port = spawn(world.b, go, "serve", "0.0.0.0:0")
    said = run(world.a, go, "together", f"http://{world.b.v4}:{port}", 500, 10, timeout=120)
    assert said.startswith("bad 0 together ms "), said
    server.stop()


def test_go_sees_the_mesh_interface(world, go):
    said = run(world.a, go, "interfaces")
    line = next(line for line in said.splitlines() if line.startswith("tailscale0 "))
    assert re.match(r"tailscale0 \d{4} up\|", line) and f" {world.a.v4}/10 " in line and world.a.v6 in line, said
    assert re.search(r"^lo 65536 up\|loopback", said, re.M), said
    everything = said.splitlines()[-1]
    assert everything.startswith("all ") and everything.count(world.a.v4 + "/") == 1


def test_go_ties_a_socket_to_the_mesh_interface(world, go, echo):
    said = run(world.a, go, "device", f"{world.b.v4}:{echo}", "tailscale0")
    assert said == f"tied to tailscale0 at {world.a.v4}\n"
    said = run(world.a, go, "device", f"{world.b.v4}:{echo}", "no-such0", check=False)
    assert "no such device" in said


def test_a_storm_of_threads_children_and_signals(world, go, static, echo):
    said = run(world.a, go, "storm", f"{world.b.v4}:{echo}", 8, static, timeout=120)
    assert said == "bad 0 dials 256 children 64 signals true\n"


def test_dynamic_go_without_a_build_id(world, go_build, echo):
    """As reproducible builds have it (-ldflags=-buildid=): nothing but a section says that it is Go's."""
    program = go_build("dynamic-go", "traced.go", "-ldflags=-buildid= -s -w", cgo=True)
    headers = subprocess.run(["readelf", "-lWn", program], capture_output=True, text=True, check=True).stdout
    assert "INTERP" in headers and ".note.go" not in headers
    words = [program, "dials", f"{world.b.v4}:{echo}", 3, "echo"]
    assert run(world.a, *words).startswith("dials 3 failed 0 ")
    assert run(world.a, "sh", "-c", '"$@"; true', "sh", *words).startswith("dials 3 failed 0 ")


DIAL = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
s.sendall(b"hello")
print(s.recv(5).decode(), s.getsockname()[0], s.getpeername()[0])
"""


def test_a_chain_of_wrapped_traced_and_dynamic_programs(world, go, static, echo):
    """Python with the shim starts Go, which starts Python, which starts a static program, with nothing in the
    environment at each step."""
    last = ("import subprocess, sys; print(subprocess.run(sys.argv[1:], env={}, capture_output=True, "
            "text=True).stdout, end='')")
    words = [PYTHON, "-c", last, go, "sh", "/usr/bin/env", "-i"]
    wanted = f"hello {world.a.v4} {world.b.v4}\n"
    assert run(world.a, *words, PYTHON, "-c", DIAL, world.b.v4, echo) == wanted
    assert run(world.a, *words, PYTHON, "-c", last, static, "ends", world.b.v4, echo) == f"{world.a.v4} {world.b.v4}\n"


def test_a_program_is_not_ours_by_its_name(world, static, echo, session_lab):
    """Others have a meshctl as well."""
    folder = session_lab.tmp / "others"
    folder.mkdir(exist_ok=True)
    named = shutil.copy(static, folder / "meshctl")
    said = run(world.a, "busybox", "sh", "-c", '"$@"; true', "sh", named, "ends", world.b.v4, echo)
    assert said == f"{world.a.v4} {world.b.v4}\n"


def test_explain_tells_of_traced_calls(world, static, go, echo):
    done = world.a.run([world.lab.binary("meshrun"), "--explain", "--", str(static), "ends", world.b.v4, echo],
                       wrapped=False)
    for line in (rf"meshwrap\[\d+\]: connect fd \d+ {world.b.v4}:{echo} \(node-b\S*\) -> mirror 127\.\S+, .*: ok",
                 rf"getpeername fd \d+: the kernel's 127\.\S+ is shown as {world.b.v4}:{echo}",
                 rf"getsockname fd \d+: the kernel's 127\.\S+ is shown as {world.a.v4}:\d+"):
        assert re.search(line, done.stderr), done.stderr
    out = world.a.home / "explained-go"
    done = world.a.run([world.lab.binary("meshrun"), f"--explain={out}", "--", str(go), "dials", "127.0.0.1:1", "1"],
                       wrapped=False)
    assert done.stderr == "" and "127.0.0.1:1: left alone (this machine)" in out.read_text()


# A program in a sandbox that refuses one system call by number.
REFUSE = """
import errno, os, seccomp, sys
f = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
rule = [seccomp.ERRNO(errno.EPERM), sys.argv[1]]
f.add_rule(*rule, *([seccomp.Arg(0, seccomp.EQ, 22)] if sys.argv[1] == "prctl" else []))
f.load()
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("call", ["ptrace", "prctl"])
def test_where_tracing_is_refused_one_sentence_says_so(world, go, call):
    """prctl: of its calls only the one that installs a filter."""
    pytest.importorskip("seccomp")
    words = [PYTHON, "-c", REFUSE, call, *meshrun(world.a, go, "interfaces")]
    # A sanitized meshrun looks for leaks by these calls itself.
    done = world.a.run(words, wrapped=False, check=False, env={"ASAN_OPTIONS": "detect_leaks=0"})
    what = "by tracing it (ptrace)" if call == "ptrace" else "by a seccomp filter"
    assert done.returncode == 126 and done.stdout == ""
    assert done.stderr == (f"meshrun: {go} can only be put on the mesh {what}, which this system refuses: "
                           "Operation not permitted\n")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root")
def test_as_the_first_process_of_a_container(session_lab, world, go, echo):
    """It reaps orphans, hands on a SIGTERM, and ends as the program does."""
    node = world.a
    words = node.place.argv(meshrun(node, go, "first", f"{world.b.v4}:{echo}"))
    behind = 4 if node.place.netns else 0  # "ip netns exec NAME"
    words[behind:behind] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    process = session_lab.spawn(words, env=node.env, log="first")
    process.wait_for(r"dialled as " + re.escape(node.v4))
    process.wait_for(r"orphans 0 of 20\n")
    process.wait_for(r"ready [2-9]")  # not 1, since meshrun is
    pid = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
    assert Path(f"/proc/{pid}/comm").read_text() == "meshrun\n"
    os.kill(int(pid), signal.SIGTERM)
    process.wait_for(r"got terminated\n")
    assert process.wait() == 7
