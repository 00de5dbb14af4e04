"""``demo.py``: serve the demo page for detection in the browser."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path

from yolofpn.cli.arguments import Parser, count, run_command
from yolofpn.errors import UserError, install_hint

PASSWORD_VARIABLE = "YOLOFPN_DEMO_PASSWORD"
LAST_PORT = 65_535
EXTRA = ("starlette", "uvicorn", "websockets")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and serve the page; return the exit code."""
    arguments = build_parser().parse_args(argv)

    def run() -> int:
        if any(importlib.util.find_spec(name) is None for name in EXTRA):
            raise UserError(f"the page needs more packages: {install_hint('demo')}")
        from yolofpn.demo.serve import DemoOptions, serve

        options = vars(arguments)
        password = _password(options.pop("password_file"))
        if options["tls_key"] is not None and options["tls_cert"] is None:
            raise UserError("--tls-key is the key of a certificate: give --tls-cert as well")
        return serve(DemoOptions(**options, password=password))

    return run_command(run)


def build_parser() -> Parser:
    """Return the argument parser of demo.py."""
    parser = Parser(
        prog="demo.py",
        description="Detect in the browser: a local web page for webcam, uploads and this computer's cameras.",
    )
    add = parser.add_argument
    add(
        "--source",
        nargs="+",
        action="extend",
        default=[],
        metavar="SRC",
        help="cameras, streams and videos of this computer to show in the page",
    )
    add(
        "--weights",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE|RUN_DIR|NAME",
        help="weights to choose from in the page, the first one is preselected; default: the default weights",
    )
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: reachable from other computers")
    add("--port", type=_port, default=7860, metavar="N", help="port to listen on; 0: any free port")
    add(
        "--password-file",
        type=Path,
        metavar="FILE",
        help=f"file whose first line is the password of the page; or set {PASSWORD_VARIABLE}",
    )
    add(
        "--tls-cert",
        type=Path,
        metavar="FILE",
        help="certificate (PEM) for https, which browsers on other computers need for their webcam",
    )
    add("--tls-key", type=Path, metavar="FILE", help="private key of the certificate, if it is in another file")
    add(
        "--trusted-proxy",
        nargs="+",
        action="extend",
        type=_network,
        default=[],
        metavar="ADDRESS",
        help="addresses or networks of reverse proxies whose X-Forwarded-For is trusted",
    )
    add("--device", default="auto", help="auto, cpu, cuda:N or mps")
    return parser


def _port(text: str) -> int:
    """Parse a port number; without the check larger numbers would wrap around."""
    number = count(text)
    if number > LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {LAST_PORT}")
    return number


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address or network, such as 192.168.1.5 or 10.0.0.0/8"
        ) from None


def _password(path: Path | None) -> str | None:
    """Read the password from the file, else from the environment; every user could read it on a command line."""
    if path is None:
        return os.environ.get(PASSWORD_VARIABLE) or None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); check --password-file") from None
    if not lines or not lines[0].strip():
        raise UserError(f"{path}: the first line is empty: write the password there")
    return lines[0].strip()


if __name__ == "__main__":
    raise SystemExit(main())
