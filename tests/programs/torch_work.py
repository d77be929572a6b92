"""What torchrun starts on every node: a sum of 256 MB, and a small net trained on both."""
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()

block = torch.full((64 * 1024 * 1024,), float(rank + 1))
dist.all_reduce(block)
want = float(size * (size + 1) // 2)
assert block.min().item() == want == block.max().item(), (block.min(), block.max(), want)
print("reduced", flush=True)

torch.manual_seed(3)
net = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
net = DistributedDataParallel(net)
learn = torch.optim.SGD(net.parameters(), lr=0.05)
data = torch.Generator().manual_seed(100 + rank)
first = last = None
for _ in range(60):
    x = torch.randn(64, 16, generator=data)
    loss = ((net(x) - x.sum(1, keepdim=True)) ** 2).mean()
    learn.zero_grad()
    loss.backward()
    learn.step()
    first, last = first or loss.item(), loss.item()
assert last < first / 3, f"the loss went from {first} to {last}"
mine = torch.cat([p.detach().flatten() for p in net.parameters()])
everybody = [torch.empty_like(mine) for _ in range(size)]
dist.all_gather(everybody, mine)
assert all(torch.equal(mine, other) for other in everybody), "the replicas are not the same"
dist.destroy_process_group()
print("trained", rank, flush=True)
# torch 2.15 sometimes aborts while a busy machine's interpreter ends ("terminate called without an active
# exception"), on bare loopback, too. Nothing of what is checked here comes after this line.
os._exit(0)
