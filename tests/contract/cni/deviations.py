"""What the reference plugins of Debian 12 (containernetworking-plugins 1.1.1) do not fulfil.

Each entry names a test, which must fail for the reason given; when it passes, the entry must go.
"""

_STATUS_AND_GC = (
    "test_s15_gc_and_status_are_refused_before_1_1_0",
    "test_s39_status_succeeds_without_a_word",
    "test_s40_s47_its_gc_and_status_are_run_and_errors_passed_on",
    "test_s42_status_is_quick",
    "test_s42_status_needs_little_memory",
    "test_s43_s44_gc_removes_what_is_not_listed",
    "test_s43_the_specified_key_wins",
    "test_s44_gc_leaves_other_networks_alone",
    "test_s45_an_empty_list_removes_all",
    "test_s46_gc_again_succeeds",
    "test_s49_gc_after_the_dels_of_a_runtime_succeeds",
)
_BOTH = dict.fromkeys(_STATUS_AND_GC, "CNI 1.0.0 has no such verb") | {
    "test_s02_an_error_repeats_the_version": "errors have no cniVersion",
    "test_s09_an_address_of_the_configuration_wins": "host-local wants to give both addresses",
    "test_s10_the_plugins_own_namespace_is_refused": "not refused",
    "test_s13_version_repeats_the_version_asked_in": "gives its own version",
    "test_s21_a_previous_result_is_passed_on": "prevResult is dropped",
    "test_s22_when_it_fails_its_del_is_run": "a failed ADD of the IPAM plugin has no DEL",
    "test_s25_a_field_that_is_not_supported_is_named_with_its_value": "code 999, without value",
    "test_s32_check_needs_the_previous_result": "code 999",
    "test_s38_check_finds_another_address": "only what should be there is looked for",
}

DEVIATIONS: dict[str, dict[str, str]] = {
    "bridge": _BOTH | {"test_s22_when_it_fails_nothing_is_left": "the veth pair stays"},
    "ptp": _BOTH | {"test_the_mac_capability_is_honoured": "there is none"},
}
