"""Programs of several machines: MPICH, fabrics, Erlang, Spark, Flink, ZooKeeper, ClickHouse, distcc."""
from base import HERE, PYTHON, VENV, check, expect, find, first_version, free_port, pip_version, re, version_of, wait_until
from check_shells import NEEDS, options, start_sshd


@check("mpich", "MPICH", "mpiexec over ssh, two ranks a node, 8 MB round the ring and a sum of all, which the nodes' own counters show",
       carries=32_000_000, setting="`-iface tailscale0`, `UCX_NET_DEVICES=tailscale0`", pip=("mpich",), apt=("gcc", "libc6-dev", *NEEDS["apt"]), programs=("gcc", *NEEDS["programs"]))
def mpich(pair):
    start_sshd(pair)
    home = pair.a.folder("ring")
    pair.a.bare(VENV / "bin/mpicc", "-O1", "-o", home / "ring", HERE / "ring.c", timeout=60)
    ports = " ".join(f"*\" {host} \"*) port={side.ssh_port};;" for side in (pair.a, pair.b) for host in (side.v4, side.name))
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        words = " ".join(map(str, [find("ssh"), *options(side), "-l", "mesh", "-p", "$port"]))
        agent = side.write(side.folder("mpich") / "ssh", f'#!/bin/sh\ncase " $* " in {ports} esac\nexec {words} "$@"\n', 0o755)
        for names in ((side.v4, other.v4), (side.name, other.name)):
            hosts = ",".join(f"{name}:2" for name in names)
            # Ranks of one machine would use its memory, and mpiexec's environment names the daemon of its own node.
            start = [VENV / "bin/mpiexec", "-launcher", "ssh", "-launcher-exec", agent, "-iface", "tailscale0", "-genvlist", "PATH",
                     "-genv", "LD_LIBRARY_PATH", VENV / "lib", "-genv", "UCX_TLS", "tcp,self", "-genv", "UCX_NET_DEVICES", "tailscale0", "-hosts", hosts, "-np", "4"]
            daemons = side.run(*start, "printenv", "MESHWRAP_DIR", timeout=60).split()
            expect(sorted(daemons) == sorted(str(one.node.dir) for one in (side, side, other, other)), f"the ranks' daemons: {daemons}")
            before = pair.heard()
            out = side.run(*start, home / "ring", timeout=60)
            expect(out == "ring of 4\n", f"mpiexec on {side.name} said {out!r}")
            pair.expect_carried(8_000_000, before)
    return pip_version("mpich")


def both_ends(client, server, words, host, said):
    """A program that is its own server when no host is given: until the client has said it."""
    serving = server.spawn(*words, log=words[0])

    def ran():
        result = client.full(*words, host, check=False, timeout=30)
        return said in result.stdout and not result.returncode
    wait_until(ran, 20, f"{words} to {host}")
    serving.stop()


@check("fabric", "libfabric", "ping-pong with checked data over tcp, udp and their rxm and rxd", carries=300_000_000, setting="`FI_TCP_IFACE=tailscale0`, `FI_UDP_IFACE=tailscale0`",
       apt=("libfabric-bin",), programs=("fi_pingpong",))
def fabric(pair):
    for client, server, host in pair.ways:
        for provider, kind in (("tcp", "msg"), ("tcp;ofi_rxm", "rdm"), ("udp", "dgram"), ("udp;ofi_rxd", "rdm")):
            both_ends(client, server, ["env", "FI_TCP_IFACE=tailscale0", "FI_UDP_IFACE=tailscale0", "fi_pingpong", "-p", provider, "-e", kind, "-c"], host, "1k ")
    return version_of("fi_info", "--version")


@check("ucx", "UCX", "tag matching and active messages over TCP", carries=100_000_000, setting="`UCX_NET_DEVICES=tailscale0`", pip=("libucx-cu12",))
def ucx(pair):
    home = next(VENV.glob("lib/python3*/site-packages/libucx"))
    words = ["env", f"LD_LIBRARY_PATH={home}/lib", "UCX_TLS=tcp", "UCX_NET_DEVICES=tailscale0", home / "bin/ucx_perftest"]
    for client, server, host in pair.ways:
        for test in ("tag_bw", "ucp_am_lat"):
            both_ends(client, server, [*words, "-t", test, "-w", "20", "-n", "200", "-s", "100000"], host, "Final:")
    return pip_version("libucx-cu12")


DDS = ("<CycloneDDS><Domain><General>{general}<AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex>"
       "<Peers><Peer address='{peer}'/></Peers></Discovery></Domain></CycloneDDS>")
DDS_INTERFACES = "<Interfaces><NetworkInterface {which}/></Interfaces>"


@check("dds", "Cyclone DDS", "what ROS 2 speaks: two participants that name one another, 200 kB each way over both families, the interface given by name and by address",
       carries=800_000, setting="`NetworkInterface name=\"tailscale0\"`, no multicast, `Peers` with mesh addresses or names", pip=("cyclonedds",))
def dds(pair):
    for number, (one, two, host) in enumerate(pair.ways):
        running = []
        for side, other in ((one, two), (two, one)):
            own, peer = (side.v4, other.v4) if number < 2 else (side.v6, other.v6)
            which = f'address="{own}"' if host == two.v4 else 'name="tailscale0"'
            general = DDS_INTERFACES.format(which=which) + f"<Transport>udp{'' if number < 2 else '6'}</Transport>"
            conf = DDS.format(general=general, peer=peer if host == two.v4 else other.name)
            running.append(side.spawn(VENV / "bin/python3", HERE / "dds_work.py", own, peer, env={"CYCLONEDDS_URI": conf}, log="dds"))
        for process in running:
            process.wait_for("heard .*", 70)
            process.wait()
    return pip_version("cyclonedds")


ERLANG = """
    N = '{far}', pong = net_adm:ping(N), B = crypto:strong_rand_bytes(3000000),
    true = B =:= rpc:call(N, erlang, list_to_binary, [binary_to_list(B)]),
    {{ok, I}} = net_kernel:node_info(N), {{net_address, {{A, _}}, _, _, _}} = proplists:get_value(address, I),
    io:format("~s~n", [inet:ntoa(A)]), halt().
"""


@check("erlang", "Erlang and Elixir", "distributed nodes found by epmd: a ping, 3 MB there and back by rpc, the far node's mesh address",
       carries=12_000_000, apt=("erlang-base", "erlang-crypto", "elixir"), programs=("erl", "elixir"))
def erlang(pair):
    homes = {}
    for side in (pair.a, pair.b):
        homes[side] = {"HOME": str(side.folder("erlang"))}
        side.spawn("epmd", "-relaxed_command_check")
        side.wait_until_bound(4369)
    for number, (client, server, host) in enumerate(pair.ways):
        own = client.v4 if host == server.v4 else f"{client.name}.mesh"
        far = f"s{number}@{host if host == server.v4 else host + '.mesh'}"
        cookie = ["-setcookie", "word", "-noinput", "-name"]
        serving = server.spawn("erl", *cookie, far, "-eval", 'io:format("ready~n").', env=homes[server])
        serving.wait_for("ready", 30)
        code = " ".join(ERLANG.format(far=far).split())
        out = client.run("erl", *cookie, f"c{number}@{own}", "-eval", code, env=homes[client], timeout=60)
        expect(out.strip() == server.v4, f"Erlang to {far}: {out}")
        out = client.run("elixir", "--cookie", "word", "--name", f"e{number}@{own}", "-e",
                         f"true = Node.connect(:'{far}'); IO.puts(:erpc.call(:'{far}', :erlang, :node, []))", env=homes[client], timeout=60)
        expect(out.strip() == far, f"Elixir to {far}: {out}")
        serving.stop()
    return f"{first_version(pair.a.bare('dpkg-query', '-W', 'erlang-base'))}, {first_version(version_of('elixir', '--short-version'))}"


@check("spark", "Spark", "a master and a worker on each node, a job of each node with a shuffle between executors on both",
       carries=40_000, pip=("pyspark",), programs=("java",))
def spark(pair):
    port = free_port()
    home = next(VENV.glob("lib/python3*/site-packages/pyspark"))
    env = {"SPARK_HOME": str(home), "SPARK_DAEMON_MEMORY": "256m", "PYSPARK_PYTHON": PYTHON, "PYTHONPATH": str(home.parent)}

    def daemon(side, kind, *words):
        return side.spawn(home / "bin/spark-class", f"org.apache.spark.deploy.{kind}", "--webui-port", 0, *words, log=kind,
                          env={**env, "SPARK_WORKER_DIR": str(side.folder("work")), "SPARK_LOCAL_DIRS": str(side.folder("local"))})
    daemon(pair.a, "master.Master", "--port", port).wait_for(f"Starting Spark master at spark://{pair.a.v4}:", 90)
    for side in (pair.a, pair.b):
        daemon(side, "worker.Worker", "-c", 1, "-m", "600M", f"spark://{pair.a.v4}:{port}").wait_for("Successfully registered", 90)
    for side in (pair.a, pair.b):
        out = side.run(PYTHON, HERE / "spark_work.py", f"spark://{pair.a.v4}:{port}", env=env, timeout=200)
        expect(out.split() == ["19999900000", pair.a.v4, pair.b.v4], f"a job of {side.name}: {out}")
    return pip_version("pyspark")


FLINK = """
    rest: {{ address: {head}, port: {rest}, bind-address: 0.0.0.0 }}
    jobmanager: {{ rpc: {{ address: {head}, port: {rpc} }}, memory: {{ process: {{ size: 1100m }} }} }}
    io: {{ tmp: {{ dirs: {home} }} }}
    taskmanager:
      numberOfTaskSlots: 1
      cpu: {{ cores: 1.0 }}
      memory:
        framework: {{ heap: {{ size: 128mb }}, off-heap: {{ size: 128mb }} }}
        task: {{ heap: {{ size: 128mb }}, off-heap: {{ size: 0mb }} }}
        network: {{ min: 64mb, max: 64mb }}
        managed: {{ size: 128mb }}
        jvm-metaspace: {{ size: 200mb }}
        jvm-overhead: {{ min: 100mb, max: 100mb }}
"""
FLINK_LOG = """
    rootLogger.level = INFO
    rootLogger.appenderRef.out.ref = Out
    appender.out.name = Out
    appender.out.type = Console
"""


@check("flink", "Flink", "a JobManager, known by name, and a TaskManager on each node, a job of each node with a shuffle between tasks on both",
       carries=300_000, pip=("apache-flink-libraries",), programs=("java",))
def flink(pair):
    rest, rpc = free_port(), free_port()
    jars = next(VENV.glob("lib/python3*/site-packages/pyflink/lib"))
    java, homes = {}, {}
    for side in (pair.a, pair.b):
        homes[side.name] = home = side.folder("flink")
        side.write(home / "config.yaml", FLINK.format(head=pair.a.name, rest=rest, rpc=rpc, home=home))
        log = side.write(home / "log.properties", FLINK_LOG)
        opened = [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in ("java.lang", "java.net", "java.nio", "java.util", "sun.nio.ch")]
        java[side.name] = ["java", "-Xmx400m", *opened, f"-Dlog4j.configurationFile={log}", "-cp", f"{jars}/*"]

    def daemon(side, kind):
        return side.spawn(*java[side.name], f"org.apache.flink.runtime.{kind}", "--configDir", homes[side.name], log="flink")
    daemon(pair.a, "entrypoint.StandaloneSessionClusterEntrypoint").wait_for("Rest endpoint listening", 120)
    workers = [daemon(side, "taskexecutor.TaskManagerRunner") for side in (pair.a, pair.b)]
    for side, worker in zip((pair.a, pair.b), workers):
        worker.wait_for(f"will use hostname/address '.*' \\({side.v4}\\)", 120)
        worker.wait_for("Successful registration at resource manager", 120)
    groups = [(k, len(range(k, 200_000, 7)), sum(range(k, 200_000, 7))) for k in range(7)]
    for number, (side, host) in enumerate(((pair.a, pair.a.v4), (pair.b, pair.a.name)), 1):
        out = side.run(*java[side.name], HERE / "Flink.java", host, rest, env={"FLINK_CONF_DIR": str(homes[side.name])}, timeout=200)
        rows = sorted(re.findall(r"row \+I\[(\d+), (\d+), (\d+), 54\]", out))
        expect([tuple(map(int, row)) for row in rows] == groups, f"a job of {side.name}: {out[-2000:]}")
        for worker in workers:
            done = len(re.findall("Source: numbers.* to FINISHED", worker.text))
            expect(done == number, f"{done} of {number} sources ran here:\n{worker.text[-2000:]}")
    return pip_version("apache-flink-libraries")


@check("zookeeper", "ZooKeeper", "an ensemble of three servers on two nodes elects its leader; a node written here is read there",
       carries=10_000, apt=("zookeeper",), programs=("java", "/usr/share/java/zookeeper.jar"))
def zookeeper(pair):
    places = {1: pair.a, 2: pair.b, 3: pair.a}
    ports = {number: (free_port(), free_port(), free_port()) for number in places}
    ensemble = "\n".join(f"server.{n}={side.name if n < 3 else side.v4}:{ports[n][0]}:{ports[n][1]}" for n, side in places.items())
    java = ["java", "-cp", "/usr/share/java/*"]
    for number, side in places.items():
        home = side.folder("zookeeper")
        side.write(home / "myid", f"{number}\n")
        conf = side.write(home / "conf", f"tickTime=500\ninitLimit=40\nsyncLimit=20\ndataDir={home}\nadmin.enableServer=false\n"
                          f"clientPort={ports[number][2]}\n{ensemble}\n")
        side.spawn(*java, "-Xmx128m", "org.apache.zookeeper.server.quorum.QuorumPeerMain", conf, log="zookeeper")
    ask = ["org.apache.zookeeper.ZooKeeperMain", "-waitforconnection", "-timeout", "20000", "-server"]
    for client, server, host in pair.ways:
        far, near = (f"{where}:{ports[2 if side is pair.b else 1][2]}" for where, side in ((host, server), (client.v4, client)))
        client.run(*java, *ask, far, "create", f"/{host}", "word", timeout=90)
        wait_until(lambda: "word" in client.run(*java, *ask, near, "get", f"/{host}", timeout=90, check=False), 20, f"/{host} on {client.name}")
    return first_version(pair.a.bare("dpkg-query", "-W", "zookeeper"))


CLICKHOUSE = """
    <yandex><logger><console>1</console><level>warning</level></logger>
      <tcp_port>{port}</tcp_port><http_port>{http}</http_port><listen_host>{listen}</listen_host>
      <path>{home}/</path><tmp_path>{home}/</tmp_path><users_config>users.xml</users_config>
      <default_profile>default</default_profile><default_database>default</default_database><mark_cache_size>5368709</mark_cache_size></yandex>
"""
USERS = """
    <yandex><profiles><default/></profiles><quotas><default/></quotas><users><default><password></password>
      <networks><ip>100.64.0.0/10</ip><ip>fd7a:115c:a1e0::/48</ip></networks><profile>default</profile><quota>default</quota></default></users></yandex>
"""


@check("clickhouse", "ClickHouse", "clients allowed by mesh address, a distributed query of both servers", carries=2_000_000, apt=("clickhouse-server", "clickhouse-client"),
       programs=("clickhouse-server", "clickhouse-client"))
def clickhouse(pair):
    port, http = free_port(), free_port()
    for side in (pair.a, pair.b):
        home = side.folder("clickhouse")
        side.write(home / "users.xml", USERS)
        conf = side.write(home / "conf.xml", CLICKHOUSE.format(home=home, port=port, http=http, listen="::"))
        side.spawn("clickhouse-server", "--config-file", conf)
    for side in (pair.a, pair.b):
        side.wait_until_bound(port, 60)
    for client, server, host in pair.ways:
        tables = " union all ".join(f"select * from remote('{where}:{port}', system, one)" for where in (client.v4, server.v4, server.name))
        out = client.run("clickhouse-client", "--host", host, "--port", port, "-q", tables, timeout=60)
        expect(out.split() == ["0"] * 3, f"a query of both by {host}: {out}")
        out = client.run("clickhouse-client", "--host", host, "--port", port, "-q", "select number from system.numbers limit 300000", timeout=60)
        expect(out == "".join(f"{i}\n" for i in range(300000)), f"300,000 rows from {host}: {len(out)} bytes")
    return version_of("clickhouse-client", "--version")


@check("distcc", "distcc, gdbserver", "a file compiled on the other node for the mesh's clients only; a program there debugged from here",
       carries=800_000, apt=("distcc", "gcc", "gdb", "gdbserver"), programs=("distcc", "distccd", "gcc", "gdb", "gdbserver"))
def distcc(pair):
    for client, server, host in pair.ways:
        port = free_port()
        serving = server.spawn("distccd", "--no-detach", "--daemon", "--listen", server.v4, "--allow", "100.64.0.0/10", "-p", port, "--log-stderr",
                               "--verbose", "--enable-tcp-insecure")
        server.wait_until_bound(port)
        home = client.folder("distcc")
        source = client.write(home / "x.c", "int next(int x) { return x + 1; }\nint main(void) { return next(41) != 42; }\n")
        client.run("distcc", "gcc", "-g", "-c", source, "-o", home / "x.o", timeout=60,
                   env={"DISTCC_HOSTS": f"{host}:{port}", "DISTCC_FALLBACK": "0", "DISTCC_DIR": str(home)})
        expect(f"client: {client.v4}:" in serving.wait_for("client: .*COMPILE_OK")[0], "the client's address in distccd's log")
        client.bare("gcc", "-o", home / "x", home / "x.o")
        serving.stop()
        serving = server.spawn("gdbserver", "--once", f"{server.v4}:{port}", home / "x")
        serving.wait_for("Listening")
        out = client.run("gdb", "-q", "-batch", "-nx", "-ex", f"target remote {host}:{port}", "-ex", "break next", "-ex", "continue", "-ex", "print x",
                         "-ex", "continue", home / "x", timeout=60)
        expect("$1 = 41" in out and "exited normally" in out, f"gdb: {out}")
        expect(f"from host {client.v4}" in serving.text, f"gdbserver: {serving.text}")
    return f"{version_of('distcc', '--version')}, {version_of('gdb', '--version')}"
