"""Remote shells and what goes through them: ssh, Dropbear, scp, sftp, rsync, git, VS Code's way to a server, and tmux."""
from base import PYTHON, check, expect, find, free_port, version_of, wait_until

SSHD = """
    Port {port}
    ListenAddress {address}
    HostKey {home}/key
    AuthorizedKeysFile {home}/authorized
    PidFile none
    StrictModes no
    UsePAM no
    PasswordAuthentication no
    Subsystem sftp internal-sftp
"""
NEEDS = {"apt": ("openssh-server", "openssh-client"), "programs": ("ssh", "sshd")}


def start_sshd(pair):
    """One sshd a node, with a port of its own; each node's key is allowed at both."""
    for side in (pair.a, pair.b):
        side.ssh_home, side.ssh_port = side.folder("ssh"), free_port()
        for name in ("key", "id"):
            side.bare("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", side.ssh_home / name)
    allowed = "".join((side.ssh_home / "id.pub").read_text() for side in (pair.a, pair.b))
    for side in (pair.a, pair.b):
        side.write(side.ssh_home / "authorized", allowed, 0o600)
        conf = SSHD.format(port=side.ssh_port, home=side.ssh_home, address=side.v4 if side is pair.a else "0.0.0.0")
        side.spawn("sshd", "-D", "-e", "-f", side.write(side.ssh_home / "sshd_config", conf)).wait_for("Server listening")


def options(client):
    return ["-i", client.ssh_home / "id", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=60"]


def ssh(client, server, host):
    return ["ssh", *options(client), "-p", server.ssh_port, f"mesh@{host}"]


def as_words(client, server):
    return " ".join(map(str, ["ssh", *options(client), "-p", server.ssh_port]))


def blob_file(side, pair):
    path = side.folder("blob") / "blob"
    path.write_bytes(pair.blob)
    path.chmod(0o644)
    return path


@check("ssh", "OpenSSH: ssh and sshd", "SSH_CONNECTION shows the mesh, 8 MB through a pipe each way, a remote command that is "
       "itself on the mesh, two sshds as hops (-J)", carries=32_000_000, cheap=True, **NEEDS)
def run_ssh(pair):
    start_sshd(pair)
    for client, server, host in pair.ways:
        words = ssh(client, server, host)
        ends = client.run(*words, "echo $SSH_CONNECTION").split()
        expect((ends[0], ends[2]) == (client.v4, server.v4), f"SSH_CONNECTION is {ends}")
        echoed = client.run(*words, "cat", input=pair.blob, text=False, timeout=60)
        expect(echoed == pair.blob, "cat gives another file than it was given")
        # sshd gives the command a new environment; it must still reach the mesh.
        back = client.run(*words, " ".join(map(str, [*ssh(server, client, client.v4), "echo", "\\$SSH_CONNECTION"])))
        expect(back.split()[0] == server.v4, f"the remote command came from {back!r}")
        command = as_words(client, server) + f" -W %h:%p mesh@{host}"
        hopped = client.run("ssh", *options(client), "-o", f"ProxyCommand={command}", "-p", server.ssh_port,
                            f"mesh@{server.v4}", "echo", "through")
        expect(hopped == "through\n", "a hop")
    return version_of("ssh", "-V")


@check("dropbear", "Dropbear", "8 MB through a pipe each way, SSH_CONNECTION shows the mesh, a remote command that is itself on the mesh, a port of the far loopback by -L; "
       "the client's mesh address in the log, IPv4 and IPv6", carries=40_000_000, apt=("dropbear-bin", "curl"), programs=("dropbear", "dbclient", "dropbearkey", "curl"))
def dropbear(pair):
    port, web = free_port(), free_port()
    for side in (pair.a, pair.b):
        home = side.ssh_home = side.folder("dropbear")
        passwd = side.node.place.passwd  # Dropbear looks for a user's keys nowhere but at home
        passwd.write_text(passwd.read_text().replace(":/tmp:/bin/sh", f":{home}:/bin/sh"))
        for name in ("key", "id"):
            side.bare("dropbearkey", "-t", "ed25519", "-f", home / name)
        side.bare("install", "-d", "-m", "700", home / ".ssh")
        side.write(home / "served", f"the loopback of {side.name}")
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        told = other.bare("dropbearkey", "-y", "-f", other.ssh_home / "id")
        side.write(side.ssh_home / ".ssh/authorized_keys", next(line for line in told.splitlines() if line.startswith("ssh-")) + "\n", 0o600)
        side.serving = side.spawn("dropbear", "-F", "-E", "-p", f"{side.v4}:{port}", "-p", f"[{side.v6}]:{port}", "-r", side.ssh_home / "key", "-P", side.ssh_home / "pid")
        side.spawn(PYTHON, "-m", "http.server", web, "--bind", "127.0.0.1", "-d", side.ssh_home)
        for ready in (port, web):
            side.wait_until_bound(ready)
    for client, server, host in [*pair.ways, (pair.a, pair.b, pair.b.v6)]:
        def words(near, there):
            return ["dbclient", "-y", "-y", "-i", near.ssh_home / "id", "-p", port, f"mesh@{there}"]
        env, own = {"HOME": str(client.ssh_home)}, client.v6 if ":" in host else client.v4
        ends = client.run(*words(client, host), "echo $SSH_CONNECTION", env=env).split()
        expect((ends[0], ends[2]) in ((own, server.v6 if ":" in host else server.v4), (client.v6, server.v6)), f"SSH_CONNECTION is {ends}")
        echoed = client.run(*words(client, host), "cat", input=pair.blob, text=False, timeout=60, env=env)
        expect(echoed == pair.blob, "cat gives another file than it was given")
        back = client.run(*words(client, host), " ".join(map(str, [*words(server, client.v4), "echo", "\\$SSH_CONNECTION"])), env=env)
        expect(back.split()[0] == server.v4, f"the remote command came from {back!r}")
        near = free_port()
        forward = client.spawn(*words(client, host)[:-1], "-N", "-L", f"{near}:127.0.0.1:{web}", f"mesh@{host}", env=env, log="forward")
        client.wait_until_bound(near)
        expect(client.run("curl", "-sS", f"http://127.0.0.1:{near}/served") == f"the loopback of {server.name}", "what a forwarded port gives")
        forward.stop()
        expect(f"connection from {own}:" in server.serving.text, f"the client in the log: {server.serving.text[-300:]}")
    return version_of("dropbear", "-V")


@check("scp", "scp and sftp", "8 MB there and back, by both protocols", carries=64_000_000, cheap=True, **NEEDS)
def scp(pair):
    start_sshd(pair)
    for client, server, host in pair.ways:
        sent, there, back = blob_file(client, pair), server.folder("there") / "blob", client.folder("back") / "blob"
        for protocol in ("-s", "-O"):
            words = ["scp", "-q", protocol, *options(client), "-P", server.ssh_port]
            client.run(*words, sent, f"mesh@{host}:{there}", timeout=60)
            client.run(*words, f"mesh@{host}:{there}", back, timeout=60)
            expect(back.read_bytes() == pair.blob, f"scp {protocol}: another file came back")
            there.unlink()
            back.unlink()
    return version_of("ssh", "-V")


@check("rsync", "rsync", "a tree over ssh and from an rsync daemon", carries=15_000_000, cheap=True, apt=("rsync", *NEEDS["apt"]),
       programs=("rsync", *NEEDS["programs"]))
def rsync(pair):
    start_sshd(pair)
    trees, ports = {}, {}
    for side in (pair.a, pair.b):
        trees[side], ports[side] = side.folder("tree"), free_port()
        for n in range(40):
            (trees[side] / f"file{n}").write_bytes(pair.blob[n * 50_000:n * 100_000])
        home = side.folder("rsyncd")
        conf = f"[tree]\npath = {trees[side]}\nuse chroot = no\naddress = {side.v4}\nlog file = {home}/log\n"
        side.spawn("rsync", "--daemon", "--no-detach", "--port", ports[side], "--config", side.write(home / "conf", conf))
        side.wait_for_port(ports[side], side.v4)
    for client, server, host in pair.ways:
        for source, words in ((f"mesh@{host}:{trees[server]}/", ["-e", as_words(client, server)]),
                              (f"rsync://{host}:{ports[server]}/tree/", [])):
            target = client.folder("target")
            client.run("rsync", "-rz", *words, source, target, timeout=60)
            same = all((target / f"file{n}").read_bytes() == (trees[server] / f"file{n}").read_bytes() for n in range(40))
            expect(same, f"rsync from {source}: other files came")
    return version_of("rsync", "--version")


@check("git", "git", "clone and push by git daemon and over ssh", carries=50_000_000, cheap=True, apt=("git", *NEEDS["apt"]),
       programs=("git", *NEEDS["programs"]))
def git(pair):
    start_sshd(pair)
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@a", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@a",
           "GIT_CONFIG_GLOBAL": "/dev/null"}
    bases, ports = {}, {}
    for side in (pair.a, pair.b):
        bases[side], ports[side] = side.folder("git"), free_port()
        side.bare("git", "init", "-q", "--bare", "-b", "main", bases[side] / "repo")
        side.spawn("git", "daemon", "--reuseaddr", f"--listen={side.v4}", f"--port={ports[side]}", "--export-all",
                   "--enable=receive-pack", f"--base-path={bases[side]}", log="git-daemon")
        side.wait_for_port(ports[side], side.v4)
    for client, server, host in pair.ways:
        for url in (f"git://{host}:{ports[server]}/repo", f"mesh@{host}:{bases[server]}/repo"):
            env = {**who, "GIT_SSH_COMMAND": as_words(client, server)}
            work, again = client.folder("work") / "w", client.folder("again") / "w"
            client.run("git", "clone", "-q", url, work, env=env, timeout=60)
            client.write(work / "word", url)
            (work / "blob").write_bytes(pair.blob)
            for words in (["add", "."], ["commit", "-q", "-m", url], ["push", "-q", "origin", "HEAD:main"]):
                client.run("git", "-c", "safe.directory=*", "-C", work, *words, env=env, timeout=60)
            client.run("git", "clone", "-q", "-b", "main", url, again, env=env, timeout=60)
            expect((again / "word").read_text() == url and (again / "blob").read_bytes() == pair.blob, f"git with {url}")
    return version_of("git", "--version")


@check("vscode", "VS Code Remote's pattern", "a server on the far loopback through `ssh -L`, and by SOCKS through `ssh -D`; a "
       "control socket shared by several sessions", carries=48_000_000, cheap=True, apt=(*NEEDS["apt"], "curl"),
       programs=(*NEEDS["programs"], "curl"))
def vscode(pair):
    start_sshd(pair)
    for client, server, host in pair.ways:
        port, left, socks, home = free_port(), free_port(), free_port(), server.folder("www")
        (home / "blob").write_bytes(pair.blob)
        serving = server.spawn(PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "-d", home, port, log="http")
        server.wait_for_port(port)
        control = client.folder("ctl") / "s"
        words = ssh(client, server, host)
        tunnel = client.spawn(*words, "-N", "-M", "-S", control, "-L", f"127.0.0.1:{left}:127.0.0.1:{port}", "-D", f"127.0.0.1:{socks}")
        wait_until(control.exists, 60, "ssh's control socket")
        client.wait_for_port(socks)
        url = f"http://127.0.0.1:{left}/blob"
        got = client.run("curl", "-sSf", "--max-time", "50", url, text=False)
        expect(got == pair.blob, "ssh -L: not what the server has")
        for target in ("127.0.0.1", server.v4):
            # The far side connects by itself: to its loopback, and to its own mesh address.
            got = client.run("curl", "-sSf", "--max-time", "50", "-x", f"socks5h://127.0.0.1:{socks}", "--noproxy", "",
                             f"http://{target}:{port}/blob", text=False)
            expect(got == pair.blob, f"ssh -D to {target}: not what the server has")
        said = client.run(*words[:-1], "-S", control, words[-1], "echo shared")
        expect(said == "shared\n", "a session over the control socket")
        tunnel.stop()
        serving.stop()
    return version_of("ssh", "-V")


TOLD = ("import socket, sys; l = socket.create_server((sys.argv[1], int(sys.argv[2]))); print('ready', flush=True); c, a = l.accept();"
        " c.sendall(f'peer {a[0]}\\n'.encode()); c.close()")


@check("tmux", "tmux over ssh", "a session begun by one ssh and left, entered by another on a terminal: what is typed there is on the mesh",
       carries=45_000, apt=("tmux", "netcat-openbsd", *NEEDS["apt"]), programs=("tmux", "script", "nc.openbsd", *NEEDS["programs"]))
def tmux(pair):
    start_sshd(pair)
    for client, server, host in pair.ways:
        port, place, words = free_port(), server.folder("tmux") / "s", ssh(client, server, host)
        client.spawn(PYTHON, "-c", TOLD, client.v4, port, log="told").wait_for("ready")
        client.run(*words, f"tmux -f /dev/null -u -S {place} new -d -x 80 -y 24 sh")
        # sshd of who is not root cannot own a terminal here, so script(1) makes one. Its end of file ends the session.
        out = client.python("type_into.py", f"nc.openbsd -4 -N {client.name} {port} </dev/null\n", f"peer {server.v4}", find("ssh"), *words[1:],
                            f"TERM=xterm script -qfc 'tmux -u -S {place} attach' /dev/null", env={"TERM": "xterm"}, timeout=60)
        expect(out == "seen\n", f"tmux on {server.name}: {out}")
        client.run(*words, f"tmux -S {place} kill-server", check=False)
    return version_of("tmux", "-V")
