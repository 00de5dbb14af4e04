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


@pytest.mark.slow
def test_ray_trains_what_torchrun_trains(tmp_path: Path) -> None:
    pytest.importorskip("ray.train.torch", reason="Ray is not installed: pip install 'ray[train]==2.60.0'")
    write_images(tmp_path / "data", 6)
    write_cfg(tmp_path)
    words = ["--cfg", str(tmp_path / "small.yaml"), "--data", str(tmp_path / "data")]
    settings = ["train.epochs=2", "train.reference_images=null"]
    expected = train_on_nodes([*words, "--output", "expected", "--device", "cpu", *settings], [tmp_path] * 2, tmp_path)
    assert expected.code == 0, expected.output
    script = [sys.executable, str(EXAMPLES / "ray_train.py"), *words, "--output", str(tmp_path / "run"), *settings]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH")))),
    }
    run = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, shlex.join(script) + run.stdout + run.stderr
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True)["model"] for name in ("expected", "run")]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
