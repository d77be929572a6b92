"""Python's ways to a network: HTTP clients, event loops, WebSockets, gRPC, Jupyter, Dask."""

from base import check, expect, free_port, pip_version
from check_databases import start_postgres
from check_shells import NEEDS, start_sshd

HTTP = ("requests", "httpx", "aiohttp", "uvloop", "websockets")


def serve_and_ask(pair, script, want, *words, pip=True, **options):
    """script serve ADDRESS PORT on the server, script WORDS HOST PORT on the client, for each way."""
    for number, (client, server, host) in enumerate(pair.ways):
        port = free_port()
        address = server.v4 if number % 2 else "0.0.0.0"
        serving = server.python_spawn(script, "serve", address, port, venv=pip)
        out = client.python(script, "ask", host, port, client.v4, *words, venv=pip, timeout=90, **options)
        expect(out.split() == want, f"{script} on {client.name} to {host}: {out}")
        serving.stop()


@check("python-http", "Python: requests, httpx, aiohttp", "8 MB posted and echoed, the client's mesh address, 50 requests at "
       "once, by asyncio's loop and by uvloop", carries=160_000_000, pip=HTTP)
def python_http(pair):
    serve_and_ask(pair, "http_work.py", ["requests", "httpx", "aiohttp", "uvloop", "websockets"])
    return ", ".join(pip_version(name) for name in HTTP[:3])


@check("asyncio", "Python: asyncio and uvloop", "TCP and UDP echo, 100 connections at once, half-close, sendfile",
       carries=50_000_000, pip=("uvloop",))
def run_asyncio(pair):
    for loop in ("asyncio", "uvloop"):
        serve_and_ask(pair, "loops.py", ["echo", "half-close", "sendfile", "udp"], loop)
    return f"3.11, {pip_version('uvloop')}"


@check("more-loops", "Python: trio, Twisted, gevent", "101 connections at once, 3 MB echoed, half-close, the client's mesh address",
       carries=41_000_000, pip=("trio", "twisted", "gevent"))
def more_loops(pair):
    for library in ("trio", "twisted", "gevent"):
        for number, (client, server, host) in enumerate(pair.ways):
            port = free_port()
            serving = server.python_spawn("more_loops.py", "serve", server.v4 if number % 2 else "0.0.0.0", port, library, venv=True)
            out = client.python("more_loops.py", "ask", host, port, client.v4, library, venv=True, timeout=60)
            expect(out.split() == [client.v4], f"{library} on {client.name} to {host}: {out}")
            serving.stop()
    return ", ".join(pip_version(name) for name in ("trio", "twisted", "gevent"))


@check("python-db", "Python: psycopg, asyncpg, paramiko", "PostgreSQL with 2 MB values, COPY, a pool, NOTIFY, a cancelled query; "
       "SSH commands, SFTP and a forwarded port", carries=39_000_000, apt=("postgresql", *NEEDS["apt"]), pip=("psycopg[binary]", "asyncpg", "paramiko"),
       programs=("postgres", "initdb", *NEEDS["programs"]))
def python_db(pair):
    port = free_port()
    start_sshd(pair)
    for side in (pair.a, pair.b):
        start_postgres(side, port)
    for client, server, host in pair.ways:
        out = client.python("postgres_work.py", host, port, client.v4, venv=True, timeout=60)
        expect(out.split() == ["psycopg", "asyncpg"], f"PostgreSQL from {client.name}: {out}")
        out = client.python("paramiko_work.py", host, server.ssh_port, client.ssh_home / "id", client.v4, server.ssh_home, venv=True, timeout=60)
        expect(out.split() == ["command", "sftp", "forwarded"], f"paramiko from {client.name}: {out}")
    return ", ".join(pip_version(name) for name in ("psycopg", "asyncpg", "paramiko"))


@check("grpc", "gRPC (Python)", "unary and streamed calls, 3 MB messages, a deadline; its own resolver (c-ares)",
       carries=12_000_000, pip=("grpcio",))
def grpc(pair):
    serve_and_ask(pair, "grpc_work.py", ["unary", "stream", "deadline", "cares"])
    return pip_version("grpcio")


@check("jupyter", "JupyterLab", "the server on a mesh address, a kernel started by REST and used by its WebSocket",
       carries=12_000, pip=("jupyterlab", "websockets", "requests"))
def jupyter(pair):
    for number, (client, server, host) in enumerate(pair.ways):
        port, home = free_port(), server.folder("jupyter")
        address = server.v4 if number % 2 else "0.0.0.0"
        env = {"HOME": str(home), "JUPYTER_RUNTIME_DIR": str(home / "runtime"), "IPYTHONDIR": str(home / "ipython")}
        serving = server.spawn("jupyter", "lab", "--no-browser", f"--ServerApp.ip={address}", f"--ServerApp.port={port}",
                               "--IdentityProvider.token=mesh", "--ServerApp.allow_remote_access=True",
                               f"--ServerApp.root_dir={home}", env=env)
        serving.wait_for("is running at", 90)
        out = client.python("jupyter_work.py", host, port, venv=True, timeout=120)
        expect(out.split() == ["kernel", "42"], f"Jupyter: {out}")
        serving.stop()
    return pip_version("jupyterlab")


@check("dask", "Dask", "a scheduler, a worker on each node, 20 MB arrays moved between them", carries=60_000_000, pip=("dask[distributed]", "numpy"))
def dask(pair):
    port, board = free_port(), free_port()
    env = {"DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False", "OMP_NUM_THREADS": "1"}
    pair.a.spawn("dask", "scheduler", "--port", port, "--dashboard-address", f":{board}", env=env,
                 log="scheduler").wait_for("Scheduler at", 90)
    for side in (pair.a, pair.b):
        side.spawn("dask", "worker", f"tcp://{pair.a.v4}:{port}", "--name", side.name, "--nthreads", "1", "--no-nanny",
                   "--local-directory", side.folder("dask"), "--no-dashboard", env=env, log="worker").wait_for("Registered to", 90)
    for side, host in ((pair.a, pair.a.v4), (pair.b, pair.a.v4), (pair.b, pair.a.name)):
        out = side.python("dask_work.py", f"tcp://{host}:{port}", pair.a.v4, pair.b.v4, venv=True, timeout=120)
        expect(out.split() == ["workers", "arrays"], f"Dask on {side.name}: {out}")
    return pip_version("dask")
