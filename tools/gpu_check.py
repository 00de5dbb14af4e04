"""Checks that this checkout works on a GPU, and how fast: python tools/gpu_check.py [--json FILE] [--budget SECONDS].

Parity of each precision with the CPU, latency and throughput, training, losses, a killed and resumed run, loading, NMS
and memory, in under eight minutes on one GPU. Nothing is downloaded; images are generated. Every check runs in a
process of its own, so one that fails is a row with its error. ``--device cpu --quick`` runs small forms of the same
checks without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.gpu_measurements import Values, checks  # noqa: E402 found by the line above

CHECK_SECONDS = 150  # longest time of one check


def run_here(name: str, arguments: argparse.Namespace) -> Values:
    """One check in this process."""
    values = checks(arguments.data)[name](arguments.device, arguments.quick)
    if arguments.device != "cpu":
        import torch

        values["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return {"ok": True} | values


def run_apart(name: str, words: list[str], seconds: float) -> Values:
    """One check in a process of its own, which is killed after so many seconds."""
    start = time.perf_counter()
    with TemporaryDirectory() as folder:
        answer = Path(folder, "answer.json")
        command = [sys.executable, str(Path(__file__).resolve()), *words, "--only", name, "--answer", str(answer)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
            lines = done.stderr.strip().splitlines()
            values = {"ok": False, "error": lines[-1] if lines else f"ended with {done.returncode}"}
            if answer.exists():
                values = json.loads(answer.read_text())
        except subprocess.TimeoutExpired:
            values = {"ok": False, "error": f"took more than {seconds:.0f} s"}
    return {"check": name, "seconds": round(time.perf_counter() - start, 1)} | values


def text_of(row: Values) -> str:
    """A row of the table."""
    state = "ok" if row["ok"] else "FAILED" if row["ok"] is not None else "skipped"
    values = [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()]
    shown = ", ".join(value for value in values if value.split()[0] not in ("check", "seconds", "ok"))
    return f"{row['check']:34s} {state:8s} {row['seconds']:6.1f} s  {shown}"


def main(words: list[str] | None = None) -> int:
    """Run the checks, print the table, write the JSON; 0 if all are fine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--device", default="cuda:0", help="cuda:N or cpu (default cuda:0)")
    parser.add_argument("--quick", action="store_true", help="small inputs and few steps")
    parser.add_argument("--data", default="", help="data set of the loader's check (default: generated images)")
    parser.add_argument(
        "--budget", type=float, default=450, help="seconds after which no check is started (default 450)"
    )
    parser.add_argument("--json", type=Path, help="file that receives machine and rows")
    parser.add_argument("--only", action="append", help="name of a check to run; may be repeated")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.answer:
        arguments.answer.write_text(json.dumps(run_here(arguments.only[0], arguments)))
        return 0
    import torch

    if arguments.device != "cpu" and not torch.cuda.is_available():
        print("no CUDA device: run on a machine with a GPU, or with --device cpu --quick", file=sys.stderr)
        return 2
    gpu = torch.cuda.get_device_name(arguments.device) if arguments.device != "cpu" else None
    machine = {"torch": torch.__version__, "cuda": torch.version.cuda, "gpu": gpu, "cpus": os.cpu_count()}
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    names = list(checks(arguments.data))
    if unknown := set(arguments.only or ()) - set(names):
        parser.error(f"no check {unknown.pop()!r}; there are: {', '.join(names)}")
    start, rows = time.perf_counter(), []
    passed_on = ["--device", arguments.device, "--data", arguments.data, *["--quick"] * arguments.quick]
    for name in arguments.only or names:
        left = arguments.budget - (time.perf_counter() - start)
        if left > 0:
            rows.append(run_apart(name, passed_on, min(left, CHECK_SECONDS)))
        else:
            rows.append({"check": name, "seconds": 0.0, "ok": None, "error": "no time is left of the budget"})
        print(text_of(rows[-1]), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
