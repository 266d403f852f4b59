"""templates/_validate.tpl and values.schema.json."""

from __future__ import annotations

from typing import Any

import pytest

from tests.k8s.rendering import Object, Refused, render


def _redis(url: str, **more: str) -> Object:
    return {"store": {"type": "redis", "redis": {"url": url, **more}}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"encryption": {"enabled": True}}, "encryption.enabled=true: packets between nodes"),
        ({"networkPolicy": {"enabled": True}}, "networkPolicy.enabled=true: the policy"),
        (
            {"ipam": {"ranges": ["10.0.0.0/16", "10.1.0.0/16"]}},
            "ipam.ranges: 10.0.0.0/16 and 10.1.0.0/16 are of one address family",
        ),
        (
            {"ipam": {"ranges": ["fd00::/48"]}, "mtu": 1000},
            "mtu=1000: IPv6 needs at least 1280",
        ),
        (
            {"mesh": {"secret": {"enabled": False, "existingSecret": "mine"}}},
            "mesh.secret.existingSecret=mine with mesh.secret.enabled=false",
        ),
        (
            {"store": {"redis": {"url": "redis://x"}}},
            "store.redis.url is set with store.type=sqlite",
        ),
        (
            {"store": {"redis": {"existingSecret": "mine"}}},
            "store.redis.existingSecret=mine with store.type=sqlite",
        ),
        (
            _redis("redis://x", existingSecret="mine"),
            "store.redis.url is set beside store.redis.existingSecret=mine",
        ),
        (_redis("redis://:secret@x:6379/0"), "store.redis.url holds a user or a password"),
        (_redis("rediss://user:secret@x"), "store.redis.url holds a user or a password"),
        (_redis("redis://x/0?password=secret"), "store.redis.url holds a user or a password"),
        (
            {"metrics": {"podMonitor": {"enabled": True}}},
            "metrics.podMonitor.enabled=true with metrics.enabled=false",
        ),
    ],
)
def test_impossible_combinations_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        render(values)
    assert sentence in str(refused.value)
    assert "secret@" not in str(refused.value)


def test_an_address_of_a_socket_holds_no_password() -> None:
    assert render(_redis("unix:///run/redis@host/redis.sock"))


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"ipam": {"range": "10.0.0.0/8"}}, "range"),
        ({"ipam": {"ranges": ["10.0.0.0"]}}, "ranges"),
        ({"mtu": 100}, "mtu"),
        ({"log": {"level": "loud"}}, "level"),
        ({"store": {"type": "mysql"}}, "type"),
        ({"maxUnavailable": "0%"}, "maxUnavailable"),
    ],
)
def test_values_of_a_wrong_form_are_named(values: dict[str, Any], place: str) -> None:
    with pytest.raises(Refused, match="don't meet the specifications") as refused:
        render(values)
    assert place in str(refused.value)
