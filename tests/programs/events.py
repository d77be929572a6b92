"""Server-sent events: events.py serve ADDRESS PORT, or events.py python|curl HOST PORT."""
import http.client
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVENTS, EVERY = 10, 0.1
how, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])


class Events(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for n in range(EVENTS):
            self.wfile.write(f"data: {n} {time.time()}\n\n".encode())
            time.sleep(EVERY)

    def log_message(self, *words):
        pass


def lines():
    if how == "curl":
        curl = subprocess.Popen(["curl", "-sSN", "--max-time", "30", f"http://{host}:{port}/"], stdout=subprocess.PIPE)
        yield from curl.stdout
        assert curl.wait() == 0
    else:
        connection = http.client.HTTPConnection(host, port, timeout=30)
        connection.request("GET", "/")
        yield from connection.getresponse()


if how == "serve":
    server = ThreadingHTTPServer((host, port), Events)
    print("ready", flush=True)
    server.serve_forever()
for go in range(5):  # a machine that others use may be late now and then
    count, latest = 0, 0
    for line in lines():
        if line.startswith(b"data:"):
            n, sent = line.split()[1:]
            latest = max(latest, time.time() - float(sent))
            assert int(n) == count, f"event {n} came for {count}"
            count += 1
    if latest < 0.5:
        break
assert latest < 0.5, f"an event came {latest:.2f} s after it was sent"
print(count, "in time")
