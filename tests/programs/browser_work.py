"""browser_work.py serve ADDRESS,... PORT: a page that tries fetch, a WebSocket and WebRTC in the browser that opens it.

What the browser says is printed with its address. Two that open the page as /?name=X&role=offer and
role=answer find one another here, and join by a data channel.
"""
import asyncio
import random
import sys

from aiohttp import web

BLOB = random.Random(7).randbytes(3_000_000)
PAGE = """<!doctype html><script>
const { name, role } = Object.fromEntries(new URLSearchParams(location.search));
const post = (path, body) => fetch(path, { method: "POST", body });
const say = (text) => post("/said?name=" + name, text);
const bytes = async (answer) => new Uint8Array(await (await answer).arrayBuffer());
const same = (left, right) => left.length === right.length && left.every((byte, i) => byte === right[i]);

const peer = role && new RTCPeerConnection(); // what nobody refers to is collected, and closed

async function page() {
	const blob = await bytes(fetch("/blob"));
	const posted = same(blob, await bytes(post("/echo", blob)));
	const socket = new WebSocket(`ws://${location.host}/talk`);
	socket.binaryType = "arraybuffer";
	const told = await new Promise((resolve, reject) => {
		socket.onopen = () => socket.send(blob.subarray(0, 1000000));
		socket.onmessage = (event) => resolve(new Uint8Array(event.data));
		socket.onerror = () => reject("no WebSocket");
	});
	await say(`page ${blob.length} ${posted} ${same(blob.subarray(0, 1000000), told)}`);
}

function carry(channel) {
	let left = 100;
	channel.binaryType = "arraybuffer";
	channel.onopen = () => {
		for (let i = 0; role === "offer" && i < 100; i++)
			channel.send(new Uint8Array(16000).fill(i));
	};
	channel.onmessage = async (event) => {
		if (role === "answer")
			return channel.send(event.data);
		if (--left)
			return;
		const stats = await peer.getStats();
		stats.forEach((pair) => {
			if (pair.type === "candidate-pair" && pair.nominated && pair.state === "succeeded")
				say(`joined ${stats.get(pair.localCandidateId).address} ${stats.get(pair.remoteCandidateId).address}.`);
		});
	};
}

async function call() {
	const gathered = new Promise((resolve) => (peer.onicecandidate = (event) => event.candidate || resolve()));
	const put = () => post(`/put/${name}-${role}`, JSON.stringify(peer.localDescription));
	const take = async (who) => peer.setRemoteDescription(await (await fetch(`/take/${name}-${who}`)).json());
	if (role === "offer") {
		carry(peer.createDataChannel("data"));
		await peer.setLocalDescription(await peer.createOffer());
		await gathered;
		await put();
		await take("answer");
	} else {
		peer.ondatachannel = (event) => carry(event.channel);
		await take("offer");
		await peer.setLocalDescription(await peer.createAnswer());
		await gathered;
		await put();
	}
}

(role ? call() : page()).catch((error) => say("failed: " + error));
</script>"""
notes = {}


async def page(_):
    return web.Response(text=PAGE, content_type="text/html")


async def blob(_):
    return web.Response(body=BLOB)


async def echo(request):
    return web.Response(body=await request.read())


async def talk(request):
    answer = web.WebSocketResponse(max_msg_size=0)
    await answer.prepare(request)
    async for message in answer:
        await answer.send_bytes(message.data)
    return answer


async def said(request):
    print(request.query["name"], request.remote.removeprefix("::ffff:"), await request.text(), flush=True)
    return web.Response()


async def put(request):
    notes.setdefault(request.match_info["key"], asyncio.Future()).set_result(await request.text())
    return web.Response()


async def take(request):
    return web.Response(text=await notes.setdefault(request.match_info["key"], asyncio.Future()))


app = web.Application(client_max_size=1 << 26)
app.add_routes([web.get("/", page), web.get("/blob", blob), web.post("/echo", echo), web.get("/talk", talk),
                web.post("/said", said), web.post("/put/{key}", put), web.get("/take/{key}", take)])
web.run_app(app, host=sys.argv[2].split(","), port=int(sys.argv[3]), print=lambda _: print("ready", flush=True))
