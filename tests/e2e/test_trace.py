"""Programs the shim cannot enter: Go, static C with raw system calls. meshrun traces them."""
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from worlds import PYTHON, echo_server, free_port, python, python_spawn, shared_world, traced_world_names, wait_until

pytestmark = pytest.mark.meshwrap


@pytest.fixture(scope="module", params=traced_world_names())
def world(request, session_lab):
    yield from shared_world(request.param, session_lab)


def meshrun(node, *words):
    return [node.lab.binary("meshrun"), "--", *map(str, words)]


def run(node, *words, **options):
    return node.run(meshrun(node, *words), wrapped=False, **options).stdout


def spawn(node, *words, ready=r"ready (\S+)", **options):
    process = node.spawn(meshrun(node, *words), wrapped=False, log="traced", **options)
    process.wait_for(ready)
    return process


def port_of(process):
    return process.wait_for(r"ready (\d+)").group(1)


@pytest.fixture(scope="module")
def echo(world):
    """An ordinary echo server on node-b."""
    yield from echo_server(world.b)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "own", "[::]:0", "127.0.0.1:0"])
def test_go_serves_go_and_each_sees_the_other(world, go, listen):
    server = spawn(world.b, go, "serve", f"{world.b.v4}:0" if listen == "own" else listen)
    said = run(world.a, go, "get", f"http://{world.b.v4}:{port_of(server)}/hello")
    assert said.startswith("200 /hello from ") and world.a.v4 + ":" in said
    server.stop()


def test_go_serves_on_its_ipv6_mesh_address(world, go):
    server = spawn(world.b, go, "serve", f"[{world.b.v6}]:0")
    assert f"[{world.b.v6}]" in server.text
    said = run(world.a, go, "get", f"http://[{world.b.v6}]:{port_of(server)}/six")
    assert said.startswith("200 /six from ") and world.a.v6 in said
    server.stop()


def test_a_wrapped_program_talks_to_a_go_server_and_back(world, go, blob):
    server = spawn(world.b, go, "serve", "0.0.0.0:0")
    said = python(world.a, """
        import urllib.request
        data = random.Random(1).randbytes(5_000_000)
        url = f"http://{sys.argv[1]}:{sys.argv[2]}/x"
        with urllib.request.urlopen(urllib.request.Request(url, data=data)) as r:
            body = r.read()
            say(json.dumps([sha(body[:len(data)]) == sha(data), r.headers["Seen"]]))
    """, world.b.v4, port_of(server))
    assert said[0] is True and said[1].startswith(world.a.v4) and f"at {world.b.v4}:" in said[1]
    server.stop()


def test_go_udp_in_both_ways_of_sending(world, go):
    server = spawn(world.b, go, "udp-serve", "0.0.0.0:0")
    for way in ("udp", "udp-connected"):
        said = run(world.a, go, way, f"{world.b.v4}:{port_of(server)}")
        assert re.match(rf"{re.escape(world.a.v4)}:\d+ hello from {re.escape(world.b.v4)}:{port_of(server)} ", said)
    assert f"to {world.a.v4}:" in run(world.a, go, "udp-connected", f"{world.b.v4}:{port_of(server)}")
    server.stop()


def test_five_hundred_go_dials_at_once(world, go, echo):
    said = run(world.a, go, "dials", f"{world.b.v4}:{echo}", 500, "echo", timeout=60)
    assert said.startswith("dials 500 failed 0 "), said


def test_dials_do_not_use_up_the_soft_limit_of_descriptors(world, go, echo):
    """A program raises its own to the hard one, as Go does; who asks for its dials must do so, too."""
    words = meshrun(world.a, go, "dials", f"{world.b.v4}:{echo}", 300, "echo")
    said = world.a.run(["/bin/sh", "-c", 'ulimit -S -n 10; exec "$@"', "sh", *words], wrapped=False, timeout=60).stdout
    assert said.startswith("dials 300 failed 0 "), said


def limited(world, limit, *words, **options):
    """With a limit of its resources, as a shell's ulimit sets it."""
    return world.a.run(["/bin/sh", "-c", f'ulimit {limit}; exec env -i MESHWRAP_DIR="$MESHWRAP_DIR" "$@"', "sh",
                        *meshrun(world.a, *words)], wrapped=False, **options)


@pytest.mark.parametrize("what", ["ends", "small"])
def test_a_small_stack_is_enough(world, static, echo, what):
    """Of the process, which has been meshrun's before, and of a thread."""
    assert limited(world, "-s 32", static, what, world.b.v4, echo).stdout == f"{world.a.v4} {world.b.v4}\n"
    assert limited(world, "-s 32", "/bin/true").stderr == ""


def test_too_few_open_files_to_be_traced_are_told(world, static, echo):
    assert limited(world, "-n 6", static, "ends", world.b.v4, echo).stdout == f"{world.a.v4} {world.b.v4}\n"
    for files in (4, 5):
        done = limited(world, f"-n {files}", static, "ends", world.b.v4, echo, check=False)
        assert done.returncode == 126 and "refuses: Too many open files\n" in done.stderr


def test_refused_dials_of_go_say_so(world, go):
    said = run(world.a, go, "dials", f"{world.b.v4}:{free_port()}", 20)
    assert "failed 20" in said or "connection refused:20" in said, said


def test_raw_calls_reach_the_mesh_and_see_mesh_addresses(world, static, echo):
    assert run(world.a, static, "echo", world.b.v4, echo) == "hello\n"
    assert run(world.a, static, "ends", world.b.v4, echo) == f"{world.a.v4} {world.b.v4}\n"


def test_what_is_outside_the_mesh_is_left_alone(world, static):
    server = python_spawn(world.a, """
        s = listener("127.0.0.1")
        say("ready", s.getsockname()[1])
        c, peer = s.accept()
        c.sendall(c.recv(5))
        c.recv(1)
    """, ready=r"ready \d+", wrapped=False)
    assert run(world.a, static, "echo", "127.0.0.1", port_of(server)) == "hello\n"


def test_a_held_dial_is_interrupted_as_by_the_kernel(world, static):
    down = "100.64.0.3"
    said = run(world.a, static, "interrupted", down, 80, check=False)
    assert said == "errno 4\n"


def test_signals_do_not_disturb_a_dial_that_restarts(world, static, echo):
    for _ in range(5):
        assert run(world.a, static, "restarted", world.b.v4, echo) == f"{world.a.v4} {world.b.v4}\n"


def test_fork_and_vfork_children_are_on_the_mesh(world, static, echo):
    assert run(world.a, static, "forks", world.b.v4, echo) == "sum 60\n"


def test_an_address_that_changes_under_the_call_never_leaves(world, static, echo):
    """To a peer, and to a mesh address nobody has; the wire is counted by the world."""
    before = world.leaked()
    said = run(world.a, static, "race", "192.0.2.2", 9, "100.64.200.1", 9, timeout=120)
    # Where there is a wire, each way of sending has met the address outside; the other never passed.
    assert said == ("done 1 1 1 1 1\n" if len(world.spaces) == 2 else "done 0 0 0 0 0\n")
    assert world.leaked() == before


def test_a_static_program_starts_a_dynamic_one(world, static, go, echo):
    code = ("import socket; s = socket.create_connection((%r, %s)); s.sendall(b'hello'); "
            "print(s.recv(5).decode(), s.getpeername()[0], s.getsockname()[0])") % (world.b.v4, echo)
    wanted = f"hello {world.b.v4} {world.a.v4}\n"
    assert run(world.a, static, "exec", PYTHON, "-c", code) == wanted
    assert run(world.a, static, "exec", "/usr/bin/env", "-i", PYTHON, "-c", code) == wanted
    assert run(world.a, static, "exec", static, "exec", static, "echo", world.b.v4, echo) == "hello\n"


def linker_of(program):
    said = subprocess.run(["readelf", "--program-headers", program], check=True, capture_output=True, text=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout
    return re.search(r"program interpreter: ([^\]]+)\]", said).group(1)


@pytest.mark.parametrize("front", ["the linker", "the linker, its children", "valgrind"])
def test_a_static_program_that_loads_the_shim_is_translated_once(world, echo, front):
    """The dynamic linker named as the program, as bundles with a libc of their own start theirs, is such a one."""
    code = f"exec 3<>/dev/tcp/{world.b.v4}/{echo} && echo hello >&3 && read answer <&3 && echo $answer"
    bash = shutil.which("bash")
    linker, words = linker_of(bash), [bash, "-c", code]
    if front == "the linker":
        words = [linker, *words]
    elif front == "valgrind":
        if not shutil.which("valgrind"):
            pytest.skip("needs valgrind")
        words = ["valgrind", "--quiet", *words]
    else:
        words = [linker, shutil.which("env"), "-u", "LD_PRELOAD", *words]
    # Both by meshrun, and as the child of a program that has the shim.
    for argv in (words, ["/bin/sh", "-c", '"$@"; exit $?', "sh", *words]):
        assert run(world.a, *argv) == "hello\n"


def test_a_shim_that_is_not_there_is_not_believed(world, static, echo):
    """The dynamic linker goes on without it, as in another root."""
    code = ("import socket; s = socket.create_connection((%r, %s)); s.sendall(b'hello'); "
            "print(s.recv(5).decode(), s.getpeername()[0], s.getsockname()[0])") % (world.b.v4, echo)
    assert run(world.a, static, "lose", PYTHON, "-c", code) == f"hello {world.b.v4} {world.a.v4}\n"


def test_statuses_and_signals_are_the_programs_own(world, static):
    for status in (0, 1, 77, 126, 255):
        done = world.a.run(meshrun(world.a, static, "status", status), wrapped=False, check=False)
        assert done.returncode == status and done.stderr == ""
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT):
        done = world.a.run(["/bin/sh", "-c", '"$@"; echo $?', "sh", *meshrun(world.a, static, "die", int(number))],
                           wrapped=False, check=False)
        assert done.stdout.split()[-1] == str(128 + number)


def state_of(pid):
    return re.search(r"^State:\s+(\S)", Path(f"/proc/{pid}/status").read_text(), re.M).group(1)


def test_stop_and_continue_hold_as_long_as_they_should(world, static):
    process = spawn(world.a, static, "sleep")
    pid = [int(p) for p in os.listdir("/proc") if p.isdigit() and is_program(p, static)][0]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) in "tT", 30, "the stop")
    time.sleep(0.3)
    assert state_of(pid) in "tT"
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: state_of(pid) == "S", 30, "the end of the stop")
    os.kill(pid, signal.SIGTERM)
    process.wait()


def thread_states(pid):
    """Without those that have just ended."""
    states = ""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states += stat.read_text().rsplit(")", 1)[1].split()[0]
    return states.translate({ord(c): None for c in "ZX"})


def test_a_stop_holds_for_threads_that_have_just_begun(world, static):
    process = spawn(world.a, static, "bursts")
    pid = int(port_of(process))
    stops = 0
    while thread_states(pid):
        if set(thread_states(pid)) & set("tT"):
            wait_until(lambda: set(thread_states(pid)) <= set("tT"), 30, "the stop of all threads")
            os.kill(pid, signal.SIGCONT)
            stops += 1
        time.sleep(0.001)
    assert stops > 10
    process.wait()


def test_busy_threads_leave_none_behind(world, static):
    """Of all that have stopped the kernel tells of the youngest first."""
    turns = [int(n) for n in run(world.a, static, "turns").split()[1:]]
    assert len(turns) == 8 and min(turns) * 20 > max(turns), turns


def test_children_go_on_when_their_parent_is_killed(world, static):
    """Also those of which it could not tell the tracer any more."""
    assert run(world.a, static, "abandon", 1000, timeout=120) == "lost 0\n"


def is_program(pid, path):
    try:
        return os.readlink(f"/proc/{pid}/exe") == str(path)
    except OSError:
        return False


def test_the_program_keeps_its_process_id(world, static):
    process = world.a.spawn(["/bin/sh", "-c", 'echo shell $$; exec "$@"', "sh",
                             *meshrun(world.a, static, "sleep")], wrapped=False)
    shell = process.wait_for(r"shell (\d+)").group(1)
    assert process.wait_for(r"ready (\d+)").group(1) == shell
    process.stop(signal.SIGKILL)


def test_reads_and_writes_do_not_stop(world, static, echo):
    """The tracer sleeps through them: it wakes up when a call stops, and its pauses are counted by the kernel."""
    process = spawn(world.a, static, "exchange", world.b.v4, echo)
    pid = [p for p in os.listdir("/proc") if p.isdigit() and is_program(p, static)][0]
    tracer = re.search(r"TracerPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)

    def pauses():
        return int(re.search(r"voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{tracer}/status").read_text()).group(1))

    wait_until(lambda: state_of(pid) == "S", 30, "the wait for a signal")
    before = pauses()
    assert before > 0
    os.kill(int(pid), signal.SIGUSR1)
    process.wait_for("over\n")
    assert pauses() - before <= 4  # for the signal itself
    process.stop(signal.SIGKILL)


def test_a_killed_tracer_ends_its_program_and_says_why(world, static):
    process = spawn(world.a, static, "sleep")
    pid = [p for p in os.listdir("/proc") if p.isdigit() and is_program(p, static)][0]
    tracer = re.search(r"TracerPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)
    os.kill(int(tracer), signal.SIGKILL)
    process.wait()
    wait_until(lambda: "keeps this program on the mesh was killed" in process.text, 30, "the watcher's sentence")


def test_threads_that_come_and_go_leave_nothing_in_the_program(world, static):
    """What the tracer maps into it is used again by its other threads."""
    assert int(run(world.a, static, "churn").split()[1]) < 100


@pytest.mark.parametrize("kernel", ["this", "before 5.9"])
def test_the_tracer_keeps_nothing_open_that_a_program_closes(world, static, kernel):
    """Who reads a pipe waits for its last writer. Before 5.9 there is no close_range()."""
    if kernel != "this":
        pytest.importorskip("seccomp")
    said = python(world.a, """
        import subprocess
        kernel, *words = sys.argv[1:]
        r, w = os.pipe()
        def old():
            import seccomp
            f = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
            f.add_rule(seccomp.ERRNO(errno.ENOSYS), "close_range")
            f.load()
        p = subprocess.Popen([*words, "closes", str(w)], pass_fds=[w], stdout=subprocess.PIPE,
                             preexec_fn=None if kernel == "this" else old)
        os.close(w)
        p.stdout.readline()
        print("end" if select.select([r], [], [], 10)[0] else "nothing", p.poll())
        p.kill()
        p.wait()
    """, kernel, *meshrun(world.a, static), wrapped=False)
    assert said == "end None\n"


def test_a_program_that_wants_another_tracer_is_told(world, static):
    assert run(world.a, static, "tracer") == "traceme -1 errno 1\n"


def test_go_dials_by_name(world, go):
    server = spawn(world.b, go, "serve", "0.0.0.0:0")
    said = run(world.a, go, "get", f"http://node-b.mesh:{port_of(server)}/name")
    assert said.startswith("200 /name from ") and world.a.v4 + ":" in said
    server.stop()


def test_go_resolves_mesh_names_by_dns(world, go):
    said = run(world.a, go, "lookup", "node-b.mesh", check=False)
    assert world.b.v4 in said


@pytest.mark.skipif(not os.path.exists("/bin/busybox") or
                    subprocess.run(["ldd", "/bin/busybox"], capture_output=True).returncode == 0,
                    reason="needs a static busybox")
def test_a_static_busybox_fetches_and_its_shell_starts_others(world, go):
    server = spawn(world.b, go, "serve", "0.0.0.0:0")
    url = f"http://{world.b.v4}:{port_of(server)}/box"
    for words in (["/bin/busybox", "wget", "-qO-", url], ["/bin/busybox", "sh", "-c", f"wget -qO- {url}; true"]):
        assert run(world.a, *words).startswith("/box from " + world.a.v4)
    server.stop()


def test_an_interpreter_starts_static_children(world, static, echo):
    """The shim's exec brings a static child of a wrapped program under trace."""
    code = "import subprocess, sys; print(subprocess.run(sys.argv[1:], env={}, capture_output=True, text=True).stdout)"
    said = run(world.a, PYTHON, "-c", code, static, "ends", world.b.v4, echo)
    assert said.strip() == f"{world.a.v4} {world.b.v4}"


def test_a_tracer_is_not_believed_for_a_variable(world, static, echo):
    """Who captures a traced program's environment (a batch system) starts others with it that are not traced."""
    code = "import subprocess, sys; print(subprocess.run(sys.argv[1:], capture_output=True, text=True).stdout)"
    said = run(world.a, "/usr/bin/env", f"MESHWRAP_TRACED={world.a.env['MESHWRAP_DIR']}", PYTHON, "-c", code,
               static, "ends", world.b.v4, echo)
    assert said.strip() == f"{world.a.v4} {world.b.v4}"


def test_a_folder_of_its_name_does_not_hide_a_static_child(world, static, echo, tmp_path):
    """As the kernel, which goes on to the next word of PATH."""
    (tmp_path / static.name).mkdir()
    tmp_path.chmod(0o755)
    path = f"PATH={tmp_path}:{static.parent}"
    assert run(world.a, "/usr/bin/env", path, static.name, "ends", world.b.v4, echo) == f"{world.a.v4} {world.b.v4}\n"


# posix_spawn with folders to change to, one after another; Python's own has none. A number is a descriptor's.
SPAWN = """
import ctypes, os, sys
libc, actions, pid = ctypes.CDLL(None), ctypes.create_string_buffer(512), ctypes.c_int()
def spawn(call, name, folders):
    assert libc.posix_spawn_file_actions_init(actions) == 0
    for folder in folders:
        add, what = ("fchdir", folder) if isinstance(folder, int) else ("chdir", folder.encode())
        assert getattr(libc, f"posix_spawn_file_actions_add{add}_np")(actions, what) == 0
    words = [name, *sys.argv[3:]]
    argv = (ctypes.c_char_p * (len(words) + 1))(*(w.encode() for w in words), None)
    assert getattr(libc, call)(ctypes.byref(pid), argv[0], actions, None, argv, (ctypes.c_char_p * 1)(None)) == 0
    assert os.waitpid(pid.value, 0)[1] == 0
    return libc.posix_spawn_file_actions_destroy(actions)
top, name = sys.argv[1:3]
os.chdir("/usr/bin")
"""
SPAWNS = """
for call in "posix_spawn", "posix_spawnp":
    spawn(call, "./" + name, [top])
    spawn(call, "../" + name, [top + "/sub"])
    spawn(call, "../" + name, ["/", top[1:], "sub"])
    spawn(call, "../" + name, ["/", os.open(top + "/sub", os.O_PATH)])
    spawn(call, "sub/../" + name, [os.open("/", os.O_RDONLY), top[1:]])
lists = [ctypes.create_string_buffer(512) for _ in range(2000)]
for l in lists:
    assert libc.posix_spawn_file_actions_init(l) == 0
    assert libc.posix_spawn_file_actions_addchdir_np(l, b"/") == 0
    assert libc.posix_spawn_file_actions_destroy(l) == 0
spawn("posix_spawn", "./" + name, [top])
libc.posix_spawn_file_actions_addchdir_np(actions, b"/nowhere") # is forgotten by the next one there
os.chdir(top)
spawn("posix_spawn", "./" + name, [])
"""


def test_static_children_that_begin_in_another_folder(world, static, echo, session_lab):
    """They lie where their path leads from there, and not from their parent's folder."""
    top = session_lab.tmp / "folders"
    (top / "sub").mkdir(parents=True, exist_ok=True)
    if not (top / static.name).exists():
        os.link(static, top / static.name)
    said = run(world.a, PYTHON, "-c", SPAWN + SPAWNS, top, static.name, "ends", world.b.v4, echo)
    assert said == f"{world.a.v4} {world.b.v4}\n" * 12


def test_a_static_child_that_path_finds_in_another_folder(world, static, echo):
    code = SPAWN + "spawn('posix_spawnp', name, [top])"
    said = run(world.a, "/usr/bin/env", "PATH=/nowhere:.", PYTHON, "-c", code, static.parent, static.name, "ends",
               world.b.v4, echo)
    assert said == f"{world.a.v4} {world.b.v4}\n"
