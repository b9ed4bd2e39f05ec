"""Fixtures that every room's tests share."""

import sys
from pathlib import Path

import pytest

# For `generated` and `planted`.
sys.path.insert(0, str(Path(__file__).parent))

REALSKY = Path(__file__).resolve().parents[2] / "shared" / "realsky"


@pytest.fixture(scope="session")
def realsky() -> Path:
    """The folder of the small real sky that may stand beside the checkout."""
    if not REALSKY.is_dir():
        pytest.skip("the small real sky is not here: no folder shared/realsky beside the checkout")
    return REALSKY
