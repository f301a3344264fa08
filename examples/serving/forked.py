"""The service in two forked workers that share the memory of one loaded model.

    SKHIER_MODEL=model.pickle python forked.py 8000

The parent imports the libraries and loads the model once; what a fork does not change, it does not
copy. gunicorn does the same: ``gunicorn --preload -w 2 -k uvicorn.workers.UvicornWorker app:app``.
"""

import os
import signal
import socket
import sys

import uvicorn
from app import app


def main(port: int, n_workers: int = 2) -> None:
    # with its protocol named asyncio sends small answers at once, without it 40 ms later
    shared = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.bind(("127.0.0.1", port))
    shared.listen(128)
    children = [pid for _ in range(n_workers) if (pid := _fork(shared))]
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(pid, signal.SIGTERM) for pid in children])
    for pid in children:
        os.waitpid(pid, 0)


def _fork(shared: socket.socket) -> int:
    """Id of a worker in the parent; the worker itself serves and never returns."""
    pid = os.fork()
    if pid == 0:
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[shared])
        os._exit(0)
    return pid


if __name__ == "__main__":
    main(int(sys.argv[1]))
