// Mesh serve ADDRESS PORT HTTPPORT: echoes by a selector, and serves HTTP.
// Mesh ask HOST PORT HTTPPORT: 8 MB through the echo by NIO and by Socket, and by HttpClient.
import com.sun.net.httpserver.HttpServer;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Arrays;
import java.util.Iterator;
import java.util.Random;

public class Mesh {
	static final int SIZE = 8_000_000;

	static byte[] blob() {
		byte[] data = new byte[SIZE];
		new Random(5).nextBytes(data);
		return data;
	}

	static void serve(String host, int port, int httpPort) throws Exception {
		HttpServer http = HttpServer.create(new InetSocketAddress(host, httpPort), 50);
		http.createContext("/", exchange -> {
			byte[] body = exchange.getRequestBody().readAllBytes();
			exchange.getResponseHeaders().add("Peer",
					exchange.getRemoteAddress().getAddress().getHostAddress());
			exchange.sendResponseHeaders(200, body.length);
			exchange.getResponseBody().write(body);
			exchange.close();
		});
		http.start();
		Selector selector = Selector.open();
		ServerSocketChannel listener = ServerSocketChannel.open();
		listener.bind(new InetSocketAddress(host, port));
		listener.configureBlocking(false);
		listener.register(selector, SelectionKey.OP_ACCEPT);
		System.out.println("ready");
		while (true) {
			selector.select();
			Iterator<SelectionKey> keys = selector.selectedKeys().iterator();
			while (keys.hasNext()) {
				SelectionKey key = keys.next();
				keys.remove();
				if (key.isAcceptable()) {
					SocketChannel peer = listener.accept();
					peer.configureBlocking(false);
					ByteBuffer held = ByteBuffer.allocate(65536);
					peer.register(selector, SelectionKey.OP_READ, held);
				} else {
					echo(key);
				}
			}
		}
	}

	// What could not be written waits in the buffer, and nothing is read meanwhile.
	static void echo(SelectionKey key) throws Exception {
		SocketChannel peer = (SocketChannel) key.channel();
		ByteBuffer held = (ByteBuffer) key.attachment();
		if (key.isReadable()) {
			if (peer.read(held) < 0) {
				peer.close();
				return;
			}
			held.flip();
		}
		peer.write(held);
		if (held.hasRemaining()) {
			key.interestOps(SelectionKey.OP_WRITE);
		} else {
			held.clear();
			key.interestOps(SelectionKey.OP_READ);
		}
	}

	static void check(byte[] sent, byte[] got) {
		if (!Arrays.equals(sent, got))
			throw new IllegalStateException("not what was sent: " + got.length + " bytes");
	}

	static String byNio(String host, int port, byte[] data) throws Exception {
		Selector selector = Selector.open();
		SocketChannel channel = SocketChannel.open();
		channel.configureBlocking(false);
		channel.connect(new InetSocketAddress(host, port));
		channel.register(selector, SelectionKey.OP_CONNECT);
		ByteBuffer out = ByteBuffer.wrap(data), in = ByteBuffer.allocate(data.length);
		String own = null;
		while (in.hasRemaining()) {
			selector.select();
			SelectionKey key = selector.selectedKeys().iterator().next();
			selector.selectedKeys().clear();
			if (key.isConnectable()) {
				channel.finishConnect();
				own = ((InetSocketAddress) channel.getLocalAddress()).getAddress().getHostAddress();
				key.interestOps(SelectionKey.OP_READ | SelectionKey.OP_WRITE);
				continue;
			}
			if (key.isWritable())
				channel.write(out);
			if (!out.hasRemaining())
				key.interestOps(SelectionKey.OP_READ);
			if (key.isReadable() && channel.read(in) < 0)
				break;
		}
		channel.close();
		check(data, in.array());
		return own;
	}

	static String bySocket(String host, int port, byte[] data) throws Exception {
		try (Socket socket = new Socket(host, port)) {
			Thread writer = new Thread(() -> {
				try {
					socket.getOutputStream().write(data);
				} catch (Exception e) {
					throw new IllegalStateException(e);
				}
			});
			writer.start();
			InputStream in = socket.getInputStream();
			check(data, in.readNBytes(data.length));
			writer.join();
			return socket.getLocalAddress().getHostAddress();
		}
	}

	static String byHttp(String host, int port, byte[] data) throws Exception {
		HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + host + ":" + port + "/"))
				.POST(HttpRequest.BodyPublishers.ofByteArray(data)).build();
		HttpResponse<byte[]> answer = HttpClient.newHttpClient().send(request,
				HttpResponse.BodyHandlers.ofByteArray());
		check(data, answer.body());
		return answer.headers().firstValue("Peer").get();
	}

	public static void main(String[] args) throws Exception {
		String host = args[1];
		int port = Integer.parseInt(args[2]), httpPort = Integer.parseInt(args[3]);
		if (args[0].equals("serve")) {
			serve(host, port, httpPort);
			return;
		}
		byte[] data = blob();
		System.out.println("nio " + byNio(host, port, data));
		System.out.println("socket " + bySocket(host, port, data));
		System.out.println("http " + byHttp(host, httpPort, data));
	}
}
