"""What conf/deploy/ecs has: the calls by AWS's own model of them, registered on moto, what they run by our command."""

from __future__ import annotations

import json

import boto3
import pytest
from botocore.exceptions import ParamValidationError
from moto import mock_aws

from lakehouse.serving.handler import _OPEN
from tests.deploy.tools import DEPLOY, parsed

FOLDER = DEPLOY / "ecs"


@pytest.fixture
def task():
    return json.loads((FOLDER / "task-definition.json").read_text())


@pytest.fixture
def service():
    return json.loads((FOLDER / "service.json").read_text())


@pytest.fixture
def client():
    with mock_aws():
        yield boto3.client("ecs", region_name="eu-west-1")


def network(subnets):
    """Subnets and a security group that are there, in place of the example's."""
    ec2 = boto3.client("ec2", region_name="eu-west-1")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    made = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24")["Subnet"]["SubnetId"] for n in range(subnets)]
    group = ec2.create_security_group(VpcId=vpc, GroupName="scores", Description="scores")["GroupId"]
    return {"subnets": made, "securityGroups": [group]}


def test_both_are_registered_and_the_service_runs_the_task(client, task, service):
    client.create_cluster(clusterName=service["cluster"])
    made = client.register_task_definition(**task)["taskDefinition"]
    assert (made["family"], made["revision"], made["status"]) == (service["taskDefinition"], 1, "ACTIVE")
    assert made["containerDefinitions"][0]["command"] == task["containerDefinitions"][0]["command"]
    service["networkConfiguration"]["awsvpcConfiguration"] |= network(2)
    client.create_service(**service)
    (found,) = client.describe_services(cluster=service["cluster"], services=[service["serviceName"]])["services"]
    assert (found["taskDefinition"], found["desiredCount"]) == (made["taskDefinitionArn"], 2)


def test_a_word_that_aws_does_not_know_is_refused(client, task, service):
    task["containerDefinitions"][0]["readOnlyRootFilesystem"] = True  # it is readonly…
    with pytest.raises(ParamValidationError, match="readOnlyRootFilesystem"):
        client.register_task_definition(**task)
    service["deploymentConfiguration"]["circuitBreaker"] = {}
    with pytest.raises(ParamValidationError, match="circuitBreaker"):
        client.create_service(**service)


def test_it_runs_a_command_of_ours_and_asks_where_it_answers(task, service):
    (container,) = task["containerDefinitions"]
    given = parsed(["serve", "--host", "0.0.0.0", *container["command"]])
    assert (given["confs"], given["keys"]) == (["conf/games.yaml"], "env:SERVE_KEYS")
    assert [secret["name"] for secret in container["secrets"]] == ["SERVE_KEYS"]
    assert [port["containerPort"] for port in container["portMappings"]] == [given["port"]]
    (balancer,) = service["loadBalancers"]
    assert (balancer["containerName"], balancer["containerPort"]) == (container["name"], given["port"])
    asked = container["healthCheck"]["command"][-1]
    assert any(f"127.0.0.1:{given['port']}{path}'" in asked for path in _OPEN)
    compile(asked, "the health check", "exec")
    assert 120 >= container["stopTimeout"] >= given["timeout"] + 5


def test_it_is_nobody_special_and_writes_in_its_volume_alone(task):
    (container,) = task["containerDefinitions"]
    assert (container["user"], container["readonlyRootFilesystem"]) == ("185", True)
    assert [mount["sourceVolume"] for mount in container["mountPoints"]] == [one["name"] for one in task["volumes"]]
