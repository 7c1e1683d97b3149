"""What conf/deploy/kubernetes has, as far as it can be tried without a cluster: what is run, and what is tried again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from lakehouse.serving.handler import _OPEN
from tests.deploy.tools import answer, parsed, python_with

FOLDER = Path(__file__).parents[2] / "conf" / "deploy" / "kubernetes"


@pytest.fixture
def cronjob():
    return yaml.safe_load((FOLDER / "cronjob.yaml").read_text())


def test_the_cronjob_runs_a_command_of_ours(cronjob):
    pod = cronjob["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = parsed(container["args"])
    assert (given["conf"], given["engine"]) == ("conf/games.yaml", "local")
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert pod["securityContext"]["runAsNonRoot"] is True


def test_it_tries_again_what_may_pass_and_only_that(cronjob):
    job = cronjob["spec"]["jobTemplate"]["spec"]
    failing, _ = job["podFailurePolicy"]["rules"]
    assert failing["action"] == "FailJob"
    assert failing["onExitCodes"]["values"] == [1, 2, 3, 4]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # as podFailurePolicy demands
    assert cronjob["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_spark_application_runs_a_command_of_ours():
    application = yaml.safe_load((FOLDER / "scheduled-spark-application.yaml").read_text())
    given = parsed(["score", *application["spec"]["template"]["arguments"]])
    assert (given["conf"], given["project_dir"]) == ("conf/games.yaml", "/work")
    script = application["spec"]["template"]["mainApplicationFile"]
    assert (FOLDER.parents[2] / "jobs" / Path(script).name).is_file()
    assert application["spec"]["concurrencyPolicy"] == "Forbid"


@pytest.fixture
def follow():
    return yaml.safe_load((FOLDER / "follow.yaml").read_text())


def test_one_pod_at_a_time_follows_messages_by_a_command_of_ours(follow):
    pod = follow["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = parsed(container["args"])
    assert (given["conf"], given["follow"], given["date"]) == ("conf/games_live.yaml", True, None)
    assert (follow["spec"]["replicas"], follow["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert follow["spec"]["selector"]["matchLabels"] == follow["spec"]["template"]["metadata"]["labels"]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert pod["securityContext"]["runAsNonRoot"] is True


@pytest.fixture
def server():
    """By kind what server.yaml has."""
    return {one["kind"]: one for one in yaml.safe_load_all((FOLDER / "server.yaml").read_text())}


def test_the_server_runs_a_command_of_ours_where_its_probes_ask(server):
    pod = server["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = parsed(["serve", *container["args"]])
    assert (given["confs"], given["keys"]) == (["conf/games.yaml"], "env:SERVE_KEYS")
    assert [port["containerPort"] for port in container["ports"]] == [given["port"]]
    probes = [container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert [probe["port"] for probe in probes] == ["http"] * 3
    assert {probe["path"] for probe in probes} <= set(_OPEN)  # without a key
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    drained = container["lifecycle"]["preStop"]["sleep"]["seconds"] + given["timeout"] + 5
    assert pod["terminationGracePeriodSeconds"] >= drained


def test_service_scaling_and_disruption_are_of_the_server_s_pods(server):
    labels = server["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert server["Service"]["spec"]["selector"] == labels
    assert server["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert server["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    target, deployment = server["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"], server["Deployment"]
    assert target == {name: deployment[name] for name in ("apiVersion", "kind")} | {"name": "scores"}
    requests = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]
    assert "cpu" in requests  # of which the utilization is a part
    assert "replicas" not in deployment["spec"]  # else each `kubectl apply` undoes the scaling


VALIDATED = """
import json, sys
import kubernetes_validate
print(kubernetes_validate.validate(json.loads(sys.argv[1]), sys.argv[2], strict=True))
"""
AS_THE_OPERATOR_READS_IT = """
import json, sys
from kubeflow_spark_api import models
print(models.SparkV1beta2ScheduledSparkApplication.from_dict(json.loads(sys.argv[1])).to_json())
"""


@pytest.mark.long
@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_the_cronjob_keeps_to_the_schema_of_kubernetes(cronjob, version):
    python = python_with("kubernetes-validate==1.37.0")
    assert answer(python, VALIDATED, json.dumps(cronjob), version) == f"{version}\n"
    cronjob["spec"]["jobTemplate"]["spec"]["backoff"] = 6
    with pytest.raises(AssertionError, match="'backoff' was unexpected"):
        answer(python, VALIDATED, json.dumps(cronjob), version)


@pytest.mark.long
@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_the_server_keeps_to_the_schema_of_kubernetes(server, version):
    python = python_with("kubernetes-validate==1.37.0")
    for one in server.values():
        assert answer(python, VALIDATED, json.dumps(one), version) == f"{version}\n"
    server["HorizontalPodAutoscaler"]["spec"]["minimum"] = 1
    with pytest.raises(AssertionError, match="'minimum' was unexpected"):
        answer(python, VALIDATED, json.dumps(server["HorizontalPodAutoscaler"]), version)


@pytest.mark.long
@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_what_follows_messages_keeps_to_the_schema_of_kubernetes(follow, version):
    python = python_with("kubernetes-validate==1.37.0")
    assert answer(python, VALIDATED, json.dumps(follow), version) == f"{version}\n"
    follow["spec"]["replica"] = 1
    with pytest.raises(AssertionError, match="'replica' was unexpected"):
        answer(python, VALIDATED, json.dumps(follow), version)


@pytest.mark.long
def test_the_operator_knows_every_word_of_the_spark_application():
    """Its models, which are made of the custom resource's own definition, leave out what they don't know."""
    python = python_with("kubeflow-spark-api==2.4.0")
    application = yaml.safe_load((FOLDER / "scheduled-spark-application.yaml").read_text())
    assert json.loads(answer(python, AS_THE_OPERATOR_READS_IT, json.dumps(application))) == application
    application["spec"]["template"]["driver"]["core"] = 1
    assert json.loads(answer(python, AS_THE_OPERATOR_READS_IT, json.dumps(application))) != application
