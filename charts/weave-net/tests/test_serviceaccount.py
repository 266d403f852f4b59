"""templates/serviceaccount.yaml."""

from __future__ import annotations

from tests.k8s.rendering import agent, one, render


def test_the_account_hands_no_token_to_pods() -> None:
    account = one(render(), "ServiceAccount")

    assert account["automountServiceAccountToken"] is False
    assert agent()["serviceAccountName"] == account["metadata"]["name"]
