"""The commands: what a person may get wrong, and what is there already when meshrun begins."""
import os
import re
import signal
import sys

import pytest
from worlds import check_sentence, daemons, free_port, wait_until


def test_meshrun_beside_the_daemon_of_another_file_refuses(running):
    """The program would be another node than the user thinks."""
    a, b = running
    words = ("--dir", a.dir, "--", "echo", "ran")
    for other in (b.config, a.home / "gone.conf"):
        result = a.meshrun("--config", other, *words, check=False)
        check_sentence(result, f"was started from {re.escape(str(a.config))}, not from {re.escape(str(other))}", "--dir$")
        assert result.returncode == 1 and not result.stdout
    result = a.meshrun("--login-server", "http://127.0.0.1:1", *words, check=False)
    check_sentence(result, f"was started from {re.escape(str(a.config))}, and is no node of http://127.0.0.1:1: end it")
    for variable, value in (("MESHWRAP_CONFIG", str(b.config)), ("TS_LOGIN_SERVER", "http://127.0.0.1:1")):
        said = a.meshrun(*words, env={variable: value})
        assert said.stdout == "ran\n"
        assert re.fullmatch(rf"meshrun: {variable} is {re.escape(value)}, but .* runs already, and was started from .*\n", said.stderr)


@pytest.mark.parametrize("length", [60, 98])
def test_meshrun_beside_a_daemon_of_another_version_refuses(pair, length):
    """The shim would not read its map, and the program find no peer."""
    a, _ = pair
    a.dir = a.home / ("r" * (length - len(str(a.home)) - 1))
    a.start()
    with open(a.dir / "map", "r+b") as file:
        version = int.from_bytes(file.read(8)[4:], sys.byteorder)
        file.seek(4)
        file.write((version + 1).to_bytes(4, sys.byteorder))
    result = a.meshrun("--dir", a.dir, "--", "echo", "ran", check=False)
    check_sentence(result, f"the daemon of {a.dir} is of another version than this meshrun: end it and start it again")
    assert result.returncode == 1 and not result.stdout


def test_meshrun_beside_the_daemon_of_the_same_file_says_nothing(running):
    a, _ = running
    link = a.home / "link.conf"
    link.symlink_to("wg.conf")
    words = ("--dir", a.dir, "--", "echo", "ran")
    for name in (a.config, "wg.conf", "./wg.conf", link):
        said = a.meshrun("--config", name, *words)
        assert (said.stdout, said.stderr) == ("ran\n", ""), name
    said = a.run(["bash", "-c", '"$1" --config <(cat wg.conf) "${@:2}"', "-", a.lab.binary("meshrun"), *words], wrapped=False)
    assert (said.stdout, said.stderr) == ("ran\n", "")
    a.config.rename(a.home / "old.conf")
    a.write(a.config, "another one, which meshctl reload is to read\n", 0o600)
    said = a.meshrun("--config", a.config, *words, env={"MESHWRAP_CONFIG": str(a.config)})
    assert (said.stdout, said.stderr) == ("ran\n", "")


def test_a_file_of_any_name_is_known_again(pair):
    """Control characters are escaped in the status, other bytes are not. What is shown is clean."""
    a, _ = pair
    name = b"t\ta\nb\x01\x1b[1m\x7f\xc3\xa4\"\\ .conf"
    config = os.fsdecode(os.fsencode(str(a.home)) + b"/" + name)
    a.config = a.config.rename(config)
    a.start()
    words = ("--dir", a.dir, "--", "echo", "ran")
    said = a.meshrun("--config", config, *words)
    assert (said.stdout, said.stderr) == ("ran\n", "")
    result = a.meshrun("--config", "/no/such.conf", *words, check=False)
    check_sentence(result, r"was started from /[^\t\x01\x1b\x7f]*, not from /no/such.conf")
    assert result.returncode == 1 and not result.stdout


def test_meshrun_beside_a_daemon_with_other_options_says_which(running):
    """They count where the daemon is started, and it is taken as it is."""
    a, _ = running
    words = ("--dir", a.dir, "--", "echo", "ran")
    for name, variable, value, has in (("congestion", "MESHWRAP_CONGESTION", "rate", "with cubic"),
                                       ("workers", "MESHWRAP_WORKERS", "2", "without it"),
                                       ("log-level", "MESHWRAP_LOG_LEVEL", "error", "with info"),
                                       ("socks5-server", "TS_SOCKS5_SERVER", "127.0.0.1:1", "without it"),
                                       ("hostname", None, "pod", f"and was started from {a.config}")):
        by_line = a.meshrun(f"--{name}", value, *words)
        assert (by_line.stdout, by_line.stderr) == (
            "ran\n", f"meshrun: --{name} is {value}, but the daemon of {a.dir} runs already, {has}\n")
        if variable:
            by_variable = a.meshrun(*words, env={variable: value})
            assert by_variable.stderr == by_line.stderr.replace(f"--{name}", variable), "and it runs, too"
    several = a.meshrun("--allow-all-users", *words, env={"TS_EXTRA_ARGS": "--congestion rate", "TS_HOSTNAME": "pod"})
    assert several.stderr.splitlines() == [
        f"meshrun: {what}, but the daemon of {a.dir} runs already, {has}" for what, has in (
            ("--allow-all-users is true", "without it"), ("--congestion in TS_EXTRA_ARGS is rate", "with cubic"))]


def test_the_second_program_of_a_container_hears_nothing_of_the_same_options(pair):
    """docker exec, and a program that starts another one by meshrun: the same environment."""
    a, b = pair
    b.start()
    env = {"MESHWRAP_CONFIG": str(a.config), "MESHWRAP_CONGESTION": "rate", "MESHWRAP_WORKERS": "1", "MESHWRAP_LOG_LEVEL": "info",
           "TS_SOCKS5_SERVER": f"127.0.0.1:{free_port()}", "TS_HOSTNAME": "pod",
           "TS_EXTRA_ARGS": f"--accept-routes --outbound-http-proxy-listen=127.0.0.1:{free_port()} --allow-all-users"}
    words = ("--dir", a.dir, "--", a.lab.binary("meshrun"), "--congestion=rate", "--", a.lab.binary("meshctl"), "ping", "-c", "1", "node-b")
    try:
        for time in ("first", "again"):
            said = a.meshrun(*words, env=env)
            assert "pong from node-b" in said.stdout and not said.stderr, time
    finally:
        for pid in daemons(a):
            os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not daemons(a), 10, "the daemon's end")


def test_a_file_for_explanations_that_cannot_be_written_is_told_in_one_sentence(running):
    a, _ = running
    for name, why in (("/no/such/folder/file", "No such file"), (str(a.home), "Is a directory")):
        result = a.meshrun(f"--explain={name}", "--dir", a.dir, "--", "echo", "ran", check=False)
        check_sentence(result, f"--explain.* {re.escape(name)}: {why}")
        assert result.returncode == 2 and not result.stdout


def test_a_file_or_a_folder_without_a_name_is_told_in_one_sentence(running):
    """As of "$CONFIG", which is not set: also where a daemon runs."""
    a, _ = running
    for option in ("--config", "--dir"):
        for words in ((option, ""), (f"{option}=",)):
            result = a.meshrun(*words, "--", "echo", "ran", check=False)
            check_sentence(result, f"{option} needs a value")
            assert result.returncode == 2 and not result.stdout


EMPTY = """TS_AUTHKEY TS_AUTH_KEY TS_LOGIN_SERVER TS_HOSTNAME TS_STATE_DIR TS_ACCEPT_ROUTES TS_ACCEPT_DNS TS_SHIELDS_UP
    TS_ADVERTISE_TAGS TS_PORT TS_CAPABILITY_VERSION TS_SOCKS5_SERVER TS_OUTBOUND_HTTP_PROXY_LISTEN TS_EXTRA_ARGS
    MESHWRAP_CONFIG MESHWRAP_CA MESHWRAP_LOG_LEVEL MESHWRAP_CONGESTION MESHWRAP_WORKERS MESHWRAP_EXPLAIN MESHWRAP_LOG
    MESHWRAP_TRACE MESHWRAP_FOLLOW MESHWRAP_PRIMARY MESHWRAP_EXEC MESHWRAP_TRACED LD_PRELOAD HTTPS_PROXY NO_PROXY"""


def test_variables_that_are_empty_are_as_those_that_are_not_set(pair):
    """As compose files and charts leave them. For the daemon that meshrun starts, too."""
    a, b = pair
    b.start()
    env = dict.fromkeys(EMPTY.split(), "")
    for time in ("first", "again"):
        said = a.meshrun("--config", a.config, "--dir", a.dir, "--", a.lab.binary("meshctl"), "ping", "-c", "1", "node-b", env=env)
        assert "pong from node-b" in said.stdout and not said.stderr, time
    pid, = daemons(a)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not daemons(a), 30, "the daemon's end")


def test_a_program_without_its_interpreter_is_told_as_that(running):
    a, _ = running
    script = a.write(a.home / "script", "#!/no/such/shell\n", 0o755)
    result = a.meshrun("--dir", a.dir, "--", script, check=False)
    check_sentence(result, f"{re.escape(str(script))} is there, but not what is to run it")
    assert result.returncode == 127


def test_a_time_without_a_unit_is_told_as_that(running):
    a, _ = running
    result = a.ctl("ping", "--timeout", "5", "node-b", check=False)
    check_sentence(result, 'invalid value "5" for flag -timeout: a time has a unit, as in 5s')
