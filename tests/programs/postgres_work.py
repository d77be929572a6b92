"""postgres_work.py HOST PORT OWN: PostgreSQL by psycopg (a libpq of its own) and by asyncpg."""
import asyncio
import os
import sys

import asyncpg
import psycopg

host, port, own = sys.argv[1], int(sys.argv[2]), sys.argv[3]
blob = os.urandom(2_000_000)

with psycopg.connect(host=host, port=port, user="mesh", dbname="postgres") as conn:
    seen, back = conn.execute("select host(inet_client_addr()), %s::bytea", (blob,)).fetchone()
    assert (seen, back) == (own, blob)
    conn.execute("create temp table t(n int)")
    with conn.cursor().copy("copy t from stdin") as copy:
        for n in range(50_000):
            copy.write_row((n,))
    assert conn.execute("select sum(n) from t").fetchone()[0] == sum(range(50_000))
print("psycopg")


async def by_asyncpg():
    async with asyncpg.create_pool(host=host, port=port, user="mesh", database="postgres", min_size=8, max_size=8) as pool:
        got = await asyncio.gather(*[pool.fetchval("select $1::bytea", blob[:n * 1000]) for n in range(100)])
        assert got == [blob[:n * 1000] for n in range(100)]
        heard = asyncio.get_running_loop().create_future()
        async with pool.acquire() as conn:
            await conn.add_listener("news", lambda *words: heard.done() or heard.set_result(words[-1]))
            await pool.execute("notify news, 'heard'")
            assert await asyncio.wait_for(heard, 20) == "heard"
        async with pool.acquire() as conn:  # a cancelled query is a second connection
            try:
                await asyncio.wait_for(conn.execute("select pg_sleep(30)"), 0.3)
            except asyncio.TimeoutError:
                assert await conn.fetchval("select 7") == 7

asyncio.run(by_asyncpg())
print("asyncpg")
