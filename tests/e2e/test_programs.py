"""Unmodified programs across the mesh, and whether every byte came through."""
import hashlib
import random

import pytest

from worlds import PYTHON, free_port, python, python_spawn, wait_until

NGINX = """
daemon off;
{user}
worker_processes 2;
pid {home}/nginx.pid;
error_log stderr;
events {{ worker_connections 512; }}
http {{
    access_log {home}/access.log;
    client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
    uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
    sendfile on;
    server {{
        listen 0.0.0.0:{port};
        listen [::]:{port} ipv6only=on;
        root {home};
    }}
}}
"""


def start_nginx(node, blob):
    home = node.lab.folder("nginx", node.place.uid)
    port = free_port()
    (home / "blob").write_bytes(blob)
    for i in range(20):
        (home / f"part{i}").write_bytes(blob[i * 1_000_000:i * 1_000_000 + 10_000_000])
    (home / "small").write_text("small\n")
    # Started by root it changes the workers' user, which root without power can only to itself.
    user = "user root;" if node.place.uid == 0 else ""
    conf = node.write(home / "nginx.conf", NGINX.format(home=home, port=port, user=user))
    server = node.spawn(["nginx", "-e", "stderr", "-p", home, "-c", conf], log="nginx")
    python(node, """
        for _ in range(1000):
            if socket().connect_ex(("127.0.0.1", int(sys.argv[1]))) == 0:
                sys.exit(0)
            time.sleep(0.05)
        sys.exit("nginx does not listen")
    """, port, wrapped=False)
    server.port, server.home = port, home
    return server


@pytest.fixture(scope="module")
def nginx(world, blob):
    servers = {node.name: start_nginx(node, blob[0]) for node in (world.a, world.b)}
    yield servers
    for server in servers.values():
        server.stop()


@pytest.mark.parametrize("target", ["name-v4", "name-v6", "v4", "v6"])
@pytest.mark.parametrize("direction", ["a-to-b", "b-to-a"])
def test_curl_fetches_50_mb_from_nginx(world, nginx, blob, direction, target):
    client, server = (world.a, world.b) if direction == "a-to-b" else (world.b, world.a)
    host = {"v4": server.v4, "v6": f"[{server.v6}]"}.get(target, server.name)
    only = [f"-{target[-1]}"]
    out = client.home / "fetched"
    lines = (nginx[server.name].home / "access.log").read_text().count("\n")
    result = client.run(["curl", "-sSg", *only, "--max-time", "100", "-o", out, "-w", "%{remote_ip} %{local_ip}",
                         f"http://{host}:{nginx[server.name].port}/blob"], timeout=110)
    assert hashlib.sha256(out.read_bytes()).hexdigest() == blob[1]
    out.unlink()
    want = (server.v6, client.v6) if target.endswith("6") else (server.v4, client.v4)
    assert tuple(result.stdout.split()) == want
    log = nginx[server.name].home / "access.log"
    wait_until(lambda: log.read_text().count("\n") > lines, 30, "a line for it")
    assert log.read_text().splitlines()[-1].split()[0] == want[1], "nginx logs the peer's mesh address"


def test_curl_keeps_one_connection_for_many_requests(world, nginx):
    url = f"http://{world.b.v4}:{nginx['node-b'].port}/small"
    out = world.a.run(["curl", "-sS", "-w", "%{num_connects} ", *[url] * 50]).stdout
    assert out.count("small\n") == 50
    assert out.replace("small\n", "").split() == ["1"] + ["0"] * 49


def test_twenty_transfers_at_once(world, nginx, blob):
    outs = [world.a.home / f"out{i}" for i in range(20)]
    words = [word for i, out in enumerate(outs) for word in
             ("-o", out, f"http://node-b:{nginx['node-b'].port}/part{i}")]
    world.a.run(["curl", "-sSfZ", "--parallel-max", "20", "--parallel-immediate", *words], timeout=120)
    for i, out in enumerate(outs):
        data = out.read_bytes()
        out.unlink()
        assert data == blob[0][i * 1_000_000:i * 1_000_000 + 10_000_000], f"transfer {i}"


@pytest.fixture(scope="module")
def redis(world):
    port = free_port()
    home = world.b.lab.folder("redis", world.b.place.uid)
    server = world.b.spawn(["redis-server", "--bind", world.b.v4, world.b.v6, "--port", port, "--save", "",
                            "--dir", home, "--protected-mode", "no"], log="redis")
    server.wait_for("Ready to accept connections")
    server.port = port
    yield server
    server.stop()


@pytest.mark.parametrize("target", ["name", "v4", "v6"])
def test_redis_bound_to_the_mesh_address(world, redis, target):
    host = {"name": "node-b", "v4": world.b.v4, "v6": world.b.v6}[target]

    def cli(*words, **options):
        return world.a.run(["redis-cli", "-h", host, "-p", redis.port, *words], **options).stdout
    value = "".join(random.Random(5).choices("abcdefgh", k=3_000_000))
    assert cli("-x", "set", "key", input=value) == "OK\n"
    assert cli("--raw", "get", "key") == value + "\n"
    assert cli("incrby", "n", "5").strip().isdigit()
    address = [word for word in cli("client", "list").split() if word.startswith("addr=")][0][5:]
    assert address.rpartition(":")[0].strip("[]") in (world.a.v4, world.a.v6)


def test_redis_is_reached_by_its_own_node(world, redis):
    out = world.b.run(["redis-cli", "-h", world.b.v4, "-p", redis.port, "ping"]).stdout
    assert out == "PONG\n"


def test_redis_benchmark_completes(world, redis):
    out = world.a.run(["redis-benchmark", "-h", "node-b", "-p", redis.port, "-n", "3000", "-c", "20",
                       "-d", "200", "-t", "set,get,lrange_100", "--csv"], timeout=90).stdout
    assert {line.split(",")[0].strip('"').split()[0] for line in out.splitlines()} >= {"SET", "GET", "LRANGE_100"}


ECHO_SERVER = """
    async def serve(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
    async def main():
        server = await asyncio.start_server(serve, None, 0, family=AF_INET, backlog=1000)
        port = server.sockets[0].getsockname()[1]
        await asyncio.start_server(serve, "::", port, family=AF_INET6, backlog=1000)
        say("ready", port)
        await asyncio.sleep(1000)
    asyncio.run(main())
"""


@pytest.fixture(scope="module")
def echo(world):
    server = python_spawn(world.b, ECHO_SERVER, ready=r"ready (\d+)")
    server.port = int(server.wait_for(r"ready (\d+)").group(1))
    yield server
    server.stop()


def test_two_hundred_asyncio_connections_at_once(world, echo):
    right = python(world.a, """
        async def one(i):
            host = ("node-b", sys.argv[2], sys.argv[3])[i % 3]
            reader, writer = await asyncio.open_connection(host, int(sys.argv[1]))
            sent = random.Random(i).randbytes(20000 + i * 100)
            writer.write(sent)
            got = await reader.readexactly(len(sent))
            writer.write_eof()
            rest = await reader.read()
            writer.close()
            return got == sent and rest == b""
        async def main():
            print(json.dumps(await asyncio.gather(*[one(i) for i in range(200)])))
        asyncio.run(main())
    """, echo.port, world.b.v4, world.b.v6, timeout=90)
    assert right == [True] * 200


def test_a_thousand_connections_one_after_another(world, echo):
    right = python(world.a, """
        right = 0
        for i in range(1000):
            with tcp(sys.argv[2], sys.argv[1]) as s:
                s.sendall(b"%06d" % i)
                right += recv_exactly(s, 6) == b"%06d" % i
        print(right)
    """, echo.port, world.b.v4, timeout=90)
    assert right == 1000


def test_both_directions_at_once(world, echo):
    right = python(world.a, """
        s = tcp("node-b", sys.argv[1])
        sent = random.Random(1).randbytes(20_000_000)
        threading.Thread(target=lambda: (s.sendall(sent), s.shutdown(SHUT_WR))).start()
        print(json.dumps(sha(recv_all(s)) == sha(sent)))
    """, echo.port, timeout=90)
    assert right is True


@pytest.mark.parametrize("family", [4, 6])
def test_socat_over_tcp(world, family):
    port = free_port()
    server = world.b.spawn(["socat", "-d", "-d", f"TCP{family}-LISTEN:{port},fork,reuseaddr", "EXEC:cat"], log="socat")
    server.wait_for("listening on")
    sent = random.Random(family).randbytes(1_000_000)
    host = f"[{world.b.v6}]" if family == 6 else "node-b"
    got = world.a.run(["socat", "-t", "20", "-", f"TCP{family}:{host}:{port}"], input=sent, text=False).stdout
    server.stop()
    assert got == sent


@pytest.mark.parametrize("family", [4, 6])
def test_socat_over_udp(world, family):
    port = free_port()
    server = world.b.spawn(["socat", "-d", "-d", f"UDP{family}-RECVFROM:{port},fork", "EXEC:cat"], log="socat")
    server.wait_for("receiving on")
    host = f"[{world.b.v6}]" if family == 6 else "node-b"
    for patience in ("2", "20"):  # it waits so long in any case
        got = world.a.run(["socat", "-t", patience, "-", f"UDP{family}:{host}:{port}"], input="over udp\n").stdout
        if got:
            break
    server.stop()
    assert got == "over udp\n"


@pytest.mark.parametrize("host", ["name", "v4", "v6"])
def test_nc_over_tcp(world, host):
    port = free_port()
    family = "-6" if host == "v6" else "-4"
    server = world.b.spawn(["nc", "-n", family, "-v", "-N", "-l", port], log="nc")
    server.wait_for("Listening")
    sent = random.Random(host).randbytes(300_000)
    address = {"name": "node-b", "v4": world.b.v4, "v6": world.b.v6}[host]
    world.a.run(["nc", family, "-N", address, port], input=sent, text=False)
    assert server.wait() == 0
    assert sent in server.log.read_bytes()


def test_nc_over_udp(world):
    port = free_port()
    server = world.b.spawn(["nc", "-n", "-4", "-v", "-u", "-l", port], log="nc")
    server.wait_for("Bound")
    world.a.run(["nc", "-4", "-u", "-w", "1", "node-b", port], input="by nc\n")
    server.wait_for("by nc")
    server.stop()


def test_nc_looks_whether_a_port_is_open(world, echo):
    assert world.a.run(["nc", "-z", "node-b", echo.port]).returncode == 0
    assert world.a.run(["nc", "-z", "node-b", free_port()], check=False).returncode == 1


def test_python_http_server_serves_a_file(world):
    home = world.b.lab.folder("http", world.b.place.uid)
    (home / "page").write_text("a page\n")
    port = free_port()
    server = world.b.spawn([PYTHON, "-u", "-m", "http.server", "-d", home, "-b", "::", port], log="http")
    server.wait_for("Serving")
    out = python(world.a, """
        import urllib.request
        print(urllib.request.urlopen(f"http://node-b:{sys.argv[1]}/page", timeout=20).read().decode(), end="")
    """, port)
    server.wait_for(world.a.v4 + "|" + world.a.v6)
    server.stop()
    assert out == "a page\n"


def test_prefork_server_shares_one_listener(world):
    server = python_spawn(world.b, """
        s = listener("0.0.0.0")
        for _ in range(4):
            if os.fork() == 0:
                while True:
                    c, peer = s.accept()
                    if os.fork() == 0:  # and one process a connection
                        c.sendall(json.dumps([os.getppid(), peer[0], recv_exactly(c, 5).decode()]).encode())
                        os._exit(0)
                    c.close()
        say("ready", s.getsockname()[1])
        time.sleep(1000)
    """, ready=r"ready \d+")
    port = server.wait_for(r"ready (\d+)").group(1)
    answers = python(world.a, """
        answers = []
        def one(i):
            with tcp("node-b", sys.argv[1]) as s:
                s.sendall(b"%05d" % i)
                answers.append(json.loads(recv_all(s)))
        threads = [threading.Thread(target=one, args=(i,)) for i in range(40)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        print(json.dumps(answers))
    """, port)
    server.stop()
    assert sorted(answer[2] for answer in answers) == [f"{i:05}" for i in range(40)]
    assert {answer[1] for answer in answers} == {world.a.v4}
