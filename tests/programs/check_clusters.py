"""Clusters: Ray, torch.distributed, Dask."""
import json
import os
import signal

from lab import shown

from base import HERE, PYTHON, VENV, check, expect, find, free_port, pip_version, version_of, wait_until
from check_shells import NEEDS, options, start_sshd

RAY_ENV = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_DISABLE_MEMORY_MONITOR": "1", "OMP_NUM_THREADS": "1"}
MPI_H = f"/usr/lib/{os.uname().machine}-linux-gnu/openmpi/include/mpi.h"
RAY_SIZES = ["--num-cpus", "2", "--object-store-memory", "400000000", "--block"]


def ray_start(side, *words):
    temp = side.folder("ray")
    return side.spawn("ray", "start", *words, "--temp-dir", temp, *RAY_SIZES, log="ray", env=RAY_ENV)


def ray_work(side, head, *wanted):
    out = side.python("ray_work.py", head, side.v4, *wanted, venv=True, env=RAY_ENV, timeout=240)
    expect(out.split() == ["nodes", "tasks", "actors", "objects"], f"the driver on {side.name}: {out}")


def alive(side, head):
    code = ("import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False);"
            " print(*sorted(n['NodeManagerAddress'] for n in ray.nodes() if n['Alive']))")
    return side.run(VENV / "bin/python3", "-c", code, head, env=RAY_ENV, timeout=90).split()


def dashboard(side, host, path):
    return json.loads(side.run("curl", "-sSf", "--max-time", "20", f"http://{host}:8265{path}"))


def dashboard_nodes(side, host):
    """The addresses of the nodes that it shows."""
    return {n["raylet"]["nodeManagerAddress"] for n in dashboard(side, host, "/nodes?view=summary")["data"]["summary"]}


def submit(side, host):
    """A job by the dashboard's address, and its output."""
    out = side.run("ray", "job", "submit", "--address", f"http://{host}:8265", "--", VENV / "bin/python3", "-c",
                   "import ray; ray.init(); print('sum', sum(ray.get([ray.remote(lambda i: i * i).remote(i)"
                   " for i in range(5)])))", env=RAY_ENV, timeout=180)
    expect("sum 30" in out and "succeeded" in out, f"ray job submit said: {out[-1500:]}")


def tree(pid):
    """This process and all it has started, youngest last."""
    found = [pid]
    for parent in found:
        for task in os.listdir(f"/proc/{parent}/task") if os.path.exists(f"/proc/{parent}/task") else []:
            with open(f"/proc/{parent}/task/{task}/children", encoding="ascii") as children:
                found += [int(word) for word in children.read().split()]
    return found


@check("ray", "Ray", "two nodes, tasks and actors on both, 100 MB objects each way, a node lost and rejoined, the "
       "dashboard and `ray job submit` over the mesh, workers keep the shim", carries=300_000_000, pip=("ray[default]", "numpy"),
       programs=("curl",))
def ray(pair):
    a, b = pair.a, pair.b
    head = f"{a.v4}:6379"
    ray_start(a, "--head", "--port", "6379").wait_for(r"Ray runtime started", 90)
    worker = ray_start(b, "--address", head)
    worker.wait_for(r"Ray runtime started", 90)
    for side in (a, b):
        ray_work(side, head, a.v4, b.v4)
    for host in (a.v4, a.name):
        expect("ray_version" in dashboard(b, host, "/api/version"), "the dashboard's version")
        submit(b, host)
    expect(dashboard_nodes(b, a.v4) == {a.v4, b.v4}, f"the dashboard shows {dashboard_nodes(b, a.v4)}")
    for pid in reversed(tree(worker.pid)):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_until(lambda: alive(a, head) == [a.v4], 120, "Ray notices that a node was lost")
    ray_start(b, "--address", head).wait_for(r"Ray runtime started", 90)
    ray_work(b, head, a.v4, b.v4)
    return pip_version("ray")


@check("ray-alone", "Ray in one container", "`ray.init()` by itself, and `ray start --head` with a driver: tasks, actors, a 100 MB object; "
       "the node has the mesh address; its dashboard, asked by the other node", carries=3_000, pip=("ray[default]", "numpy"), programs=("curl",))
def ray_alone(pair):
    for words, side in ((["start"], pair.a), ([], pair.b)):
        if words:
            ray_start(side, "--head", "--port", "6379").wait_for(r"Ray runtime started", 90)
        out = side.python("ray_work.py", f"{side.v4}:6379" if words else "local", side.v4, side.v4, venv=True, timeout=240,
                          env={**RAY_ENV, "RAY_TMPDIR": str(side.folder("ray"))})
        expect(out.split() == ["nodes", "tasks", "actors", "objects"], f"the driver on {side.name}: {out}")
    for host in (pair.a.v4, pair.a.name):
        expect(dashboard_nodes(pair.b, host) == {pair.a.v4}, f"the dashboard of {host} shows {dashboard_nodes(pair.b, host)}")
    return pip_version("ray")


def torchrun(pair, **env):
    """One run on both nodes; what failed is in the exception."""
    port = free_port()
    words = ["torchrun", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-id", "7", "--rdzv-backend", "c10d",
             "--rdzv-endpoint", f"{pair.a.v4}:{port}", HERE / "torch_work.py"]
    env = {"OMP_NUM_THREADS": "1", "TORCHELASTIC_ERROR_FILE": "/dev/null", **env}
    running = [side.spawn(*words, log="torchrun", env=env) for side in (pair.a, pair.b)]
    # Where one fails the other waits for it for minutes, and only the one that failed says why.
    wait_until(lambda: [p for p in running if p.popen.poll()] or all(p.popen.poll() == 0 for p in running), 240,
               "torchrun on both nodes")
    for process in sorted(running, key=lambda p: not p.popen.poll()):
        status = process.wait()
        expect(status == 0 and "reduced" in process.text and "trained" in process.text,
               f"torchrun with {env}, on {shown(process.argv)}, ended with {status}: {process.text[-3000:]}")


@check("torch", "torch.distributed (gloo)", "torchrun with a mesh rendezvous, all_reduce of 256 MB, DDP of a small net, "
       "with and without GLOO_SOCKET_IFNAME=tailscale0", carries=500_000_000, pip=("torch", "numpy"))
def torch(pair):
    torchrun(pair, GLOO_SOCKET_IFNAME="tailscale0")
    torchrun(pair)
    return pip_version("torch")


@check("torch-rpc", "torch.distributed.rpc (TensorPipe), gloo groups", "remote calls both ways with 16 MB, a group by `tcp://`, by address and by name",
       carries=380_000_000, pip=("torch", "numpy"))
def torch_rpc(pair):
    for first, second in ((pair.a, pair.b), (pair.b, pair.a)):
        for host in (first.v4, first.name):
            env = {"MASTER_ADDR": host, "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
            running = [side.spawn(VENV / "bin/python3", HERE / "torch_rpc.py", rank, env=env) for rank, side in enumerate((first, second))]
            for process in running:
                expect(process.wait(90) == 0 and "grouped" in process.text, f"with {host} as master: {process.text[-3000:]}")
    return pip_version("torch")


@check("nccl", "NCCL's bootstrap", "the interface NCCL finds by itself among those named, IPv4 and IPv6, and its listener reached "
       "from the other node (no GPU needed for this much)", carries=1_300, setting="NCCL_SOCKET_IFNAME=tailscale0", pip=("nvidia-nccl-cu13",))
def nccl(pair):
    library = next(VENV.glob("lib/python3*/site-packages/nvidia/nccl/lib/libnccl.so.2"))
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        for family, address in (("AF_INET", side.v4), ("AF_INET6", side.v6)):
            env = {"NCCL_SOCKET_FAMILY": family, "NCCL_SOCKET_IFNAME": "tailscale0"}
            listens = side.spawn(PYTHON, HERE / "nccl_work.py", library, env=env, log="nccl").wait_for(r"listens (\S+) (\d+)\n")
            expect(listens[1] == address, f"NCCL of {side.name} takes {listens[1]}")
            other.wait_for_port(listens[2], address)
    return pip_version("nvidia-nccl-cu13")


@check("mpi", "Open MPI", "mpirun over ssh, two ranks a node, 8 MB round the ring and a sum of all, over the mesh interface",
       carries=32_000_000, setting="`--mca btl_tcp_if_include tailscale0 --mca oob_tcp_if_include tailscale0`", apt=("openmpi-bin", "libopenmpi-dev", *NEEDS["apt"]),
       programs=("mpirun.openmpi", MPI_H, *NEEDS["programs"]))
def mpi(pair):
    start_sshd(pair)
    ring = pair.a.folder("ring") / "ring"
    pair.a.bare("mpicc", "-O1", "-o", ring, HERE / "ring.c", timeout=60)
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        for names in ((side.v4, other.v4), (side.name, other.name)):
            agent = " ".join(map(str, [find("ssh"), *options(side), "-l", "mesh", "-p", other.ssh_port]))
            words = ["--host", ",".join(f"{name}:2" for name in names), "-np", "4", "--mca", "plm_rsh_agent", agent, "--oversubscribe",
                     "--mca", "btl", "tcp,self", "--mca", "btl_tcp_if_include", "tailscale0", "--mca", "oob_tcp_if_include", "tailscale0"]
            out = side.run("mpirun.openmpi", *words, ring, timeout=60, env={"OMPI_MCA_orte_tmpdir_base": str(side.folder("mpi"))})
            expect(out == "ring of 4\n", f"mpirun on {side.name} said {out!r}")
    return version_of("mpirun.openmpi", "--version")
