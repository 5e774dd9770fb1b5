"""Drives a server through redis-py, called by tests/drivers.rs with the port as its only argument.

Prints "all good" at the end; any surprise is an exception. Works with redis-py 4 (Debian's) and newer.
"""

import sys
import threading

import redis


def main(port):
    r = redis.Redis(host="127.0.0.1", port=port, db=1, decode_responses=True)
    r.flushall()
    assert r.ping() is True
    assert r.set("k", "v") is True
    assert r.get("k") == "v"
    assert r.get("none") is None
    assert r.set("k", "w", nx=True) is None
    assert r.set("k", "w", xx=True, ex=100) is True
    assert r.ttl("k") == 100
    assert r.getdel("k") == "w"
    assert r.incr("n", 41) == 41
    assert r.incrbyfloat("f", 0.1) == 0.1
    assert r.append("k", "abc") == 3
    assert r.setrange("k", 1, "X") == 3
    assert r.getrange("k", 0, -1) == "aXc"
    assert r.mset({f"key:{i}": i for i in range(1000)}) is True
    assert r.mget([f"key:{i}" for i in range(1000)]) == [str(i) for i in range(1000)]
    assert r.dbsize() == 1003
    assert sorted(r.scan_iter("key:99*", count=50)) == sorted(["key:99"] + [f"key:{i}" for i in range(990, 1000)])
    assert r.rename("k", "other") is True
    assert r.exists("k", "other") == 1
    assert r.type("other") == "string"
    assert r.delete(*[f"key:{i}" for i in range(1000)]) == 1000
    assert r.time()[0] > 0

    # What the driver parses for its user.
    assert r.info("server")["tcp_port"] == port
    assert r.config_get("databases") == {"databases": "16"}
    assert r.config_set("maxclients", 5000) is True
    assert r.client_setname("py") is True
    assert r.client_getname() == "py"
    assert any(client["name"] == "py" for client in r.client_list())
    assert r.command_count() > 50
    assert r.command_getkeys("MSET", "a", 1, "b", 2) == ["a", "b"]
    assert r.command()["get"]["arity"] == 2

    # A pipeline without a transaction, one with, and one that fails its watch.
    with r.pipeline(transaction=False) as pipe:
        for i in range(2000):
            pipe.set(f"p:{i}", i)
        assert all(pipe.execute())
    with r.pipeline() as pipe:
        pipe.set("a", 1).incr("a").get("a")
        assert pipe.execute() == [True, 2, "2"]
    with r.pipeline() as pipe:
        pipe.watch("a")
        r.set("a", 5)
        pipe.multi()
        pipe.set("a", 6)
        try:
            pipe.execute()
            raise AssertionError("the watch was not seen")
        except redis.WatchError:
            pass
    assert r.get("a") == "5"

    try:
        r.execute_command("INCR", "other")
        raise AssertionError("INCR of a word succeeded")
    except redis.ResponseError as e:
        assert str(e) == "value is not an integer or out of range", e

    # A pool shared by threads, adding up under optimistic locking.
    r.set("sum", 0)

    def work():
        for _ in range(25):
            r.transaction(lambda pipe: add_one(pipe), "sum")

    def add_one(pipe):
        value = int(pipe.get("sum"))
        pipe.multi()
        pipe.set("sum", value + 1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert r.get("sum") == "100"

    binary = redis.Redis(host="127.0.0.1", port=port)
    blob = bytes(range(256)) * 40_000
    assert binary.set(blob[:256], blob) is True
    assert binary.get(blob[:256]) == blob
    print("all good with redis-py", redis.__version__)


if __name__ == "__main__":
    main(int(sys.argv[1]))
