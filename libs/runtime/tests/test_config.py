"""Options: precedence, messages, secrets."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from weave_runtime.config import (
    ConfigError,
    describe,
    load,
    load_or_exit,
    option,
    parse_count,
    usage,
)
from weave_runtime.options import CommonOptions, hide_password


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def parse_even(text: str) -> int:
    if int(text) % 2:
        raise ValueError("expected an even number")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class Options:
    limit: int = option(30, env="LIMIT", parse=parse_count, help="how many")
    quick: bool = option(False, help="be quick")
    wait: timedelta = option(timedelta(seconds=1), help="how long")
    place: Path = option(Path("/here"), help="where")
    colour: Colour = option(Colour.RED, help="which")
    friends: tuple[str, ...] = option((), env="FRIENDS", help="who")
    evens: tuple[int, ...] = option((), parse=parse_even, help="which numbers")
    maybe: int | None = option(None, help="perhaps")
    password: str = option("", env="PASSWORD", secret=True, help="what nobody may know")


@dataclass(frozen=True, kw_only=True)
class Strict:
    name: str = option(help="must be given")
    low: int = option(1, help="lower end")
    high: int = option(2, help="upper end")

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, above high, {self.high}")


def message_of(argv: list[str], environ: dict[str, str], options: type = Options) -> str:
    with pytest.raises(ConfigError) as caught:
        load(options, argv, environ)
    return str(caught.value)


def test_defaults_hold_when_nothing_is_set() -> None:
    assert load(Options, [], {}) == Options()


def test_flag_wins_over_environment_and_environment_over_default() -> None:
    environ = {"LIMIT": "7", "WEAVE_PLACE": "/there"}

    options = load(Options, ["--limit", "9"], environ)

    assert (options.limit, options.place) == (9, Path("/there"))


def test_empty_environment_value_counts_as_not_set() -> None:
    assert load(Options, [], {"LIMIT": ""}).limit == 30


def test_empty_flag_value_is_a_value() -> None:
    assert load(Options, ["--place="], {"WEAVE_PLACE": "/there"}).place == Path()


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--quick"], True),
        (["--quick=false"], False),
        (["--quick=1"], True),
        (["--quick=OFF"], False),
    ],
)
def test_bool_flag_needs_no_value(argv: list[str], expected: bool) -> None:
    assert load(Options, argv, {}).quick is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("60s", timedelta(minutes=1)),
        ("1m30s", timedelta(seconds=90)),
        ("1.5h", timedelta(minutes=90)),
        ("20us", timedelta(microseconds=20)),
    ],
)
def test_duration_is_read_as_go_writes_it(text: str, expected: timedelta) -> None:
    assert load(Options, ["--wait", text], {}).wait == expected


def test_plain_types_need_no_parser() -> None:
    options = load(Options, ["--colour", "Blue", "--maybe", "4", "--place", "/a/b"], {})

    assert (options.colour, options.maybe, options.place) == (Colour.BLUE, 4, Path("/a/b"))


def test_list_collects_repeated_flags() -> None:
    assert load(Options, ["--friends", "a", "--friends=b,c"], {}).friends == ("a", "b", "c")


def test_list_in_the_environment_is_split_at_commas_and_spaces() -> None:
    assert load(Options, [], {"FRIENDS": " a, b  c,d "}).friends == ("a", "b", "c", "d")


def test_list_elements_are_parsed_one_by_one() -> None:
    assert load(Options, ["--evens", "2 4"], {}).evens == (2, 4)


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        (["--limit", "x"], {}, 'option limit: flag --limit is "x": expected a whole number'),
        (
            [],
            {"LIMIT": "-1"},
            'option limit: environment LIMIT is "-1": expected a whole number of at least 0',
        ),
        (
            ["--quick=perhaps"],
            {},
            'option quick: flag --quick is "perhaps": expected true or false',
        ),
        (
            ["--wait=5"],
            {},
            'option wait: flag --wait is "5": expected a duration, "250ms", "60s" or "1m30s"',
        ),
        (
            ["--colour", "green"],
            {},
            'option colour: flag --colour is "green": expected one of red, blue',
        ),
        (["--evens", "2,3"], {}, 'option evens: flag --evens is "3": expected an even number'),
        (["--limits", "3"], {}, "unknown flag --limits"),
        (["--limits=secret"], {}, "unknown flag --limits"),
        (["--limit"], {}, "flag --limit needs a value"),
        (["stray"], {}, 'unexpected argument "stray"'),
        (["--password", "x"], {}, "unknown flag --password"),
    ],
)
def test_mistake_is_named_with_its_source(
    argv: list[str], environ: dict[str, str], expected: str
) -> None:
    assert message_of(argv, environ) == expected


def test_required_option_must_be_given() -> None:
    message = message_of([], {}, Strict)

    assert message == "option name is required: set --name or WEAVE_NAME"


def test_contradiction_found_by_the_class_is_a_config_error() -> None:
    message = message_of(["--name=n", "--low=3"], {}, Strict)

    assert message == "low is 3, above high, 2"


def test_secret_is_read_from_the_environment() -> None:
    assert load(Options, [], {"PASSWORD": "s3cret"}).password == "s3cret"


def test_secret_is_read_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("s3cret \n")

    options = load(Options, [f"--password-file={tmp_path}/password"], {"PASSWORD": "other"})

    assert options.password == "s3cret "


def test_unreadable_secret_file_is_named() -> None:
    message = message_of(["--password-file=/no/such"], {})

    assert message.startswith("option password: flag --password-file: ")
    assert "/no/such" in message


def test_secret_shows_nowhere() -> None:
    options = load(Options, [], {"PASSWORD": "s3cret"})

    assert "s3cret" not in repr(options)
    assert describe(options) == "map[password:<redacted>]"


def test_rejected_secret_is_not_repeated() -> None:
    @dataclass(frozen=True)
    class Pin:
        pin: int = option(0, env="PIN", secret=True, help="a number")

    assert "12x4" not in message_of([], {"PIN": "12x4"}, Pin)


def test_description_lists_what_differs_from_the_defaults() -> None:
    argv = ["--quick", "--friends=a,b", "--colour=blue", "--limit=30"]

    described = describe(load(Options, argv, {}))

    assert described == "map[colour:blue friends:[a b] quick:true]"


def test_store_url_is_shown_without_its_password() -> None:
    url = "redis://user:s3cret@host:6379/0"
    options = CommonOptions(socket_path=Path("/s"), state_dir=Path("/d"), store_url=url)

    assert "s3cret" not in repr(options)
    assert "store-url:redis://user:<redacted>@host:6379/0" in describe(options)


def test_password_of_what_is_no_url_is_hidden_too() -> None:
    assert hide_password("redis://u:s3cret@[host") == "<redacted>"


@pytest.mark.parametrize("url", ["", "redis://host:1/0", "unix:///run/redis.sock", "redis://[h"])
def test_url_without_password_is_shown_as_it_is(url: str) -> None:
    assert hide_password(url) == url


def test_service_gives_common_options_its_own_defaults() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Own(CommonOptions):
        socket_path: Path = option(Path("/run/own.sock"), help="socket")
        state_dir: Path = option(Path("/var/own"), help="state")

    options = load(Own, [], {"WEAVE_HTTP_ADDR": "127.0.0.1:1"})

    assert options.http_addr == "127.0.0.1:1"
    assert options.socket_path == Path("/run/own.sock")


def test_mistake_ends_the_process_with_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        load_or_exit(Options, ["--nonsense"], {}, prog="weave-x")

    assert caught.value.code == 2
    assert capsys.readouterr().err == "weave-x: unknown flag --nonsense\n"


def test_help_lists_flag_environment_meaning_and_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        load_or_exit(Options, ["--help"], {}, prog="weave-x")

    out = capsys.readouterr().out
    assert caught.value.code == 0
    assert out == usage(Options, "weave-x")
    assert "--limit (LIMIT)\n        how many [default 30]\n" in out
    assert "\n        be quick [default false]\n" in out
    assert "\n        how long [default 1s]\n" in out
    assert "\n        which [red, blue; default red]\n" in out
    assert "\n        who\n" in out
    assert "must be given [required]" in usage(Strict, "weave-x")
    assert "--password-file (PASSWORD)" in out


@dataclass(frozen=True, kw_only=True)
class Greeter:
    loud: bool = option(False, help="shout")
    friends: tuple[str, ...] = option((), env="FRIENDS", positional=True, help="whom")


def test_words_without_a_flag_go_to_the_positional_option() -> None:
    greeter = load(Greeter, ["anna", "--loud", "bert", "--friends=carl"], {"FRIENDS": "dora"})

    assert greeter == Greeter(loud=True, friends=("anna", "bert", "carl"))


def test_a_single_dash_is_no_positional_word() -> None:
    assert message_of(["-loud"], {}, Greeter) == 'unexpected argument "-loud"'
