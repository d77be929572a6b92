"""More servers: proxies, MariaDB, and Python's application servers, queues and messages."""
from base import HERE, check, expect, free_port, pip_version, version_of
from check_databases import start_redis
from check_pythons import serve_and_ask
from check_web import same

HAPROXY = """
    defaults
        timeout connect 10s
        timeout client 30s
        timeout server 30s
    frontend web
        mode http
        bind {own}:{port} accept-proxy
        default_backend far
    frontend stream
        mode tcp
        bind :::{stream} v6only
        bind 0.0.0.0:{stream}
        default_backend far_stream
    backend far
        mode http
        option httpchk GET /blob
        server far {far}:{far_port} check inter 500 resolvers none init-addr libc
    backend far_stream
        mode tcp
        server near {own}:{port} send-proxy source {own}
    resolvers none
        nameserver dead 127.0.0.1:1
"""


@check("haproxy", "HAProxy", "HTTP and TCP, health checks of a server known by name, the PROXY protocol with the client's mesh address, "
       "`source` with the own mesh address", carries=64_000_000, apt=("haproxy", "curl", "lighttpd"), programs=("haproxy", "curl", "lighttpd"))
def haproxy(pair):
    ports, web, stream = start_lighttpd(pair), free_port(), free_port()
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        text = HAPROXY.format(own=side.v4, port=web, stream=stream, far=other.name, far_port=ports[other])
        side.spawn("haproxy", "-db", "-f", side.write(side.folder("haproxy") / "conf", text))
        side.wait_for_port(stream, side.v4)
    for client, _server, host in pair.ways:
        same(pair, client, f"http://{host}:{stream}/blob", "-4", "--retry", "10", "--retry-delay", "1")
        same(pair, client, f"http://{host}:{web}/blob", "-4", "--haproxy-protocol")
    return version_of("haproxy", "-v")


LIGHTTPD = """
    server.document-root = "{home}"
    server.bind = "{address}"
    server.port = {port}
    server.modules = ( "mod_accesslog" )
    accesslog.filename = "{home}/log"
"""


def start_lighttpd(pair):
    ports = {side: free_port() for side in (pair.a, pair.b)}
    for side, port in ports.items():
        home = side.folder("lighttpd")
        (home / "blob").write_bytes(pair.blob)
        address = side.v4 if side is pair.a else side.name
        side.spawn("lighttpd", "-D", "-f", side.write(home / "conf", LIGHTTPD.format(home=home, address=address, port=port)))
        side.wait_for_port(port, side.v4)
    return ports


@check("lighttpd", "lighttpd", "bound to the mesh address and to the own mesh name, 8 MB", carries=16_000_000, apt=("lighttpd", "curl"),
       programs=("lighttpd", "curl"))
def lighttpd(pair):
    ports = start_lighttpd(pair)
    for client, server, host in pair.ways:
        same(pair, client, f"http://{host}:{ports[server]}/blob", "-4")
    return version_of("lighttpd", "-v")


@check("caddy", "Caddy", "a Go program (meshrun traces it): a file server on the mesh address, and a proxy of the other node by its name",
       carries=48_000_000, apt=("caddy", "curl"), programs=("caddy", "curl"))
def caddy(pair):
    port, through = free_port(), free_port()
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("caddy")
        (home / "blob").write_bytes(pair.blob)
        text = (f"{{\nadmin off\nauto_https off\n}}\nhttp://:{port} {{\nbind {side.v4}\nroot * {home}\nfile_server\n}}\n"
                f"http://:{through} {{\nreverse_proxy {other.name}:{port}\n}}\n")
        side.spawn("caddy", "run", "--adapter", "caddyfile", "--config", side.write(home / "conf", text),
                   env={"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home)})
        side.wait_for_port(through, side.v4)
    for client, _server, host in pair.ways:
        for wanted in (port, through):
            same(pair, client, f"http://{host}:{wanted}/blob", "-4")
    return version_of("caddy", "version")


@check("mariadb", "MariaDB", "accounts by mesh address, the client's address or mesh name, 3 MB in and out, a replica on the other node", carries=12_000_000, apt=("mariadb-server",),
       programs=("mariadbd", "mariadb", "mariadb-install-db"))
def mariadb(pair):
    port = free_port()
    for number, (side, other) in enumerate(((pair.a, pair.b), (pair.b, pair.a)), 1):
        home = side.folder("mariadb")
        side.run("mariadb-install-db", "--no-defaults", f"--datadir={home}/data", "--auth-root-authentication-method=normal", timeout=120)
        users = "set sql_log_bin=0;\n" + "".join(f"create user mesh@'{one.v4}';\ngrant all on *.* to mesh@'{one.v4}';\n" for one in (side, other))
        side.spawn("mariadbd", "--no-defaults", f"--datadir={home}/data", f"--socket={home}/s", f"--bind-address={side.v4}",
                   f"--port={port}", f"--server-id={number}", "--log-bin", f"--init-file={side.write(home / 'users', users)}",
                   "--max-allowed-packet=64M", *(["--skip-name-resolve"] if side is pair.a else [])).wait_for("ready for connections", 60)

    def ask(client, host, text, **options):
        return client.run("mariadb", "--no-defaults", "-N", "-B", "--skip-ssl", "--max-allowed-packet=64M", "-u", "mesh", "-h", host, "-P", port,
                          **options, input=text)
    for client, server, host in pair.ways:
        word = pair.blob[:1_500_000].hex()
        ask(client, host, f"create or replace database d; create table d.t(word longtext); insert into d.t values ('{word}');")
        expect(ask(client, host, "select word from d.t").strip() == word, "another text came back")
        user = ask(client, host, "select user()").strip()
        expect(user == f"mesh@{client.v4 if server is pair.a else client.name + '.mesh'}", f"MariaDB of {server.name} sees {user}")
    ask(pair.b, pair.b.v4, f"change master to master_host='{pair.a.v4}', master_port={port}, master_user='mesh', "
        "master_use_gtid=slave_pos; set global gtid_slave_pos=''; start slave")
    ask(pair.a, pair.a.v4, "create database late; create table late.t(n int); insert into late.t values (7)")
    ask(pair.b, pair.b.v4, f"select master_gtid_wait('{ask(pair.a, pair.a.v4, 'select @@gtid_binlog_pos').strip()}', 30)")
    expect(ask(pair.b, pair.b.v4, "select n from late.t") == "7\n", "the replica has not what its master has")
    return version_of("mariadbd", "--version")


@check("llm-server", "uvicorn, FastAPI, gunicorn", "workers that share a listener, tokens as events unbuffered, sixty streams at once, 5 MB posts, "
       "the client's mesh address", carries=200_000_000, pip=("fastapi", "uvicorn", "gunicorn", "httpx", "uvloop"))
def llm_server(pair):
    env = {"PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
    for number, (client, server, host) in enumerate(pair.ways):
        address, port, other = server.v4 if number % 2 else "0.0.0.0", free_port(), free_port()
        first = server.spawn("uvicorn", "llm_app:app", "--host", address, "--port", port, "--workers", "2", env=env)
        second = server.spawn("gunicorn", "--bind", f"{address}:{other}", "--workers", "2", "llm_app:plain", "--worker-tmp-dir", "/dev/shm",
                              "--no-control-socket", env=env)
        for wanted in (port, other):
            server.wait_for_port(wanted, server.v4, 60)
        out = client.python("llm_ask.py", "uvicorn", host, port, client.v4, venv=True, timeout=60)
        out += client.python("llm_ask.py", "gunicorn", host, other, client.v4, venv=True, timeout=60)
        expect(out.split() == ["unbuffered", "sixty", "twenty"], f"{client.name} to {host}: {out}")
        first.stop()
        second.stop()
    return ", ".join(pip_version(name) for name in ("uvicorn", "fastapi", "gunicorn"))


@check("celery", "Celery", "a worker here, a caller there and the broker on either: tasks, groups and chords", carries=2_000_000, pip=("celery", "redis"),
       apt=("redis-server",), programs=("redis-server",))
def celery(pair):
    port = free_port()
    start_redis(pair.a, port)
    for number, host in enumerate((pair.a.v4, pair.a.name)):
        env = {"MESH_BROKER": f"redis://{host}:{port}/{number}", "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
        for worker, caller in ((pair.a, pair.b), (pair.b, pair.a)):
            working = worker.spawn("celery", "-A", "celery_app", "worker", "-c", "2", "--loglevel", "info", env=env)
            working.wait_for("ready", 60)
            out = caller.python("celery_app.py", venv=True, env=env, timeout=90)
            expect(out.split() == ["task", "group", "chord"], f"Celery: {out}")
            working.stop()
    return pip_version("celery")


@check("zeromq", "ZeroMQ (pyzmq)", "request and reply of 4 MB, publish and subscribe, push and pull; the peer's mesh address", carries=16_000_000, pip=("pyzmq",))
def zeromq(pair):
    serve_and_ask(pair, "zmq_work.py", ["request", "published"])
    return pip_version("pyzmq")
