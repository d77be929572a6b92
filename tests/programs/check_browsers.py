"""Browsers: Chromium and Firefox."""
from base import check, expect, free_port, re, version_of

# A browser hides its addresses from a page behind names of mDNS, which no mesh carries, unless it is told not to.
FIREFOX = """
    user_pref("media.peerconnection.ice.obfuscate_host_addresses", false);
    user_pref("browser.shell.checkDefaultBrowser", false);
"""


def chromium(side, url):
    home = side.folder("chromium")
    return side.spawn("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={home / 'data'}",
                      "--remote-debugging-port=0", "--disable-features=WebRtcHideLocalIpsWithMdns", url, env={"HOME": str(home)})


def firefox(side, url):
    home = side.folder("firefox")
    side.write(home / "user.js", FIREFOX)
    return side.spawn("firefox-esr", "--headless", "--no-remote", "--profile", home, url, env={"HOME": str(home)})


@check("browsers", "Chromium, Firefox", "a page, 3 MB fetched and posted, a WebSocket; WebRTC's data channel between the two by their mesh addresses",
       carries=44_000_000, setting="`--no-sandbox` for Chromium, as in any container; for WebRTC `--disable-features=WebRtcHideLocalIpsWithMdns`, "
       "`media.peerconnection.ice.obfuscate_host_addresses`", apt=("chromium", "firefox-esr"), pip=("aiohttp",), programs=("chromium", "firefox-esr"))
def browsers(pair):
    ports, serving = {}, {}
    for side in (pair.a, pair.b):
        ports[side.name] = free_port()
        # One on every address, one on the mesh address only.
        serving[side.name] = side.python_spawn("browser_work.py", "serve", "0.0.0.0,::" if side is pair.a else side.v4, ports[side.name], venv=True)
    for client, server, host in pair.ways:
        for start in (chromium, firefox):
            name = f"{start.__name__}-{host}"
            browser = start(client, f"http://{host}:{ports[server.name]}/?name={name}")
            said = serving[server.name].wait_for(f"{re.escape(name)} (.*)", 120).group(1)
            expect(said in [f"{own} page 3000000 true true" for own in (client.v4, client.v6)], f"{name}: {said}")
            browser.stop()
    for offers, answers, host in list(pair.ways)[1::2]:
        name = f"call-{host}"
        url = f"http://{host}:{ports[answers.name]}/?name={name}&role="
        called = [firefox(answers, url + "answer"), chromium(offers, url + "offer")]
        said = serving[answers.name].wait_for(f"{name} (.*)", 120).group(1)
        ends = [f"{getattr(offers, family)} joined {getattr(offers, way)} {getattr(answers, way)}." for family in ("v4", "v6") for way in ("v4", "v6")]
        expect(said in ends, f"{name}: {said}")
        for browser in called:
            browser.stop()
    return f"{version_of('chromium', '--version')}, {version_of('firefox-esr', '--version')}"
