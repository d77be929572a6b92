"""Libraries with system call instructions of their own, in dynamic programs that the shim serves."""
import platform
import re
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import pytest

import worlds
from test_own_calls import echo, meshrun  # noqa: F401
from test_trace_programs import REFUSE
from worlds import PYTHON, shared_world, traced_world_names

pytestmark = pytest.mark.meshwrap
HERE = Path(__file__).parent
TOLD = " makes network calls of its own, past libc. "
served = pytest.mark.skipif(platform.machine() != "x86_64", reason="traps are for x86-64")

# What a library's main() does with these words; what a Go library's function does with an address.
CALL = """
import ctypes, os, re, subprocess
def call(library, *words):
    words = [b"own", *(str(w).encode() for w in words)]
    return library.run((len(words)), (ctypes.c_char_p * (len(words) + 1))(*words, None))
def status(name):
    return re.search(rf"^{name}:\\s*(\\w+)", open("/proc/self/status").read(), re.M).group(1)
"""
LOAD = "library = ctypes.CDLL(sys.argv[1])\n"
# In the parent, in threads from before and after the library was loaded, and in a forked child.
EVERYWHERE = """
go, results = threading.Event(), []
def work():
    go.wait()
    results.append(dial())
early = [threading.Thread(target=work) for _ in range(3)]
for t in early: t.start()
""" + LOAD + """
late = [threading.Thread(target=work) for _ in range(3)]
for t in late: t.start()
dial()
go.set()
for t in early + late: t.join()
sys.stdout.flush()
child = os.fork()
if not child:
    dial()
    os._exit(0)
os.waitpid(child, 0)
"""


@pytest.fixture(scope="module", params=traced_world_names())
def world(request, session_lab):
    yield from shared_world(request.param, session_lab)


@pytest.fixture(scope="module", params=["-O2", "-O0"])
def library(request, session_lab):
    target = session_lab.tmp / f"own-library{request.param}.so"
    subprocess.run(["gcc", request.param, "-shared", "-fPIC", "-Dmain=run", "-D_GNU_SOURCE", "-o", target,
                    HERE / "own_calls.c"], check=True)
    return target


@pytest.fixture(scope="module")
def go_library(go_build):
    return go_build("go-library.so", "traced_library.go", "-buildmode=c-shared", cgo=True)


def words(node, code, *args):
    return meshrun(node, "--", PYTHON, "-c", worlds.script(CALL, code), *args)


def python(node, code, *args, **options):
    done = node.run(words(node, code, *args), wrapped=False, **options)
    assert TOLD not in done.stderr
    return done.stdout


def spawn(node, code, *args):
    process = node.spawn(words(node, code, *args), wrapped=False, log="library")
    return process, process.wait_for(r"ready (\d+)").group(1)


@served
def test_connect_and_names_of_ends(world, library, echo):
    said = python(world.a, LOAD + "call(library, 'dial', *sys.argv[2:])", library, world.b.v4, echo)
    assert said == f"hello {world.a.v4} {world.b.v4}\n"


@served
def test_bind_and_accept(world, library):
    server, port = spawn(world.b, LOAD + "call(library, 'serve', *sys.argv[2:])", library, world.b.v4, 0)
    said = worlds.python(world.a, "say(tcp(sys.argv[1], sys.argv[2]).recv(99).decode())", world.b.v4, port)
    assert said.strip() == "welcome"
    server.wait_for(f"from {world.a.v4}")
    server.stop()


@served
def test_datagrams(world, library, echo):
    said = python(world.a, LOAD + "call(library, 'datagram', *sys.argv[2:])", library, world.b.v4, echo)
    assert said == f"hello from {world.b.v4}\n"


@served
def test_threads_and_forked_children(world, library, echo):
    said = python(world.a, "dial = lambda: call(library, 'dial', *sys.argv[2:])" + EVERYWHERE, library, world.b.v4,
                  echo)
    assert said == f"hello {world.a.v4} {world.b.v4}\n" * 8


@served
def test_registers_are_as_the_kernel_leaves_them(world, library, echo):
    said = python(world.a, LOAD + "call(library, 'registers', *sys.argv[2:])", library, world.b.v4, echo)
    assert said == "result 0 wrong 0 carry 1 red zone 55667788\n"


@served
def test_a_call_that_waits_is_interrupted(world, library):
    said = python(world.a, LOAD + "call(library, 'interrupted', *sys.argv[2:])", library, world.a.v4, 0)
    assert said == "interrupted 3 of 3\n"


@served
def test_a_call_that_waits_in_a_handler_on_the_alternate_stack(world, library):
    """Handlers that come there meanwhile stand behind it, as if it were there."""
    said = python(world.a, LOAD + "call(library, 'stacks', *sys.argv[2:])", library, world.a.v4, 0)
    assert said == "overwritten 0 elsewhere 0 alarms 3\nsame stack 1 flags 0\n"


@served
def test_many_waiting_calls(world, library):
    """Each has a stack of its own."""
    said = python(world.a, LOAD + """
threads = [threading.Thread(target=call, args=(library, "serve", sys.argv[2], port)) for port in sys.argv[3:]]
for t in threads: t.start()
for port in sys.argv[3:]:
    for _ in range(1000):
        try:
            assert tcp(sys.argv[2], port).recv(99) == b"welcome"
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
for t in threads: t.join()
say("done")
""", library, world.a.v4, *(worlds.free_port() for _ in range(40)))
    assert said.count("from ") == 40 and said.endswith("done\n")


@served
def test_children_are_on_the_mesh_and_nothing_else_of_them_changes(world, library, static, echo):
    """A filter stays over exec: libraries lie elsewhere there, and static programs are traced as ever."""
    dial = f"hello {world.a.v4} {world.b.v4}\n"
    again = worlds.script(CALL, LOAD, "call(library, 'dial', *sys.argv[2:])")
    code = LOAD + f"""
call(library, 'none', '-', '-')
for words in [sys.executable, "-c", {again!r}, *sys.argv[1:4]], ["env", "-i", sys.executable, "-c", {again!r}, *sys.argv[1:4]]:
    subprocess.run(words, check=True)
subprocess.run([sys.argv[4], "ends", *sys.argv[2:4]], check=True)
assert "MESHWRAP_TRAPPED=1" in subprocess.run(["env"], stdout=subprocess.PIPE, text=True).stdout
call(library, 'dial', *sys.argv[2:4])
os.execv(sys.executable, [sys.executable, "-c", "import socket; print(socket.create_connection(('127.0.0.1', 9)))"])
"""
    done = world.a.run(words(world.a, code, library, world.b.v4, echo, static), wrapped=False, check=False)
    assert done.stdout == dial * 2 + f"{world.a.v4} {world.b.v4}\n" + dial, done.stderr
    assert "ConnectionRefusedError" in done.stderr, done.stderr


@served
@pytest.mark.parametrize("way", ["exec", "at"])
def test_static_children_that_the_library_itself_starts(world, library, static, echo, way):
    """By vfork() and execve(): also those that take no memory of their parent with them, and leave none there."""
    said = python(world.a, LOAD + """
def stacks(): return open("/proc/self/maps").read().count("\\n")
def start(count, *words): call(library, "start", sys.argv[2], count, *words)
start(1, *sys.argv[3:])
before = stacks()
start(60, "/bin/true")
say(stacks() - before < 30)
for _ in range(2):
    thread = threading.Thread(target=start, args=(2, *sys.argv[3:]))
    thread.start()
    thread.join()
call(library, "dial", *sys.argv[5:])
""", library, way, static, "ends", world.b.v4, echo)
    ends = f"{world.a.v4} {world.b.v4}\n"
    assert said == ends + "True\n" + ends * 4 + "hello " + ends


@served
def test_static_children_that_go_starts(world, go_library, static, echo):
    said = python(world.a, LOAD + """
words = [w.encode() for w in sys.argv[2:]]
for _ in range(3): assert library.Run((ctypes.c_char_p * len(words))(*words), len(words)) == 0
assert library.Run((ctypes.c_char_p * 1)(b"/nowhere/at/all"), 1) == 1
""", go_library, static, "ends", world.b.v4, echo)
    assert said.startswith(f"{world.a.v4} {world.b.v4}\n" * 3 + "failed: ")


# A filter as one of ours, for connect() from libc's code: as if that lay now where a library lay before exec.
INHERIT = """
import struct
text = next(l for l in open("/proc/self/maps") if "libc.so.6" in l and " r-xp " in l)
start, end = (int(word, 16) for word in text.split()[0].split("-"))
assert start >> 32 == end >> 32
words = [(0x20, 0, 0, 0), (0x15, 0, 6, 42), (0x20, 0, 0, 12), (0x15, 0, 4, start >> 32),
         (0x20, 0, 0, 8), (0x35, 0, 2, start & 0xffffffff), (0x25, 1, 0, end & 0xffffffff),
         (6, 0, 0, 0x30000 | 0x6d77), (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *w) for w in words))
class Program(ctypes.Structure):
    _fields_ = [("count", ctypes.c_ushort), ("words", ctypes.c_void_p)]
prctl = ctypes.CDLL(None, use_errno=True).prctl
assert prctl(38, 1, 0, 0, 0) == 0
assert prctl(22, 2, ctypes.byref(Program(len(words), ctypes.addressof(code)))) == 0
s = listener("127.0.0.1")
say("connected", tcp("127.0.0.1", s.getsockname()[1]).getpeername()[0])
"""


@served
def test_a_call_that_an_inherited_filter_traps_is_made_as_it_stands(world):
    assert python(world.a, INHERIT, env={"MESHWRAP_TRAPPED": "1"}) == "connected 127.0.0.1\n"
    done = world.a.run(words(world.a, INHERIT), wrapped=False, check=False)
    assert done.stdout == "" and done.returncode != 0


@served
def test_one_that_is_loaded_again_and_again_has_one_filter(world, library, echo, session_lab):
    """By other names, so that it counts as new each time; and more libraries than there may be are told of."""
    code = """
before = int(status('Seccomp_filters'))
import _ctypes
for i in range(40):
    name = f"./{os.getpid()}-{i}.so"
    os.symlink(sys.argv[1], name)
    library = ctypes.CDLL(name)
    call(library, 'none', '-', '-')
    _ctypes.dlclose(library._handle)
    os.unlink(name)
say(int(status('Seccomp_filters')) - before <= 4)
library = ctypes.CDLL(sys.argv[1])
call(library, 'dial', *sys.argv[2:])
"""
    folder = session_lab.tmp / "again"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    code = f"os.chdir({str(folder)!r})" + code
    assert python(world.a, code, library, world.b.v4, echo) == f"True\nhello {world.a.v4} {world.b.v4}\n"
    copies = [shutil.copy(library, session_lab.tmp / f"{i}-{library.name}") for i in range(17)]
    code = "kept = [ctypes.CDLL(path) for path in sys.argv[1:]]\nfor l in kept: call(l, 'none', '-', '-')"
    assert world.a.run(words(world.a, code, *copies), wrapped=False).stderr.count(TOLD) == 1


@served
def test_other_signals_of_that_number_are_the_programs(world, library):
    none = "call(library, 'none', '-', '-')\n"
    code = "signal.signal(signal.SIGSYS, lambda *_: say('here'))\n" + LOAD + none
    assert python(world.a, code + "os.kill(os.getpid(), signal.SIGSYS)\nsay('end')", library) == "here\nend\n"
    code = LOAD + none + """
child = os.fork()
if not child:
    os.kill(os.getpid(), signal.SIGSYS)
    os._exit(0)
say(os.waitpid(child, 0)[1] & 0x7f == signal.SIGSYS)
"""
    assert python(world.a, code, library) == "True\n"


# Threads that have blocked all signals before and after the library came, as those of many servers do.
BLOCKED = """
def block():
    if sys.argv[2] == "thread":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    else:
        assert ctypes.CDLL(None).sigprocmask(signal.SIG_BLOCK, b"\\xff" * 128, None) == 0
blocked, loaded = threading.Event(), threading.Event()
def work():
    block()
    blocked.set()
    loaded.wait()
    call(library, 'dial', *sys.argv[3:])
threads = [threading.Thread(target=work) for _ in range(2)]
threads[0].start()
blocked.wait()
""" + LOAD + """
loaded.set()
threads[0].join()
threads[1].start()
threads[1].join()
say(signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, []))
block()
call(library, 'dial', *sys.argv[3:])
say(signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


@served
@pytest.mark.parametrize("way", ["thread", "process"])
def test_threads_that_block_all_signals(world, library, echo, way):
    dial = f"hello {world.a.v4} {world.b.v4}\n"
    assert python(world.a, BLOCKED, library, way, world.b.v4, echo) == dial * 2 + "False\n" + dial + "True\n"


@served
def test_a_program_that_handles_all_signals(world, library, echo):
    """By sigaction(), by signal(), and in a child that begins anew."""
    dial = f"hello {world.a.v4} {world.b.v4}\n"
    code = LOAD + """
call(library, 'none', '-', '-')
everything = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
for s in everything: signal.signal(s, lambda s, _: say('got', s))
call(library, 'dial', *sys.argv[2:])
os.kill(os.getpid(), signal.SIGSYS)
child = os.fork()
if not child:
    for s in everything: signal.signal(s, signal.SIG_DFL)
    call(library, 'dial', *sys.argv[2:])
    os.kill(os.getpid(), signal.SIGSYS)
    os._exit(0)
say(os.waitpid(child, 0)[1] & 0x7f == signal.SIGSYS)
libc, ignore = ctypes.CDLL(None), ctypes.c_void_p(1)
libc.signal.restype = ctypes.c_void_p
say((libc.signal(int(signal.SIGSYS), ignore) or 0) > 1, libc.signal(int(signal.SIGSYS), ignore))
os.kill(os.getpid(), signal.SIGSYS)
call(library, 'dial', *sys.argv[2:])
"""
    said = python(world.a, code, library, world.b.v4, echo)
    assert said == f"{dial}got {int(signal.SIGSYS)}\n{dial}True\nTrue 1\n{dial}"


# A library in front of ours that replaces connect() by an instruction of its own.
WRAPPER = """
#include <errno.h>
int connect(int fd, const void *addr, unsigned len)
{
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "0"(42L), "D"((long)fd), "S"(addr), "d"((long)len)
			 : "rcx", "r11", "memory");
	if (result < 0)
		errno = -result;
	return result < 0 ? -1 : 0;
}
"""


@served
def test_a_library_in_front_that_replaces_functions(world, echo, session_lab):
    target = session_lab.tmp / "wrapper.so"
    subprocess.run(["gcc", "-O2", "-x", "c", "-shared", "-fPIC", "-o", target, "-"], input=WRAPPER, text=True,
                   check=True)
    code = "s = tcp(*sys.argv[1:])\nsay(s.getsockname()[0], s.getpeername()[0])"
    assert python(world.a, code, world.b.v4, echo, env={"LD_PRELOAD": str(target)}) == f"{world.a.v4} {world.b.v4}\n"


@served
def test_a_program_that_is_linked_with_one(world, library, echo, session_lab):
    target = session_lab.tmp / f"linked-{library.stem}"
    subprocess.run(["gcc", "-x", "c", "-o", target, "-", "-x", "none", library], text=True, check=True,
                   input="int run(int, char **); int main(int c, char **v) { return run(c, v); }")
    said = world.a.run(meshrun(world.a, "--", target, "dial", world.b.v4, echo), wrapped=False)
    assert said.stdout == f"hello {world.a.v4} {world.b.v4}\n" and TOLD not in said.stderr


@served
def test_go_dials(world, go_library, echo):
    code = LOAD + "library.Dial(sys.argv[2].encode())"
    expected = f"hello {world.a.v4} {world.b.v4}:{echo}\n"
    assert python(world.a, code, go_library, f"{world.b.v4}:{echo}") == expected


def change_parts(library, target, change):
    """A copy in which change(image, where) was said of each program header."""
    image = bytearray(library.read_bytes())
    at, count = struct.unpack_from("<Q", image, 32)[0], struct.unpack_from("<H", image, 56)[0]
    for part in range(at, at + 56 * count, 56):
        change(image, part)
    target.write_bytes(image)


def make_writable(image, part):
    """As Go before 1.26 has it: what is constant lies among what the dynamic linker writes to."""
    if struct.unpack_from("<II", image, part) == (1, 4):
        struct.pack_into("<I", image, part + 4, 6)


def put_note_nowhere(image, part):
    """As tools leave them that change files."""
    if struct.unpack_from("<I", image, part)[0] == 4:
        struct.pack_into("<Q", image, part + 16, 0x70000000)


@served
def test_one_whose_notes_are_not_loaded(world, library, echo, session_lab):
    target = session_lab.tmp / f"notes-{library.name}"
    change_parts(library, target, put_note_nowhere)
    said = python(world.a, LOAD + "call(library, 'dial', *sys.argv[2:])", target, world.b.v4, echo)
    assert said == f"hello {world.a.v4} {world.b.v4}\n"


@served
@pytest.mark.parametrize("way", ["-s -w -buildid=", "-extldflags=-Wl,-z,noseparate-code", "writable"])
def test_go_that_is_linked_otherwise(world, go_library, go_build, echo, way, session_lab):
    target = session_lab.tmp / f"go-{way.split('-')[-1]}.so"
    if way == "writable":
        change_parts(go_library, target, make_writable)
    elif not target.exists():
        go_build(target.name, "traced_library.go", "-buildmode=c-shared", "-ldflags=" + way, cgo=True)
    expected = f"hello {world.a.v4} {world.b.v4}:{echo}\n"
    assert python(world.a, LOAD + "library.Dial(sys.argv[2].encode())", target, f"{world.b.v4}:{echo}") == expected


@served
def test_go_in_threads_and_many_at_once(world, go_library, echo):
    code = "dial = lambda: library.Dial(sys.argv[2].encode())" + EVERYWHERE.split("sys.stdout.flush")[0]
    expected = f"hello {world.a.v4} {world.b.v4}:{echo}\n"
    assert python(world.a, code, go_library, f"{world.b.v4}:{echo}") == expected * 7
    said = python(world.a, LOAD + "library.Dials(sys.argv[2].encode(), 200)", go_library, f"{world.b.v4}:{echo}",
                  timeout=120)
    assert said == "good 200\n"


@served
def test_go_datagrams(world, go_library, echo):
    said = python(world.a, LOAD + "library.Datagram(sys.argv[2].encode())", go_library, f"{world.b.v4}:{echo}")
    assert said == f"hello from {world.b.v4}:{echo}\n"


@served
def test_go_serves(world, go_library):
    server, port = spawn(world.b, LOAD + "library.Serve(sys.argv[2].encode())", go_library, f"{world.b.v4}:0")
    said = worlds.python(world.a, "say(tcp(sys.argv[1], sys.argv[2]).recv(99).decode())", world.b.v4, port)
    assert said.strip() == "welcome"
    server.wait_for(f"from {world.a.v4}")
    server.stop()


def test_where_no_filter_is_allowed_it_is_told_once(world, library):
    pytest.importorskip("seccomp")
    code = "for i in 1, 2: call(ctypes.CDLL(sys.argv[i]), 'none', '-', '-')"
    before = [PYTHON, "-c", REFUSE, "seccomp"]
    done = world.a.run([*before, *words(world.a, code, library, shutil.copy(library, f"{library}-2.so"))],
                       wrapped=False)
    assert done.stderr.count(TOLD) == 1 and f"{library}{TOLD}" in done.stderr


def test_where_addresses_are_the_same_in_all_programs_it_is_told(world, library):
    if not shutil.which("setarch"):
        pytest.skip("needs setarch")
    command = ["setarch", "-R", *words(world.a, LOAD + "call(library, 'none', '-', '-')", library)]
    if world.a.run(["setarch", "-R", "true"], wrapped=False, check=False).returncode:
        pytest.skip("personality() is refused")
    assert TOLD in world.a.run(command, wrapped=False).stderr


def test_zero_turns_the_look_off(world, library):
    said = python(world.a, LOAD + "say(status('NoNewPrivs'), status('Seccomp_filters'))", library,
                  env={"MESHWRAP_TRACE": "0"})
    assert said == python(world.a, "say(status('NoNewPrivs'), status('Seccomp_filters'))", library)


def test_a_traced_program_has_them_served(world, library, echo):
    said = python(world.a, LOAD + "call(library, 'dial', *sys.argv[2:])", library, world.b.v4, echo,
                  env={"MESHWRAP_TRACE": "1"})
    assert said == f"hello {world.a.v4} {world.b.v4}\n"


def test_programs_without_such_a_library_have_no_filter(world):
    code = "import ssl, sqlite3, asyncio, ctypes.util, decimal\nsay(status('Seccomp_filters'))"
    without = worlds.python(world.a, "import re\nsay(re.search(r'Seccomp_filters:\\s*(\\w+)', "
                            "open('/proc/self/status').read()).group(1))", wrapped=False)
    assert re.fullmatch(rf"{without}\n", python(world.a, code))
