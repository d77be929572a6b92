"""Web servers and clients: curl, nginx, node, Java, and events that must not be held back."""
import hashlib
import json

from base import HERE, check, expect, free_port, version_of

NGINX = """
    daemon off;
    worker_processes 2;
    pid {home}/nginx.pid;
    error_log stderr;
    events {{ worker_connections 256; }}
    http {{
        access_log {home}/access.log;
        client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
        uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
        sendfile on;
        server {{
            listen {listen}:{port};
            listen [::]:{port} ipv6only=on;
            root {home};
            location /through/ {{ proxy_pass http://{other}:{other_port}/; }}
        }}
    }}
"""


def start_nginx(pair, ports):
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("nginx")
        (home / "blob").write_bytes(pair.blob)
        # One on every address, one on the mesh address only.
        listen = "0.0.0.0" if side is pair.a else side.v4
        conf = side.write(home / "nginx.conf", NGINX.format(home=home, listen=listen, port=ports[side.name],
                                                            other=other.v4, other_port=ports[other.name]))
        side.spawn("nginx", "-e", "stderr", "-p", home, "-c", conf)
        side.www = home
    for side in (pair.a, pair.b):
        side.wait_for_port(ports[side.name], side.v4)


def same(pair, side, url, *words):
    out = side.folder("got") / "got"
    line = side.run("curl", "-sSfg", "--max-time", "60", *words, "-o", out, "-w", "%{remote_ip} %{local_ip}", url)
    expect(out.read_bytes() == pair.blob, f"{url} from {side.name}: not what the server has")
    return line.split()


@check("curl", "curl", "8 MB from nginx, IPv4 and IPv6, and `--interface` with the mesh address", carries=48_000_000, cheap=True,
       apt=("curl", "nginx-light"), programs=("curl", "nginx"))
def curl(pair):
    ports = {side.name: free_port() for side in (pair.a, pair.b)}
    start_nginx(pair, ports)
    for client, server, host in pair.ways:
        url = f"http://{host}:{ports[server.name]}/blob"
        expect(same(pair, client, url, "-4") == [server.v4, client.v4], f"{url}: the ends as curl sees them")
        same(pair, client, url, "-4", "--interface", client.v4)
        expect(same(pair, client, f"http://[{server.v6}]:{ports[server.name]}/blob") == [server.v6, client.v6], "IPv6")
    return version_of("curl", "--version")


@check("nginx", "nginx", "on every address and on the mesh address only, as a proxy of the other node, the clients' mesh "
       "addresses in its log", carries=48_000_000, cheap=True, apt=("curl", "nginx-light"), programs=("curl", "nginx"))
def nginx(pair):
    ports = {side.name: free_port() for side in (pair.a, pair.b)}
    start_nginx(pair, ports)
    for client, server, host in pair.ways:
        same(pair, client, f"http://{host}:{ports[server.name]}/blob", "-4")
        logged = (server.www / "access.log").read_text().splitlines()[-1]
        expect(logged.startswith(client.v4 + " "), f"nginx's log says {logged}")
        same(pair, client, f"http://{host}:{ports[server.name]}/through/blob", "-4")
    return version_of("nginx", "-v")


@check("node", "Node.js http", "a cluster of two workers, 8 MB each way by fetch and by http, names by libc and by c-ares",
       carries=32_000_000, programs=("node",))
def node(pair):
    ports = {}
    for side in (pair.a, pair.b):
        ports[side.name] = free_port()
        side.spawn("node", HERE / "web.js", "serve", "::" if side is pair.a else side.v4,
                   ports[side.name]).wait_for("ready", 60)
    digest = hashlib.sha256(pair.blob).hexdigest()
    for client, server, host in pair.ways:
        file = client.folder("node") / "blob"
        file.write_bytes(pair.blob)
        file.chmod(0o644)
        got = json.loads(client.run("node", HERE / "web.js", "ask", host, ports[server.name], file, timeout=60))
        expect(got["fetch"] == got["http"] == [digest, client.v4], f"{client.name} to {host}: {got}")
        expect(host == server.v4 or got["cares"] == [server.v4], f"dns.resolve4({host}) says {got}")
    return version_of("node", "--version")


@check("java", "Java NIO", "a selector server on the mesh address, NIO, Socket and HttpClient as clients, 8 MB echoed",
       carries=96_000_000, programs=("java", "javac"))
def java(pair):
    classes = pair.a.folder("java")
    pair.a.bare("javac", "-d", classes, HERE / "Mesh.java", timeout=120)
    ports = {}
    for side in (pair.a, pair.b):
        ports[side.name] = free_port()
        side.spawn("java", "-Xmx256m", "-cp", classes, "Mesh", "serve", side.v4 if side is pair.a else "0.0.0.0",
                   ports[side.name], ports[side.name] + 1).wait_for("ready", 60)
    for client, server, host in pair.ways:
        out = client.run("java", "-Xmx256m", "-cp", classes, "Mesh", "ask", host, ports[server.name], ports[server.name] + 1,
                         timeout=120)
        expect(out.split() == ["nio", client.v4, "socket", client.v4, "http", client.v4], f"{client.name} to {host}: {out}")
    return version_of("java", "-version")


@check("sse", "server-sent events", "one event each 0.1 s arrives when it was sent, by curl and by Python", carries=8_000, cheap=True,
       apt=("curl",), programs=("curl",))
def sse(pair):
    for client, server, host in pair.ways:
        port = free_port()
        serving = server.python_spawn("events.py", "serve", server.v4, port)
        for way in ("python", "curl"):
            out = client.python("events.py", way, host, port, timeout=60)
            expect(out.split() == ["10", "in", "time"], f"{way} on {client.name}: {out}")
        serving.stop()
    return version_of("curl", "--version")


@check("busybox", "busybox tools", "wget from httpd, nc and telnet, static: meshrun traces them", carries=16_000_000, cheap=True,
       apt=("busybox-static",), programs=("busybox",))
def busybox(pair):
    for client, server, host in pair.ways:
        port, home = free_port(), server.folder("httpd")
        (home / "blob").write_bytes(pair.blob)
        serving = server.spawn("busybox", "httpd", "-f", "-p", port, "-h", home, log="httpd")
        server.wait_for_port(port, server.v4)
        out = client.folder("wget") / "got"
        client.run("busybox", "wget", "-q", "-O", out, f"http://{host}:{port}/blob", timeout=60)
        expect(out.read_bytes() == pair.blob, f"busybox wget from {host}: not what the server has")
        said = client.run("busybox", "nc", host, port, input="GET /none HTTP/1.0\r\n\r\n")
        expect("404" in said, f"busybox nc said {said!r}")
        serving.stop()
    return version_of("busybox")
