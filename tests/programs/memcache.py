"""memcache.py HOST PORT: stores and reads a value over TCP, reads it over UDP."""
import os
import socket
import sys

host, port = sys.argv[1], int(sys.argv[2])
value = os.urandom(450_000).hex().encode()

tcp = socket.create_connection((host, port), 60)
tcp.sendall(b"set big 0 0 %d\r\n%s\r\n" % (len(value), value))
answers = tcp.makefile("rb")
assert answers.readline() == b"STORED\r\n"
tcp.sendall(b"get big\r\n")
assert answers.readline() == b"VALUE big 0 %d\r\n" % len(value)
assert answers.read(len(value)) == value
assert answers.readline() + answers.readline() == b"\r\nEND\r\n"
tcp.sendall(b"set small 0 0 5\r\nsmall\r\n")
assert answers.readline() == b"STORED\r\n"
print("tcp")

udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(20)
udp.connect((host, port))
udp.send(b"\0\7\0\0\0\1\0\0get small\r\n")
assert udp.recv(2000) == b"\0\7\0\0\0\1\0\0VALUE small 0 5\r\nsmall\r\nEND\r\n"
print("udp")
