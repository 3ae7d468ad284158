"""The shipped example as a bundle."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.bundles import make_bundle

# How long an example takes says nothing on a machine that does other work too.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def bundle():
    return make_bundle
