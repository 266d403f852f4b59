"""Error objects, and which code stands for what another service answered."""

from __future__ import annotations

import json

import pytest

from weave_cni_shim.core.failure import CniError, Code, failure_of
from weave_model.errors import (
    Aborted,
    Absent,
    AlreadyThere,
    Conflict,
    DomainError,
    Exhausted,
    Invalid,
    NotReady,
    TimedOut,
    Unsupported,
)


def test_an_error_is_an_object_with_version_code_message_and_details() -> None:
    error = CniError(Code.TRY_AGAIN, "address: no ring yet", "priming")

    assert json.loads(error.to_json("0.4.0")) == {
        "cniVersion": "0.4.0",
        "code": 11,
        "msg": "address: no ring yet",
        "details": "priming",
    }


def test_details_are_left_out_where_there_are_none() -> None:
    assert "details" not in json.loads(CniError(Code.IO_FAILURE, "x").to_json("1.1.0"))


@pytest.mark.parametrize("phrase", ["not found", "no such file or directory"])
def test_s31_no_error_says_what_containerd_takes_for_success(phrase: str) -> None:
    error = CniError(Code.INTERNAL, f"veth {phrase}", f"netns: {phrase}")

    assert phrase not in error.to_json("1.1.0").decode()
    assert "veth" in error.to_json("1.1.0").decode()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Invalid("x"), Code.INVALID_CONFIG),
        (Absent("x"), Code.INVALID_NETNS),
        (Exhausted("x"), Code.TRY_AGAIN),
        (NotReady("x"), Code.TRY_AGAIN),
        (TimedOut("x"), Code.TRY_AGAIN),
        (Aborted("x"), Code.TRY_AGAIN),
        (Conflict("x"), Code.ADDRESS_CONFLICT),
        (AlreadyThere("x"), Code.INTERFACE_EXISTS),
        (Unsupported("x"), Code.INTERNAL),
        (DomainError("x"), Code.INTERNAL),
    ],
)
def test_s24_what_may_work_later_says_try_again(error: DomainError, code: Code) -> None:
    assert failure_of(error).code is code
