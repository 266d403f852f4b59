"""The played kernel keeps the contract of the real one."""

from __future__ import annotations

import pytest

from tests.kernel.kernel_contract import *  # noqa: F403 - the tests of the contract
from tests.kernel.kernel_contract import Rig
from weave_router.kernel.fake import OWN_NAMESPACE, FakeKernel


@pytest.fixture
def rig() -> Rig:
    kernel = FakeKernel(sandboxes={"/run/netns/pod": {}})
    return Rig(
        kernel,
        lambda work: work(),
        "/run/netns/pod",
        OWN_NAMESPACE,
        kernel.connections.add,
        lambda: kernel.connections,
    )
