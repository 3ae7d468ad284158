"""The shipped example as a bundle."""

from __future__ import annotations

import pytest

from tests.bundles import make_bundle


@pytest.fixture(scope="session")
def bundle():
    return make_bundle
