"""What pyproject.toml cannot express: weights/ and cfg/ are beside the package, and are installed inside it."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["yolofpn*"]), "yolofpn.default_cfg", "yolofpn.default_weights"],
    package_dir={"yolofpn.default_cfg": "cfg", "yolofpn.default_weights": "weights"},
)
