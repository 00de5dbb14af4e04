from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def odd(data_dir: Path) -> Path:
    """Images of every kind that programs stumble over."""
    return data_dir / "odd"
