"""At a distance: terminals, desktops, disks, shared folders, relays, proxies, and what measures a network."""
import random

from base import PYTHON, check, expect, find, first_version, free_port, re, version_of, wait_until
from check_tools import file_server


@check("mosh", "mosh", "a session by UDP, typed into and read on a terminal", carries=1_500, cheap=True, apt=("mosh",), programs=("mosh-server", "mosh-client"))
def mosh(pair):
    port, terminal = free_port(), {"LC_ALL": "C.UTF-8", "TERM": "xterm"}
    for client, server, _ in pair.ways:  # mosh-client takes addresses; the name is ssh's affair
        said = server.full("mosh-server", "new", "-i", server.v4, "-p", f"{port}:{port + 9}", "--", "sh", "-c", "read x; echo got-$x; sleep 1",
                           env=terminal).stdout
        place, key = re.search(r"MOSH CONNECT (\d+) (\S+)", said).groups()
        out = client.python("type_into.py", "word\n", "got-word", find("mosh-client"), server.v4, place, env={**terminal, "MOSH_KEY": key})
        expect(out == "seen\n", f"mosh to {server.name}: {out}")
    return version_of("mosh-server", "--version")


@check("vnc", "TigerVNC, websockify", "a screen fetched by VNC and through a WebSocket, as noVNC does; the client's mesh address",
       carries=500_000, apt=("tigervnc-standalone-server", "python3-websockify"), programs=("Xvnc", "websockify"))
def vnc(pair):
    for display, (client, server, host) in enumerate(pair.ways, 70):
        port, web = free_port(), free_port()
        screen = server.spawn("Xvnc", f":{display}", "-rfbport", port, "-SecurityTypes", "None", "-localhost=0", "-geometry", "320x200", "-nolisten", "local")
        server.wait_until_bound(port)
        server.spawn("websockify", f"{server.v4}:{web}", f"localhost:{port}")
        server.wait_until_bound(web)
        out = client.python("vnc_work.py", host, port, server.v4, web, timeout=60)
        expect(out.split() == ["320x200", "screen", "websocket"], f"VNC to {host}: {out}")
        seen = {client.v4, client.v6} if host == server.name else {client.v4}
        expect(any(f"accepted: {address}::" in screen.text for address in seen), f"the client's address: {screen.text[-500:]}")
        screen.stop()
    return version_of("Xvnc", "-version")


@check("nbd", "nbdkit, QEMU", "a disk of 7 MB served by nbdkit and by qemu-nbd, read by qemu-img and nbdcopy",
       carries=44_000_000, apt=("nbdkit", "libnbd-bin", "qemu-utils"), programs=("nbdkit", "nbdcopy", "qemu-img", "qemu-nbd"))
def nbd(pair):
    disk = pair.blob[:7 << 20]
    for client, server, host in pair.ways:
        port, other = free_port(), free_port()
        image, got = server.folder("disk") / "image", client.folder("disk")
        image.write_bytes(disk)
        image.chmod(0o444)
        server.spawn("nbdkit", "-f", "-r", "-i", server.v4, "-p", port, "file", image)
        server.spawn("qemu-nbd", "-t", "-r", "-b", server.v4, "-p", other, "-f", "raw", image)
        for ready in (port, other):
            server.wait_until_bound(ready)
        client.run("nbdcopy", f"nbd://{host}:{port}", got / "nbdcopy", timeout=60)
        for number in (port, other):
            client.run("qemu-img", "convert", "-f", "raw", "-O", "raw", f"nbd://{host}:{number}", got / f"{number}", timeout=60)
        for file in got.iterdir():
            expect(file.read_bytes() == disk, f"{file.name}: another disk")
    return f"{version_of('nbdkit', '--version')}, {version_of('qemu-img', '--version')}"


SYNCTHING = """
    <configuration version="35"><folder id="f" path="{share}" rescanIntervalS="2" fsWatcherEnabled="false">
      <device id="{own_id}"/><device id="{far_id}"/></folder>
      <device id="{own_id}"><address>dynamic</address></device>
      <device id="{far_id}"><address>{how}://{far}:{port}</address></device>
      <gui enabled="true"><address>{own}:{gui}</address><apikey>word</apikey></gui>
      <options><listenAddress>{how}://{own}:{port}</listenAddress><globalAnnounceEnabled>false</globalAnnounceEnabled>
      <localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled>
      <startBrowser>false</startBrowser><urAccepted>-1</urAccepted><autoUpgradeIntervalH>0</autoUpgradeIntervalH>
      <crashReportingEnabled>false</crashReportingEnabled><reconnectionIntervalS>3</reconnectionIntervalS></options></configuration>
"""


@check("syncthing", "Syncthing", "a Go program (meshrun traces it): 8 MB each way, by TCP and by QUIC", 
       carries=16_000_000, apt=("syncthing", "curl"), programs=("syncthing", "curl"))
def syncthing(pair):
    sides = ((pair.a, pair.b), (pair.b, pair.a))
    ids = {}
    for side, _ in sides:
        side.sync = side.folder("syncthing")
        side.bare("syncthing", "-generate", side.sync, timeout=60)
        ids[side] = side.bare("syncthing", "-home", side.sync, "-device-id").strip()
    for how in ("tcp", "quic"):
        port, gui, running = free_port(), free_port(), []
        for side, other in sides:
            side.share = side.folder("share")
            (side.share / ".stfolder").mkdir()
            # What a node has in any file it does not fetch again.
            side.content = random.Random(f"{how} {side.name}").randbytes(8_000_000)
            (side.share / f"of-{side.name}").write_bytes(side.content)
            side.write(side.sync / "config.xml", SYNCTHING.format(
                share=side.share, own_id=ids[side], far_id=ids[other], how=how, far=other.name, own=side.v4, port=port, gui=gui), 0o600)
            running.append(side.spawn("syncthing", "-home", side.sync, "-no-browser", "-no-restart"))
        for side, other in sides:
            there = side.share / f"of-{other.name}"
            wait_until(lambda: there.exists() and there.read_bytes() == other.content, 90, f"{there.name} on {side.name} by {how}")
            for host in (other.v4, other.name):
                told = side.run("curl", "-4sSf", "-H", "X-API-Key: word", f"http://{host}:{gui}/rest/system/connections")
                expect(f'"address": "{side.v4}:' in told, f"the address of {side.name}: {told}")
        for process in running:
            process.stop()
    return version_of("syncthing", "--version")


@check("coturn", "coturn", "a TURN server on the mesh address relays UDP for clients by UDP and TCP, to a peer on the other node",
       carries=50_000, apt=("coturn",), programs=("turnserver", "turnutils_uclient", "turnutils_peer"))
def coturn(pair):
    for client, server, host in pair.ways:
        port, peer = free_port(), free_port()
        serving = server.spawn("turnserver", "-L", server.v4, "-E", server.v4, "-p", port, "-n", "--no-cli", "-a", "-r", "mesh", "-u", "user:word", "--no-tls",
                               "--no-dtls", "-l", "stdout", "--allow-loopback-peers", "--userdb", server.folder("turn") / "db")
        server.wait_until_bound(port)
        client.spawn("turnutils_peer", "-L", client.v4, "-p", peer)
        client.wait_until_bound(peer)
        for flags in ([], ["-t"]):
            place = host if flags else server.v4  # UDP to a name may go to an IPv6 address, where it does not listen
            out = client.run("turnutils_uclient", *flags, "-u", "user", "-w", "word", "-p", port, "-e", client.v4, "-r", peer, "-n", "5", "-m", "2",
                             "-c", place, timeout=60)
            expect("Total lost packets 0 " in out, f"relayed by {host} with {flags}: {out[-600:]}")
        serving.stop()
    return first_version(pair.a.bare("dpkg-query", "-W", "coturn"))


APACHE = """
    ServerRoot {home}
    ServerName {name}
    PidFile {home}/pid
    Listen {port}
    LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
    LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
    LoadModule authz_host_module /usr/lib/apache2/modules/mod_authz_host.so
    ErrorLog {home}/errors
    LogFormat "%a %h" ends
    CustomLog {home}/log ends
    HostnameLookups On
    DocumentRoot {home}
    Mutex file:{home}
    <Directory {home}>
        Require ip 100.64.0.0/10 fd7a:115c:a1e0::/48
    </Directory>
"""


@check("apache", "Apache, ab, wrk, hey", "pages for mesh addresses only, the client's address and name in the log; 20 clients at once, "
       "IPv4 and IPv6",
       carries=4_000_000, apt=("apache2", "apache2-utils", "wrk", "hey", "curl"), programs=("apache2", "ab", "wrk", "hey", "curl"))
def apache(pair):
    port = free_port()
    for side in (pair.a, pair.b):
        side.www = side.folder("apache")
        (side.www / "page").write_bytes(b"x" * 1000)
        conf = side.write(side.www / "conf", APACHE.format(home=side.www, name=side.name, port=port))
        side.spawn("apache2", "-D", "FOREGROUND", "-f", conf)
        side.wait_until_bound(port)
    for client, server, host in [*pair.ways, (pair.a, pair.b, f"[{pair.b.v6}]"), (pair.b, pair.a, f"[{pair.a.v6}]")]:
        url = f"http://{host}:{port}/page"
        for flags in ([], ["-k"]):
            out = client.run("ab", "-q", *flags, "-n", "500", "-c", "20", url, timeout=60)
            expect(re.search(r"Complete requests: +500\nFailed requests: +0\n", out) and "Non-2xx" not in out, f"ab {flags} {url}: {out}")
        out = client.run("hey", "-n", "500", "-c", "20", url, timeout=60)
        expect("[200]\t500 responses" in out, f"hey {url}: {out}")
        out = client.run("wrk", "-t1", "-c20", "-d1s", url, timeout=60)
        expect("Requests/sec" in out and "Non-2xx" not in out and "Socket errors" not in out, f"wrk {url}: {out}")
        ends = set((server.www / "log").read_text().split("\n"))
        expect(ends <= {"", f"{client.v4} {client.name}.mesh", f"{client.v6} {client.name}.mesh"}, f"the log of {server.name}: {ends}")
    return version_of("apache2", "-v")


@check("measure", "iperf, sockperf, qperf, nmap", "streams and datagrams of iperf 2, latencies by UDP and TCP, open and closed ports found",
       carries=20_000_000, apt=("iperf", "sockperf", "qperf", "nmap"), programs=("iperf", "sockperf", "qperf", "nmap"))
def measure(pair):
    for client, server, host in pair.ways:
        port, own = free_port(), []
        for flags in ([], ["-u"]):
            own.append(server.spawn("iperf", "-s", *flags, "-p", port, "-B", server.v4, "-y", "C"))
        own.append(server.spawn("qperf", "--listen_port", port + 1))
        server.wait_until_bound(port)
        server.wait_until_bound(port + 1)
        client.run("iperf", "-c", host, "-p", port, "-n", "10M", "-P", "2", timeout=60)
        out = client.run("iperf", "-u", "-c", host, "-p", port, "-b", "10M", "-t", "1", timeout=60)
        expect(re.search(r" 0/\d+ \(0%\)", out), f"iperf -u: {out}")
        wait_until(lambda: f",{client.v4}," in own[0].text, 10, "the client's address in iperf's lines")
        out = client.run("qperf", "--listen_port", port + 1, "-t", "1", host, "tcp_bw", "tcp_lat", "udp_lat", timeout=60)
        expect(out.count(" = ") == 3, f"qperf: {out}")
        out = client.run("nmap", "-n", "-Pn", "-sT", "-p", f"{port},{port + 3}", host, timeout=60)
        expect(re.search(rf"{port}/tcp +open", out) and re.search(rf"{port + 3}/tcp +closed", out), f"nmap: {out}")
        for flags in ([], ["--tcp"]):
            serving = server.spawn("sockperf", "server", "-i", server.v4, "-p", port + 2, *flags)
            server.wait_until_bound(port + 2)
            out = client.run("sockperf", "ping-pong", "-i", server.v4, "-p", port + 2, "-t", "1", *flags, timeout=60)
            expect("avg-latency" in out, f"sockperf {flags}: {out}")
            serving.stop()
        for process in own:
            process.stop()
    return f"{version_of('iperf', '-v')}, {version_of('sockperf', '--version')}, {version_of('nmap', '--version')}"


DANTE = """
    logoutput: stderr
    internal: {own} port = {port}
    external: tailscale0
    clientmethod: none
    socksmethod: none
    user.unprivileged: mesh
    client pass {{ from: 100.64.0.0/10 to: 0.0.0.0/0 }}
    socks pass {{ from: 100.64.0.0/10 to: 0.0.0.0/0 }}
"""


@check("relays", "Dante, Tinyproxy, stunnel, Varnish", "8 MB through a SOCKS server that goes out by the mesh "
       "interface, an HTTP proxy, a TLS tunnel and a cache",
       carries=100_000_000, apt=("dante-server", "tinyproxy", "stunnel4", "varnish", "curl", "openssl"),
       programs=("danted", "tinyproxy", "stunnel4", "varnishd", "curl", "openssl"))
def relays(pair):
    ports = {}
    for side in (pair.a, pair.b):
        socks, http, tls, _ = ports[side] = [free_port() for _ in range(4)]
        home = side.folder("relays")
        side.web = file_server(side, pair)
        side.bare("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", home / "key",
                  "-out", home / "cert", "-days", "2", "-subj", "/CN=mesh")
        side.spawn("danted", "-f", side.write(home / "dante", DANTE.format(own=side.v4, port=socks)), "-p", home / "pid")
        conf = f"Port {http}\nListen {side.v4}\nAllow 100.64.0.0/10\nTimeout 60\nMaxClients 20\n"
        side.spawn("tinyproxy", "-d", "-c", side.write(home / "tiny", conf))
        conf = f"foreground = yes\npid =\n[x]\naccept = {side.v4}:{tls}\nconnect = 127.0.0.1:{side.web}\ncert = {home}/cert\nkey = {home}/key\n"
        side.spawn("stunnel4", side.write(home / "stunnel", conf))
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        cache = ports[side][3]
        vcl = side.write(side.folder("varnish") / "vcl", f'vcl 4.1;\nbackend far {{ .host = "{other.v4}"; .port = "{other.web}"; }}\n'
                         "sub vcl_deliver { set resp.http.peer = client.ip; }\n")
        side.spawn("varnishd", "-F", "-f", vcl, "-a", f"{side.v4}:{cache}", "-n", side.folder("varnish-work"), "-s", "malloc,32m", "-j", "none")
        for port in ports[side]:
            side.wait_until_bound(port, 30)
    for client, server, host in pair.ways:
        socks, http, tls, cache = ports[server]
        page = f"http://{client.name}:{client.web}/blob"
        for words in (["-x", f"socks5h://{host}:{socks}", page], ["-x", f"http://{host}:{http}", page], ["-k", f"https://{host}:{tls}/blob"],
                      [f"http://{host}:{cache}/blob"]):
            got = client.run("curl", "-4sSf", "--max-time", "30", *words, text=False, timeout=60)
            expect(got == pair.blob, f"curl {words}: {len(got)} bytes")
        head = client.run("curl", "-4sSf", "-o", "/dev/null", "-D", "-", f"http://{host}:{cache}/blob")
        expect(f"peer: {client.v4}" in head, f"Varnish says {head}")
    others = [version_of(*words) for words in (("tinyproxy", "-v"), ("stunnel4", "-version"), ("varnishd", "-V"))]
    return ", ".join((first_version(pair.a.bare("dpkg-query", "-W", "dante-server")), *others))


FRONTS = (["tini", "-s", "--"], ["dumb-init"], ["setpriv", "--nnp"], ["setsid", "-w"], ["nice"], ["timeout", "60"], ["stdbuf", "-oL"],
          ["env", "-i"], ["busybox", "sh", "-c", '"$@"', "x"], ["bash", "-lc", '"$@"', "x"], ["s6-setsid"], ["flock", "/dev/null"],
          ["time"], ["taskset", "1"], ["prlimit", "-n64"])


@check("fronts", "tini, dumb-init, s6 and other fronts", "a server behind each of fifteen programs that start another one: "
       "init, env -i, shells, static ones too", carries=4_000, cheap=True,
       apt=("tini", "dumb-init", "s6", "busybox-static", "time", "netcat-openbsd"), programs=("tini", "dumb-init", "s6-setsid", "busybox", "time"))
def fronts(pair):
    code = ("import socket, sys; l = socket.create_server((sys.argv[1], int(sys.argv[2]))); c, a = l.accept();"
            " c.sendall(f'{a[0]} {c.getsockname()[0]}'.encode()); c.close()")
    for number, front in enumerate(FRONTS):
        client, server, host = list(pair.ways)[number % 4]
        port = free_port()
        serving = server.spawn(*front, PYTHON, "-c", code, server.v4, port, log=front[0])
        server.wait_until_bound(port)
        out = client.run("nc.openbsd", "-4", "-N", host, port, input="")
        expect(out == f"{client.v4} {server.v4}", f"behind {front}: {out}")
        expect(serving.wait() == 0, f"{front} ended with {serving.wait()}")
    return f"{version_of('tini', '--version')}, {version_of('dumb-init', '--version')}"
