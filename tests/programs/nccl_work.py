"""nccl_work.py LIBNCCL: NCCL's own search for an interface, without a GPU. Prints the address that it would give its peers.

ncclGetUniqueId() starts the bootstrap's listener; the id is 8 bytes of magic and the listener's socket address.
"""
import ctypes
import socket
import sys
import time

nccl = ctypes.CDLL(sys.argv[1])
unique = ctypes.create_string_buffer(128)
status = nccl.ncclGetUniqueId(unique)
assert status == 0, f"ncclGetUniqueId gave {status}"
family = int.from_bytes(unique.raw[8:10], sys.byteorder)
where = slice(12, 16) if family == socket.AF_INET else slice(16, 32)
print("listens", socket.inet_ntop(family, unique.raw[where]), int.from_bytes(unique.raw[10:12], "big"), flush=True)
time.sleep(60)
