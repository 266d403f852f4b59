"""What ipam can be told, and what it says to what it cannot be told."""

from datetime import timedelta
from pathlib import Path

import pytest

from weave_ipam.config import Config, GuessedConsensus
from weave_ipam.core.options import Agreed, Consensus, Observer, Seeded
from weave_model.peer import PeerName
from weave_model.prefix import Prefix
from weave_runtime.config import ConfigError, describe, load, load_or_exit


def given(*argv: str, **environ: str) -> Config:
    return load(Config, argv, environ)


def refused(*argv: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        given(*argv, **environ)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_defaults_are_weave_nets() -> None:
    config = given()

    assert config.families[0].universe == Prefix.parse("10.32.0.0/12")
    assert config.families[0].default_subnet == Prefix.parse("10.32.0.0/12")
    assert config.ipalloc_init == GuessedConsensus()
    assert config.quarantine == timedelta(seconds=60)


def test_environment_names_are_weave_nets() -> None:
    config = given(IPALLOC_RANGE="10.2.0.0/16", IPALLOC_INIT="consensus=3")

    assert config.families[0].universe == Prefix.parse("10.2.0.0/16")
    assert config.ipalloc_init == Consensus(3)


def test_two_ranges_give_dual_stack_ipv4_first() -> None:
    config = given("--ipalloc-range=fd00:32::/64,10.2.0.0/16")

    assert [str(family.universe) for family in config.families] == ["10.2.0.0/16", "fd00:32::/64"]


def test_each_family_may_have_a_default_subnet() -> None:
    config = given(
        "--ipalloc-range=10.2.0.0/16,fd00:32::/64", "--ipalloc-default-subnet=fd00:32::/80"
    )

    assert [str(f.default_subnet) for f in config.families] == ["10.2.0.0/16", "fd00:32::/80"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("consensus=0", GuessedConsensus()),
        ("consensus=4", Consensus(4)),
        ("observer", Observer()),
        ("coordination", Agreed()),
    ],
)
def test_modes_of_the_first_ring(text: str, expected: object) -> None:
    assert given(f"--ipalloc-init={text}").ipalloc_init == expected


def test_seeds_are_sorted_and_without_doubles() -> None:
    init = given(
        "--ipalloc-init", "seed=02:00:00:00:00:02,02:00:00:00:00:01,2:0:0:0:0:2"
    ).ipalloc_init

    assert isinstance(init, Seeded)
    assert init.genesis.seeds == (
        PeerName.parse("02:00:00:00:00:01"),
        PeerName.parse("02:00:00:00:00:02"),
    )


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--ipalloc-range=10.2.0.0", "10.2.0.0/32"),
        ("--ipalloc-range=rubbish", "rubbish"),
        ("--ipalloc-range=10.2.0.0/31", "10.2.0.0/31"),
        ("--ipalloc-range=10.2.0.1/16", "10.2.0.1/16"),
        ("--ipalloc-range=10.2.0.0/16,10.3.0.0/16", "10.3.0.0/16"),
        ("--ipalloc-range=,", "ipalloc-range"),
        ("--ipalloc-default-subnet=10.2.0.0/24", "10.2.0.0/24"),
        ("--ipalloc-default-subnet=fd00::/64", "fd00::/64"),
        ("--ipalloc-init=consensus", "consensus"),
        ("--ipalloc-init=consensus=-1", "consensus=-1"),
        ("--ipalloc-init=consensus=1000000", "consensus=1000000"),
        ("--ipalloc-init=seed=", "seed="),
        ("--ipalloc-init=seed=zz", "zz"),
        ("--ipalloc-init=observer=1", "observer=1"),
        ("--quarantine=long", "long"),
        ("--unknown=1", "--unknown"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_value(argument: str, named: str) -> None:
    assert named in refused(argument)


def test_a_mistake_ends_the_process_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_or_exit(Config, ["--ipalloc-range=10.0.0.0/31"], {}, prog="weave-ipam")

    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_sockets_of_others_are_below_the_run_directory() -> None:
    config = given("--run-dir=/run/other")

    assert config.gossip_path == Path("/run/other/gossip/api.sock")
    assert config.router_path == Path("/run/other/router/api.sock")


def test_options_are_shown_as_they_were_given() -> None:
    seed = "seed=02:00:00:00:00:01,02:00:00:00:00:02"
    for init in (seed, "consensus=3", "observer", "coordination"):
        shown = describe(given(f"--ipalloc-init={init}", "--ipalloc-range=10.2.0.0/16"))

        assert init in shown
        assert "10.2.0.0/16" in shown
