"""Languages whose own libraries have a way of their own to the network."""
from base import HERE, check, expect, free_port, version_of

PASCAL_UNIT = "/usr/lib/x86_64-linux-gnu/fpc/3.2.2/units/x86_64-linux/fcl-net/resolve.ppu"


@check("pascal", "Free Pascal", "programs that call the kernel themselves (meshrun traces them), static and linked with libc: 8 MB echoed, "
       "half-close, a refused connect, both ends' addresses", carries=125_000_000, apt=("fp-compiler", "fp-units-fcl"), programs=("fpc", PASCAL_UNIT))
def pascal(pair):
    programs = {}
    for kind, words in (("static", []), ("dynamic", ["-dLIBC"])):
        programs[kind] = pair.a.folder(f"pascal-{kind}") / "echo"
        pair.a.bare("fpc", "-v0", *words, f"-FU{pair.a.folder('units')}", f"-o{programs[kind]}", HERE / "echo.pas", timeout=120)
    for kind, program in programs.items():
        for client, server, host in pair.ways:
            for bound in (server.v4, "0.0.0.0"):
                port = free_port()
                serving = server.spawn(program, "serve", bound, port, log=f"pascal-{kind}")
                serving.wait_for("ready", 30)
                out = client.run(program, "ask", host, port, timeout=60)
                expect(out == f"{client.v4} {server.v4}\nrefused TRUE\n", f"the {kind} client of {bound} said {out!r}")
                serving.wait_for(f"peer {client.v4} ")
                serving.stop()
    return version_of("fpc", "-iV")
