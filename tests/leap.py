"""Time that passes at once for a daemon, as after a suspend: leap.c, preloaded."""
import struct
import subprocess
from pathlib import Path


class Leap:
    """Daemons that are started with env() live in a later hour, when told so."""

    def __init__(self, lab):
        self.file, self.library = lab.tmp / "leap", lab.tmp / "leap.so"
        self.file.write_bytes(bytes(8))
        subprocess.run(["gcc", "-D_GNU_SOURCE", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", self.library,
                        Path(__file__).with_name("leap.c")], check=True)

    def env(self, awake=False):
        """awake: its machine was, all the time."""
        return {"LD_PRELOAD": str(self.library), "LEAP": str(self.file), "ASAN_OPTIONS": "verify_asan_link_order=0",
                **({"LEAP_AWAKE": "1"} if awake else {})}

    def to(self, hours, *nodes):
        """So many hours after the true time. The nodes notice."""
        with open(self.file, "r+b") as file:  # in place: to read a mapped file that was cut short is fatal
            file.write(struct.pack("q", int(hours * 3600 * 10**9)))
        for node in nodes:
            node.ctl("status")
