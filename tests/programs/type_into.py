"""Runs a program on a terminal of its own, types into it, and prints "seen" when an answer has come.

usage: type_into.py TEXT WANTED PROGRAM ARG...
"""
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

text, wanted, *words = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.execv(words[0], words)
shown, end, typed = b"", time.monotonic() + 60, False
while wanted.encode() not in shown and time.monotonic() < end:
    if select.select([terminal], [], [], 0.5)[0]:
        shown += os.read(terminal, 4096)
    elif not typed:  # it has become quiet
        os.write(terminal, text.encode())
        typed = True
print("seen" if wanted.encode() in shown else shown)
