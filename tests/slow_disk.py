"""A disk that is slow when a test wants it, for daemons that are started with env(): slow_disk.c, preloaded."""
import subprocess
from pathlib import Path


class SlowDisk:
    def __init__(self, lab):
        folder = lab.folder("slow-disk")
        self.file, self.library = folder / "ms", folder / "slow_disk.so"
        self.takes(0)
        subprocess.run(["gcc", "-D_GNU_SOURCE", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", self.library,
                        Path(__file__).with_name("slow_disk.c")], check=True)

    def env(self):
        return {"LD_PRELOAD": str(self.library), "SLOW_DISK": str(self.file), "ASAN_OPTIONS": "verify_asan_link_order=0"}

    def takes(self, seconds):
        """So long for each fsync() from now on."""
        self.file.write_text(f"{seconds * 1000:.0f}")
