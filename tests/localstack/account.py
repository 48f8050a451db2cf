"""One emulated account: clients, the machine feed, and stacks by change set."""

import json
import time
import urllib.error
import urllib.request
import uuid

import boto3
from botocore.config import Config

from templates import REGION


def until(what: str, condition, seconds: float = 20.0):
    """Polls until ``condition`` gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds:.0f} s")


def equal(what: str, actual, expected) -> None:
    assert actual == expected, f"{what}: {actual!r}, expected {expected!r}"


class Account:
    """What the checks do to the emulator and ask of it."""

    def __init__(self, endpoint: str):
        self.endpoint = endpoint.rstrip("/")
        session = boto3.session.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
        config = Config(retries={"max_attempts": 1}, max_pool_connections=20)

        def client(service):
            return session.client(service, endpoint_url=self.endpoint, config=config)

        self.cloudformation = client("cloudformation")
        self.autoscaling = client("autoscaling")
        self.ec2 = client("ec2")
        self.iam = client("iam")
        self.ssm = client("ssm")

    def http(self, method: str, path: str, timeout: float = 30):
        request = urllib.request.Request(self.endpoint + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def feed(self, query: str = "") -> dict:
        status, body = self.http("GET", f"/_fleetwright/instances{query}")
        equal("the feed's status", status, 200)
        return body

    def machines(self, group: str, *states: str) -> list[dict]:
        return [
            machine
            for machine in self.feed()["instances"]
            if machine["group"] == group and machine["state"] in (states or ("running",))
        ]

    def group(self, name: str) -> dict:
        return self.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]

    def states(self, name: str) -> dict[str, str]:
        return {i["InstanceId"]: i["LifecycleState"] for i in self.group(name)["Instances"]}

    def change_set(self, stack: str, template: dict, parameters: dict, kind: str) -> dict:
        name = "c" + uuid.uuid4().hex[:8]
        self.cloudformation.create_change_set(
            StackName=stack,
            ChangeSetName=name,
            ChangeSetType=kind,
            TemplateBody=json.dumps(template),
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )

        def described():
            found = self.cloudformation.describe_change_set(StackName=stack, ChangeSetName=name)
            return found if found["Status"] in ("CREATE_COMPLETE", "FAILED") else None

        return until(f"change set of {stack}", described)

    def deploy(self, stack: str, template: dict, parameters: dict, kind: str = "UPDATE") -> dict:
        change_set = self.change_set(stack, template, parameters, kind)
        equal("change set", change_set["Status"], "CREATE_COMPLETE")
        self.cloudformation.execute_change_set(StackName=stack, ChangeSetName=change_set["ChangeSetName"])
        return self.settled(stack, "CREATE_COMPLETE" if kind == "CREATE" else "UPDATE_COMPLETE")

    def settled(self, stack: str, expected: str) -> dict:
        def described():
            found = self.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
            done = not found["StackStatus"].endswith("_IN_PROGRESS")
            return found if done else None

        found = until(f"stack {stack}", described, 60)
        if found["StackStatus"] != expected:
            events = self.cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
            reasons = [e.get("ResourceStatusReason") for e in events if "FAILED" in e["ResourceStatus"]]
            raise AssertionError(f"stack {stack} is {found['StackStatus']}: {reasons}")
        return {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])}

    def delete(self, stack: str) -> None:
        stack_id = self.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackId"]
        self.cloudformation.delete_stack(StackName=stack)
        self.settled(stack_id, "DELETE_COMPLETE")
