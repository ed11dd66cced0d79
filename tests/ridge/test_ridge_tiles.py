"""Out of core: the same bytes whoever computes them and however often they are killed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import wernicke.ridge as ours
from wernicke.core.errors import InputError
from wernicke.ridge.plan import plan_tiles
from wernicke.ridge.responses import ResponseFile

ALPHAS = np.logspace(-2, 5, 8)


def simulate(n_targets: int = 300):
    rng = np.random.default_rng(0)
    Xs = [rng.standard_normal((150, 12)).astype("f4"), rng.standard_normal((150, 9)).astype("f4")]
    weights = rng.standard_normal((21, n_targets)) * 0.1
    return Xs, (np.concatenate(Xs, 1) @ weights + rng.standard_normal((150, n_targets))).astype("f4")


def digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
    }


@pytest.fixture
def data(tmp_path):
    Xs, Y = simulate()
    np.save(tmp_path / "Y.npy", Y)
    return Xs, Y, tmp_path / "Y.npy"


def test_bases_of_a_finished_job_can_be_dropped(data, tmp_path):
    Xs, _, path = data
    settings = {"alphas": ALPHAS, "cv": 3, "n_iter": 4, "tile": 128}
    job = ours.fit_tiles(Xs, path, tmp_path / "job", **settings)
    before = digest(job)
    kept = {name: value for name, value in before.items() if not name.startswith("bases/")}
    ours.drop_bases(job)
    assert len(kept) < len(before)
    assert digest(job) == kept
    ours.fit_tiles(Xs, path, job, **settings)  # nothing is missing, so nothing is computed
    assert digest(job) == kept
    next(job.glob("responses/tile_*")).unlink()
    with pytest.raises(InputError, match="E-TRUNC.*1 of 3 tiles are not done"):
        ours.drop_bases(job)
    ours.fit_tiles(Xs, path, job, **settings)
    assert digest(job) == before


@pytest.mark.parametrize("bands", [1, 2])
def test_tiles_equal_the_solver_in_memory(data, tmp_path, bands):
    Xs, Y, path = data
    features = Xs if bands == 2 else np.concatenate(Xs, 1)
    job = ours.fit_tiles(features, path, tmp_path / "job", alphas=ALPHAS, cv=3, n_iter=4, tile=128, fit_intercept=True)
    whole = ours.solve_group_ridge(
        Xs if bands == 2 else [features], Y, n_iter=4 if bands == 2 else np.ones((1, 1)), alphas=ALPHAS, cv=3,
        random_state=0, score_func=ours.correlation_score, fit_intercept=True, warn=False,
    )  # fmt: skip
    for name in ("coef", "cv_scores", "intercept", "best_alphas"):
        np.testing.assert_allclose(ours.read_tiles(job, name), getattr(whole, name), atol=1e-5, err_msg=name)
    assert ours.read_tiles(job, "n_edge").sum() == whole.n_edge


@pytest.mark.parametrize("kind", ["npy", "zarr", "h5"])
def test_responses_are_read_from(kind, tmp_path):
    Y = np.arange(60, dtype="f4").reshape(6, 10)
    path = tmp_path / f"Y.{kind}"
    if kind == "npy":
        np.save(path, Y)
    elif kind == "zarr":
        zarr = pytest.importorskip("zarr")
        zarr.save_array(str(path), Y)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            file["dataDT"] = Y
    source = ResponseFile(path)
    assert source.shape == (6, 10)
    np.testing.assert_array_equal(source.read(slice(3, 7)), Y[:, 3:7])
    assert source.sample() == ResponseFile(path).sample()


def test_subjects_share_a_job(data, tmp_path):
    Xs, Y, path = data
    np.save(tmp_path / "second.npy", Y[:, :100] * 2)
    job = ours.fit_tiles(
        Xs[0], {"S01": path, "S02": tmp_path / "second.npy"}, tmp_path / "job", alphas=ALPHAS, tile=150
    )
    np.testing.assert_allclose(
        ours.read_tiles(job, "best_scores", "S02"), ours.read_tiles(job, "best_scores", "S01")[:100], atol=1e-6
    )
    with pytest.raises(InputError, match="unknown value `S3`\n  known: S01, S02"):
        ours.read_tiles(job, "coef", "S3")


SCRIPT = """
import os, signal, sys
from pathlib import Path
import numpy as np
import torch
torch.set_num_threads(1)
import wernicke.ridge.job as job
import wernicke.ridge.tiles as tiles
write = tiles.write_safetensors
home, n_writes = Path(sys.argv[1]), int(sys.argv[2])


def run(folder, die_at, when):
    # In a process of its own: do the job, and be killed at one of the files it writes.
    pid = os.fork()
    if pid == 0:
        left = die_at

        def write_and_maybe_die(path, arrays):
            nonlocal left
            if left == 0 and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            write(path, arrays)
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

        tiles.write_safetensors = job.write_safetensors = write_and_maybe_die
        tiles.fit_tiles(Xs, home / "Y.npy", home / folder, **settings)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


Xs = [np.load(home / "X0.npy"), np.load(home / "X1.npy")]
settings = dict(alphas=np.logspace(-2, 5, 8), cv=3, n_iter=2, tile=80)
tiles.fit_tiles(Xs, home / "Y.npy", home / "warm", **settings)  # all is imported now, and forks need not
for at in range(n_writes):
    for when in ("before", "after"):
        folder = f"killed_{at}_{when}"
        assert run(folder, at, when) == -signal.SIGKILL, (at, when)
        assert run(folder, -1, "never") == 0
assert run("killed_often", 3, "before") == -signal.SIGKILL
assert run("killed_often", 5, "after") == -signal.SIGKILL
assert run("killed_often", 2, "before") == -signal.SIGKILL
assert run("killed_often", -1, "never") == 0
assert run("whole", n_writes, "before") == 0  # it writes no more than this
"""


@pytest.mark.slow
def test_killed_at_any_file_and_started_again_gives_the_same_bytes(data, tmp_path):
    Xs, _, path = data
    for i, X in enumerate(Xs):
        np.save(tmp_path / f"X{i}.npy", X)
    job = ours.fit_tiles(Xs, path, tmp_path / "undisturbed", alphas=ALPHAS, cv=3, n_iter=2, tile=80)
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    n_writes = 1 + 2 * (3 + 1) + 4  # features; for 2 draws 3 folds and all samples; 4 tiles
    done = subprocess.run([sys.executable, script, tmp_path, str(n_writes)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folders = sorted(path for path in tmp_path.glob("killed_*"))
    assert len(folders) == 2 * n_writes + 1
    for folder in folders:
        assert digest(folder) == digest(job), folder.name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_workers_of_a_local_cluster_of_which_one_dies_give_the_same_bytes(data, tmp_path):
    distributed = pytest.importorskip("distributed")
    Xs, _, path = data
    alone = ours.fit_tiles(Xs, path, tmp_path / "alone", alphas=ALPHAS, cv=3, n_iter=3, tile=10)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, local_directory=str(tmp_path / "dask")
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = list(client.run(os.getpid).values())
        killed = client.submit(lambda pid: os.kill(pid, signal.SIGKILL), pids[0], workers=[cluster.workers[1].name])
        both = ours.fit_tiles(Xs, path, tmp_path / "both", alphas=ALPHAS, cv=3, n_iter=3, tile=10, client=client)
        del killed
        assert pids[0] not in client.run(os.getpid).values()
    assert digest(alone) == digest(both)


DOOMED = """
import os, pathlib, signal
import wernicke.ridge.tiles as tiles
from wernicke.store.files import write_safetensors as write  # dask imports this file twice
done = []


def write_then_die(path, arrays):
    if done:  # with its second tile in hand
        pathlib.Path({note!r}).write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, arrays)
    done.append(path)


tiles.write_safetensors = write_then_die
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_schedulers_address_and_a_worker_that_dies_mid_run_give_the_same_bytes(data, tmp_path):
    pytest.importorskip("distributed")
    Xs, _, path = data
    alone = ours.fit_tiles(Xs, path, tmp_path / "alone", alphas=ALPHAS, cv=3, n_iter=3, tile=10)
    (tmp_path / "doomed.py").write_text(DOOMED.format(note=str(tmp_path / "died")))
    contact = tmp_path / "scheduler.json"

    def start(module: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.{module}", "--scheduler-file", str(contact), *arguments]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    worker = ("dask_worker", "--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1")
    processes = [start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")]
    try:
        processes += [start(*worker, "--preload", str(tmp_path / "doomed.py")), start(*worker)]
        for _ in range(300):
            if contact.exists() and contact.read_text().endswith("}"):
                break
            time.sleep(0.1)
        address = json.loads(contact.read_text())["address"]
        with distributed_client(address, n_workers=2):
            both = ours.fit_tiles(Xs, path, tmp_path / "both", alphas=ALPHAS, cv=3, n_iter=3, tile=10, client=address)
        assert processes[1].wait(timeout=20) == -signal.SIGKILL
        assert int((tmp_path / "died").read_text()) == processes[1].pid
    finally:
        for process in processes[::-1]:
            process.kill()
            process.wait()
    assert digest(alone) == digest(both)


@contextmanager
def distributed_client(address: str, n_workers: int):
    """Wait until so many workers have come."""
    from distributed import Client

    with Client(address, timeout=30) as client:
        client.wait_for_workers(n_workers, timeout=60)
        yield client


@pytest.mark.filterwarnings("ignore")
def test_an_address_that_names_no_scheduler_is_refused(data, tmp_path):
    pytest.importorskip("distributed")
    with pytest.raises(InputError, match="no scheduler answers at nowhere://x"):
        ours.fit_tiles(data[0], data[2], tmp_path / "job", alphas=ALPHAS, cv=3, n_iter=1, client="nowhere://x")


def test_another_job_in_the_folder_is_refused(data, tmp_path):
    Xs, Y, path = data
    job = ours.fit_tiles(Xs[0], path, tmp_path / "job", alphas=ALPHAS, cv=3)
    before = digest(job)
    with pytest.raises(InputError, match="holds another job; alphas differ"):
        ours.fit_tiles(Xs[0], path, job, alphas=ALPHAS[1:], cv=3)
    np.save(path, Y + 1)
    with pytest.raises(InputError, match="holds another job; responses differ"):
        ours.fit_tiles(Xs[0], path, job, alphas=ALPHAS, cv=3)
    assert digest(job) == before


def test_an_unfinished_job_and_a_constant_voxel_are_named(data, tmp_path):
    Xs, Y, path = data
    Y[:, 200] = 1.0
    np.save(path, Y)
    with pytest.raises(InputError, match="E-CONST.*first at index 200"):
        ours.fit_tiles(Xs[0], path, tmp_path / "job", alphas=ALPHAS, cv=3, tile=128)
    with pytest.raises(InputError, match="2 of 3 tiles are not done"):
        ours.read_tiles(tmp_path / "job", "coef")


def test_the_plan_does_not_grow_with_the_number_of_voxels():
    small, large = (plan_tiles(22262, [1280], [n], [5523, 6313, 5980, 4446], 25) for n in (1_000, 88_000))
    assert small.peak_bytes == large.peak_bytes
    assert large.n_tiles == 22
    assert 2e12 < large.flops < 5e13


MEASURE = """
import sys
import numpy as np
import torch
torch.set_num_threads(1)
import wernicke.ridge.tiles as tiles
X = np.load(sys.argv[1] + "/X.npy")


def peak():  # ru_maxrss would count what the process that started this one held
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))


tiles.fit_tiles(X[:, :3], sys.argv[1] + "/warm.npy", sys.argv[1] + "/warm", alphas=[1.0, 10.0], cv=2)
base = peak()
tiles.fit_tiles(X, sys.argv[1] + "/Y.npy", sys.argv[1] + "/job", alphas=np.logspace(-2, 5, 8), cv=4, tile=512)
print(peak() - base)
"""


@pytest.mark.slow
def test_peak_memory_is_as_planned_and_does_not_grow_with_the_number_of_voxels(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((800, 150)).astype("f4")
    peaks = []
    for n_targets in (1_000, 50_000):
        folder = tmp_path / str(n_targets)
        folder.mkdir()
        np.save(folder / "X.npy", X)
        np.save(folder / "warm.npy", rng.standard_normal((800, 70)).astype("f4"))
        Y = np.lib.format.open_memmap(folder / "Y.npy", mode="w+", dtype="f4", shape=(800, n_targets))
        for at in range(0, n_targets, 1000):
            Y[:, at : at + 1000] = rng.standard_normal((800, 1000))
        Y.flush()
        del Y
        (folder / "script.py").write_text(MEASURE)
        done = subprocess.run(
            [sys.executable, folder / "script.py", folder], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    planned = plan_tiles(800, [150], [50_000], [200] * 4, 8, tile=512).peak_bytes
    assert peaks[1] < peaks[0] + 10e6  # the responses are 160 MB, the weights 30 MB
    assert max(peaks) < planned + 10e6
