"""The real servers of a tailnet, each a process on its wire: Headscale and derper."""
import json
import re
import signal
import subprocess

from peers import PEERS, QUIET
from wire import SERVER

from lab import Place, wait_until

SUFFIX = "mesh.test"


class Server:
    """A program on the wire that may be stopped and started again."""

    def __init__(self, net, name):
        self.net, self.lab, self.name = net, net.lab, name
        self.process = None

    def spawn(self, argv, ready):
        self.process = self.lab.spawn([PEERS / argv[0], *argv[1:]], Place(self.net.wan), QUIET, log=self.name)
        self.process.wait_for(ready, 30)
        return self

    def stop(self, number=signal.SIGTERM):
        self.process.stop(number)


class Relay(Server):
    """derper with a certificate of its own making, which the map pins, and a STUN server."""

    def __init__(self, net, number, port=443):
        super().__init__(net, f"derper{number}")
        self.port = port
        self.region, self.address = 899 + number, f"10.77.0.{number}"
        self.folder = self.lab.folder(self.name)

    def start(self):
        self.spawn(["derper", "-hostname", self.address, "-certmode", "manual", "-certdir", self.folder,
                    "-a", f"{self.address}:{self.port}", "-http-port", "-1", "-c", self.folder / "key.json"],
                   r"derper: serving on")
        return self

    @property
    def pin(self):
        return self.process.wait_for(r'"CertName":"([^"]+)"').group(1)


class Coordinator(Server):
    """Headscale. extra: more of its configuration, in place of the usual, as a dictionary."""

    def __init__(self, net, tls=None, port=8080, extra=None):
        super().__init__(net, f"headscale{port}")
        self.port, self.tls, self.extra = port, tls, extra or {}
        self.url = f"http{'s' if tls else ''}://{SERVER}:{port}"
        self.folder = self.lab.folder(self.name)
        self.config = self.folder / "config.json"

    def write(self, relays):
        # JSON is YAML but for the numbers of the regions, which YAML's reader wants without quotes.
        derp = json.dumps({"regions": {str(r.region): {
            "regionid": r.region, "regioncode": f"lab{r.region - 899}", "regionname": f"Lab {r.region - 899}",
            "nodes": [{"name": f"{r.region}a", "regionid": r.region, "hostname": r.address,
                       "ipv4": r.address, "stunport": 3478, "derpport": 443, "certname": r.pin}]}
            for r in relays}})
        (self.folder / "derp.yaml").write_text(re.sub(r'"(\d+)": ', r"\1: ", derp))
        config = {
            "server_url": self.url, "listen_addr": f"{SERVER}:{self.port}",
            "metrics_listen_addr": f"127.0.0.1:{self.port + 1000}",
            "grpc_listen_addr": f"127.0.0.1:{self.port + 2000}", "grpc_allow_insecure": True,
            "noise": {"private_key_path": str(self.folder / "noise_private.key")},
            "prefixes": {"v4": "100.64.0.0/10", "v6": "fd7a:115c:a1e0::/48", "allocation": "sequential"},
            "derp": {"server": {"enabled": False}, "urls": [], "paths": [str(self.folder / "derp.yaml")],
                     "auto_update_enabled": False},
            "disable_check_updates": True, "ephemeral_node_inactivity_timeout": "30m",
            "database": {"type": "sqlite", "sqlite": {"path": str(self.folder / "db.sqlite"),
                                                      "write_ahead_log": True}},
            "log": {"format": "text", "level": "info"}, "policy": {"mode": "database"},
            "dns": {"magic_dns": True, "base_domain": SUFFIX, "override_local_dns": False,
                    "nameservers": {"global": [], "split": {}}, "search_domains": [], "extra_records": []},
            # The path of a Unix socket is short, the lab's folder is not always.
            "unix_socket": str(self.folder / "hs.sock"), "unix_socket_permission": "0770",
            "logtail": {"enabled": False}, "randomize_client_port": False, **self.extra}
        if self.tls:
            config |= {"tls_cert_path": str(self.tls[0]), "tls_key_path": str(self.tls[1])}
        self.config.write_text(json.dumps(config))
        return self

    def start(self):
        self.spawn(["headscale", "-c", self.config, "serve"], r"listening and serving HTTP on")
        return self

    def __call__(self, *words, check=True):
        """The headscale command; its answer as a value."""
        out = self.lab.run([PEERS / "headscale", "-c", self.config, *words, "-o", "json"],
                           Place(self.net.wan), QUIET, check=check).stdout
        try:
            return json.loads(out)
        except ValueError:
            return out

    def make_user(self):
        wait_until(lambda: isinstance(self("users", "list", check=False), (list, type(None))), 20, self.name)
        self("users", "create", "lab")

    def key(self, *flags, expiration="24h"):
        """A new key: its text. flags: --reusable, --ephemeral, --tags."""
        return self.key_with_id(*flags, expiration=expiration)[0]

    def key_with_id(self, *flags, expiration="24h"):
        made = self("preauthkeys", "create", "--user", "1", "--expiration", expiration, *flags)
        return made["key"], str(made["id"])

    def nodes(self):
        return {node["name"]: node for node in self("nodes", "list") or []}

    def id_of(self, name):
        return str(next(node["id"] for node in self.nodes().values() if node["given_name"] == name))

    def policy(self, policy):
        path = self.folder / "policy.json"
        path.write_text(json.dumps(policy))
        self("policy", "set", "-f", str(path))


def certified(net, name):
    """A second Headscale, with a certificate for a name ("IP:..." or "DNS:...") of a CA of its own. (server, CA)"""
    folder = net.lab.folder("ca")

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key",
            "-out", "ca.pem", "-subj", "/CN=lab CA", "-days", "30", "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "server.key",
            "-out", "server.csr", "-subj", "/CN=headscale")
    (folder / "ext").write_text(f"subjectAltName={name}\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "server.pem", "-days", "30", "-extfile", "ext")
    server = Coordinator(net, tls=(folder / "server.pem", folder / "server.key"), port=8443).write(net.relays)
    server.start().make_user()
    return server, folder / "ca.pem"
