"""What people hand files and streams on with: BitTorrent, magic-wormhole, Unison, iSCSI, PulseAudio, iroh, libp2p, rclone."""
import json
import os
import re
import shutil
import subprocess

from base import CACHE, HERE, VENV, check, expect, find, free_port, pip_version, version_of, wait_until

LIBP2P = CACHE / "libp2p/libp2p_work"
TORRENT = VENV / "bin/python3", HERE / "torrent_work.py"


def blob_in(folder, blob):
    path = folder / "blob"
    path.write_bytes(blob)
    path.chmod(0o644)
    return path


@check("bittorrent", "BitTorrent (libtorrent, opentracker)", "8 MB by TCP and by uTP, found through a tracker by UDP and by HTTP that was told the mesh addresses, and "
       "through the DHT", carries=16_000_000, apt=("opentracker",), pip=("libtorrent",), programs=("opentracker",))
def bittorrent(pair):
    folder = pair.a.folder("torrent")
    hashes = pair.a.run(*TORRENT, "make", blob_in(folder, pair.blob), folder / "x.torrent").split()
    data = (folder / "x.torrent").read_bytes()
    for number, (client, server, host) in enumerate(pair.ways):
        by_udp, by_dht = number % 2 == 0, number == 2
        home, port, own, far = server.folder("tracker"), free_port(), free_port(), free_port()
        conf = f"listen.tcp_udp {server.v4}:{port}\naccess.whitelist {server.write(home / 'white', chr(10).join(hashes) + chr(10))}\n"
        tracker = server.spawn("opentracker", "-f", server.write(home / "conf", conf), log="tracker")
        server.wait_until_bound(port)
        folders = {side: side.folder("share") for side in (client, server)}
        blob_in(folders[server], pair.blob)
        for side, path in folders.items():
            (path / "x.torrent").write_bytes(data)
            (path / "x.torrent").chmod(0o644)
        what = {"utp": by_udp, "dht": by_dht, "tracker": "" if by_dht else f"{'udp' if by_udp else 'http'}://{host}:{port}/announce"}
        seed = server.spawn(*TORRENT, "seed", f"{server.v4}:{far}", folders[server], json.dumps(what), log="seed")
        seed.wait_for("seeding", 60)
        if by_dht:
            what["node"] = [server.v4, far]
        out = client.run(*TORRENT, "fetch", f"{client.v4}:{own}", folders[client], json.dumps(what), timeout=150)
        expect((folders[client] / "blob").read_bytes() == pair.blob, f"the file through {host}")
        expect(f"from {server.v4}" in out, f"the peers: {out}")
        seed.stop()
        tracker.stop()
    return pip_version("libtorrent")


@check("wormhole", "magic-wormhole", "8 MB each way by a code, its mailbox on either node",
       carries=16_000_000, pip=("magic-wormhole", "magic-wormhole-mailbox-server"))
def wormhole(pair):
    port = free_port()
    for side in (pair.a, pair.b):
        home = side.folder("mailbox")
        side.spawn(VENV / "bin/twist", "wormhole-mailbox", "--port", f"tcp:{port}", "--channel-db", home / "channel", "--usage-db", home / "usage",
                   log="mailbox")
        side.wait_until_bound(port, 60)
    for number, (client, server, host) in enumerate(pair.ways):
        words = [VENV / "bin/wormhole", "--relay-url", f"ws://{host}:{port}/v1", "--transit-helper", ""]
        code, folder = f"{number + 1}-some-words", client.folder("got")
        env = {"HOME": str(folder), "LC_ALL": "C.UTF-8"}
        sending = server.spawn(*words, "send", "--code", code, blob_in(server.folder("give"), pair.blob), env=env, log="send")
        client.run(*words, "receive", "--accept-file", "-o", folder / "blob", code, env=env, timeout=120)
        expect((folder / "blob").read_bytes() == pair.blob, f"the file through {host}")
        expect(sending.wait(60) == 0, f"the sender: {sending.text[-1000:]}")
    return pip_version("magic-wormhole")


@check("unison", "Unison", "two trees made equal through its own server", carries=16_000_000, apt=("unison",), programs=("unison",))
def unison(pair):
    port = free_port()
    for side in (pair.a, pair.b):
        side.spawn("unison", "-socket", port, env={"HOME": str(side.folder("unison"))}, log="unison")
        side.wait_until_bound(port)
    for client, server, host in pair.ways:
        here, there = client.folder("tree"), server.folder("tree")
        client.write(here / "word", host)
        blob_in(there, pair.blob)
        client.run("unison", here, f"socket://{host}:{port}/{there}", "-batch", "-auto", "-ui", "text", env={"HOME": str(client.folder("unison"))},
                   timeout=60)
        expect((here / "blob").read_bytes() == pair.blob and (there / "word").read_text() == host, f"the trees through {host}")
    return version_of("unison", "-version")


@check("iscsi", "iSCSI (tgt, libiscsi, QEMU)", "a disk of 7 MB for the other node's mesh address only: found by discovery, whose answer has the mesh "
       "address, and copied out and in", carries=29_000_000, apt=("tgt", "libiscsi-bin", "qemu-utils", "qemu-block-extra"), programs=("tgtd", "iscsi-ls", "qemu-img"))
def iscsi(pair):
    disk, port, number = pair.blob[:7_340_032], free_port(), free_port()
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("disk")
        env = {"TGT_IPC_SOCKET": str(home / "socket")}
        side.file = blob_in(home, disk)
        side.file.chmod(0o666)
        side.spawn("tgtd", "-f", "-C", number, "--iscsi", f"portal={side.v4}:{port}", env=env, log="tgtd")
        side.wait_until_bound(port)
        for words in ("new --mode target -T iqn.2026-11.mesh:disk", f"new --mode logicalunit --lun 1 -b {side.file}", f"bind --mode target -I {other.v4}"):
            side.run("tgtadm", "-C", number, "--lld", "iscsi", "--tid", "1", "--op", *words.split(), env=env)
    for client, server, host in pair.ways:
        found = client.run("iscsi-ls", "-s", f"iscsi://{host}:{port}")
        expect(f"Portal:{server.v4}:{port}" in found and "DIRECT_ACCESS" in found, f"what discovery found: {found}")
        copy, url = client.folder("copy") / "copy", f"iscsi://{host}:{port}/iqn.2026-11.mesh:disk/1"
        client.run("qemu-img", "convert", "-O", "raw", url, copy, timeout=60)
        expect(copy.read_bytes() == disk, f"the disk through {host}")
        disk = disk[1:] + disk[:1]
        copy.write_bytes(disk)
        client.run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", copy, url, timeout=60)
        expect(server.file.read_bytes() == disk, f"the disk written through {host}")
        disk = pair.blob[:7_340_032]
        server.file.write_bytes(disk)
        refused = server.full("iscsi-ls", "-s", f"iscsi://{server.v4}:{port}", check=False)
        expect("DIRECT_ACCESS" not in refused.stdout, "the target is the other node's only")
    return version_of("tgtd", "--version")


@check("pulseaudio", "PulseAudio", "sound played on the other node for its mesh address only, which the server shows", carries=380_000, apt=("pulseaudio", "pulseaudio-utils"),
       programs=("pulseaudio", "pacat"))
def pulseaudio(pair):
    sound = bytes(i % 251 for i in range(192_000))
    for client, server, host in pair.ways:
        port, home = free_port(), server.folder("pulse")
        env = {name: str(home) for name in ("HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH")}
        daemon = server.spawn("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
                              "-L", f"module-native-protocol-tcp port={port} listen={server.v4} auth-ip-acl={client.v4} auth-cookie={home}/cookie",
                              "-L", f"module-pipe-sink file={home}/pipe format=s16le rate=48000 channels=2", env=env, log="pulse")
        server.wait_until_bound(port)
        hearing = server.spawn("cat", home / "pipe", log="heard")
        mine = client.folder("pulse")
        env = {"HOME": str(mine), "XDG_RUNTIME_DIR": str(mine), "PULSE_SERVER": f"tcp:{host}:{port}"}
        (mine / "sound").write_bytes(sound)
        (mine / "sound").chmod(0o644)
        expect(f'"TCP/IP client from {client.v4}:' in client.run("pactl", "list", "clients", env=env), "the client's address")
        client.run("pacat", "--raw", "--format=s16le", "--rate=48000", "--channels=2", mine / "sound", env=env)
        wait_until(lambda: sound in hearing.log.read_bytes(), 30, f"the sound through {host}")
        refused = server.full("pactl", "info", env={**env, "PULSE_SERVER": f"tcp:{server.v4}:{port}"}, check=False)
        expect(refused.returncode, "the server is the other node's only")
        daemon.stop()
        hearing.stop()
    return version_of("pulseaudio", "--version")


@check("iroh", "iroh", "QUIC between two that know one another's keys (Rust): each offers its mesh address among its own, 3 MB there and back, dialled by IPv4 and "
       "by IPv6", carries=12_000_000, pip=("iroh",))
def iroh(pair):
    work = VENV / "bin/python3", HERE / "iroh_work.py"
    for number, (client, server, _) in enumerate(pair.ways):
        serving = server.spawn(*work, "serve", log="iroh")
        key, *offered = serving.wait_for(r"key (.*) key\n", 60).group(1).split()
        four = [place for place in offered if place.startswith(f"{server.v4}:")]
        expect(len(four) == 1, f"iroh of {server.name} offers {offered}")
        six = [f"[{server.v6}]:{place.rpartition(':')[2]}" for place in offered if place.startswith("[::]")]
        # With IPv6 alone they begin there, and may find IPv4 later; what is no mesh address leads nowhere.
        out = client.run(*work, "ask", key, *((four, six)[number % 2] if number < 2 else offered[:-1]), timeout=60)
        expect(out.strip() in four + six, f"iroh from {client.name} took {out}")
        seen = serving.wait_for(r"path (.*) path\n").group(1).split()
        expect(all(place.startswith((f"{client.v4}:", f"[{client.v6}]:")) for place in seen), f"who asked {server.name}: {seen}")
        serving.stop()
    return pip_version("iroh")


def build_libp2p():
    LIBP2P.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / "libp2p_work.go", LIBP2P.parent / "main.go")
    (LIBP2P.parent / "go.mod").write_text("module libp2p_work\n")
    for words in (["get", "github.com/libp2p/go-libp2p@latest"], ["mod", "tidy"], ["build", "-o", LIBP2P, "."]):
        subprocess.run([find("go") or "go", *words], check=True, cwd=LIBP2P.parent, env={**os.environ, "CGO_ENABLED": "0"})


@check("libp2p", "libp2p (go-libp2p)", "a Go program (meshrun traces it): two listen on one port and dial each other from it at once, by IPv4 and by IPv6, on the mesh addresses and on "
       "all; 3 MB there and back; the peers' mesh addresses", carries=24_000_000, programs=(str(LIBP2P),), build=build_libp2p)
def libp2p(pair):
    for number, name in ((4, "address"), (6, "address"), (4, "name"), (6, "name")):
        port, ends = free_port(), []
        for me, far in ((pair.a, pair.b), (pair.b, pair.a)):
            own, all_, theirs = (me.v4, "0.0.0.0", far.v4) if number == 4 else (me.v6, "::", far.v6)
            place = f"/ip{number}/{theirs}" if name == "address" else f"/dns{number}/{far.name}"
            listen = f"/ip{number}/{own if name == 'address' else all_}/tcp/{port}"
            process = me.spawn(LIBP2P, me.name, far.name, listen, log="libp2p", stdin=subprocess.PIPE)
            ends.append((process, f"{place}/tcp/{port}\n", f"/ip{number}/{own}/tcp/", f"/ip{number}/{theirs}/tcp/"))
        for process, *_ in ends:
            process.wait_for("listens.*listens", 60)
        for process, place, *_ in ends:
            process.popen.stdin.write(place.encode())
            process.popen.stdin.flush()
        for process, place, own, theirs in ends:
            process.wait_for("\ndone\n", 90)
            expect("echoed true" in process.text, f"the echo from {place}: {process.text}")
            found = re.findall(r"^connection (\w+) (\S+) (\S+)$", process.text, re.M)
            expect(found and all(local.startswith(own) and far.startswith(theirs) for _, local, far in found), f"the connections: {process.text}")
            # But for an IPv6-only socket on all addresses, see limits.md: libp2p takes another port then.
            mine = [local for way, local, _ in found if way == "Outbound"]
            expect((number, name) == (6, "name") or all(local == f"{own}{port}" for local in mine), f"dialled from another port: {process.text}")
        for process, *_ in ends:
            process.popen.stdin.close()
            process.wait(30)
    told = subprocess.run([find("go") or "go", "version", "-m", LIBP2P], capture_output=True, text=True, check=False).stdout
    version = re.search(r"dep\s+github.com/libp2p/go-libp2p\s+v(\S+)", told)
    return version.group(1) if version else "?"


@check("rclone", "rclone", "a Go program (meshrun traces it): 8 MB from and to its own servers of WebDAV and SFTP", carries=64_000_000, apt=("rclone",), programs=("rclone",))
def rclone(pair):
    for client, server, host in pair.ways:
        home, got = server.folder("rclone"), client.folder("got")
        blob_in(home, pair.blob)
        word = client.bare("rclone", "obscure", "word", env={"HOME": str(got)}).strip()
        for kind in ("webdav", "sftp"):
            port = free_port()
            serving = server.spawn("rclone", "serve", kind, "--addr", f"{server.v4}:{port}", "--user", "mesh", "--pass", "word", home, env={"HOME": str(home)})
            server.wait_until_bound(port, 60)
            where = f"url='http://{host}:{port}',vendor=other" if kind == "webdav" else f"host={host},port={port}"
            far = f":{kind},{where},user=mesh,pass={word}:"
            for source, target in ((f"{far}blob", got / kind), (got / kind, f"{far}{kind}")):
                client.run("rclone", "copyto", source, target, env={"HOME": str(got)}, timeout=90)
            expect((got / kind).read_bytes() == (home / kind).read_bytes() == pair.blob, f"another file by {kind} at {host}")
            serving.stop()
    return version_of("rclone", "version")
