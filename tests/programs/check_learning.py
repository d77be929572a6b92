"""More of what training runs on: torch's sharded parts with torchrun's rendezvous, hivemind, Ray's client, Data and Train, LightGBM, Dynamo, DeepSpeed, PaddlePaddle."""
from base import HERE, VENV, check, expect, find, free_port, pip_version, re
from check_clusters import RAY_ENV, ray_start
from check_shells import NEEDS, options, start_sshd


@check("torch-sharded", "torchrun, DTensor, FSDP, distributed checkpoints", "torchrun's rendezvous by c10d and by etcd; a tensor, a net and its checkpoint "
       "in shards on both nodes, by gloo", carries=16_000_000, pip=("torch", "numpy", "python-etcd"), apt=("etcd-server",), programs=("etcd",))
def torch_sharded(pair):
    for number, (client, server, host) in enumerate(pair.ways):
        port, backend = free_port(), ("c10d", "etcd", "etcd", "c10d")[number]
        if backend == "etcd":
            own = f"http://{server.v4}:{port}"
            server.spawn("etcd", "--enable-v2=true", "--data-dir", server.folder("etcd"), "--listen-client-urls", own, "--advertise-client-urls", own,
                         "--listen-peer-urls", f"http://{server.v4}:{free_port()}", log="etcd").wait_for("ready to serve", 30)
        shards = server.folder("shards")  # both nodes are on this machine: a file system they share
        words = [VENV / "bin/torchrun", "--nnodes=2", "--nproc-per-node=1", f"--rdzv-backend={backend}", f"--rdzv-endpoint={host}:{port}",
                 "--rdzv-id=sharded", HERE / "torch_sharded.py", shards]
        running = [side.spawn(*words, env={"OMP_NUM_THREADS": "1"}, log="torchrun") for side in (server, client)]
        for process in running:
            expect(process.wait(150) == 0 and f"sharded {pair.a.v4} {pair.b.v4}" in process.text, f"{backend} at {host}: {process.text[-3000:]}")
    return pip_version("torch")


@check("hivemind", "hivemind", "two find one another by its DHT (p2pd is a Go program: meshrun traces it) and average 2 MB",
       carries=2_000_000, setting="`host_maddrs` with the mesh address", pip=("hivemind",))
def hivemind(pair):
    work = VENV / "bin/python3", HERE / "hivemind_work.py"
    for first, second, _ in list(pair.ways)[::2]:
        running = []
        for side, value in ((first, 1), (second, 3)):
            addresses = running[0].wait_for("addresses (.*) ready", 90).group(1).split() if running else []
            expect(all(f"/ip4/{first.v4}/tcp/" in word for word in addresses), f"its addresses: {addresses}")
            running.append(side.spawn(*work, side.v4, value, *addresses, env={"OMP_NUM_THREADS": "1", "HOME": str(side.folder("hive"))}, log="hive"))
        for process in running:
            process.wait_for("average 2.0 2.0", 120)
        for process in running:
            process.stop()
    return pip_version("hivemind")


@check("ray-more", "Ray client, Data and Train", "`ray://` from either node with a working_dir that is sent along, a shuffle by Ray Data, "
       "a torch all_reduce by Ray Train with a worker on each node", carries=300_000, pip=("ray[default,client,data,train]", "torch", "numpy", "pandas", "pyarrow"))
def ray_more(pair):
    head = f"{pair.a.v4}:6379"
    ray_start(pair.a, "--head", "--port", "6379", "--ray-client-server-port", "10001").wait_for("Ray runtime started", 120)
    ray_start(pair.b, "--address", head).wait_for("Ray runtime started", 120)
    work = (HERE / "ray_more.py").read_text()
    for side, host in ((pair.b, pair.a.v4), (pair.b, pair.a.name), (pair.a, pair.a.v4)):
        folder = side.folder("work")
        side.write(folder / "sent_along.py", f"WORD = {host!r}\n")
        out = side.run(VENV / "bin/python3", side.write(folder / "work.py", work), "client", f"ray://{host}:10001", folder, env=RAY_ENV, timeout=200)
        expect(out.split() == [host, pair.a.v4, pair.b.v4, "sum", "1999999000000"], f"the client on {side.name}: {out}")
    side = pair.a
    for what, wanted in (("data", ["sum", "399980000"]), ("train", ["trained", "3.0", pair.a.v4, pair.b.v4])):
        out = side.run(VENV / "bin/python3", HERE / "ray_more.py", what, head, side.v4, side.folder("runs"), env=RAY_ENV, timeout=300)
        expect(out.split()[-len(wanted):] == wanted, f"{what}: {out}")
    return pip_version("ray")


@check("lightgbm", "LightGBM", "a model of data in two parts: each machine finds itself in the list of both by its mesh address", carries=1_500_000, pip=("lightgbm", "numpy"))
def lightgbm(pair):
    ports = {side: free_port() for side in (pair.a, pair.b)}
    machines = ",".join(f"{side.v4}:{port}" for side, port in ports.items())
    running = [side.spawn(VENV / "bin/python3", HERE / "lightgbm_work.py", machines, port, rank, log="lightgbm")
               for rank, (side, port) in enumerate(ports.items())]
    said = [process.wait_for("trees 5 of .*", 60).group(0) for process in running]
    expect(said[0] == said[1], f"two models: {said}")
    return pip_version("lightgbm")


@check("dynamo", "NVIDIA Dynamo", "a worker on either node, found in the other node's etcd; requests of 300 kB and a streamed answer of 3 MB, by TCP and by NATS",
       carries=6_000_000, pip=("ai-dynamo-runtime", "pydantic"), apt=("etcd-server", "nats-server"), programs=("etcd", "nats-server"))
def dynamo(pair):
    for number, (client, server, host) in enumerate(pair.ways):
        own, nats = f"http://{server.v4}:{free_port()}", free_port()
        serving = [server.spawn("etcd", "--data-dir", server.folder("etcd"), "--listen-client-urls", own, "--advertise-client-urls", own,
                                "--listen-peer-urls", f"http://{server.v4}:{free_port()}"),
                   server.spawn("nats-server", "-a", server.v4, "-p", nats, "-js", "-sd", server.folder("nats"))]
        for process, word in zip(serving, ("ready to serve", "Server is ready")):
            process.wait_for(word, 30)
        env = {"ETCD_ENDPOINTS": own.replace(server.v4, host), "NATS_SERVER": f"nats://{host}:{nats}", "DYN_REQUEST_PLANE": ("tcp", "nats", "nats", "tcp")[number]}
        serving.append(client.python_spawn("dynamo_work.py", "serve", client.v4, venv=True, env=env))
        out = server.python("dynamo_work.py", "ask", venv=True, env=env, timeout=60)
        expect(out.split() == [*(f"{client.v4}:300000:{i}" for i in range(3)), "3000000"], f"a worker on {client.name}, etcd at {host}: {out}")
        for process in reversed(serving):
            process.stop()
    return pip_version("ai-dynamo-runtime")


@check("deepspeed", "DeepSpeed", "its launcher by pdsh over ssh with a hostfile, a rank on each node: a sum of all by gloo", carries=16_000_000, setting="`--master_addr` with the mesh address or name",
       pip=("deepspeed", "torch", "numpy"), apt=("pdsh", "g++", *NEEDS["apt"]), programs=("pdsh", *NEEDS["programs"]))
def deepspeed(pair):
    start_sshd(pair)
    ports = " ".join(f"*\" {host} \"*) port={side.ssh_port};;" for side in (pair.a, pair.b) for host in (side.v4, side.name))
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        home = side.folder("deepspeed")
        words = " ".join(map(str, [find("ssh"), *options(side), "-l", "mesh", "-p", "$port"]))
        side.write(home / "ssh", f'#!/bin/sh\ncase " $* " in {ports} esac\nexec {words} "$@"\n', 0o755)
        env = {"PATH": f"{home}:{VENV / 'bin'}:/usr/bin:/bin", "HOME": str(home), "PDSH_RCMD_TYPE": "ssh", "DS_ACCELERATOR": "cpu"}
        for names in ((side.v4, other.v4), (side.name, other.name)):
            hosts = side.write(home / "hosts", "".join(f"{name} slots=1\n" for name in names))
            out = side.run(VENV / "bin/python3", VENV / "bin/deepspeed", "--hostfile", hosts, "--launcher", "pdsh", "--master_addr", names[0],
                           "--master_port", free_port(), HERE / "deepspeed_work.py", home, env=env, timeout=250)
            expect(out.count(f"summed {side.v4} {other.v4}\n") == 2, f"DeepSpeed of {side.name}, {names}: {out[-2000:]}")
    return pip_version("deepspeed")


@check("paddle", "PaddlePaddle", "paddle.distributed.launch with its rendezvous on either node, a rank on each: a sum of all and a gathering by gloo; each is known by its mesh address",
       carries=12_000_000, setting="`--master` with an address: by it a node knows that the rendezvous is its own", pip=("paddlepaddle",))
def paddle(pair):
    for client, server, host in list(pair.ways)[::2]:
        port, running = free_port(), []
        for rank, side in enumerate((server, client)):
            home = side.folder("paddle")
            words = [VENV / "bin/python3", "-m", "paddle.distributed.launch", "--master", f"{host}:{port}", "--nnodes", 2, "--rank", rank, "--nproc_per_node", 1, "--log_dir", home]
            running.append((home, side.spawn(*words, HERE / "paddle_work.py", log="paddle",
                                             env={"HOME": str(home), "PADDLE_DISTRI_BACKEND": "gloo", "OMP_NUM_THREADS": "1"})))
        for home, process in running:
            status = process.wait(150)
            said = "".join(file.read_text() for file in home.glob("workerlog.*"))
            expect(not status and re.search(fr"summed \[0, 1\] {server.v4}:\d+,{client.v4}:\d+\n", said), f"with its rendezvous at {host}: {said[-1500:]}{process.text[-1500:]}")
    return pip_version("paddlepaddle")
