"""libtorrent: make a torrent, seed it, or fetch it.

torrent_work.py make FILE TORRENT               prints its hashes
torrent_work.py seed|fetch ADDRESS FOLDER JSON  FOLDER has x.torrent; JSON says how peers are found
"""
import json
import sys
import time

import libtorrent


def make(file, torrent):
    files = libtorrent.file_storage()
    libtorrent.add_files(files, file)
    made = libtorrent.create_torrent(files)
    libtorrent.set_piece_hashes(made, file.rpartition("/")[0])
    with open(torrent, "wb") as out:
        out.write(libtorrent.bencode(made.generate()))
    hashes = libtorrent.torrent_info(torrent).info_hashes()
    print(hashes.v1, str(hashes.v2)[:40])


def share(role, own, folder, how):
    session = libtorrent.session({
        "listen_interfaces": own, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False, "enable_dht": how["dht"],
        "dht_bootstrap_nodes": "", "enable_outgoing_tcp": not how["utp"], "enable_incoming_tcp": not how["utp"],
        "enable_outgoing_utp": how["utp"], "enable_incoming_utp": how["utp"], "allow_multiple_connections_per_ip": True})
    if "node" in how:
        session.add_dht_node(tuple(how["node"]))
    wanted = libtorrent.add_torrent_params()
    wanted.ti = libtorrent.torrent_info(f"{folder}/x.torrent")
    wanted.trackers = [how["tracker"]] if how["tracker"] else []
    wanted.save_path = folder
    torrent = session.add_torrent(wanted)
    peers, end = set(), time.monotonic() + 120
    while not torrent.status().is_seeding:
        if time.monotonic() > end:
            sys.exit(f"not done: {torrent.status().progress:.0%}, peers {peers}, trackers {torrent.trackers()}")
        peers |= {peer.ip[0] for peer in torrent.get_peer_info()}
        time.sleep(0.05)
    print("seeding", *(f"from {peer}" for peer in sorted(peers)), flush=True)
    if role == "seed":
        time.sleep(300)


if sys.argv[1] == "make":
    make(*sys.argv[2:])
else:
    share(*sys.argv[1:4], json.loads(sys.argv[4]))
