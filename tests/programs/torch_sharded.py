"""torch's tensors, modules and checkpoints that are spread over the ranks: DTensor, FSDP, DCP, by gloo. torch_sharded.py FOLDER"""
import os
import socket
import sys

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size(),))

whole = torch.arange(1_000_000)
parts = distribute_tensor(whole, mesh, [Shard(0)])
assert parts.to_local().numel() == whole.numel() // dist.get_world_size()
assert torch.equal(parts.full_tensor(), whole)

torch.manual_seed(1)
alone = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 8))
torch.manual_seed(1)
shared = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 8))
fully_shard(shared, mesh=mesh)
for net in (alone, shared):
    steps = torch.optim.SGD(net.parameters(), lr=0.01)
    net(torch.ones(4, 512)).sum().backward()
    steps.step()
assert torch.allclose(shared[0].weight.full_tensor(), alone[0].weight, atol=1e-5)

dcp.save({"net": shared.state_dict()}, checkpoint_id=sys.argv[1])
learnt = shared[2].weight.full_tensor().clone()
with torch.no_grad():
    shared[2].weight.zero_()
state = shared.state_dict()
dcp.load({"net": state}, checkpoint_id=sys.argv[1])
shared.load_state_dict(state)
assert torch.equal(shared[2].weight.full_tensor(), learnt)

hosts = [None] * dist.get_world_size()
dist.all_gather_object(hosts, socket.gethostbyname(socket.gethostname()))
print("sharded", *sorted(hosts), os.environ["MASTER_ADDR"], flush=True)
dist.barrier()
dist.destroy_process_group()
