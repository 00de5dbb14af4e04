"""The examples for clusters: read by their own tools, and run with stand-ins for the programs of a cluster."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from tests.training.commands import train_on_nodes
from tests.training.small import write_cfg, write_images

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOW = '#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n'


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.sh")), ids=lambda path: path.stem)
def test_shell_scripts_pass_shellcheck(path: Path) -> None:
    program = shutil.which("shellcheck", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        pytest.skip("shellcheck is not installed")
    subprocess.run([program, str(path)], check=True)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_manifests_follow_the_schema_of_kubernetes(path: Path) -> None:
    validation = pytest.importorskip("kubernetes_validate")
    for manifest in YAML(typ="safe").load_all(path):
        validation.validate(manifest, "1.34", strict=True)


def commands(folder: Path, **programs: str) -> dict[str, str]:
    """An environment in which these programs are shell scripts."""
    for name, text in programs.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_each_machine_of_slurm_starts_torchrun_with_its_number(tmp_path: Path) -> None:
    environment = commands(
        tmp_path,
        scontrol='#!/bin/sh\necho "first"\necho "second"\n',
        srun='#!/bin/sh\nshift\nSLURM_NODEID=1 exec "$@"\n',
        torchrun=SHOW,
    )
    environment |= {"SLURM_JOB_NODELIST": "x[1-2]", "SLURM_NNODES": "2"}
    script = ["bash", str(EXAMPLES / "slurm_train.sh"), "--data", "a folder", "--cfg", "b"]
    words = subprocess.run(script, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()
    assert words[words.index("--nnodes") + 1] == "2" and words[words.index("--node-rank") + 1] == "1"
    assert words[words.index("--master-addr") + 1] == "first"
    assert words[words.index("train.py") :] == ["train.py", "--auto-resume", "--data", "a folder", "--cfg", "b"]


def test_each_pod_of_kubernetes_starts_torchrun_with_its_number(tmp_path: Path) -> None:
    service, job = YAML(typ="safe").load_all(EXAMPLES / "kubernetes_train.yaml")
    pod: dict[str, Any] = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    environment = commands(tmp_path, torchrun=SHOW) | {"JOB_COMPLETION_INDEX": "1"}
    call = [*container["command"], *container["args"]]
    words = subprocess.run(call, env=environment, check=True, capture_output=True, text=True).stdout.split()
    assert words[words.index("--nnodes") + 1] == str(job["spec"]["completions"])
    assert words[words.index("--node-rank") + 1] == "1" and "--auto-resume" in words
    # A pod of an indexed Job is called JOB-INDEX, and found as that within the headless service of its subdomain.
    assert words[words.index("--master-addr") + 1] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    gpus = container["resources"]["limits"]["nvidia.com/gpu"]
    assert words[words.index("--nproc-per-node") + 1] == str(gpus)


# The process that is about to write the checkpoint in the second epoch dies, once; each epoch has two.
KILLED_ONCE = """
import os, signal, sys
written = []
def die(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("/last.pt"):
        written.append(1)
        if len(written) == 3 and not os.path.exists(os.environ["KILLED"]):
            open(os.environ["KILLED"], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(die)
"""


@pytest.mark.slow
def test_ray_trains_what_torchrun_trains_although_a_process_dies(tmp_path: Path) -> None:
    for module in ("ray.train.torch", "tensorboardX"):
        pytest.importorskip(module, reason="Ray Train is not installed: pip install 'ray[train]==2.60.0'")
    write_images(tmp_path / "data", 6)
    write_cfg(tmp_path)
    words = ["--cfg", "small.yaml", "--data", "data"]
    settings = ["train.epochs=3", "train.reference_images=null"]
    expected = train_on_nodes([*words, "--output", "expected", "--device", "cpu", *settings], [tmp_path] * 2, tmp_path)
    assert expected.code == 0, expected.output
    script = [sys.executable, str(EXAMPLES / "ray_train.py"), *words, "--output", "run", *settings]
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "sitecustomize.py").write_text(KILLED_ONCE)
    folders = (str(tmp_path / "start"), str(Path.cwd()), os.environ.get("PYTHONPATH"))
    environment = {
        **os.environ,
        "KILLED": str(tmp_path / "killed"),
        "PYTHONPATH": os.pathsep.join(filter(None, folders)),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    for _ in range(3):
        run = subprocess.run(script, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900)
        if "timed out during startup" not in run.stderr:  # Ray gives up when a busy machine needs more than 30 s
            break
    assert run.returncode == 0, shlex.join(script) + run.stdout + run.stderr
    assert (tmp_path / "killed").exists() and "resuming in epoch 2" in run.stdout, run.stdout + run.stderr
    assert (tmp_path / "run" / "command.txt").read_text().count("ray_train.py --cfg small.yaml") == 2
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in ("expected", "run")]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
