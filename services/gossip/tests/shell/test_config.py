"""Options: what is taken, and one clear line for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from weave_gossip.config import Config
from weave_gossip.target import Target
from weave_model.peer import PeerName
from weave_runtime.config import ConfigError, describe, load


def test_without_options_the_defaults_are_weaves() -> None:
    config = load(Config, [], {})

    assert (config.port, config.conn_limit, config.peers, config.no_discovery) == (
        6783,
        30,
        (),
        False,
    )
    assert config.http_addr == "127.0.0.1:6786"
    assert config.socket_path == Path("/run/weave/gossip/api.sock")
    assert config.shown_nickname


def test_weaves_environment_is_understood() -> None:
    environ = {
        "KUBE_PEERS": "10.0.0.1 10.0.0.2",
        "CONN_LIMIT": "200",
        "IPALLOC_RANGE": "10.32.0.0/12",
        "WEAVE_PASSWORD": "s3cret",
    }

    config = load(Config, [], environ)

    assert config.targets == (Target("10.0.0.1", 6783), Target("10.0.0.2", 6783))
    assert config.conn_limit == 200
    assert config.universes == ("10.32.0.0/12",)
    assert config.password_set == ("s3cret",)


def test_peers_are_taken_as_arguments_and_repetitions_once() -> None:
    config = load(Config, ["--port", "7000", "a.example", "10.0.0.1:9", "a.example:7000"], {})

    assert config.targets == (Target("a.example", 7000), Target("10.0.0.1", 9))


def test_a_name_and_universes_of_both_families_are_read() -> None:
    argv = ["--name", "7a:9f:c0:d4:b8:39", "--ipalloc-range", "fd00::/64,10.0.0.0/8"]

    config = load(Config, argv, {})

    assert config.name == PeerName.parse("7a:9f:c0:d4:b8:39")
    assert config.universes == ("10.0.0.0/8", "fd00::/64")


def test_passwords_are_never_shown(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("s3cret\n")

    config = load(
        Config, ["--password-file", str(tmp_path / "new")], {"WEAVE_PASSWORD_PREVIOUS": "0ld"}
    )

    assert config.password_set == ("s3cret", "0ld")
    for text in (describe(config), repr(config)):
        assert "s3cret" not in text
        assert "0ld" not in text


def test_the_redis_password_is_never_shown() -> None:
    url = "redis://u:s3cret@redis:6379/1"

    config = load(Config, [], {"WEAVE_COORDINATION": url})

    assert "s3cret" not in describe(config) + repr(config)
    assert config.coordination == url


@pytest.mark.parametrize("option", ["coordination", "store-url"])
def test_a_password_in_an_argument_is_refused_without_showing_it(option: str) -> None:
    """Every process of the machine can read /proc/*/cmdline."""
    with pytest.raises(ConfigError, match="in the environment instead") as caught:
        load(Config, [f"--{option}=redis://u:s3cret@redis:6379/1"], {})

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--name", "x"], "flag --name is \"x\": 'x' is no peer name"),
        (["--name", "00:00:00:00:00:00"], "is reserved"),
        (["--port", "0"], 'flag --port is "0": expected a port between 1 and 65535'),
        (["--port", "70000"], "expected a port between 1 and 65535"),
        (["--host", "eth0"], "'eth0' is no IP address"),
        (["--underlay-address", "10.0.0.256"], "'10.0.0.256' is no IP address"),
        (["--conn-limit", "-1"], "expected a whole number of at least 0"),
        (["--ipalloc-range", "10.32.0.1/12"], "'10.32.0.1/12' is no address range in CIDR form"),
        (["--ipalloc-range", "10.32.0.0/31"], "expected a range of at least 4 addresses"),
        (["--ipalloc-range", "10.0.0.0/8,11.0.0.0/8"], "one range per family"),
        (["--coordination", "etcd://x"], "expected file:/PATH, redis://HOST"),
        (["--coordination", "file:relative"], "expected file:/PATH, redis://HOST"),
        (["10.0.0.256"], "'10.0.0.256' is no peer address"),
        (["a:b:c"], "'a:b:c' is no peer address"),
        (["host:99999"], "has a port that is not between 1 and 65535"),
        (["--resume", "10.0.0.1"], "--resume uses the peers of the last run; give no others"),
        (["--nickname", "a\nb"], "printable"),
        (["--unknown"], "unknown flag --unknown"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Config, argv, {})

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"WEAVE_PASSWORD_PREVIOUS": "a"}, "set password too"),
        ({"WEAVE_PASSWORD": "a", "WEAVE_PASSWORD_PREVIOUS": "a"}, "it is the same as password"),
    ],
)
def test_secrets_that_make_no_sense_are_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(Config, [], environ)
