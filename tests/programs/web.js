// web.js serve ADDRESS PORT: answers with the digest of what was posted, and the peer's address.
// web.js ask HOST PORT FILE: posts the file by fetch and by http, and resolves HOST by c-ares.
const cluster = require("node:cluster");
const crypto = require("node:crypto");
const dns = require("node:dns").promises;
const fs = require("node:fs");
const http = require("node:http");

const [how, host, port, file] = process.argv.slice(2);

function serve() {
	if (cluster.isPrimary) {
		let listening = 0;
		cluster.on("listening", () => ++listening === 2 && console.log("ready"));
		cluster.fork();
		cluster.fork();
		return;
	}
	http.createServer((request, answer) => {
		const hash = crypto.createHash("sha256");
		request.on("data", (piece) => hash.update(piece));
		request.on("end", () => {
			const peer = request.socket.remoteAddress.replace("::ffff:", "");
			answer.end(JSON.stringify([hash.digest("hex"), peer]));
		});
	}).listen(Number(port), host);
}

function byHttp(body) {
	return new Promise((resolve, reject) => {
		const request = http.request({ host, port, method: "POST", family: 4 }, (answer) => {
			let text = "";
			answer.on("data", (piece) => (text += piece));
			answer.on("end", () => resolve(JSON.parse(text)));
		});
		request.on("error", reject);
		request.end(body);
	});
}

async function ask() {
	require("node:dns").setDefaultResultOrder("ipv4first");
	const body = fs.readFileSync(file);
	const fetched = await fetch(`http://${host}:${port}/`, { method: "POST", body });
	const result = { fetch: await fetched.json(), http: await byHttp(body) };
	if (!/^[0-9.]+$/.test(host))
		result.cares = await dns.resolve4(host).catch((e) => [e.code]);
	console.log(JSON.stringify(result));
}

how === "serve" ? serve() : ask();
