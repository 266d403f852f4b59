"""templates/uninstall.yaml."""

from __future__ import annotations

from tests.k8s.rendering import one, render

NAME = "weave-net-uninstall"


def test_uninstall_runs_before_the_release_is_deleted() -> None:
    job = one(render(), "Job", NAME)

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-delete"
    pod = job["spec"]["template"]["spec"]
    assert pod["hostNetwork"] is True
    assert pod["containers"][0]["args"] == ["kube-system", "weave-net", "name=weave-net"]


def test_the_pod_of_the_job_is_none_of_the_agents() -> None:
    labels = one(render(), "Job", NAME)["spec"]["template"]["metadata"]["labels"]

    assert labels.get("name") != "weave-net"


def test_its_account_comes_before_the_job_and_goes_with_it() -> None:
    items = render()
    kinds = ("ServiceAccount", "Role", "RoleBinding", "Job")
    annotations = [one(items, kind, NAME)["metadata"]["annotations"] for kind in kinds]

    weights = [int(item["helm.sh/hook-weight"]) for item in annotations]
    assert weights == sorted(weights)
    assert weights[-2] < weights[-1]
    assert {item["helm.sh/hook-delete-policy"] for item in annotations} == {
        "before-hook-creation,hook-succeeded,hook-failed"
    }


def test_it_may_do_no_more_than_tell_wait_and_tidy_up() -> None:
    verbs = {
        (rule["resources"][0], *rule.get("resourceNames", [])): rule["verbs"]
        for rule in one(render(), "Role", NAME)["rules"]
    }

    assert verbs == {
        ("configmaps", "weave-net"): ["get", "update", "delete"],
        ("configmaps",): ["create"],
        ("pods",): ["list"],
    }
