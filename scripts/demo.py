"""The running part of scripts/demo: nodes, programs, table. Needs no privilege."""
import hashlib
import os
import random
import re
import signal
import socket
import sys
import time

from lab import PYTHON, Failure, Lab, free_port, wait_until

LIMIT_S = 240
BLOB_BYTES = 50_000_000

NGINX = """
daemon off;
pid {home}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log {home}/access.log;
    client_body_temp_path {home}/t1; proxy_temp_path {home}/t2; fastcgi_temp_path {home}/t3;
    uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
    sendfile on;
    server {{
        {listen}
        root {home};
    }}
}}
"""

UDP_ECHO = """
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", int(sys.argv[1])))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(65536)
    s.sendto(peer[0].removeprefix("::ffff:").encode().ljust(40) + data, peer)
"""

UDP_ASK = """
import random, socket, sys
host, port = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
sizes, peers = (1, 100, 1200, 1400, 9000, 50000), set()
for size in sizes:
    sent = random.randbytes(size)
    for _ in range(3):
        s.sendto(sent, (host, port))
        try:
            got, _ = s.recvfrom(65536)
            break
        except TimeoutError:
            continue
    else:
        sys.exit(f"no answer to {size} bytes")
    if got[40:] != sent:
        sys.exit(f"{size} bytes came back changed")
    peers.add(got[:40].decode().strip())
print(len(sizes), max(sizes), *peers)
"""


def expect(is_right, text):
    if not is_right:
        raise Failure(text)


def has_loopback_v6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


class Demo:
    def __init__(self, lab):
        self.lab = lab
        self.rows = []
        self.a, self.b = lab.node("node-a", 1), lab.node("node-b", 2)

    def say(self, text):
        print(f"==> {text}", flush=True)

    def start(self):
        self.say("two nodes from two WireGuard files, each with a daemon of its own, on UDP over 127.0.0.1")
        for node, other in ((self.a, self.b), (self.b, self.a)):
            node.write_config([other])
            node.start()
            print(f"    {node.name}  {node.v4}  {node.v6}  udp {node.port}  (meshd, pid {node.daemon.pid})")
        self.say("on node-b: nginx on every address, redis on the mesh addresses, a UDP echo; on node-a: a web "
                 "server\n    on 127.0.0.1 that knows nothing of the mesh")
        self.start_nginx()
        self.start_redis()
        self.udp_port = free_port(socket.SOCK_DGRAM)
        self.b.spawn([PYTHON, "-c", UDP_ECHO, self.udp_port], log="udp-echo").wait_for("ready")
        self.plain_port = free_port()
        (self.a.home / "page").write_text("a page from outside the mesh\n")
        self.a.spawn([PYTHON, "-u", "-m", "http.server", "-b", "127.0.0.1", "-d", self.a.home, self.plain_port],
                     wrapped=False, log="http").wait_for("Serving")

    def start_nginx(self):
        home = self.nginx_home = self.lab.folder("nginx")
        self.web_port = free_port()
        blob = random.Random(1).randbytes(BLOB_BYTES)
        self.digest = hashlib.sha256(blob).hexdigest()
        (home / "blob").write_bytes(blob)
        # Without ::1 there is nowhere an IPv6-only listener could be reached.
        listen = (f"listen 0.0.0.0:{self.web_port}; listen [::]:{self.web_port};" if has_loopback_v6() else
                  f"listen [::]:{self.web_port} ipv6only=off;")
        conf = home / "nginx.conf"
        conf.write_text(NGINX.format(home=home, listen=listen))
        server = self.b.spawn(["nginx", "-e", "stderr", "-p", home, "-c", conf], log="nginx")

        def answers():
            expect(server.popen.poll() is None, f"nginx ended: {server.text}")
            with socket.socket() as s:
                return s.connect_ex(("127.0.0.1", self.web_port)) == 0
        wait_until(answers, 10, "nginx")

    def start_redis(self):
        self.redis_port = free_port()
        server = self.b.spawn(["redis-server", "--bind", self.b.v4, self.b.v6, "--port", self.redis_port,
                               "--save", "", "--dir", self.lab.folder("redis"), "--protected-mode", "no"],
                              log="redis")
        server.wait_for("Ready to accept connections")

    # ---- one function a kind of row; each returns what came back ----

    def ping(self):
        return self.a.ctl("ping", "-c", "1", "node-b").stdout.strip().splitlines()[0]

    def curl(self, host, family, client):
        out = client.home / "fetched"
        url = f"http://{f'[{host}]' if ':' in host else host}:{self.web_port}/blob"
        client.run(["curl", "-sSg", f"-{family}", "--max-time", "40", "-o", out, url], timeout=50)
        data = out.read_bytes()
        out.unlink()
        expect(hashlib.sha256(data).hexdigest() == self.digest, f"{len(data)} bytes, sha256 differs")
        logged = (self.nginx_home / "access.log").read_text().splitlines()[-1].split()[0]
        logged = logged.removeprefix("::ffff:")
        want = [client.v4 if family == 4 else client.v6]
        if client is self.b:  # with two listeners on one port the node's own IPv6 calls reach the IPv4 one
            want.append(client.v4)
        expect(logged in want, f"nginx saw {logged}, not {want[0]}")
        return f"{len(data) // 1_000_000} MB, sha256 the same; nginx saw {logged}"

    def redis(self, host):
        def cli(*words, **options):
            return self.a.run(["redis-cli", "-h", host, "-p", self.redis_port, *words], **options).stdout
        value = hashlib.sha256(host.encode()).hexdigest() * 10000
        cli("-x", "set", "key", input=value)
        expect(cli("--raw", "get", "key") == value + "\n", "another value than was set")
        seen = re.search(r"\baddr=(\S+):\d+", cli("client", "list")).group(1).strip("[]")
        expect(seen in (self.a.v4, self.a.v6), f"redis saw {seen}")
        return f"SET and GET of {len(value) // 1000} kB equal; redis saw {seen}"

    def udp(self, host):
        count, size, *peers = self.a.run([PYTHON, "-c", UDP_ASK, host, self.udp_port]).stdout.split()
        want = self.a.v6 if ":" in host else self.a.v4
        expect(peers == [want], f"the server saw {peers}, not {want}")
        return f"{count} datagrams up to {size} bytes equal; server saw {want}"

    def plain(self):
        out = self.b.run(["curl", "-sS", "--max-time", "20", f"http://node-a:{self.plain_port}/page"]).stdout
        expect(out == "a page from outside the mesh\n", f"got {out!r}")
        return "the page, from a server started without the shim"

    def refused(self):
        result = self.a.run(["curl", "-v", "--max-time", "20", f"http://node-b:{free_port()}/"], check=False)
        expect(result.returncode == 7 and "Connection refused" in result.stderr,
               f"curl ended with {result.returncode}: {result.stderr.strip()}")
        return "Connection refused, from the far side"

    def closed(self):
        self.a.stop()
        begin = time.monotonic()
        result = self.a.run(["curl", "-sS", "--max-time", "20", f"http://{self.b.v4}/"], check=False)
        expect(result.returncode == 7 and time.monotonic() - begin < 2,
               f"curl ended with {result.returncode} after {time.monotonic() - begin:.1f} s")
        return "fails at once; nothing goes to the real network"

    def checks(self):
        a, b = self.a, self.b
        yield "node-a", "meshctl ping -c 1 node-b", self.ping
        for host, family in (("node-b", 4), (b.v4, 4), ("node-b", 6), (b.v6, 6)):
            yield ("node-a", f"curl -{family} http://{f'[{host}]' if ':' in host else host}/blob",
                   lambda h=host, f=family: self.curl(h, f, a))
        for host in ("node-b", b.v4, b.v6):
            yield "node-a", f"redis-cli -h {host}", lambda h=host: self.redis(h)
        for host in (b.v4, b.v6):
            yield "node-a", f"python, UDP to {host}", lambda h=host: self.udp(h)
        for host, family in ((b.v4, 4), (b.v6, 6)):
            yield ("node-b", f"curl its own {f'[{host}]' if ':' in host else host}",
                   lambda h=host, f=family: self.curl(h, f, b))
        yield "node-b", "curl node-a, 127.0.0.1 there", self.plain
        yield "node-a", "curl a closed port of node-b", self.refused
        yield "node-a", "curl node-b, own meshd stopped", self.closed

    def run(self):
        self.say("unmodified programs, with LD_PRELOAD=libmeshwrap.so as all that is special about them")
        checks = list(self.checks())
        for number, (where, what, function) in enumerate(checks, 1):
            print(f"    [{number:2}/{len(checks)}] {where}: {what} ", end="", flush=True)
            begin = time.monotonic()
            try:
                came, verdict = function(), "ok"
            except Failure as failure:
                came, verdict = str(failure), "FAILED"
            took = time.monotonic() - begin
            print(f"... {verdict}, {took:.2f} s", flush=True)
            self.rows.append((where, what, came, verdict, f"{took:.2f} s"))
        return all(row[3] == "ok" for row in self.rows)

    def table(self):
        head = ("where", "what ran", "what came back", "verdict", "time")
        rows = [tuple(cell.splitlines()[0][:78] if cell else "" for cell in row) for row in self.rows]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        print()
        for row in (head, tuple("-" * width for width in widths), *rows):
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        print()
        for row in self.rows:
            if row[3] != "ok":
                print(f"{row[0]}: {row[1]}:\n{row[2]}\n")


def stop(number, _frame):
    """Ends everything by way of the Lab, whatever is being done."""
    for other in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(f"demo: not done after {LIMIT_S} s" if number == signal.SIGALRM else "demo: interrupted")


def main():
    for number in (signal.SIGALRM, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    signal.alarm(LIMIT_S)
    begin = time.monotonic()
    try:
        with Lab() as lab:
            demo = Demo(lab)
            demo.say(f"running as uid {os.geteuid()}, which has no TUN device, no namespace and no capability"
                     if os.geteuid() == 65534 else f"running as uid {os.geteuid()}")
            demo.start()
            is_right = demo.run()
            demo.table()
            for node in lab.nodes:
                node.check_logs()
                if node.daemon.popen.poll() is None:
                    node.stop()
    except Failure as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    right = sum(row[3] == "ok" for row in demo.rows)
    print(f"{right} of {len(demo.rows)} as it should be, {time.monotonic() - begin:.0f} s. "
          f"{'Try scripts/two-nodes to play with them.' if is_right else ''}")
    return 0 if is_right else 1


sys.exit(main())
