"""Databases and caches: Redis (also as a cluster), PostgreSQL, memcached, etcd."""
import os

from base import check, expect, free_port, re, version_of, wait_until


def start_redis(side, port, *words):
    home = side.folder("redis")
    server = side.spawn("redis-server", "--bind", side.v4, "127.0.0.1", "--port", port, "--save", "", "--dir", home,
                        "--protected-mode", "no", *words)
    server.wait_for("Ready to accept connections")
    return server


@check("redis", "Redis", "a server on the mesh address, a 3 MB value, publish and subscribe, the client's mesh address in "
       "CLIENT LIST, a replica on the other node", carries=12_000_000, cheap=True, apt=("redis-server", "redis-tools"),
       programs=("redis-server", "redis-cli"))
def redis(pair):
    port = free_port()
    for side in (pair.a, pair.b):
        start_redis(side, port)
    value = pair.blob.hex()[:3_000_000]
    for client, server, host in pair.ways:
        def cli(*words, **options):
            return client.run("redis-cli", "-h", host, "-p", port, *words, **options)
        expect(cli("-x", "set", "key", input=value) == "OK\n", "SET")
        expect(cli("--raw", "get", "key") == value + "\n", "GET gives another value")
        addresses = re.findall(r" addr=(\S+):\d+", cli("client", "list"))
        expect(client.v4 in addresses, f"CLIENT LIST shows {addresses}")
        hearing = client.spawn("redis-cli", "-h", host, "-p", port, "subscribe", "news", log="subscribe")
        hearing.wait_for("subscribe")
        wait_until(lambda: server.run("redis-cli", "-h", server.v4, "-p", port, "publish", "news", "heard") == "1\n",
                   10, "a subscriber")
        hearing.wait_for("heard")
        hearing.stop()
    pair.b.run("redis-cli", "-h", pair.b.v4, "-p", port, "replicaof", pair.a.v4, port)
    wait_until(lambda: "master_link_status:up" in pair.b.run("redis-cli", "-h", pair.b.v4, "-p", port, "info"), 30,
               "the replica")
    pair.a.run("redis-cli", "-h", pair.a.v4, "-p", port, "set", "late", "word")
    wait_until(lambda: pair.b.run("redis-cli", "-h", pair.b.v4, "-p", port, "get", "late") == "word\n", 10, "the copy")
    expect(f"ip={pair.b.v4}," in pair.a.run("redis-cli", "-h", pair.a.v4, "-p", port, "info", "replication"),
           "the replica's address as its master sees it")
    return version_of("redis-server", "--version")


@check("redis-bench", "redis-benchmark", "SET, GET and LRANGE of 20 clients, and with pipelines of 16", carries=150_000_000, cheap=True,
       apt=("redis-server", "redis-tools"), programs=("redis-server", "redis-benchmark"))
def redis_bench(pair):
    port = free_port()
    for side in (pair.a, pair.b):
        start_redis(side, port)
    for client, _server, host in pair.ways:
        for pipeline in ("1", "16"):
            out = client.run("redis-benchmark", "-h", host, "-p", port, "-n", "2000", "-c", "20", "-d", "200", "-P", pipeline,
                             "-t", "set,get,lrange_100", "--csv", timeout=90)
            seen = {line.split(",")[0].strip('"').split()[0] for line in out.splitlines()}
            expect(seen >= {"SET", "GET", "LRANGE_100"}, f"redis-benchmark printed {out}")
    return version_of("redis-benchmark", "--version")


@check("redis-cluster", "Redis cluster", "six servers, three on each node, found by their mesh addresses; redirected clients; "
       "a replica takes over", carries=100_000, apt=("redis-server", "redis-tools"), programs=("redis-server", "redis-cli"))
def redis_cluster(pair):
    ports = [free_port() for _ in range(3)]
    servers = {(side, port): start_redis(side, port, "--cluster-enabled", "yes", "--cluster-node-timeout", "4000")
               for port in ports for side in (pair.a, pair.b)}
    names = [f"{side.v4}:{port}" for port in ports for side in (pair.a, pair.b)]
    made = pair.a.run("redis-cli", "--cluster", "create", *names, "--cluster-replicas", "1", "--cluster-yes", timeout=90)
    expect("All 16384 slots covered" in made, f"the cluster was not made: {made[-1500:]}")

    def all_agree():
        return all("cluster_state:ok" in side.run("redis-cli", "-h", side.v4, "-p", port, "cluster", "info")
                   for side, port in servers)
    wait_until(all_agree, 30, "the cluster's state is ok everywhere")
    for client, _server, host in pair.ways:
        for n in range(8):
            client.run("redis-cli", "-c", "-h", host, "-p", ports[0], "set", f"key{n}", f"{client.name}{host}{n}")
        for n in range(8):
            got = client.run("redis-cli", "-c", "-h", host, "-p", ports[1], "get", f"key{n}")
            expect(got == f"{client.name}{host}{n}\n", f"key{n} is {got}")
    nodes = pair.a.run("redis-cli", "-h", pair.a.v4, "-p", ports[0], "cluster", "nodes")
    expect(sorted(re.findall(r" (\S+)@", nodes)) == sorted(names), f"the cluster's nodes: {nodes}")
    lost = next(name for name in names if re.search(rf" {re.escape(name)}@\d+ (myself,)?master", nodes))
    host, port = lost.split(":")
    side = pair.a if host == pair.a.v4 else pair.b
    servers.pop((side, int(port))).stop()
    rest = next(iter(servers))

    def took_over():
        state = rest[0].run("redis-cli", "-h", rest[0].v4, "-p", rest[1], "cluster", "nodes")
        return state.count("master") == 4 and "fail" in state and all_agree()
    wait_until(took_over, 60, "a replica takes over")
    return version_of("redis-server", "--version")


@check("sentinel", "Redis Sentinel", "three sentinels on two nodes find one another and the replica by mesh addresses; the master is lost, the replica takes over and "
       "clients are sent there, the old master comes back as its replica", carries=150_000, apt=("redis-server", "redis-tools"), programs=("redis-server", "redis-cli"))
def sentinel(pair):
    for new, old, host in list(pair.ways)[::3]:
        port = free_port()
        master = start_redis(old, port)
        start_redis(new, port, "--replicaof", old.v4, port)
        watching = []
        for side in (old, new, new):
            home, own = side.folder("sentinel"), free_port()
            conf = (f"port {own}\nbind {side.v4}\ndir {home}\nprotected-mode no\nsentinel resolve-hostnames yes\n"
                    f"sentinel monitor mesh {host if side is new else old.v4} {port} 2\nsentinel down-after-milliseconds mesh 3000\n")
            path = side.write(home / "conf", conf, 0o666)
            os.chown(path, side.node.place.uid, side.node.place.uid)
            side.spawn("redis-server", path, "--sentinel").wait_for(r"\+monitor master mesh")
            watching.append((side, own))

        def ask(number, *words):
            side, own = watching[number]
            return new.run("redis-cli", "-h", side.v4, "-p", own, "sentinel", *words).split()

        def others(number):
            lines = ask(number, "sentinels", "mesh")
            return sorted(value for name, value in zip(lines, lines[1:]) if name == "ip")
        for number, wanted in enumerate(([new.v4, new.v4], sorted([old.v4, new.v4]), sorted([old.v4, new.v4]))):
            wait_until(lambda: others(number) == wanted, 40, f"sentinel {number} knows the others")
            wait_until(lambda: new.v4 in ask(number, "replicas", "mesh"), 40, f"sentinel {number} knows the replica")
            expect(ask(number, "get-master-addr-by-name", "mesh") == [old.v4, str(port)], f"the master of sentinel {number}")
        master.stop()
        for number in range(3):
            wait_until(lambda: ask(number, "get-master-addr-by-name", "mesh") == [new.v4, str(port)], 90, f"sentinel {number} names the new master")
        old.run("redis-cli", "-h", new.v4, "-p", port, "set", "after", "word")
        start_redis(old, port)
        wait_until(lambda: new.run("redis-cli", "-h", old.v4, "-p", port, "get", "after") == "word\n", 60, "the old master follows the new one")
    return version_of("redis-server", "--version")


POSTGRES = """
    listen_addresses = '{address}'
    port = {port}
    unix_socket_directories = '{home}'
    fsync = off
"""


def start_postgres(side, port):
    home = side.folder("postgres")
    data = home / "data"
    side.run("initdb", "-D", data, "-U", "mesh", "-A", "trust", "--no-sync", timeout=120)
    side.write(data / "postgresql.auto.conf", POSTGRES.format(address=side.v4, port=port, home=home))
    side.write(data / "pg_hba.conf", "".join(f"host all mesh {o.v4}/32 trust\n" for o in (side.pair.a, side.pair.b)), 0o600)
    side.spawn("postgres", "-D", data).wait_for("ready to accept connections", 60)


@check("postgres", "PostgreSQL", "pg_hba.conf by mesh address, COPY of 5 MB both ways, LISTEN and NOTIFY, pgbench, a "
       "cancelled query", carries=22_000_000, apt=("postgresql",), programs=("postgres", "initdb", "psql"))
def postgres(pair):
    port = free_port()
    for side in (pair.a, pair.b):
        start_postgres(side, port)
    text = "".join(f"{n}\t{pair.blob[n:n + 25].hex()}\n" for n in range(100_000))
    for client, server, host in pair.ways:
        def psql(*words, **options):
            return client.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", host, "-p", port, "-U", "mesh",
                              "-d", "postgres", *words, **options)
        file = client.folder("copy") / "rows"
        client.write(file, text)
        psql("-c", "drop table if exists t; create table t(n int, word text)")
        psql("-c", f"\\copy t from '{file}'", timeout=60)
        back = psql("-c", "copy (select * from t order by n) to stdout", timeout=60)
        expect(back == text, "COPY gives other rows than it was given")
        expect(psql("-c", "select inet_client_addr(), inet_server_addr()").strip() == f"{client.v4}|{server.v4}",
               "the ends as PostgreSQL sees them")
        words = ["-h", host, "-p", port, "-U", "mesh", "-d", "postgres"]
        hearing = client.spawn("psql", "-X", *words, "-c", "listen news", "-c", "select pg_sleep(0.5)", "-c", "select pg_sleep(1)",
                               "-c", "select 'asked'", log="listen")
        while hearing.popen.poll() is None:
            server.run("psql", "-X", "-q", "-h", server.v4, "-p", port, "-U", "mesh", "-d", "postgres", "-c", "notify news, 'heard'")
        expect('with payload "heard"' in hearing.text, f"LISTEN heard: {hearing.text}")
        if host == server.v4:
            client.run("pgbench", "-i", "-q", *words, timeout=60)
            out = client.run("pgbench", "-c", "4", "-t", "50", *words, timeout=90)
            expect("processed: 200/200" in out, f"pgbench said {out}")
    return version_of("postgres", "--version")


@check("memcached", "memcached", "TCP and UDP on the mesh address, a value of 900 kB", carries=3_600_000, cheap=True, apt=("memcached",),
       programs=("memcached",))
def memcached(pair):
    port = free_port()
    for side in (pair.a, pair.b):
        side.spawn("memcached", "-l", side.v4, "-p", port, "-U", port)
        side.wait_for_port(port, side.v4)
    for client, _server, host in pair.ways:
        out = client.python("memcache.py", host, port)
        expect(out.split() == ["tcp", "udp"], f"memcached: {out}")
    return version_of("memcached", "--version")


@check("etcd", "etcd", "a cluster of two (Go: meshrun traces it), put and get on either node, a watch",
       carries=25_000, apt=("etcd-server", "etcd-client"), programs=("etcd", "etcdctl"))
def etcd(pair):
    client_port, peer_port = free_port(), free_port()
    cluster = ",".join(f"{s.name}=http://{s.v4}:{peer_port}" for s in (pair.a, pair.b))
    servers = [side.spawn("etcd", "--name", side.name, "--data-dir", side.folder("etcd") / "data",
                          "--listen-client-urls", f"http://{side.v4}:{client_port}",
                          "--advertise-client-urls", f"http://{side.v4}:{client_port}",
                          "--listen-peer-urls", f"http://{side.v4}:{peer_port}",
                          "--initial-advertise-peer-urls", f"http://{side.v4}:{peer_port}",
                          "--initial-cluster", cluster, "--heartbeat-interval", "500", "--election-timeout", "5000")
               for side in (pair.a, pair.b)]
    for server in servers:
        server.wait_for("ready to serve client requests", 60)

    def ctl(side, host, *words):
        return side.run("etcdctl", "--endpoints", f"http://{host}:{client_port}", *words, timeout=60, env={"ETCDCTL_API": "3"})
    for client, server, host in pair.ways:
        value = f"{client.name} {host} {os.urandom(500).hex()}"
        watch = client.spawn("etcdctl", "--endpoints", f"http://{host}:{client_port}", "watch", "key",
                             log="watch", env={"ETCDCTL_API": "3"})
        expect(ctl(client, host, "put", "key", value) == "OK\n", "put")
        expect(ctl(server, server.v4, "get", "key", "--print-value-only") == value + "\n", "get gives another value")

        def watched():
            ctl(client, host, "put", "key", value)
            return value in watch.text
        wait_until(watched, 20, "the watch shows the value")
        watch.stop()
    members = ctl(pair.a, pair.b.v4, "member", "list")
    expect(members.count("started") == 2, f"the members: {members}")
    return version_of("etcd", "--version")
