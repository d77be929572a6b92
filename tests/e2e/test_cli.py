"""The commands: what a person sees when something is wrong, and that meshrun stays out of the way."""
import json
import os
import re
import signal
import threading
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket

import pytest

from worlds import CAN_NETNS, CAN_RENT, PYTHON, Place, check_sentence, daemons, free_port, python, python_spawn, wait_until

ROOT = Path(__file__).resolve().parents[2]


def run_meshd(node, **options):
    return node.run([node.lab.binary("meshd"), "--config", node.config, "--dir", node.dir], wrapped=False,
                    check=False, **options)


@pytest.mark.parametrize("find, replace, words", [
    (r"PrivateKey = .*", "PrivateKey = hello", ("line 3", "key")),
    (r"PrivateKey = .*\n", "", ("PrivateKey",)),
    (r"PublicKey = (.{40}).*", r"PublicKey = \1", ("line", "key")),
    (r"PublicKey = .*\n", "", ("PublicKey",)),
    (r"PublicKey = .*", "PublicKey = " + "A" * 43 + "=", ("line|peer|node-b", "key")),
    (r"Address = .*", "Address = 100.64.0.1000/10", ("line 4", "Address")),
    (r"Address = .*\n", "", ("Address",)),
    (r"ListenPort = .*", "ListenPort = 70000", ("line 5", "ListenPort", "65535")),
    (r"AllowedIPs = .*", "AllowedIPs = 100.64.0.0/33", ("line", "AllowedIPs")),
    (r"Endpoint = .*", "Endpoint = 192.0.2.1", ("line", "Endpoint")),
    (r"Endpoint = .*", "Endpoint = no-such-host.invalid:1", ("no-such-host.invalid",)),
    (r"\[Peer\]", "[Pear]", ("line", "Pear|section")),
    (r"\[Interface\]\n", "", ("line",)),
    (r"PublicKey = ", "PublicKye = ", ("line", "PublicKye|key")),
])
def test_bad_config_is_told_in_one_sentence(pair, find, replace, words):
    node, _ = pair
    text = node.config.read_text()
    changed = re.sub(find, replace, text, count=1)
    assert changed != text
    node.config.write_text(changed)
    check_sentence(run_meshd(node), *words)
    assert not (node.dir / "control").exists() and not (node.dir / "api").exists()


def test_own_key_as_a_peer_is_told_in_one_sentence(pair):
    a, b = pair
    a.config.write_text(a.config.read_text().replace(b.public, a.public))
    check_sentence(run_meshd(a), r"wg\.conf: line \d+: .*key")


def test_missing_config_is_told_in_one_sentence(pair):
    node, _ = pair
    node.config.unlink()
    check_sentence(run_meshd(node), "wg.conf", "[Nn]o such file|does not exist")


def test_config_that_cannot_be_read_is_told_in_one_sentence(pair):
    node, _ = pair
    if node.place.uid == 0 and not node.place.rented:
        pytest.skip("root reads everything")
    node.config.chmod(0)
    check_sentence(run_meshd(node), "wg.conf", "[Pp]ermission|read")


def test_taken_port_is_told_in_one_sentence(pair, place):
    node, other = pair
    python_spawn(node, """
        s = socket(AF_INET, SOCK_DGRAM)
        s.bind(("0.0.0.0", int(sys.argv[1])))
        say("ready")
        time.sleep(100)
    """, node.port, wrapped=False)
    check_sentence(run_meshd(node), str(node.port), "port", "ListenPort|taken|use")
    assert not (node.dir / "control").exists()
    login = [node.lab.binary("meshd"), "--login-server", "http://127.0.0.1:1", "--dir", node.dir, "--port", node.port]
    check_sentence(node.run(login, wrapped=False, check=False), "another --port$")


def test_second_daemon_in_one_folder_is_told_in_one_sentence(running):
    a, b = running
    result = a.run([a.lab.binary("meshd"), "--config", b.config, "--dir", a.dir], wrapped=False, check=False)
    check_sentence(result, "run(s|ning)", re.escape(str(a.dir)), "--dir")
    assert a.ctl("status").returncode == 0, "the first one goes on"


def test_meshd_without_arguments_says_how(lab):
    result = lab.run([lab.binary("meshd")], check=False)
    assert result.returncode != 0 and "--config" in result.stderr


@pytest.mark.parametrize("word, sentence", [("--hostnam3=secret", "meshd: --hostnam3 is no option"), ("-x", "-x is no option"),
                                            ("--config", "--config needs a value")])
def test_a_wrong_option_of_meshd_is_told_in_one_sentence(lab, word, sentence):
    check_sentence(lab.run([lab.binary("meshd"), word], check=False), sentence, "see meshd --help$")


@pytest.mark.parametrize("words", [("meshd", "-h"), ("meshrun", "-h"), ("meshctl", "-h"), ("meshctl", "ping", "--help"),
                                   ("meshctl", "status", "-h"), ("meshctl", "up", "-help")], ids=" ".join)
def test_help_is_given_where_it_is_asked_for(lab, words):
    result = lab.run([lab.binary(words[0]), *words[1:]])
    assert result.stdout.startswith(f"usage: {words[0]} ") and not result.stderr


def test_a_runtime_folder_of_somebody_else_is_told_in_one_sentence(pair):
    node, _ = pair
    if node.place.uid == os.geteuid():
        pytest.skip("needs a second user")
    folder = node.lab.folder("closed")
    folder.chmod(0o700)
    for place in (folder, folder / "below"):
        check_sentence(node.meshrun("--dir", place, "--config", node.config, "--", "true", check=False), "right", re.escape(str(place)))


@pytest.mark.parametrize("words", [("status",), ("ip",), ("ping", "node-b")])
def test_meshctl_without_a_daemon_is_told_in_one_sentence(pair, words):
    node, _ = pair
    check_sentence(node.ctl(*words, check=False), "meshd|daemon", re.escape(str(node.dir)))
    check_sentence(node.ctl("--socket", "/no/such", *words, check=False), "no daemon runs in /no/such;")


CLOSE_ALL = 'exec "$@" <&- >&- 2>&-'


def standard_files(pid):
    return [os.path.exists(f"/proc/{pid}/fd/{fd}") and os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)]


def test_what_meshd_says_without_standard_files_goes_nowhere_else(pair):
    node, _ = pair
    node.spawn(["sh", "-c", CLOSE_ALL, "-", node.lab.binary("meshd"), "--config", node.config, "--dir", node.dir],
               wrapped=False)
    wait_until(lambda: node.ctl("ip", check=False).returncode == 0, 30, "the daemon's answer")
    pid, = daemons(node)
    assert standard_files(pid) == ["/dev/null"] * 3


def test_meshrun_without_standard_files_keeps_them_closed_and_the_daemons_log(pair):
    node, _ = pair
    seen = node.dir.parent / f"seen-{node.name}"
    node.run(["sh", "-c", CLOSE_ALL, "-", node.lab.binary("meshrun"), "--config", node.config, "--dir", node.dir, "--",
              PYTHON, "-c", "import os, sys\n"
              "text = ''.join(str(os.path.exists(f'/proc/self/fd/{fd}')) for fd in range(3))\n"
              "open(sys.argv[1], 'w').write(text)", seen], wrapped=False)
    pid, = daemons(node)
    try:
        assert seen.read_text() == "FalseFalseFalse"
        assert standard_files(pid) == ["/dev/null"] + [f"{node.dir}/meshd.log"] * 2
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not daemons(node), 30, "the daemon's end")


def test_the_log_in_the_runtime_folder_has_the_time_in_each_line(pair):
    """What meshrun quotes of it has none."""
    a, _ = pair
    words = ("--dir", a.dir, "--", "true")
    result = a.meshrun("--congestion", "none", "--config", a.config, *words, check=False)
    check_sentence(result, "^meshd: --congestion ")
    a.write(a.home / "other.conf", a.config.read_text().replace("[Peer]", "Nonsense"), 0o600)
    result = a.meshrun("--config", a.home / "other.conf", *words, check=False)
    check_sentence(result, "^meshd: .*other.conf: line ")
    assert a.meshrun("--config", a.config, *words).stderr == ""
    pid, = daemons(a)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not daemons(a), 30, "the daemon's end")
    lines = (a.dir / "meshd.log").read_text().splitlines()
    assert len(lines) >= 4 and "ending on signal" in lines[-1]
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (warning: )?[a-z]+: ", line), line
    check_sentence(run_meshd(a, env={"MESHWRAP_CONGESTION": "none"}), "^meshd: MESHWRAP_CONGESTION ")


def test_signals_that_were_blocked_before_end_meshd(pair):
    node, _ = pair
    meshd = node.spawn([PYTHON, "-c", "import os, signal, sys\n"
                        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\n"
                        "os.execv(sys.argv[1], sys.argv[1:])",
                        node.lab.binary("meshd"), "--config", node.config, "--dir", node.dir], wrapped=False)
    meshd.wait_for("ready")
    meshd.kill(signal.SIGTERM)
    assert meshd.wait(10) == 0


def test_a_terminal_that_is_closed_ends_meshd_but_not_under_nohup(pair):
    node, _ = pair
    words = [node.lab.binary("meshd"), "--config", node.config, "--dir", node.dir]
    meshd = node.spawn(words, wrapped=False)
    meshd.wait_for("ready")
    meshd.kill(signal.SIGHUP)
    assert meshd.wait(10) == 0 and not (node.dir / "control").exists(), "it has taken leave"
    meshd = node.spawn(["nohup", *words], wrapped=False)
    meshd.wait_for("ready")
    meshd.kill(signal.SIGHUP)
    assert node.ctl("ip").stdout
    meshd.kill(signal.SIGTERM)
    assert meshd.wait(10) == 0


def test_meshrun_without_daemon_and_config_is_told_in_one_sentence(pair):
    node, _ = pair
    result = node.meshrun("--dir", node.dir, "--", "true", check=False)
    check_sentence(result, "--config|meshd")


def test_meshctl_ip_prints_the_addresses(running):
    a, _ = running
    assert a.ctl("ip").stdout.split() == [a.v4, a.v6]


def test_the_node_of_a_file_is_up_and_cannot_be_taken_down(running):
    a, _ = running
    for words in (("up",), ("up", "--accept-risk=all"), ("up", "--accept-risk", "lose-ssh", "--timeout=5s")):
        assert not a.ctl(*words).stderr
    for words in (("down",), ("down", "--accept-risk=all"), ("logout",)):
        check_sentence(a.ctl(*words, check=False), "by a WireGuard file.*end meshd")


def test_up_says_where_other_settings_are_only_of_a_flag_that_it_does_not_know(lab):
    for word, lines in (("--timeout=3x", ['invalid value "3x" for flag -timeout: a time has a unit, as in 5s']),
                        ("--timeout", ["flag needs an argument: -timeout"]), ("now", ["too many non-flag arguments"]),
                        ("--ssh", ["flag provided but not defined: -ssh", "other settings are meshd's options"])):
        result = lab.run([lab.binary("meshctl"), "up", word], check=False)
        assert (result.returncode != 0, result.stderr.splitlines()) == (True, lines)


def ctl_while(lab, statuses, *words):
    """meshctl beside a daemon that has these statuses, one after the other."""
    statuses = list(statuses)

    def serve():
        while statuses:
            c, _ = s.accept()
            body = json.dumps(statuses.pop(0) if b"GET /" in c.recv(4096) else {}).encode()
            c.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            c.close()

    path = lab.folder("api") / "api"
    with socket(AF_UNIX, SOCK_STREAM) as s:
        s.bind(str(path))
        s.listen()
        threading.Thread(target=serve, daemon=True).start()
        return lab.run([lab.binary("meshctl"), "--socket", path, *words], check=False)


def test_up_tells_programs_in_json_what_it_tells_people(lab):
    url = "http://server/register/a?b=1&c"
    asked, refused = {"BackendState": "NeedsLogin", "AuthURL": url}, {"BackendState": "NeedsLogin", "LoginError": 'no "key"'}
    unapproved, running = {"BackendState": "NeedsMachineAuth"}, {"BackendState": "Running"}
    begins = [{"BackendState": "NoState", "AuthURL": ""}, asked, asked, unapproved, unapproved]
    said = ctl_while(lab, [*begins, running], "up", "--json")
    assert (said.returncode, said.stderr) == (0, "")
    assert json.loads("[" + said.stdout.replace("}\n{", "},{") + "]") == [asked, unapproved, running]
    said = ctl_while(lab, [*begins, running], "up")
    assert (said.returncode, said.stdout) == (0, "")
    assert said.stderr.split("\n\n") == ["\nTo authenticate, visit:", "\t" + url, "Machine is not yet approved by tailnet admin.\nSuccess.\n"]
    said = ctl_while(lab, [*begins, refused], "up", "--json")
    assert (said.returncode, said.stderr) == (1, 'no "key"\n')
    assert json.loads("{" + said.stdout.rpartition("}\n{")[2]) == {"BackendState": "NeedsLogin", "Error": 'no "key"'}
    said = ctl_while(lab, [running], "up", "--json")
    assert (said.returncode, json.loads(said.stdout)) == (0, running)
    assert ctl_while(lab, [running], "up").stderr == ""


def test_what_ping_prints_for_programs_is_json(running):
    a, b = running
    for to, key, value in ((a.v4, "IsLocalIP", True), ("node-a", "IsLocalIP", True), (b.v4, "NodeName", "node-b"), ("node-b", "NodeIP", b.v4)):
        said = a.ctl("ping", "--json", "--verbose", "-c", "1", to)
        assert (json.loads(said.stdout)[key], said.stderr) == (value, "")
    for status, sentence in (({"BackendState": "Stopped"}, "Tailscale is stopped.\n"), ({"BackendState": "NeedsLogin"}, "Logged out.\n")):
        said = ctl_while(a.lab, [status], "ping", "--json", "node-b")
        assert (said.returncode, said.stdout, said.stderr) == (1, "", sentence)
        said = ctl_while(a.lab, [status], "ping", "node-b")
        assert (said.returncode, said.stdout, said.stderr) == (1, sentence, "")


def test_a_status_is_json_whatever_the_files_are_called(pair):
    a, _ = pair
    config = os.fsencode(a.config) + b"-\xe9\xff\xc3\xa9"
    os.rename(a.config, config)
    a.config = os.fsdecode(config)
    a.start()
    status = json.loads(a.ctl("status", "--json", text=False).stdout.decode())
    assert status["ConfigFile"] == config.decode(errors="replace")
    assert a.meshrun("--config", a.config, "--dir", a.dir, "--", "echo", "the same").stdout == "the same\n"


def test_meshctl_status_knows_the_nodes(running):
    a, b = running
    a.ctl("ping", "-c", "1", "node-b")
    status = a.ctl("status").stdout
    for word in ("node-a", "node-b", "node-c", a.v4, b.v4):
        assert word in status, status


def test_meshctl_tells_what_its_flags_ask_for(running):
    a, b = running
    a.ctl("ping", "-c", "1", "node-b")

    def ctl(*words):
        return a.ctl(*words).stdout
    assert ctl("ip", "-4").split() == ctl("ip", "-1").split() == [a.v4]
    assert ctl("ip", "-6", "node-b").split() == [b.v6]
    assert json.loads(ctl("--json", "ip", "node-b.mesh")) == [b.v4, b.v6]
    assert a.ctl("ip", f"--assert={a.v6}").returncode == 0
    check_sentence(a.ctl("ip", "--assert", b.v4, check=False), f'IP "{b.v4}" not found among')
    check_sentence(a.ctl("ip", "-4", "-6", check=False), "mutually exclusive")
    for words, names in ((("--peers=false",), {"node-a"}), (("--self=false",), {"node-b", "node-c"}),
                         (("--active", "--self=false"), {"node-b"}), ((), {"node-a", "node-b", "node-c"})):
        assert {line.split()[1] for line in ctl("status", *words).splitlines() if line.startswith("100.")} == names, words
    full = json.loads(ctl("status", "--json"))
    assert {peer["HostName"] for peer in full["Peer"].values()} == {"node-b", "node-c"} and full["Self"]["HostName"] == "node-a"
    active = json.loads(ctl("status", "--json", "--active", "--self=false"))
    assert [peer["HostName"] for peer in active["Peer"].values()] == ["node-b"] and active["Self"] is None
    assert not json.loads(ctl("status", "--json", "--peers=false"))["Peer"]
    assert json.loads(ctl("whois", "--json", f"{b.v4}:80"))["Node"]["Name"] == "node-b.mesh."  # as the stock client has it
    assert re.search(r"(?m)^  Name: +node-b\.mesh$", ctl("whois", b.v4))
    assert b.v4 in ctl("whois", b.v6) and ctl("version").strip() == ctl("--version").strip()
    check_sentence(a.ctl("status", "--nonsense", check=False), "not defined: -nonsense")
    check_sentence(a.ctl("nonsense", check=False), 'unknown command "nonsense"')


def test_meshctl_knows_nodes_with_addresses_of_any_network(pair):
    """A file's, unlike a tailnet's, are those of the user's own network."""
    a, b = pair
    for node in pair:
        node.v4, node.v6 = f"10.9.0.{node.number}", f"fd00:9::{node.number}"
    a.write_config([b])
    b.write_config([a])
    for node in pair:
        node.start()
    assert a.ctl("ip").stdout.split() == [a.v4, a.v6] and a.ctl("ip", "node-b").stdout.split() == [b.v4, b.v6]
    assert f"pong from node-b ({b.v4})" in a.ctl("ping", "-c", "1", "node-b").stdout
    assert [line.split()[:2] for line in a.ctl("status").stdout.splitlines()] == [[a.v4, "node-a"], [b.v4, "node-b"]]


def test_a_log_level_says_how_much_meshd_tells(pair):
    node, other = pair
    other.start()
    node.config.chmod(0o644)
    words = [node.lab.binary("meshd"), "--config", node.config, "--dir", node.dir]
    for level in ("debug", "info", "warning"):
        meshd = node.spawn([*words, "--log-level", level], wrapped=False)
        meshd.wait_for("others may read it")
        assert "pong" in node.ctl("ping", "-c", "1", "node-b").stdout
        meshd.kill(signal.SIGTERM)
        assert meshd.wait(10) == 0
        handshake = "debug: mesh: node-b: handshake done" in meshd.text
        assert (handshake, "ready" in meshd.text) == (level == "debug", level != "warning"), meshd.text


def test_meshctl_status_says_who_has_not_answered_and_why_that_may_be(running):
    """A wrong key, a wrong clock and a closed port look the same from here: nothing comes."""
    a, b = running
    a.ctl("ping", "-c", "1", "node-b")
    status = wait_until(lambda: a.ctl("status").stdout.partition("# Health check:")[2], 30, "a second handshake in vain")
    assert "node-c has not answered" in status and "PublicKey" in status and "node-b" not in status, status


def test_what_a_peer_says_of_itself_cannot_control_a_terminal(lab):
    """Its host name and its system are its own words."""
    node = {"HostName": "a\x1b]0;b\x07c", "OS": "lin\x1b[2Jux", "TailscaleIPs": ["100.64.0.9"]}
    body = json.dumps({"BackendState": "Running", "Self": node, "Peer": {"k": node}}).encode()

    def answer():
        c, _ = s.accept()
        c.recv(4096)
        c.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        c.close()

    with socket(AF_UNIX, SOCK_STREAM) as s:
        s.bind(str(lab.tmp / "api"))
        s.listen()
        threading.Thread(target=answer, daemon=True).start()
        said = lab.run([lab.binary("meshctl"), "--socket", lab.tmp / "api", "status"]).stdout
    assert said.count("lin?[2Jux") == 2 and said.count("a?]0;b?c") == 2 and said.replace("\n", "").isprintable()


def test_what_a_bound_costs_is_counted_in_the_status(running):
    a, _ = running

    def counts():
        return json.loads(a.ctl("--json", "status").stdout)
    before = counts()
    assert before["WireGuard"] == {"DroppedWithoutSession": 0, "DroppedInvalid": 0, "DroppedForeignSource": 0}
    python(a, """
        nobody, resolver = socket(AF_INET, SOCK_DGRAM), socket(AF_INET, SOCK_DGRAM)
        for _ in range(1000):
            nobody.sendto(bytes(1000), ("100.64.0.3", 7))
        resolver.sendto(b"\\0" * 13, ("100.100.100.100", 53))
        """)
    wait_until(lambda: counts()["WireGuard"]["DroppedWithoutSession"] > 0, 30, "packets for a peer that is down")
    wait_until(lambda: counts()["DNS"]["Bad"] > before["DNS"]["Bad"], 30, "a malformed question")


@pytest.mark.parametrize("target", ["name", "v4", "v6"])
def test_meshctl_ping_gets_an_answer(running, target):
    a, b = running
    out = a.ctl("ping", "-c", "1", {"name": "node-b", "v4": b.v4, "v6": b.v6}[target]).stdout
    assert re.search(r"\d(\.\d+)? ?m?s", out), out
    assert re.fullmatch(rf"pong from node-b \({b.v6 if target == 'v6' else b.v4}\) via ICMP in \d+ms\n", out), "no disco here"


def test_meshctl_ping_of_a_node_that_is_down_fails(running):
    a, _ = running
    result = a.ctl("ping", "-c", "1", "node-c", check=False, timeout=60)
    assert result.returncode != 0 and (result.stdout + result.stderr).strip()


def test_meshctl_ping_of_an_unknown_name_is_told_in_one_sentence(running):
    a, _ = running
    check_sentence(a.ctl("ping", "node-x", check=False), "node-x")


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_meshrun_returns_the_programs_status(running, status):
    a, _ = running
    assert a.meshrun("--", "sh", "-c", f"exit {status}", check=False).returncode == status


def test_meshrun_passes_input_output_and_arguments(running):
    a, _ = running
    result = a.meshrun("sh", "-c", 'cat; echo "$1|$2" >&2', "-", "two words", "--dir", input="in\n")
    assert result.stdout == "in\n" and result.stderr == "two words|--dir\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_meshrun_passes_signals(running, number):
    a, _ = running
    program = a.spawn([a.lab.binary("meshrun"), "--", "sh", "-c",
                       f"trap 'echo caught; exit 9' {int(number)}; echo ready; while :; do sleep 0.05; done"],
                      wrapped=False)
    program.wait_for("ready")
    program.kill(number)
    assert program.wait(10) == 9 and "caught" in program.text


def test_program_killed_by_a_signal_is_seen_as_such(running):
    a, _ = running
    status = a.meshrun("--", "sh", "-c", "kill -KILL $$", check=False).returncode
    assert status in (-signal.SIGKILL, 128 + signal.SIGKILL)


def test_meshrun_of_a_missing_program_is_127(running):
    a, _ = running
    result = a.meshrun("--", "no-such-program", check=False)
    check_sentence(result, "no-such-program")
    assert result.returncode == 127


def test_meshrun_of_a_file_that_is_no_program_is_126(running):
    a, _ = running
    result = a.meshrun("--", a.config, check=False)
    check_sentence(result, "wg.conf")
    assert result.returncode == 126


def test_meshrun_of_a_folder_is_126(running):
    a, _ = running
    result = a.meshrun("--", a.home, check=False)
    check_sentence(result, "Is a directory")
    assert result.returncode == 126


def test_a_library_that_the_user_may_not_read_is_told_and_nothing_runs_without_it(running):
    a, _ = running
    if a.place.uid == 0 and not a.place.rented:
        pytest.skip("root reads everything")
    Path(a.lab.binary("shim")).chmod(0o700)
    result = a.meshrun("--", "echo", "started", check=False)
    check_sentence(result, "meshrun: cannot read .*libmeshwrap.so: Permission denied")
    assert (result.returncode, result.stdout) == (1, "")


def test_a_library_that_the_dynamic_linker_would_not_load_is_told_and_nothing_runs_without_it(running):
    """It would say so and go on, and the program past the mesh. Cut anywhere, empty, another machine's, no library."""
    a, _ = running
    path = Path(a.lab.binary("shim"))
    whole = path.read_bytes()
    foreign = bytearray(whole)
    foreign[18] ^= 1  # e_machine
    damaged = [whole[:size] for size in (0, 40, 64, 4096, len(whole) // 2, len(whole) - 1)]
    for content in (*damaged, bytes(len(whole)), foreign, b"#!/bin/sh\n", Path(a.lab.binary("meshd")).read_bytes()[:8192]):
        path.unlink()
        path.write_bytes(content)
        result = a.meshrun("--", "echo", "started", check=False)
        check_sentence(result, "meshrun: .*libmeshwrap.so is damaged, or made for another kind of machine; install meshwrap again$")
        assert (result.returncode, result.stdout) == (1, ""), len(content)


def test_meshrun_takes_nobody_elses_daemon_unless_told_to(running):
    a, _ = running
    if a.place.uid == os.geteuid():
        pytest.skip("needs a second user")
    folder = a.lab.folder("where-mine-would-be")
    (folder / "meshwrap").symlink_to(a.dir)
    words = [a.lab.binary("meshrun"), "--", "echo", "started"]
    squatted = {"XDG_RUNTIME_DIR": str(folder), "MESHWRAP_DIR": ""}
    result = a.lab.run(words, Place(a.place.netns), squatted, check=False)
    check_sentence(result, "another user")
    assert result.stdout == ""
    named = {**squatted, "MESHWRAP_DIR": str(folder / "meshwrap")}
    assert a.lab.run(words, Place(a.place.netns), named).stdout == "started\n"


def test_meshrun_of_a_script_for_a_pipe_does_not_wait(running):
    a, _ = running
    pipe = a.home / "pipe"
    os.mkfifo(pipe, 0o755)
    pipe.chmod(0o755)
    script = a.write(a.home / "script", f"#!{pipe}\n", 0o755)
    result = a.meshrun("--", script, check=False)
    check_sentence(result, "script")
    assert result.returncode == 126
    for child in (pipe, script):
        result = python(a, """
            try:
                os.execv(sys.argv[1], ["child"])
            except OSError as e:
                say(e.errno == errno.EACCES)
        """, child)
        assert result.split() == ["True"], child


def test_meshrun_starts_the_daemon_and_the_program_is_on_the_mesh(pair):
    a, b = pair
    b.start()
    server = python_spawn(b, """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        c, peer = s.accept()
        c.sendall(peer[0].encode())
    """, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    before = daemons(a)
    result = a.meshrun("--config", a.config, "--dir", a.dir, "--", "nc", "-d", "node-b", port)
    assert result.stdout == a.v4
    for pid in daemons(a) - before:  # it stays, for the next program
        assert a.ctl("ip").stdout.split()[0] == a.v4
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda p=pid: p not in daemons(a), 30, "the daemon's end")


@pytest.mark.parametrize("content, words", [(None, "No such file"), ("no certificate\n", "no start line|no certificate")])
def test_a_ca_that_cannot_be_read_is_told_in_one_sentence(pair, content, words):
    node, _ = pair
    ca = node.home / "ca.pem"
    if content:
        node.write(ca, content)
    options = ["--login-server", "https://127.0.0.1:1", "--ca", ca, "--dir", node.dir]
    for name, program in (("meshd", []), ("meshrun", ["--", "echo", "ran"])):
        result = node.run([node.lab.binary(name), *options, *program], wrapped=False, check=False)
        check_sentence(result, f"{re.escape(str(ca))} holds no certificate", words)
        assert not result.stdout


def test_meshrun_with_a_bad_config_starts_nothing(pair):
    node, _ = pair
    node.config.write_text("[Interface]\n")
    result = node.meshrun("--config", node.config, "--dir", node.dir, "--", "echo", "started", check=False)
    check_sentence(result, "PrivateKey")
    assert "started" not in result.stdout and not daemons(node)


def meshrun_after(node, script):
    """In mounts of its own, after these lines of shell, with a daemon of its own until it ends."""
    words = [node.lab.binary("meshrun"), "--dir", node.dir, "--config", node.config, "--"]
    return node.lab.run(["unshare", "--mount", "--pid", "--fork", "sh", "-ec", f'dir=$1; shift; {script}\n"$@"', "-", node.dir, *words,
                         node.lab.binary("meshctl"), "ip"], Place(node.place.netns), check=False)


@pytest.mark.skipif(not CAN_NETNS, reason="needs mounts of its own")
def test_a_full_disk_is_told_in_one_sentence(pair):
    node, _ = pair
    full = 'mkdir "$dir"; mount -t tmpfs -o size=1m none "$dir"; head -c 2000000 /dev/zero >"$dir/file" 2>&- || true'
    check_sentence(meshrun_after(node, full), "no room", re.escape(str(node.dir)))


UNFIT = [("exec unshare --net \"$@\"", ("loopback interface is down", "lo up")),
         ("ulimit -n 20", ("20 files", "ulimit -Hn", "64")),
         ("ulimit -f 100", ("map", "File too large")),
         ("mount -t tmpfs none /dev", ("/dev/null", "No such file"))]


@pytest.mark.skipif(not CAN_NETNS, reason="needs mounts of its own")
@pytest.mark.parametrize("script, words", UNFIT, ids=["lo", "files", "size", "dev"])
def test_what_a_bare_container_lacks_is_told_in_one_sentence(pair, script, words):
    node, _ = pair
    check_sentence(meshrun_after(node, script), *words)


REFUSING = """
import errno, os, seccomp, sys
rules = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
rules.add_rule(seccomp.ERRNO(getattr(errno, sys.argv[2])), sys.argv[1])
rules.load()
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.mark.skipif(not CAN_RENT, reason="needs root")
@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("call", ["accept4", "eventfd2", "getsockopt", "recvmmsg", "sendmmsg", "timerfd_create", "timerfd_settime"])
def test_a_system_call_that_the_sandbox_refuses_is_named(pair, call, error):
    pytest.importorskip("seccomp")
    node, _ = pair
    result = node.run([PYTHON, "-c", REFUSING, call, error, node.lab.binary("meshd"), "--config", node.config, "--dir", node.dir],
                      wrapped=False, check=False)
    check_sentence(result, f"system call {call} is refused", {"EPERM": "not permitted", "ENOSYS": "not implemented"}[error])


@pytest.mark.skipif(not CAN_NETNS, reason="needs a user of its own")
def test_without_processes_left_only_the_start_fails(pair):
    node, _ = pair
    uid = str(1_000_000 + os.getpid())  # whose processes are these and no others: the shell, meshrun, the daemon's keeper
    script = f"""
        mkdir "$dir"; chown {uid} "$dir" {node.config}
        sh() {{ setpriv --reuid {uid} --regid {uid} --clear-groups prlimit --nproc=3 sh -c '"$@"; echo ended' - "$@"; }}
        set -- sh "$@"
    """
    result = meshrun_after(node, script)
    assert result.stdout.split() == ["ended"], "the shell was ended, too"
    assert result.stderr.splitlines() == ["meshrun: cannot start meshd: Resource temporarily unavailable"]


@pytest.mark.skipif(not CAN_NETNS, reason="needs mounts of its own")
def test_meshrun_works_without_proc(pair):
    node, _ = pair
    if b"__asan_init" in Path(node.lab.binary("meshctl")).read_bytes():
        pytest.skip("the sanitizer wants /proc")
    result = meshrun_after(node, "umount -R /proc")
    assert result.stdout.split() == [node.v4, node.v6], result.stderr


def test_each_variable_that_is_read_is_in_a_help(lab):
    """But for those by which our own programs tell each other something."""
    sources = [file for folder in ("preload", "shared", "daemon") for file in (ROOT / folder).rglob("*.c")]
    read = {name for file in sources for name in re.findall(r'"(MESHWRAP_[A-Z_]+)"', file.read_text())}
    helps = "".join(lab.run([lab.binary(name), "--help"]).stdout for name in ("meshrun", "meshd", "meshctl"))
    assert {"MESHWRAP_DIR", "MESHWRAP_LOG"} <= read
    assert {name for name in read if not re.search(rf"\b{name}\b", helps)} == {"MESHWRAP_EXEC", "MESHWRAP_TRACED", "MESHWRAP_TRAPPED"}


def test_a_program_says_that_it_is_on_the_mesh_where_the_log_is_to(running):
    a, _ = running
    said = a.meshrun("--", "sh", "-c", "echo; MESHWRAP_OFF=1 env", env={"MESHWRAP_LOG": "info"})
    assert re.fullmatch(r"meshwrap\[\d+\]: on in sh\n", said.stderr)
    assert a.meshrun("--", "true").stderr == ""


@pytest.mark.parametrize("words", [("meshctl", "ip"), ("meshctl", "status", "--json"), ("meshctl", "help"),
                                   ("meshd", "--version"), ("meshd", "--help"), ("meshrun", "--help"),
                                   ("meshrun", "--version")], ids=" ".join)
def test_what_cannot_be_written_is_a_failure(running, words):
    a, _ = running
    result = a.run(["sh", "-c", 'exec "$@" >/dev/full', "-", a.lab.binary(words[0]), *words[1:]], wrapped=False,
                   check=False)
    check_sentence(result, words[0], "No space left|Input.output error")


@pytest.mark.parametrize("option", ["--auth-key=file:key", "--hostname=name"])
def test_more_options_than_can_be_passed_on_are_refused(pair, option):
    node, _ = pair
    result = node.meshrun("--dir", node.dir, "--port=1", *[option] * 64, "--", "true", check=False)
    check_sentence(result, "too many options")
    assert result.returncode == 2


def test_meshwrap_dir_names_the_folder(running):
    a, b = running
    for node in (a, b):
        out = node.lab.run([node.lab.binary("meshctl"), "ip"], node.place, {"MESHWRAP_DIR": str(node.dir)}).stdout
        assert out.split()[0] == node.v4


def test_the_shim_alone_follows_exec_and_shells(running):
    a, b = running
    port = free_port()
    server = python_spawn(b, """
        s = listener("0.0.0.0", sys.argv[1])
        say("ready")
        while True:
            c, peer = s.accept()
            c.sendall(peer[0].encode() + b"\\n")
            c.close()
    """, port)
    out = a.run(["sh", "-c", f"(exec nc -d node-b {port}); env | grep -c LD_PRELOAD; bash -c 'nc -d {b.v4} {port}'"])
    server.stop()
    assert out.stdout.split() == [a.v4, "1", a.v4]


def test_the_runtime_folder_is_private(running):
    a, _ = running
    assert a.dir.stat().st_mode & 0o077 == 0
