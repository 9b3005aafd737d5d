"""A Milvus server on this computer, for the tests marked `milvus`.

They run against the server that VITDEMO_MILVUS names ("host:port"), or start one where the folder
.milvus in the project holds an environment with it, as `python3 run.py test --all` makes it.
"""

import contextlib
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

PYTHON = Path(__file__).parent.parent / ".milvus" / "bin" / "python"
PEERS = 2380  # the one port of the server that cannot be chosen
START = """
import sys
from milvus import MilvusServer
server = MilvusServer()
server.set_base_dir(sys.argv[1])
server.listen_port = int(sys.argv[2])
server.start()
print("ready", flush=True)
sys.stdin.read()  # ends with the tests
server.stop()
"""


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server, host:port."""
    pytest.importorskip("pymilvus", reason="pymilvus is not installed: "
                                           "pip install -r requirements-milvus.txt")
    given = os.environ.get("VITDEMO_MILVUS")
    if given:
        yield given
        return
    if not PYTHON.is_file():
        pytest.skip("no Milvus server: python3 run.py test --all brings one")
    with socket.socket() as taken:
        if taken.connect_ex(("127.0.0.1", PEERS)) == 0:
            pytest.skip(f"another Milvus or etcd runs here (port {PEERS}), and only one can; "
                        "name it in the variable VITDEMO_MILVUS")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = tmp_path_factory.mktemp("milvus")
    with (place / "log").open("w") as log, subprocess.Popen(
            [PYTHON, "-c", START, str(place / "data"), str(port)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            start_new_session=True) as process:
        try:
            assert process.stdout is not None and process.stdin is not None
            said = process.stdout.readline()
            assert said == "ready\n", f"Milvus did not start: {(place / 'log').read_text()[-2000:]}"
            yield f"127.0.0.1:{port}"
        finally:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(OSError):  # what is left of it; the server is its child
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def milvus_collection(milvus_server: str) -> Iterator[str]:
    """The address of a collection that is not there yet, and goes with the test."""
    from pymilvus import MilvusClient

    name = f"test_{uuid.uuid4().hex[:12]}"
    yield f"milvus://{milvus_server}/{name}"
    client = MilvusClient(uri=f"http://{milvus_server}", timeout=30)
    client.drop_collection(name, timeout=30)
    client.close()
