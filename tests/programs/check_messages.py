"""Brokers: mosquitto, RabbitMQ, NATS."""
from base import check, expect, free_port, version_of, wait_until


@check("mosquitto", "mosquitto", "publish and subscribe at quality 0, 1 and 2, a bridge between two brokers", carries=1_200_000, cheap=True,
       apt=("mosquitto", "mosquitto-clients"), programs=("mosquitto", "mosquitto_pub"))
def mosquitto(pair):
    port = free_port()
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        conf = f"listener {port} {side.v4}\nallow_anonymous true\n"
        if side is pair.a:
            conf += f"connection bridge\naddress {other.name}:{port}\ntopic across/# out 1\n"
        home = side.folder("mosquitto")
        side.broker = side.spawn("mosquitto", "-v", "-c", side.write(home / "conf", conf))
        side.broker.wait_for("running")
    for client, server, host in pair.ways:
        for quality in "012":
            subscribed = server.broker.text.count("Sending SUBACK")
            hearing = client.spawn("mosquitto_sub", "-h", host, "-p", port, "-q", quality, "-t", "news", "-C", "1",
                                   log="sub")
            wait_until(lambda: server.broker.text.count("Sending SUBACK") > subscribed, 20, "a subscription")
            file = server.folder("pub") / "blob"
            file.write_bytes(pair.blob[:200_000])
            file.chmod(0o644)
            server.run("mosquitto_pub", "-h", server.v4, "-p", port, "-q", quality, "-t", "news", "-f", file)
            expect(hearing.wait() == 0, "mosquitto_sub")
            expect(pair.blob[:200_000] in hearing.log.read_bytes(), "the message is not what was published")
    hearing = pair.b.spawn("mosquitto_sub", "-h", pair.b.v4, "-p", port, "-t", "across/#", "-C", "1", log="sub")

    def crossed():
        pair.a.run("mosquitto_pub", "-h", pair.a.v4, "-p", port, "-q", "1", "-t", "across/it", "-m", "bridged")
        return "bridged" in hearing.text
    wait_until(crossed, 20, "a message over the bridge")
    return version_of("mosquitto", "-h")


@check("rabbitmq", "RabbitMQ", "an AMQP conversation with acknowledgements, a cluster of two brokers over the mesh",
       carries=8_000_000, apt=("rabbitmq-server",), pip=("pika",), programs=("rabbitmq-server",))
def rabbitmq(pair):
    port, erlang = free_port(), free_port()
    env = {}
    for side in (pair.a, pair.b):
        home = side.folder("rabbit")
        epmd = side.write(home / "erl_inetrc", "{lookup, [native]}.\n")
        side.write(home / "conf.conf", f"listeners.tcp.1 = {side.v4}:{port}\nloopback_users = none\n"
                   f"distribution.listener.interface = {side.v4}\n"
                   f"distribution.listener.port_range.min = {erlang}\ndistribution.listener.port_range.max = {erlang}\n")
        side.write(home / ".erlang.cookie", "meshcookie", 0o400)
        env[side] = {"HOME": str(home), "RABBITMQ_NODENAME": f"rabbit@{side.name}", "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
                     "RABBITMQ_LOG_BASE": str(home), "RABBITMQ_CONFIG_FILE": str(home / "conf"), "RABBITMQ_LOGS": "-",
                     "RABBITMQ_PID_FILE": str(home / "pid"), "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
                     "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inetrc '\"{epmd}\"'"}
        side.spawn("epmd", "-relaxed_command_check")  # else the server starts one that stays
        side.wait_until_bound(4369)
        side.spawn("/usr/lib/rabbitmq/bin/rabbitmq-server", env=env[side]).wait_for("completed with", 120)
    for client, server, host in pair.ways:
        out = client.python("amqp_work.py", host, port, venv=True, timeout=60)
        expect(out.split() == ["20", "messages"], f"AMQP: {out}")

    def ctl(*words):
        return pair.b.run("/usr/lib/rabbitmq/bin/rabbitmqctl", *words, env=env[pair.b], timeout=120)
    ctl("stop_app")
    ctl("join_cluster", f"rabbit@{pair.a.name}")
    ctl("start_app")
    running = ctl("cluster_status", "--formatter", "json")
    expect(f"rabbit@{pair.a.name}" in running and f"rabbit@{pair.b.name}" in running, f"the cluster: {running}")
    return ctl("version").strip()


@check("nats", "NATS", "a cluster of two (Go: meshrun traces it), by the peers' names; publish and request from one server to the other",
       carries=4_000_000, apt=("nats-server",), pip=("nats-py",), programs=("nats-server",))
def nats(pair):
    port, route, watch = free_port(), free_port(), free_port()
    for side, other in ((pair.a, pair.b), (pair.b, pair.a)):
        side.spawn("nats-server", "-a", side.v4, "-p", port, "--cluster_name", "mesh", "--cluster", f"nats://{side.v4}:{route}", "-m", watch,
                   "--routes", f"nats://{other.name}:{route}", "-n", side.name).wait_for("Server is ready", 30)
    for client, server, host in pair.ways:
        out = client.python("nats_work.py", f"{host}:{port}", f"{client.v4}:{port}", venv=True, timeout=60)
        expect(out.split() == ["request", "published"], f"NATS: {out}")
        routes = client.run("curl", "-sSf", f"http://{host}:{watch}/routez")
        expect(f'"ip": "{client.v4}"' in routes, f"the routes of {server.name}: {routes}")
    return version_of("nats-server", "-v")


JETSTREAM = """
    server_name: {name}
    listen: "{own}:{port}"
    jetstream {{ store_dir: "{home}" }}
    cluster {{ name: mesh, listen: "{own}:{route}", routes: [{routes}] }}
"""


@check("jetstream", "NATS JetStream", "three servers on two nodes (Go: meshrun traces it), a stream kept by all three: 3 MB written on either node and read on the other; its leader is "
       "lost, another one goes on", carries=11_000_000, apt=("nats-server",), pip=("nats-py",), programs=("nats-server",))
def jetstream(pair):
    names = {"s1": pair.a, "s2": pair.b, "s3": pair.a}
    ports = {name: (free_port(), free_port()) for name in names}
    routes = ", ".join(f'"nats://{side.v4 if name == "s3" else side.name}:{ports[name][1]}"' for name, side in names.items())
    running = {}
    for name, side in names.items():
        home = side.folder("jetstream")
        conf = JETSTREAM.format(name=name, own=side.v4, home=home, port=ports[name][0], route=ports[name][1], routes=routes)
        running[name] = side.spawn("nats-server", "-c", side.write(home / "conf", conf))
    for server in running.values():
        server.wait_for("Server is ready", 30)

    def work(side, how, host, server, stream):
        return side.python("jetstream_work.py", how, f"{host}:{ports[server][0]}", stream, "3000000", venv=True, timeout=120).strip()
    for number, (client, server, host) in enumerate(pair.ways):
        far, near = (next(name for name, side in names.items() if side is where) for where in (server, client))
        leader = work(client, "write", host, far, f"stream{number}")
        work(client, "read", client.v4, near, f"stream{number}")
        expect(leader in names, f"the leader is {leader}")
    running.pop(leader).stop()
    left = next(iter(running))
    for side in (pair.a, pair.b):
        new = work(side, "read", names[left].v4, left, f"stream{number}")
        expect(new in running, f"after {leader} was lost, the leader is {new}")
    return version_of("nats-server", "-v")
