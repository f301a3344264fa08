"""examples/serving/app.py, started with two workers and asked, as docs/deployment.md says."""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fastapi", reason="the service needs FastAPI (extra `serve`)")
pytest.importorskip("uvicorn", reason="the service needs uvicorn (extra `serve`)")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ABSENT = "jax,jaxlib,numpyro,arviz,xarray,psutil"


@pytest.fixture(scope="module", params=["spawned", "forked"])
def service(request, tmp_path_factory, sleepstudy_fit):
    """Address of two workers: uvicorn's own, which are spawned, or gunicorn's way, forked."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "model.pickle").write_bytes(pickle.dumps(sleepstudy_fit))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = {"spawned": ["-m", "uvicorn", "app:app", "--workers", "2", "--port", str(port)]}
    forked = str(ROOT / "examples" / "serving" / "forked.py")
    blocked = str(ROOT / "tests" / "deployment" / "blocked.py")
    server["forked"] = [blocked, ABSENT, forked, str(port)]
    home = ROOT / "examples" / "serving"
    path = os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, *server[request.param]],
        cwd=home,
        env=os.environ | {"SKHIER_MODEL": str(folder / "model.pickle"), "PYTHONPATH": path},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(address, process)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)


def _wait_for(address, process):
    for _ in range(300):
        assert process.poll() is None, process.stderr.read()
        try:
            return ask(f"{address}/health")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise TimeoutError(address)


def ask(address, **content):
    body = json.dumps(content).encode() if content else None
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_service_answers_what_the_model_predicts(service, sleepstudy, sleepstudy_fit):
    X, _ = sleepstudy
    answer = ask(f"{service}/predict", rows=X.to_dict("records"), coverage=0.8)
    assert np.array_equal(answer["mean"], sleepstudy_fit.predict(X))
    interval = np.column_stack([answer["lower"], answer["upper"]])
    assert np.array_equal(interval, sleepstudy_fit.predict_interval(X, coverage=0.8))
    assert all(answer["known"])


def test_service_knows_new_levels_and_refuses_nonsense(service, sleepstudy_fit):
    new = {"Days": 10, "Subject": "999"}
    answer = ask(f"{service}/predict", rows=[new])
    assert answer["known"] == [False]
    population = sleepstudy_fit.predict(pd.DataFrame([new]), level="population")
    assert np.array_equal(answer["mean"], population)
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(f"{service}/predict", rows=[{"Days": "many", "Subject": "308"}])
    assert refused.value.code == 422
    assert "Days" in refused.value.read().decode()


def test_both_workers_answer_the_same(service, sleepstudy):
    rows = sleepstudy[0].to_dict("records")
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask(f"{service}/predict", rows=rows), range(64)))
    processes = {answer.pop("process") for answer in answers}
    assert len(processes) == 2
    assert all(answer == answers[0] for answer in answers)
