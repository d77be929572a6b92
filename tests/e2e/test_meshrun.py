"""meshrun: what a person may do wrong with it, and what is there already when it begins."""
import re

from worlds import check_sentence


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


def test_a_file_for_explanations_that_cannot_be_written_is_told_in_one_sentence(running):
    a, _ = running
    for name, why in (("/no/such/folder/file", "No such file"), (str(a.home), "Is a directory")):
        result = a.meshrun(f"--explain={name}", "--dir", a.dir, "--", "echo", "ran", check=False)
        check_sentence(result, f"--explain.* {re.escape(name)}: {why}")
        assert result.returncode == 2 and not result.stdout


def test_a_config_without_a_name_is_told_in_one_sentence(running):
    """As of "$CONFIG", which is not set: also where a daemon runs."""
    a, _ = running
    result = a.meshrun("--config", "", "--dir", a.dir, "--", "echo", "ran", check=False)
    check_sentence(result, "--config needs a value")
    assert result.returncode == 2 and not result.stdout
