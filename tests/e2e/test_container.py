"""A container: its first process, and one daemon for several users."""
import pytest

from worlds import CAN_NETNS, PYTHON, Place, check_sentence, python_spawn


@pytest.mark.skipif(not CAN_NETNS, reason="needs a process namespace")
@pytest.mark.parametrize("size", [10, 8_000_000])
@pytest.mark.parametrize("closes", [True, False], ids=["both ends close", "the far end stays"])
def test_what_the_program_of_a_container_says_last_arrives(pair, size, closes):
    """Its end is the container's, and the daemon's too."""
    a, b = pair
    b.start()
    server = python_spawn(b, """
        s = listener("0.0.0.0")
        say("ready", s.getsockname()[1])
        for _ in range(3):
            c, _ = s.accept()
            got = 0
            while chunk := c.recv(1 << 20):
                got += len(chunk)
            say("got", got)
            if sys.argv[1] == "True":
                c.close()
    """, closes, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    for count in (1, 2, 3):
        result = a.lab.run(["unshare", "--pid", "--fork", "--mount-proc", a.lab.binary("meshrun"), "--dir", a.dir, "--config", a.config, "--",
                            PYTHON, "-c", "import socket, sys\n"
                            "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
                            "s.sendall(bytes(int(sys.argv[3])))\n"
                            "sys.exit(7)", b.v4, port, str(size)], Place(a.place.netns), check=False)
        assert result.returncode == 7, result.stderr
        server.wait_for(rf"(got {size}\s+){{{count}}}")
    assert (a.dir / "meshd.log").read_text().count("ending on signal 15") == 3


@pytest.mark.skipif(not CAN_NETNS, reason="needs a process namespace")
@pytest.mark.parametrize("children", ["SIG_DFL", "SIG_IGN"])
def test_meshrun_as_the_first_process_ends_with_its_program(running, children):
    a, _ = running
    status = a.lab.run(["unshare", "--pid", "--fork", "--mount-proc", PYTHON, "-c", "import os, signal, sys\n"
                        f"signal.signal(signal.SIGCHLD, signal.{children})\n"
                        "os.execv(sys.argv[1], sys.argv[1:])",
                        a.lab.binary("meshrun"), "--dir", a.dir, "--", "sh", "-c", "true; exit 7"],
                       Place(a.place.netns), check=False).returncode
    assert status == 7


@pytest.mark.skipif(not CAN_NETNS, reason="needs mounts of its own")
@pytest.mark.parametrize("is_for_all", [True, False], ids=["for all users", "for its own"])
def test_the_daemon_of_the_whole_container_is_found_where_no_folder_is_named(pair, is_for_all):
    """By meshctl, meshrun and the shim, in /run/meshwrap, when there is none in the own folder."""
    node, _ = pair
    log = node.lab.tmp / "common.log"
    as_user = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    script = f"""
        mount -t tmpfs none /run
        unset MESHWRAP_DIR XDG_RUNTIME_DIR
        {node.lab.binary("meshd")} --config {node.config} {"--allow-all-users" if is_for_all else ""} 2>{log} &
        until grep -qs ready {log}; do sleep 0.05; done
        {as_user} {node.lab.binary("meshctl")} ip
        {as_user} {node.lab.binary("meshrun")} printenv MESHWRAP_DIR
        {as_user} env LD_PRELOAD={node.lab.binary("shim")} {PYTHON} -c '
import socket
s = socket.socket()
s.bind(("{node.v4}", 0))
print(s.getsockname()[0])'
        {as_user} {node.lab.binary("meshctl")} down
    """
    result = node.lab.run(["unshare", "--mount-proc", "--pid", "--fork", "sh", "-ec", script], Place(node.place.netns),
                          check=False)
    if is_for_all:
        assert result.stdout.split() == [node.v4, node.v6, "/run/meshwrap", node.v4], result.stderr
        check_sentence(result, "only the daemon's own user and root may do that")
    else:
        check_sentence(result, "the daemon in /run/meshwrap belongs to another user")


@pytest.mark.skipif(not CAN_NETNS, reason="needs a process namespace")
def test_other_users_of_a_container_are_on_the_mesh_of_its_first_process(pair):
    """A service that runs as root and gives its children other users, as sshd does."""
    node, _ = pair
    words = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-ec", 'mount -t tmpfs none /run; exec "$@"', "-",
             node.lab.binary("meshrun"), "--config", node.config, "--allow-all-users", "--", "setpriv", "--reuid=65534",
             "--regid=65534", "--clear-groups", node.lab.binary("meshctl"), "ip"]
    result = node.lab.run(words, Place(node.place.netns), {"MESHWRAP_DIR": "", "XDG_RUNTIME_DIR": ""})
    assert result.stdout.split() == [node.v4, node.v6]
