"""What a network has of services: names, directories, accounts, shares, measurements, logs."""
import json

from base import check, expect, first_version, free_port, re, version_of, wait_until

NAMED = """
    options {{ directory "{home}"; listen-on port {port} {{ {own}; }}; listen-on-v6 port {port} {{ {own6}; }}; pid-file none;
        recursion no; allow-query {{ 100.64.0.0/10; fd7a:115c:a1e0::/48; }}; session-keyfile "{home}/session"; }};
    controls {{ }};
    zone "z.test" {{ {zone} }};
"""
RECORDS = "$TTL 60\n@ SOA ns. host. 1 60 60 60 60\n@ NS ns\nns A 192.0.2.1\n" + "".join(f"h{i} A 192.0.2.{i % 250}\n" for i in range(2000))


@check("bind", "BIND", "TCP and UDP over both families, clients allowed by mesh address, a zone of 2,000 names transferred to the other node", carries=6_000, cheap=True,
       apt=("bind9", "bind9-dnsutils"), programs=("named", "dig"))
def bind(pair):
    port, zones = free_port(), {pair.a: 'type primary; file "zone"; allow-transfer {{ {far}; }};',
                                pair.b: 'type secondary; file "copy"; primaries {{ {far} port {port}; }};'}
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("named")
        side.write(home / "zone", RECORDS)
        conf = NAMED.format(home=home, port=port, own=side.v4, own6=side.v6, zone=zones[side].format(far=other.v4, port=port))
        side.spawn("named", "-g", "-p", port, "-c", side.write(home / "conf", conf)).wait_for(r"\brunning\n", 30)
    for client, server, host in [*pair.ways, (pair.a, pair.b, pair.b.v6), (pair.b, pair.a, pair.a.v6)]:
        for how in ("+notcp", "+tcp"):
            ask = ["dig", f"@{host}", "-p", port, "+short", "+time=5", "+tries=1", how, "h7.z.test"]
            wait_until(lambda: client.run(*ask, check=False) == "192.0.2.7\n", 20, f"an answer from {host} with {how}")
    zone = pair.b.run("dig", f"@{pair.a.v4}", "-p", port, "z.test", "AXFR")
    expect(zone.count("192.0.2.") == 2001, f"a transfer of {zone.count('192.0.2.')} names")
    refused = pair.a.run("dig", f"@{pair.a.v4}", "-p", port, "z.test", "AXFR", check=False)
    expect("Transfer failed" in refused, "a transfer for whom it is not allowed")
    return version_of("named", "-v")


@check("prometheus", "Prometheus, node_exporter", "Go programs (meshrun traces them): each scrapes itself and the other node, by "
       "address and by name",
       carries=30_000, apt=("prometheus", "prometheus-node-exporter", "curl"), programs=("prometheus", "prometheus-node-exporter", "curl"))
def prometheus(pair):
    port, web = free_port(), free_port()
    for side in (pair.a, pair.b):
        side.spawn("prometheus-node-exporter", "--web.listen-address", f":{port}", "--log.level=error")
        side.wait_until_bound(port)
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("prometheus")
        targets = ", ".join(f"'{host}:{port}'" for host in (other.v4, other.name, f"[{other.v6}]", side.v4))
        conf = f"scrape_configs: [{{job_name: n, scrape_interval: 1s, static_configs: [{{targets: [{targets}]}}]}}]\n"
        side.spawn("prometheus", f"--config.file={side.write(home / 'conf', conf)}", f"--storage.tsdb.path={home}/data",
                   f"--web.listen-address={side.v4}:{web}").wait_for("ready to receive", 60)
    for client, _, host in pair.ways:
        url = f"http://{host.replace('node-b', pair.b.v4).replace('node-a', pair.a.v4)}:{web}/api/v1/query?query=sum(up)"
        wait_until(lambda: '"4"]' in client.run("curl", "-sSf", url), 30, f"four targets that are up, at {host}")
    return f"{version_of('prometheus', '--version')}, {version_of('prometheus-node-exporter', '--version')}"


@check("alertmanager", "Alertmanager", "a cluster of two (Go: meshrun traces it) that gossips by UDP and TCP, on the mesh address and on all; a silence set here is known there",
       carries=16_000, setting="`--cluster.advertise-address` with the mesh address where it listens on all", apt=("prometheus-alertmanager", "curl"), programs=("prometheus-alertmanager", "curl"))
def alertmanager(pair):
    for number, (one, two, host) in enumerate(pair.ways):
        web, gossip = free_port(), free_port()
        url = {}
        running = []
        for side, peer in ((two, None), (one, host)):
            home = side.folder("alertmanager")
            conf = side.write(home / "conf", "{route: {receiver: none}, receivers: [{name: none}]}\n")
            words = [f"--cluster.listen-address={'0.0.0.0' if number > 1 else side.v4}:{gossip}"]
            words += [f"--cluster.advertise-address={side.v4}:{gossip}"] if number > 1 else []
            words += [f"--cluster.peer={peer}:{gossip}"] if peer else []
            running.append(side.spawn("prometheus-alertmanager", f"--config.file={conf}", f"--storage.path={home}", f"--web.listen-address={side.v4}:{web}",
                                      "--cluster.settle-timeout=1s", *words))
            running[-1].wait_for("Listening", 40)
            url[side] = f"http://{side.v4}:{web}/api/v2"

        def peers(side):
            return sorted(peer["address"] for peer in json.loads(side.run("curl", "-sSf", f"{url[side]}/status"))["cluster"]["peers"])
        wanted = sorted(f"{side.v4}:{gossip}" for side in (one, two))
        for side in (one, two):
            wait_until(lambda: peers(side) == wanted, 40, f"the cluster as {side.name} sees it")
        silence = {"matchers": [{"name": "word", "value": "x" * 3000, "isRegex": False}], "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z",
                   "createdBy": "mesh", "comment": "none"}
        two.run("curl", "-sSf", f"{url[one]}/silences", "-H", "Content-Type: application/json", "-d", json.dumps(silence))
        wait_until(lambda: "x" * 3000 in one.run("curl", "-sSf", f"{url[two]}/silences"), 40, "the silence on the other node")
        for process in running:
            process.stop()
    return version_of("prometheus-alertmanager", "--version")


SLAPD = """
    include /etc/ldap/schema/core.schema
    modulepath /usr/lib/ldap
    moduleload back_mdb
    pidfile {home}/pid
    argsfile {home}/args
    database mdb
    maxsize 10000000
    suffix dc=mesh
    rootdn cn=admin,dc=mesh
    rootpw word
    directory {home}
    access to * by peername.ip=100.64.0.0%255.192.0.0 read by * none
"""
ENTRY = "dn: dc=mesh\nobjectClass: dcObject\nobjectClass: organization\no: mesh\ndc: mesh\n"


@check("ldap", "OpenLDAP", "a directory on the mesh address that only mesh addresses may read, filled and searched from the other node",
       carries=4_000, apt=("slapd", "ldap-utils"), programs=("slapd", "ldapsearch"))
def ldap(pair):
    port = free_port()
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("ldap")
        conf = side.write(home / "conf", SLAPD.format(home=home))
        side.slapd = side.spawn("slapd", "-h", f"ldap://{side.v4}:{port}", "-f", conf, "-d", "256")
        side.slapd.wait_for("slapd starting", 20)
        other.run("ldapadd", "-x", "-H", f"ldap://{side.v4}:{port}", "-D", "cn=admin,dc=mesh", "-w", "word", input=ENTRY)
    for client, server, host in pair.ways:
        expect("dc: mesh" in client.run("ldapsearch", "-x", "-H", f"ldap://{host}:{port}", "-b", "dc=mesh"), f"nothing found at {host}")
        expect(f"IP={client.v4}:" in server.slapd.text, "the client's address in slapd's log")
    return version_of("slapd", "-VV")


@check("kerberos", "Kerberos (MIT)", "a ticket by UDP and by TCP, the client's mesh address in the KDC's log",
       carries=4_000, apt=("krb5-kdc", "krb5-admin-server", "krb5-user"), programs=("krb5kdc", "kadmin.local", "kinit"))
def kerberos(pair):
    for server, client in ((pair.a, pair.b), (pair.b, pair.a)):
        home, port = server.folder("kdc"), free_port()
        realm = (f"T.TEST = {{\n database_name = {home}/db\n key_stash_file = {home}/stash\n kdc_listen = {server.v4}:{port}\n"
                 f" kdc_tcp_listen = {server.v4}:{port}\n}}\n")
        env = {"KRB5_KDC_PROFILE": str(server.write(home / "kdc.conf", f"[realms]\n{realm}[logging]\nkdc = STDERR\n")),
               "KRB5_CONFIG": str(server.write(home / "krb5.conf", "[libdefaults]\ndefault_realm = T.TEST\n[logging]\nkdc = STDERR\n"))}
        server.bare("kdb5_util", "create", "-s", "-P", "master", "-r", "T.TEST", env=env)
        server.bare("kadmin.local", "-q", "addprinc -pw word user", env=env)
        kdc = server.spawn("krb5kdc", "-n", env=env)
        server.wait_until_bound(port)
        for host in (server.v4, server.name):
            for limit in ("1", "1400"):  # above so many bytes by TCP
                conf = client.write(client.folder("krb") / "conf", "[libdefaults]\ndefault_realm = T.TEST\ndns_lookup_kdc = false\n"
                                    f"udp_preference_limit = {limit}\n[realms]\nT.TEST = {{\n kdc = {host}:{port}\n}}\n")
                client.run("kinit", "-c", client.folder("tickets") / "it", "user", input="word\n", env={"KRB5_CONFIG": str(conf)})
        kdc.wait_for(f"AS_REQ .* {re.escape(client.v4)}: ISSUE")
    return first_version(pair.a.bare("dpkg-query", "-W", "krb5-kdc"))


SMB = """
    [global]
    smb ports = {port}
    interfaces = {own}/10
    bind interfaces only = yes
    private dir = {home}
    lock directory = {home}
    state directory = {home}
    cache directory = {home}
    pid directory = {home}
    ncalrpc dir = {home}/ncalrpc
    guest account = mesh
    map to guest = Bad User
    server role = standalone server
    disable netbios = yes
    load printers = no
    printing = bsd
    [share]
    path = {share}
    guest ok = yes
    read only = no
    hosts allow = 100.64.0.0/10
"""


@check("samba", "Samba", "a share on the mesh interface only, for mesh addresses only; 8 MB there and back by smbclient",
       carries=32_000_000, apt=("samba", "smbclient"), programs=("smbd", "smbclient"))
def samba(pair):
    port = free_port()
    for side in (pair.a, pair.b):
        home, side.share = side.folder("samba"), side.folder("share")
        conf = side.write(home / "conf", SMB.format(port=port, own=side.v4, home=home, share=side.share))
        side.spawn("smbd", "-F", "--no-process-group", "--debug-stdout", "-s", conf)
        side.wait_until_bound(port)
    for client, server, host in pair.ways:
        folder = client.folder("files")
        client.write(folder / "there", "")
        (folder / "there").write_bytes(pair.blob)
        client.run("smbclient", f"//{host}/share", "-p", port, "-N", "-s", "/dev/null", "-c", f"put {folder}/there {host}; get {host} {folder}/back",
                   timeout=60)
        expect((server.share / host).read_bytes() == (folder / "back").read_bytes() == pair.blob, f"another file on //{host}")
    return version_of("smbd", "--version")


RSYSLOG = """
    global(workDirectory="{home}")
    module(load="imtcp")
    module(load="imudp")
    input(type="imtcp" port="{port}" address="{own}")
    input(type="imudp" port="{port}" address="{own}")
    template(name="line" type="string" string="%fromhost-ip% %fromhost% %msg%\\n")
    action(type="omfile" file="{home}/log" template="line")
"""


@check("syslog-snmp", "rsyslog, Net-SNMP", "logs by TCP and UDP with the sender's mesh address and name; an SNMP agent asked by UDP and TCP",
       carries=3_500, apt=("rsyslog", "snmp", "snmpd", "bsdutils"), programs=("rsyslogd", "snmpd", "snmpget", "logger"))
def syslog_snmp(pair):
    port, agent, state = free_port(), free_port(), {"SNMP_PERSISTENT_DIR": "/dev/null"}
    for side in (pair.a, pair.b):
        side.log = side.folder("syslog") / "log"
        conf = side.write(side.log.with_name("conf"), RSYSLOG.format(home=side.log.parent, port=port, own=side.v4))
        side.spawn("rsyslogd", "-n", "-f", conf, "-i", side.log.with_name("pid"))
        conf = side.write(side.folder("snmp") / "conf", f"rocommunity word 100.64.0.0/10\nsysName here-{side.name}\n")
        side.spawn("snmpd", "-f", "-Lo", "-C", "-c", conf, "-p", conf.with_name("pid"), "-I", "-smux", f"udp:{side.v4}:{agent}",
                   f"tcp:{side.v4}:{agent}", env={"SNMP_PERSISTENT_DIR": str(side.folder("state"))})
        side.wait_until_bound(port)
        side.wait_until_bound(agent)
    for client, server, host in pair.ways:
        for flag, how in (("-T", "tcp"), ("-d", "udp")):
            client.run("logger", "-n", host if how == "tcp" else server.v4, "-P", port, flag, f"{how}-{host}")
            line = f"{client.v4} {client.name}.mesh {how}-{host}"
            wait_until(lambda: server.log.exists() and line in server.log.read_text(), 10, f"{line!r} in the log")
            place = f"{how}:{server.v4 if how == 'udp' else host}:{agent}"
            told = client.run("snmpget", "-v2c", "-cword", "-Oqv", place, "1.3.6.1.2.1.1.5.0", env=state)
            expect(f"here-{server.name}" in told, f"the agent says {told}")
    return f"{version_of('rsyslogd', '-v')}, {version_of('snmpget', '-V')}"
