"""paramiko_work.py HOST PORT KEY OWN: a command, SFTP and a forwarded port by paramiko."""
import io
import os
import sys

import paramiko

host, port, key, own = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
with paramiko.SSHClient() as client:
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(host, port, username="mesh", key_filename=key, look_for_keys=False, allow_agent=False, timeout=20)
    seen = client.exec_command("echo $SSH_CONNECTION")[1].read().decode().split()
    assert seen[0] == own, seen
    print("command")
    blob = os.urandom(3_000_000)
    with client.open_sftp() as sftp:
        name = f"{sys.argv[5]}/paramiko"
        sftp.putfo(io.BytesIO(blob), name)
        back = io.BytesIO()
        sftp.getfo(name, back)
        assert back.getvalue() == blob
    print("sftp")
    # Through the server back to its own sshd, at its mesh address.
    channel = client.get_transport().open_channel("direct-tcpip", (seen[2], port), ("127.0.0.1", 0))
    assert channel.recv(4) == b"SSH-"
    print("forwarded")
