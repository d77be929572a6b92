"""What scripts/bench measures: pairs of nodes, each kind brought up in its own namespaces.

A System is a client, a server and the daemons between them. Its programs are the same on all kinds;
a peer without a TUN is reached through its SOCKS5 proxy, by socksify.c. What is missing on this
machine is told and left out.
"""
import base64
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/interop"), str(ROOT / "tests/e2e")]
from lab import Failure, Lab, Place, WireGuardGo, wait_until  # noqa: E402

PORT = 5201
FLOWS = 5000
MANY_FLOWS = 20000  # more than the daemon may have open files where their limit is usual
MANY_PEERS = 5000


def machine_seconds():
    """What all processors did but idle, wait for disks or for the hypervisor."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_seconds(pid):
    """What a process' threads that live ran so far, to the nanosecond."""
    return sum(int(stat.read_text().split()[0]) for stat in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def rss_mb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) / 1024


class Tools:
    """The programs that make load, built for this run."""

    def __init__(self, lab):
        self.load, self.socksify, self.floor = (lab.tmp / name for name in ("load", "socksify.so", "floor"))
        here = ROOT / "tests/bench"
        cc = ["cc", "-O2", "-D_GNU_SOURCE", "-pthread"]
        subprocess.run([*cc, "-o", self.load, here / "load.c"], check=True)
        subprocess.run([*cc, "-shared", "-fPIC", "-o", self.socksify, here / "socksify.c"], check=True)
        subprocess.run([*cc, "-I", ROOT, "-o", self.floor, here / "floor.c", *(ROOT / "daemon/crypto").glob("aead*.c"),
                        "-lcrypto", "-lgcrypt", "-lsodium"], check=True)


class System:
    """Something to measure. daemons: (client's, server's); neither on bare loopback."""

    def __init__(self, name, tools, client, server, address, nodes=(), listen=None, env=None, restart=None):
        self.name, self.tools, self.client, self.node = name, tools, client, server
        self.address, self.nodes, self.env = address, nodes, env or {}
        self.listen, self.restart = listen or address, restart
        time.sleep(1)  # what only the start needed is given back
        self.idle_mb = max((rss_mb(pid) for pid in self.pids), default=None)
        server.spawn([tools.load, "serve", self.listen, PORT], log="load").wait_for("ready")
        self.has_redis = False

    @property
    def pids(self):
        return [node.daemon.pid for node in self.nodes]

    def daemon_seconds(self):
        return sum(cpu_seconds(pid) for pid in self.pids)

    def load(self, kind, number, seconds):
        out = self.client.run([self.tools.load, kind, self.address, PORT, seconds, number], env=self.env,
                              timeout=seconds * 4 + 30)
        return json.loads(out.stdout)

    def measure(self, kind, number, seconds):
        daemon, machine = self.daemon_seconds(), machine_seconds()
        result = self.load(kind, number, seconds)
        daemon, machine = self.daemon_seconds() - daemon, machine_seconds() - machine
        data = result.get("bytes") or result.get("datagrams", 0) * 1200
        if "bytes" in result:
            result["gbit_s"] = data * 8 / result["seconds"] / 1e9
        if "connects" in result:
            result["per_s"] = result["connects"] / result["seconds"]
        if "datagrams" in result:
            result["kpps"] = result["datagrams"] / result["seconds"] / 1e3
        if data:
            result["machine_s_gb"] = machine / data * 1e9
            if self.nodes:
                result["daemon_s_gb"] = daemon / data * 1e9
        return result

    def lossless(self, seconds=0.6):
        """The highest rate of 1,200-byte datagrams at which at most one in a thousand is lost."""
        def passes(rate):
            result = self.load("paced", int(rate), seconds)
            # A sender that could not keep the rate has not shown it.
            return (result["datagrams"] >= 0.999 * result["sent"]
                    and result["sent"] >= 0.95 * rate * result["seconds"])
        good, rate = 0, 10000
        while rate < 400000 and passes(rate):
            good, rate = rate, rate * 1.5
        for _ in range(2):
            middle = (good + rate) / 2
            good, rate = (middle, rate) if passes(middle) else (good, middle)
        return {"kpps": good / 1e3}

    def redis(self, pipeline, count):
        """SET requests a second of 50 clients."""
        if not self.has_redis:
            self.node.spawn(["redis-server", "--bind", self.listen, "--port", 6379, "--save", "", "--appendonly",
                             "no", "--protected-mode", "no"], log="redis").wait_for("Ready to accept")
            self.has_redis = True
        out = self.client.run(["redis-benchmark", "-h", self.address, "-t", "set", "-n", count, "-c", 50,
                               "-P", pipeline, "--csv"], env=self.env, timeout=60).stdout
        return {"per_s": float(re.search(r'^"SET","([\d.]+)"', out, re.MULTILINE).group(1))}

    def idle_flows(self, count, ports):
        """Memory of the bigger daemon while so many connections, which all carried a byte, stand idle."""
        processes = [self.client.spawn([self.tools.load, "idle", self.address, port, 60, count // len(ports)],
                                       env=self.env, log="idle") for port in ports]
        for process in processes:
            process.wait_for('"flows"', 90)
        result = {"rss_mb": max(rss_mb(pid) for pid in self.pids)}
        self.load("ask", 1, 0.1)  # a new one still works
        for process in processes:
            process.stop()
        return result

    def flows(self):
        return self.idle_flows(FLOWS, [PORT])

    def many_flows(self):
        """With far more; two programs on each side have them, whose files are limited, too."""
        self.node.spawn([self.tools.load, "serve", self.listen, PORT + 1], log="load").wait_for("ready")
        return self.idle_flows(MANY_FLOWS, [PORT, PORT + 1])

    def idle_cpu(self, settle=3, seconds=5):
        """Percent of a core that the busier daemon takes while nothing happens, and nothing just did."""
        time.sleep(settle)
        before = [run_seconds(pid) for pid in self.pids]
        time.sleep(seconds)
        return {"percent": max(run_seconds(pid) - b for pid, b in zip(self.pids, before)) / seconds * 100}

    def large(self, length=60000):
        """Percent of long datagrams that arrive."""
        result = self.load("large", length, 0.5)
        return {"percent": 100 * result["datagrams"] / result["sent"]}

    def connect(self):
        """What connect() takes beyond a question and its answer: a round trip is in both."""
        return {"us": self.load("connect", 1, 0.7)["p50_us"] - self.load("ask", 1, 0.5)["p50_us"]}

    def packets(self):
        """Through the client's interface, both ways."""
        line = self.client.run(["grep", "eth0:", "/proc/net/dev"]).stdout.split(":")[1].split()
        return int(line[1]) + int(line[9])

    def round(self, flows, seconds=1.5):
        """Both daemons' CPU for a packet, of questions and answers of which each next is another flow's."""
        process = self.client.spawn([self.tools.load, "round", self.address, PORT, seconds, flows], env=self.env,
                                    log="round")
        process.wait_for('"opened"', 60)
        spent, packets = sum(map(run_seconds, self.pids)), self.packets()
        process.wait_for('"asks"', 60)
        spent, packets = sum(map(run_seconds, self.pids)) - spent, self.packets() - packets
        process.stop()
        return {"us": spent / packets * 1e6}

    def first_byte(self):
        """The client's daemon from nothing until the server's first byte."""
        self.nodes[0].daemon.stop()
        begun = time.monotonic()
        self.restart()
        self.client.run([self.tools.load, "first", self.address, PORT, 30, 1], env=self.env, timeout=40)
        return {"seconds": time.monotonic() - begun}


class Bare:
    """Programs in a namespace, with nothing special about them."""

    def __init__(self, lab, place):
        self.lab, self.place = lab, place

    def run(self, argv, **options):
        return self.lab.run(argv, self.place, **options)

    def spawn(self, argv, **options):
        return self.lab.spawn(argv, self.place, **options)


class Stranger:
    """A peer that is never there. Any 32 bytes are a key to everybody but its owner."""

    def __init__(self, number):
        self.name, self.host = f"stranger-{number}", None
        self.public = base64.b64encode(os.urandom(31) + b"\x40").decode()
        self.v4, self.v6 = f"100.64.{number >> 8}.{number & 255}", f"fd7a:115c:a1e0::{number:x}"


def make_files(lab, tools, mtu, name="meshwrap", peers=2, workers=None):
    """peers: of the whole mesh; those beyond the pair are never there. workers: as meshd's option."""
    spaces = [lab.namespace(f"m{side}") for side in "ab"]
    lab.link(*spaces)
    nodes = [lab.node(f"node-{side}", i, Place(space), f"192.0.2.{i}", mtu=mtu)
             for i, (side, space) in enumerate(zip("ab", spaces), 1)]
    others = [Stranger(number) for number in range(3, peers + 1)]
    for node, other in (nodes, reversed(nodes)):
        node.write_config([other, *others])
        node.start(env={"MESHWRAP_WORKERS": str(workers)} if workers else None)
    return System(name, tools, *nodes, nodes[1].v4, nodes, restart=nodes[0].start)


def make_wireguard(lab, tools, mtu):
    if not WireGuardGo.program():
        print("wireguard-go is missing, left out: scripts/deps test, or tests/peers/build for a newer one")
        return None
    spaces = [lab.namespace(f"w{side}") for side in "ab"]
    lab.link(*spaces)
    nodes = [WireGuardGo(lab, f"wg{side}", i, space, f"192.0.2.{i}", mtu=mtu)
             for i, (side, space) in enumerate(zip("ab", spaces), 1)]
    for node, other in (nodes, reversed(nodes)):
        node.start([other])
    version = subprocess.run([WireGuardGo.program(), "--version"], capture_output=True, text=True, check=False)
    print(f"wireguard-go: {WireGuardGo.program()}, {version.stdout.split(chr(10))[0].split()[-1]}")
    return System("wireguard-go", tools, *nodes, nodes[1].v4, nodes,
                  restart=lambda: nodes[0].start([nodes[1]]))


def make_loopback(lab, tools):
    place = Bare(lab, Place(lab.namespace("lo")))
    return System("loopback", tools, place, place, "127.0.0.1")


class Tailnets:
    """Headscale and a relay, and on them a pair of ours and two of tailscaled's."""

    NAMES = {"ours": "meshwrap tailnet", "tun": "tailscaled TUN", "userspace": "tailscaled userspace"}

    def __init__(self, lab, tools, is_wanted):
        import tailnet
        import worlds
        self.lab, self.tools, self.tailnet, self.nft = lab, tools, tailnet, worlds.nft
        self.net = tailnet.Tailnet(lab)
        self.systems = [self.make(kind) for kind, name in self.NAMES.items() if is_wanted(name)]

    @staticmethod
    def missing():
        try:
            import peers
        except ImportError as error:
            return str(error)
        return peers.missing()

    def make(self, kind):
        sites = [self.tailnet.Site(self.net, "plain") for _ in "ab"]
        nodes = [self.node(kind, site, f"{kind}-{side}") for side, site in zip("ab", sites)]
        for node in nodes:
            node.begin(key=self.net.reusable)
        for node in nodes:
            node.wait_running()
        nodes[0].wait_peer(nodes[1].v4, timeout=30)
        self.warm(nodes)
        wait_until(lambda: self.is_direct(nodes), 40, f"{kind}: no direct path")
        client, server = nodes
        env = {"LD_PRELOAD": str(self.tools.socksify)} if kind == "userspace" else {}

        def restart():
            client.again()
            if kind == "ours":
                client.wait_running()
        return System(self.NAMES[kind], self.tools, client, server, server.v4, nodes,
                      listen=server.v4 if kind == "ours" else "0.0.0.0", env=env, restart=restart)

    def node(self, kind, site, name):
        node = self.net.make(kind, site, name)
        node.place = Place(site.space)  # as all others here run
        return node

    @staticmethod
    def warm(nodes):
        nodes[0].ping(nodes[1].v4, "-c", "5", check=False)

    @staticmethod
    def is_direct(nodes):
        return bool((nodes[0].peer(nodes[1].v4) or {}).get("CurAddr"))

    def block_udp(self):
        """From now on the relay is the only way."""
        for system in self.systems:
            for node in system.nodes:
                self.nft(self.lab, node.site.space, """
                    table ip block {
                        chain out {
                            type filter hook output priority 0;
                            oifname "eth0" meta l4proto udp drop
                        }
                    }""")
        for system in self.systems:
            def is_relayed(system=system):
                system.load("ask", 1, 0.1)
                return not self.is_direct(system.nodes)
            wait_until(is_relayed, 60, f"{system.name}: not by relay")

    def unblock_udp(self):
        for system in self.systems:
            for node in system.nodes:
                self.nft(self.lab, node.site.space, "delete table ip block")

    def relay_seconds(self):
        return sum(cpu_seconds(relay.process.pid) for relay in self.net.relays)
