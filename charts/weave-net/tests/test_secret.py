"""templates/secret.yaml."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.k8s.rendering import one, render


def test_a_secret_of_full_strength_is_made() -> None:
    secret = one(render(), "Secret", "weave-net-mesh")

    assert len(base64.b64decode(secret["data"]["password"])) == 48


@pytest.mark.parametrize("secret", [{"enabled": False}, {"existingSecret": "mine"}])
def test_none_is_made_where_none_is_wanted(secret: dict[str, Any]) -> None:
    items = render({"mesh": {"secret": secret}})

    assert [item for item in items if item["kind"] == "Secret"] == []
