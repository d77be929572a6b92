"""Tools that talk TCP, UDP and TLS: iperf3, socat, nc, wget, aria2c, openssl, and the network libraries of other languages."""
import json

from base import PYTHON, check, expect, free_port, pip_version, version_of


def file_server(side, pair, *where):
    """Python's http.server on some address; its port."""
    port, home = free_port(), side.folder("www")
    (home / "blob").write_bytes(pair.blob)
    side.spawn(PYTHON, "-m", "http.server", *where, "-d", home, port, log="http")
    side.wait_for_port(port, side.v4)
    return port


@check("http.server", "python -m http.server, wget, aria2c", "8 MB by wget, and by aria2c with eight connections; `--bind` with a name",
       carries=64_000_000, cheap=True, apt=("wget", "aria2"), programs=("wget", "aria2c"))
def http_server(pair):
    ports = {(side, bind): file_server(side, pair, *bind) for side in (pair.a, pair.b) for bind in ((), ("--bind", side.name))}
    for client, server, host in pair.ways:
        for bind in ((), ("--bind", server.name)):
            url = f"http://{host}:{ports[server, bind]}/blob"
            got = client.folder("got")
            client.run("wget", "-q", "-T", "20", "-t", "1", "-O", got / "wget", url, timeout=60)
            client.run("aria2c", "-q", "--no-conf", "-x", "8", "-s", "8", "-k", "1M", "-d", got, "-o", "aria2", url, timeout=60)
            for name in ("wget", "aria2"):
                expect((got / name).read_bytes() == pair.blob, f"{name} of {url}: not what the server has")
    return f"{version_of('wget', '--version')}, {version_of('aria2c', '--version')}"


@check("iperf3", "iperf3", "TCP, four streams, the reverse, both at once, and UDP without loss", carries=120_000_000, apt=("iperf3",),
       programs=("iperf3",))
def iperf3(pair):
    for client, server, host in pair.ways:
        port = free_port()
        serving = server.spawn("iperf3", "--forceflush", "-s", "-B", server.v4, "-p", port)
        serving.wait_for("Server listening")
        for words in (["-n", "20M"], ["-P", "4", "-n", "20M"], ["-R", "-n", "20M"], ["--bidir", "-t", "1"],
                      ["-u", "-b", "20M", "-t", "1", "-l", "1200"]):
            told = json.loads(client.run("iperf3", "-J", "-c", host, "-p", port, *words, timeout=60))
            ends = told["start"]["connected"][0]
            expect((ends["local_host"], ends["remote_host"]) == (client.v4, server.v4), f"iperf3 sees {ends}")
            received = told["end"].get("sum_received") or told["end"]["sum"]
            expect(received["bytes"] > 1_000_000, f"iperf3 {words}: {received}")
            expect(received.get("lost_packets", 0) == 0, f"iperf3 {words}: {received}")
        serving.stop()
    return version_of("iperf3", "--version")


def heard(process, want, what):
    expect(process.wait(20) == 0 and process.log.read_bytes() == want, f"{what}: not what was sent")


@check("netcat", "nc and socat", "a file and its end through nc, UDP, a scan (-z); socat with fork and exec, as a relay, from a source "
       "port of its own, over IPv6 and UDP", carries=80_000_000, apt=("netcat-openbsd", "socat"), programs=("nc.openbsd", "socat"))
def netcat(pair):
    for client, server, host in pair.ways:
        port, relay, source = free_port(), free_port(), free_port()
        listens = server.spawn("nc.openbsd", "-l", server.v4, port, log="nc")
        server.wait_until_bound(port)
        client.run("nc.openbsd", "-N", host, port, input=pair.blob, text=False, timeout=30)
        heard(listens, pair.blob, "nc")
        server.spawn("socat", f"TCP4-LISTEN:{port},fork,reuseaddr", "EXEC:cat", log="socat")
        server.spawn("socat", f"UDP4-RECVFROM:{port},fork,bind={server.v4}", "EXEC:cat", log="socat")
        server.spawn("socat", f"TCP6-LISTEN:{relay},fork,ipv6only=1", f"TCP4:{server.v4}:{port}", log="socat")
        for wanted in (port, relay):
            server.wait_until_bound(wanted)
        small = pair.blob[:1200]
        client.run("nc.openbsd", "-z", host, port)
        expect(client.full("nc.openbsd", "-z", host, free_port(), check=False).returncode == 1, "a port nobody listens on")
        for way, data in ((f"TCP4:{host}:{port},sourceport={source},reuseaddr", pair.blob), (f"TCP6:[{server.v6}]:{relay}", pair.blob),
                          (f"UDP4:{host}:{port}", small)):
            got = client.run("socat", "-t", "2", "-T", "2", "STDIO" + (",ignoreeof" if way[0] == "U" else ""), way, input=data,
                             text=False, timeout=60, check=way[0] != "U")
            expect(got == data, f"socat by {way}: {len(got)} bytes of {len(data)} came back")
    return version_of("socat", "-V")


@check("openssl", "openssl s_server and s_client", "TLS 1.3 with a certificate for the mesh name, a page fetched with curl, too",
       carries=16_000_000, cheap=True, apt=("openssl", "curl"), programs=("openssl", "curl"))
def openssl(pair):
    for client, server, host in pair.ways:
        port, home = free_port(), server.folder("tls")
        server.bare("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", home / "key",
                    "-out", home / "cert", "-days", "2", "-subj", f"/CN={server.name}",
                    "-addext", f"subjectAltName=DNS:{server.name},IP:{server.v4}")
        (home / "blob").write_bytes(pair.blob)
        serving = server.spawn("sh", "-c", f"cd {home} && exec openssl s_server -accept {server.v4}:{port} -cert cert -key key -WWW",
                               log="s_server")
        serving.wait_for("ACCEPT")
        said = client.run("openssl", "s_client", "-connect", f"{host}:{port}", "-CAfile", home / "cert", "-verify_return_error",
                          "-quiet", "-ign_eof", input="GET /none HTTP/1.0\r\n\r\n")
        expect("Error opening 'none'" in said, f"s_client said {said!r}")
        got = client.run("curl", "-sSf", "--http0.9", "--max-time", "30", "--cacert", home / "cert", f"https://{host}:{port}/blob", text=False)
        expect(got.endswith(pair.blob), "curl by TLS: not what the server has")
        serving.stop()
    return version_of("openssl", "version")


LANGUAGES = {
    "perl": ("""use IO::Socket::INET; use Socket; my ($how, $host, $port) = @ARGV; $| = 1;
        if ($how eq "serve") { my $l = IO::Socket::INET->new(LocalAddr => $host, LocalPort => $port, Listen => 9, ReuseAddr => 1) or die $!;
            print "ready\n"; while (my $c = $l->accept) { my $p = $c->peerhost; print $c "$p\n"; while (read($c, my $d, 65536)) { print $c $d }
            close $c } }
        my $s = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port) or die $!; my $p = <$s>;
        if (!fork) { print $s join("", map { "line $_\n" } 1 .. 50000); $s->flush; shutdown($s, 1); exit }
        my $n = 0; while (<$s>) { die $_ unless $_ eq "line " . ++$n . "\n" } print $s->sockhost, " $p$n\n";""", ["-e"]),
    "ruby": ("""require "socket"; how, host, port = ARGV; $stdout.sync = true
        if how == "serve" then l = TCPServer.new(host, port); puts "ready"
            loop { c = l.accept; c.puts c.peeraddr[3]; while (d = c.read(65536)) do c.write d end; c.close } end
        s = TCPSocket.new(host, port); peer = s.gets; t = Thread.new { (1..50000).each { |i| s.puts "line #{i}" }; s.close_write }
        n = 0; while (l = s.gets) do n += 1; raise l unless l == "line #{n}\n" end; puts "#{s.local_address.ip_address} #{peer}#{n}" """, ["-e"]),
    "php": ("""[$how, $host, $port] = array_slice($argv, -3);
        if ($how == "serve") { $l = stream_socket_server("tcp://$host:$port") or exit(1); echo "ready\n";
            while ($c = stream_socket_accept($l, -1, $peer)) { fwrite($c, explode(":", $peer)[0] . "\n");
                while (($d = fread($c, 65536)) !== "" && $d !== false) fwrite($c, $d); fclose($c); } }
        $s = stream_socket_client("tcp://$host:$port") or exit(1); $peer = fgets($s); $n = 0;
        for ($i = 1; $i <= 500; $i++) { $t = ""; for ($j = 0; $j < 100; $j++) $t .= "line " . ++$m . "\n"; fwrite($s, $t);
            for ($j = 0; $j < 100; $j++) if (fgets($s) !== "line " . ++$n . "\n") exit(2); }
        stream_socket_shutdown($s, STREAM_SHUT_WR); if (fgets($s) !== false) exit(3);
        echo explode(":", stream_socket_get_name($s, false))[0], " $peer$n\n";""", ["-r"]),
}


@check("languages", "Perl, Ruby, PHP", "50,000 lines echoed between two programs of each, by their own socket classes; the ends' addresses",
       carries=6_000_000, apt=("perl", "ruby", "php-cli"), programs=tuple(LANGUAGES))
def languages(pair):
    for language, (text, flags) in LANGUAGES.items():
        end = ["--"] if language == "php" else []
        for client, server, host in pair.ways:
            port = free_port()
            serving = server.spawn(language, *flags, text, *end, "serve", server.v4, port, log=language)
            serving.wait_for("ready")
            out = client.run(language, *flags, text, *end, "ask", host, port, timeout=60)
            expect(out.split() == [client.v4, client.v4, "50000"], f"{language} on {client.name} to {host}: {out}")
            serving.stop()
    return ", ".join(version_of(name, "--version") for name in LANGUAGES)


@check("dns-servers", "dnsmasq, unbound, dig", "answers from the address that was asked (IP_PKTINFO), UDP, TCP and large ones; `--interface=tailscale0`",
       carries=35_000, apt=("dnsmasq-base", "unbound", "bind9-dnsutils"), programs=("dnsmasq", "unbound", "dig"))
def dns_servers(pair):
    ports = {}
    for side in (pair.a, pair.b):
        home = side.folder("dns")
        ports[side] = [free_port() for _ in range(3)]
        words = ["-k", "-R", "-h", "-u", "mesh", "-g", "nogroup", "-x", "", "--log-facility=-", "--address=/word.test/192.0.2.77",
                 f"--txt-record=big.test,{','.join(['x' * 200] * 9)}"]
        side.spawn("dnsmasq", "-p", ports[side][0], *words)
        side.spawn("dnsmasq", "-p", ports[side][1], *words, "--bind-interfaces", "--interface=tailscale0", "--except-interface=lo")
        conf = (f"server:\n directory: {home}\n chroot: ''\n username: ''\n pidfile: ''\n use-syslog: no\n interface: 0.0.0.0\n"
                f" interface-automatic: yes\n port: {ports[side][2]}\n access-control: 100.64.0.0/10 allow\n local-zone: 'test.' static\n"
                " local-data: 'word.test. A 192.0.2.77'\n"
                f" local-data: 'big.test. TXT {' '.join(['x' * 200] * 9)}'\n").replace("'", '"')
        side.spawn("unbound", "-d", "-c", side.write(home / "conf", conf))
        for port in ports[side]:
            side.wait_for_port(port, side.v4)
    for client, server, host in pair.ways:
        for port in ports[server]:
            def dig(*words):
                return client.run("dig", "-4", "+short", "+tries=2", "+time=3", f"@{host}", "-p", port, *words)
            expect(dig("word.test") == dig("+tcp", "word.test") == "192.0.2.77\n", f"dig at {host}, {port}")
            expect(dig("+bufsize=4000", "big.test", "TXT").count("x") == 1800, "a large answer")
            expect(dig("+bufsize=512", "big.test", "TXT").count("x") == 1800, "a large answer, by TCP after UDP")
    return f"{version_of('dnsmasq', '--version')}, {version_of('unbound', '-V')}, {version_of('dig', '-v')}"


@check("ftp", "FTP (pyftpdlib, curl)", "passive and active transfers, which carry addresses in their text", carries=64_000_000, apt=("curl",), programs=("curl",),
       pip=("pyftpdlib",))
def ftp(pair):
    for client, server, host in pair.ways:
        port, home = free_port(), server.folder("ftp")
        (home / "blob").write_bytes(pair.blob)
        serving = server.python_spawn("ftp_work.py", "0.0.0.0", port, home, venv=True)
        for words in ([], ["--disable-epsv"], ["-P", "-"], ["-P", "-", "--disable-eprt"]):
            got = client.run("curl", "-sSf", "-4", "--max-time", "20", *words, f"ftp://{host}:{port}/blob", text=False)
            expect(got == pair.blob, f"curl {words}: not what the server has")
        serving.stop()
    return f"{pip_version('pyftpdlib')}, {version_of('curl', '--version')}"


@check("quic", "QUIC (aioquic)", "1 MB echoed, on a socket for both families, one for IPv4 and one on the mesh address", carries=4_000_000, pip=("aioquic",))
def quic(pair):
    for (client, server, host), address in zip(pair.ways, ("::", "0.0.0.0", "mesh", "::")):
        port, home = free_port(), server.folder("quic")
        server.bare("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", home / "key",
                    "-out", home / "cert", "-days", "2", "-subj", "/CN=mesh")
        serving = server.python_spawn("quic_work.py", "serve", server.v4 if address == "mesh" else address, port, home, venv=True)
        expect(client.python("quic_work.py", "ask", host, port, venv=True, timeout=40) == "echoed\n", f"QUIC to {host}")
        serving.stop()
    return pip_version("aioquic")


@check("squid", "Squid", "a proxy on the mesh address; it finds mesh names by its own resolver", carries=96_000_000, apt=("squid", "curl"), programs=("squid", "curl"))
def squid(pair):
    ports, webs = {}, {}
    for side in (pair.a, pair.b):
        home, ports[side], webs[side] = side.folder("squid"), free_port(), file_server(side, pair)
        conf = (f"http_port {side.v4}:{ports[side]}\nhttp_access allow all\npid_filename none\ncache_log stdio:{home}/log\n"
                f"access_log none\ncache deny all\ncoredump_dir {home}\nnetdb_filename none\nshutdown_lifetime 1 seconds\n")
        side.spawn("squid", "-N", "-f", side.write(home / "conf", conf))
        side.wait_for_port(ports[side], side.v4)
    for client, server, host in pair.ways:
        for target in (client.v4, f"{client.name}.mesh", server.v4, f"{server.name}.mesh"):
            web = webs[client] if target in (client.v4, f"{client.name}.mesh") else webs[server]
            got = client.run("curl", "-sSf", "--max-time", "20", "-x", f"http://{host}:{ports[server]}", "--noproxy", "",
                             f"http://{target}:{web}/blob", text=False)
            expect(got == pair.blob, f"{target} by way of {host}: not what the server has")
    return version_of("squid", "-v")
