"""Drives a running LocalStack with fleetwright's plugin; one line for each check.

Usage: python check_plugin.py http://127.0.0.1:PORT [NAME ...]

Starts nothing. Needs boto3, which LocalStack's own environment has. Names of
checks after the endpoint run only the set-up and those. Everything it makes has
a random name and is deleted at the end, so it can be run again and beside
others. Exit status 1 when a check failed.
"""

import base64
import sys
import threading
import time
import traceback
import uuid

# The checks run from a source tree, which stays as it is.
sys.dont_write_bytecode = True

from account import Account, equal, until  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

from templates import NETWORK, REGION, encode, group_template  # noqa: E402

NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."


class Checks:
    """The checks, in order; each finds the account as the one before left it."""

    def __init__(self, account: Account):
        self.a = account
        run = uuid.uuid4().hex[:6]
        self.network, self.workers = f"check-{run}-network", f"check-{run}-workers"
        self.outputs: dict = {}
        self.parameters: dict = {}
        self.first = "#cloud-config\nhostname: first\n"
        self.second = "#cloud-config\nhostname: second ünïcode\n"

    def complete(self, instance_id: str, result: str = "CONTINUE") -> None:
        self.a.autoscaling.complete_lifecycle_action(
            LifecycleHookName="drain",
            AutoScalingGroupName=self.workers,
            LifecycleActionResult=result,
            InstanceId=instance_id,
        )

    def refused(self, code: str, call, **arguments) -> str:
        try:
            call(**arguments)
        except ClientError as error:
            equal("error code", error.response["Error"]["Code"], code)
            return error.response["Error"]["Message"]
        raise AssertionError(f"{arguments} was accepted, expected {code}")

    def check_network_stack_is_created(self):
        self.outputs = self.a.deploy(self.network, NETWORK, {}, "CREATE")
        vpc = self.outputs["VpcId"]
        subnets = self.a.ec2.describe_subnets(SubnetIds=self.outputs["Subnets"].split(","))["Subnets"]
        equal("zones", [s["AvailabilityZone"] for s in subnets], [f"{REGION}a", f"{REGION}b"])
        assert all(s["MapPublicIpOnLaunch"] for s in subnets), "MapPublicIpOnLaunch was dropped"
        dns = self.a.ec2.describe_vpc_attribute(VpcId=vpc, Attribute="enableDnsHostnames")
        equal("DNS host names", dns["EnableDnsHostnames"]["Value"], True)
        tables = self.a.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [vpc]}])
        targets = [r.get("GatewayId", "") for t in tables["RouteTables"] for r in t["Routes"]]
        assert any(t.startswith("igw-") for t in targets), f"no route to the gateway: {targets}"
        firewall = self.a.ec2.describe_security_groups(GroupIds=[self.outputs["SecurityGroupId"]])
        firewall = firewall["SecurityGroups"][0]
        equal("ingress rules", len(firewall["IpPermissions"]), 2)
        equal("egress rules", len(firewall["IpPermissionsEgress"]), 1)
        self.parameters = {
            "Subnets": self.outputs["Subnets"],
            "SecurityGroupId": self.outputs["SecurityGroupId"],
        }

    def check_group_stack_launches_three_machines(self):
        outputs = self.a.deploy(self.workers, group_template(self.first), self.parameters, "CREATE")
        equal("version output", outputs["Version"], "1")
        machines = self.a.machines(self.workers)
        equal("machines", len(machines), 3)
        equal("zones in use", len({m["zone"] for m in machines}), 2)
        equal("addresses", len({m["private_ip"] for m in machines}), 3)
        role = outputs["RoleArn"].rsplit("/", 1)[-1]
        for machine in machines:
            equal("lifecycle", machine["lifecycle"], "InService")
            equal("target", machine["target_lifecycle"], "InService")
            equal("user data", base64.b64decode(machine["user_data"]).decode(), self.first)
            equal("role", machine["role"], role)
            equal("VPC range", machine["vpc_cidr"], "10.99.0.0/16")
            equal("version", machine["launch_template"]["version"], "1")
            equal("image", machine["image_id"], "ami-12345678")
            equal("region", machine["region"], REGION)
            equal("propagated tag", machine["tags"].get("fleetwright:role"), "worker")
            equal("template tag", machine["tags"].get("Name"), "machine")
            assert "only:group" not in machine["tags"], "a tag of the group alone was propagated"
        group = self.a.group(self.workers)
        equal("grace period", group["HealthCheckGracePeriod"], 30)
        hooks = self.a.autoscaling.describe_lifecycle_hooks(AutoScalingGroupName=self.workers)
        equal("hooks", [h["LifecycleHookName"] for h in hooks["LifecycleHooks"]], ["drain"])
        reservations = self.a.ec2.describe_instances(InstanceIds=[machines[0]["id"]])["Reservations"]
        instance = reservations[0]["Instances"][0]
        equal("EC2's address", instance["PrivateIpAddress"], machines[0]["private_ip"])
        equal("EC2's firewall", [g["GroupId"] for g in instance["SecurityGroups"]], [self.outputs["SecurityGroupId"]])

    def check_unchanged_template_is_reported_as_such(self):
        change_set = self.a.change_set(self.workers, group_template(self.first), self.parameters, "UPDATE")
        equal("status", change_set["Status"], "FAILED")
        equal("reason", change_set["StatusReason"], NO_CHANGES)
        equal("execution status", change_set["ExecutionStatus"], "UNAVAILABLE")
        self.a.cloudformation.delete_change_set(StackName=self.workers, ChangeSetName=change_set["ChangeSetName"])

    def check_changed_user_data_shows_template_and_group(self):
        change_set = self.a.change_set(self.workers, group_template(self.second), self.parameters, "UPDATE")
        changes = {
            c["ResourceChange"]["LogicalResourceId"]: c["ResourceChange"]["Action"] for c in change_set["Changes"]
        }
        equal("changes", changes, {"Template": "Modify", "Group": "Modify"})
        self.a.cloudformation.delete_change_set(StackName=self.workers, ChangeSetName=change_set["ChangeSetName"])

    def changes_of(self, template: dict, parameters: dict) -> dict[str, str]:
        """What a change set says: logical id to replacement, without executing it."""
        change_set = self.a.change_set(self.workers, template, parameters, "UPDATE")
        self.a.cloudformation.delete_change_set(StackName=self.workers, ChangeSetName=change_set["ChangeSetName"])
        changes = [change["ResourceChange"] for change in change_set["Changes"]]
        return {change["LogicalResourceId"]: change["Replacement"] for change in changes}

    def check_change_sets_show_what_changes_and_nothing_else(self):
        template = group_template(self.first)
        equal(
            "capacity",
            self.changes_of(template, {**self.parameters, "Capacity": "2"}),
            {"Group": "False"},
        )
        template["Resources"]["Template"]["Properties"]["LaunchTemplateName"] = self.workers + "-x"
        equal(
            "another name",
            self.changes_of(template, self.parameters),
            {"Template": "True", "Group": "False"},
        )
        template = group_template(self.first)
        policy = template["Resources"]["Role"]["Properties"]["Policies"][0]["PolicyDocument"]
        policy["Statement"][0]["Action"] = "ssm:Get*"
        equal("policy", self.changes_of(template, self.parameters), {"Role": "False"})

    def check_new_user_data_is_a_new_version_for_new_machines(self):
        before = {m["id"] for m in self.a.machines(self.workers)}
        outputs = self.a.deploy(self.workers, group_template(self.second), self.parameters)
        equal("version output", outputs["Version"], "2")
        equal("group's version", self.a.group(self.workers)["LaunchTemplate"]["Version"], "2")
        equal("machines stay", {m["id"] for m in self.a.machines(self.workers)}, before)
        self.a.autoscaling.set_desired_capacity(AutoScalingGroupName=self.workers, DesiredCapacity=4)
        new = [m for m in self.a.machines(self.workers) if m["id"] not in before]
        equal("new machines", len(new), 1)
        equal("new user data", base64.b64decode(new[0]["user_data"]).decode(), self.second)
        versions = [i["LaunchTemplate"]["Version"] for i in self.a.group(self.workers)["Instances"]]
        equal("versions", sorted(versions), ["1", "1", "1", "2"])

    def check_capacity_outside_the_bounds_is_refused(self):
        for capacity in (0, 6):
            self.refused(
                "ValidationError",
                self.a.autoscaling.set_desired_capacity,
                AutoScalingGroupName=self.workers,
                DesiredCapacity=capacity,
            )
        self.refused(
            "ValidationError",
            self.a.autoscaling.update_auto_scaling_group,
            AutoScalingGroupName=self.workers,
            DesiredCapacity=9,
        )
        equal("capacity", self.a.group(self.workers)["DesiredCapacity"], 4)

    def check_scale_in_waits_for_the_hook(self):
        oldest = self.a.group(self.workers)["Instances"][0]["InstanceId"]
        self.a.autoscaling.set_desired_capacity(AutoScalingGroupName=self.workers, DesiredCapacity=3)
        states = self.a.states(self.workers)
        equal("state", states[oldest], "Terminating:Wait")
        equal("others", sorted(states.values()), ["InService"] * 3 + ["Terminating:Wait"])
        machine = next(m for m in self.a.machines(self.workers) if m["id"] == oldest)
        equal("target", machine["target_lifecycle"], "Terminated")
        self.a.autoscaling.record_lifecycle_action_heartbeat(
            LifecycleHookName="drain", AutoScalingGroupName=self.workers, InstanceId=oldest
        )
        self.complete(oldest)
        assert oldest not in self.a.states(self.workers), "the instance is still in the group"
        gone = [m for m in self.a.machines(self.workers, "terminated") if m["id"] == oldest]
        equal("terminated", len(gone), 1)
        self.refused(
            "ValidationError",
            self.a.autoscaling.complete_lifecycle_action,
            LifecycleHookName="drain",
            AutoScalingGroupName=self.workers,
            LifecycleActionResult="CONTINUE",
            InstanceId=oldest,
        )

    def check_terminated_instance_is_replaced_unless_decremented(self):
        victim = self.a.group(self.workers)["Instances"][0]["InstanceId"]
        self.a.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=victim, ShouldDecrementDesiredCapacity=False
        )
        states = self.a.states(self.workers)
        equal("states", sorted(states.values()), ["InService"] * 3 + ["Terminating:Wait"])
        self.complete(victim)
        victim = next(i for i, s in self.a.states(self.workers).items() if s == "InService")
        self.a.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=victim, ShouldDecrementDesiredCapacity=True
        )
        self.complete(victim)
        equal("states", sorted(self.a.states(self.workers).values()), ["InService"] * 2)
        equal("capacity", self.a.group(self.workers)["DesiredCapacity"], 2)

    def check_vanished_machine_is_replaced_with_a_new_address(self):
        before = self.a.machines(self.workers)
        lost = before[0]
        status, _ = self.a.http("POST", f"/_fleetwright/instances/{lost['id']}/vanished")
        equal("status", status, 200)
        after = self.a.machines(self.workers)
        equal("machines", len(after), 2)
        assert lost["id"] not in {m["id"] for m in after}, "the lost machine is still there"
        used = {m["private_ip"] for m in self.a.machines(self.workers, "running", "terminated")}
        total = len(self.a.machines(self.workers, "running", "terminated"))
        equal("addresses ever used", len(used), total)
        status, _ = self.a.http("POST", f"/_fleetwright/instances/{lost['id']}/vanished")
        equal("told twice", status, 200)
        equal("machines", len(self.a.machines(self.workers)), 2)
        status, _ = self.a.http("POST", "/_fleetwright/instances/i-nothing/vanished")
        equal("unknown instance", status, 404)

    def check_feed_answers_at_once_when_something_changes(self):
        revision = self.a.feed()["revision"]
        began = time.monotonic()
        equal("quiet", self.a.feed(f"?since={revision}&wait=0.5")["revision"], revision)
        assert time.monotonic() - began >= 0.45, "the long poll didn't wait"
        answers = []

        def poll():
            began = time.monotonic()
            answers.append((self.a.feed(f"?since={revision}&wait=20"), time.monotonic() - began))

        waiter = threading.Thread(target=poll)
        waiter.start()
        time.sleep(0.3)
        self.a.autoscaling.set_desired_capacity(AutoScalingGroupName=self.workers, DesiredCapacity=3)
        waiter.join(25)
        body, seconds = answers[0]
        assert body["revision"] != revision, "the revision stayed"
        assert seconds < 5, f"the long poll took {seconds:.1f} s"

    def check_heartbeat_timeout_ends_the_wait(self):
        self.a.autoscaling.put_lifecycle_hook(
            LifecycleHookName="drain",
            AutoScalingGroupName=self.workers,
            LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
            HeartbeatTimeout=1,
            DefaultResult="CONTINUE",
        )
        self.a.autoscaling.set_desired_capacity(AutoScalingGroupName=self.workers, DesiredCapacity=2)
        assert "Terminating:Wait" in self.a.states(self.workers).values(), "it didn't wait"
        until("time-out", lambda: "Terminating:Wait" not in self.a.states(self.workers).values())
        equal("states", sorted(self.a.states(self.workers).values()), ["InService"] * 2)

    def check_launch_hook_keeps_machines_pending(self):
        self.a.autoscaling.put_lifecycle_hook(
            LifecycleHookName="prepare",
            AutoScalingGroupName=self.workers,
            LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
            HeartbeatTimeout=300,
        )
        self.a.autoscaling.set_desired_capacity(AutoScalingGroupName=self.workers, DesiredCapacity=3)
        states = self.a.states(self.workers)
        waiting = next(i for i, s in states.items() if s == "Pending:Wait")
        self.a.autoscaling.complete_lifecycle_action(
            LifecycleHookName="prepare",
            AutoScalingGroupName=self.workers,
            LifecycleActionResult="CONTINUE",
            InstanceId=waiting,
        )
        equal("state", self.a.states(self.workers)[waiting], "InService")
        self.a.autoscaling.delete_lifecycle_hook(LifecycleHookName="prepare", AutoScalingGroupName=self.workers)

    def check_group_properties_can_be_updated(self):
        template = group_template(self.second)
        group = template["Resources"]["Group"]["Properties"]
        group["MaxSize"] = 7
        group["HealthCheckGracePeriod"] = 45
        group["Tags"] = [{"Key": "fleetwright:role", "Value": "builder", "PropagateAtLaunch": True}]
        group["LifecycleHookSpecificationList"][0]["HeartbeatTimeout"] = 120
        self.a.deploy(self.workers, template, {**self.parameters, "Capacity": "2"})
        found = self.a.group(self.workers)
        equal("largest size", found["MaxSize"], 7)
        equal("capacity", found["DesiredCapacity"], 2)
        equal("grace period", found["HealthCheckGracePeriod"], 45)
        tags = {t["Key"]: t["Value"] for t in found["Tags"] if not t["Key"].startswith("aws:")}
        equal("tags", tags, {"fleetwright:role": "builder"})
        hooks = self.a.autoscaling.describe_lifecycle_hooks(AutoScalingGroupName=self.workers)
        equal("hooks", [h["HeartbeatTimeout"] for h in hooks["LifecycleHooks"]], [120])

    def check_parameter_is_created_by_one_caller_only(self):
        name = f"/check/{uuid.uuid4().hex}"
        wins, barrier = [], threading.Barrier(8)

        def put(number: int):
            barrier.wait()
            try:
                self.a.ssm.put_parameter(Name=name, Value=str(number), Type="String")
                wins.append(number)
            except ClientError as error:
                equal("error", error.response["Error"]["Code"], "ParameterAlreadyExists")

        threads = [threading.Thread(target=put, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        equal("winners", len(wins), 1)
        equal("value", self.a.ssm.get_parameter(Name=name)["Parameter"]["Value"], str(wins[0]))
        self.a.ssm.delete_parameter(Name=name)

    def fails(self, stack: str, template: dict, kind: str, status: str) -> None:
        """Executes a change set that can't succeed, and checks how it ends."""
        change_set = self.a.change_set(stack, template, self.parameters, kind)
        self.a.cloudformation.execute_change_set(StackName=stack, ChangeSetName=change_set["ChangeSetName"])
        self.a.settled(stack, status)
        events = self.a.cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
        reasons = [e.get("ResourceStatusReason") or "" for e in events if "FAILED" in e["ResourceStatus"]]
        assert any("Max bound" in reason for reason in reasons), f"no reason: {reasons}"

    def check_failed_stack_update_is_rolled_back(self):
        before = self.a.group(self.workers)
        template = group_template("#cloud-config\nhostname: third\n")
        template["Resources"]["Group"]["Properties"]["MinSize"] = 9
        template["Resources"]["Extra"] = {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": "x"}}
        template["Resources"]["Group"]["DependsOn"] = "Extra"
        self.fails(self.workers, template, "UPDATE", "UPDATE_ROLLBACK_COMPLETE")
        after = self.a.group(self.workers)
        equal("sizes", [after["MinSize"], after["MaxSize"]], [before["MinSize"], before["MaxSize"]])
        versions = self.a.ec2.describe_launch_template_versions(LaunchTemplateName=self.workers)
        latest = versions["LaunchTemplateVersions"][-1]
        equal("latest version", latest["VersionNumber"], 4)
        equal("user data", latest["LaunchTemplateData"]["UserData"], encode(self.second))
        equal("group's version", after["LaunchTemplate"]["Version"], "4")
        left = self.a.cloudformation.list_stack_resources(StackName=self.workers)
        ids = {
            r["LogicalResourceId"] for r in left["StackResourceSummaries"] if r["ResourceStatus"] != "DELETE_COMPLETE"
        }
        equal("resources", ids, {"Role", "Profile", "Template", "Group"})

    def check_failed_stack_creation_leaves_nothing(self):
        name = self.workers + "-bad"
        template = group_template(self.first)
        template["Resources"]["Group"]["Properties"]["MinSize"] = 9
        self.fails(name, template, "CREATE", "ROLLBACK_COMPLETE")
        templates = self.a.ec2.describe_launch_templates(Filters=[{"Name": "launch-template-name", "Values": [name]}])
        equal("templates left", templates["LaunchTemplates"], [])
        roles = [r["RoleName"] for r in self.a.iam.list_roles()["Roles"]]
        assert not any(role.startswith(name) for role in roles), "a role is left"
        self.a.delete(name)

    def check_group_survives_many_callers_at_once(self):
        self.a.autoscaling.put_lifecycle_hook(
            LifecycleHookName="drain",
            AutoScalingGroupName=self.workers,
            LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
            HeartbeatTimeout=1,
            DefaultResult="CONTINUE",
        )
        self.a.autoscaling.update_auto_scaling_group(AutoScalingGroupName=self.workers, MinSize=1, MaxSize=8)
        errors: list[BaseException] = []
        living: list[list[str]] = []

        def disturb(number: int):
            try:
                for turn in range(6):
                    machines = self.a.machines(self.workers)
                    living.append([machine["private_ip"] for machine in machines])
                    victim = machines[(number + turn) % len(machines)]["id"]
                    if number % 3 == 0:
                        self.a.http("POST", f"/_fleetwright/instances/{victim}/vanished")
                    elif number % 3 == 1:
                        self.a.autoscaling.set_desired_capacity(
                            AutoScalingGroupName=self.workers, DesiredCapacity=2 + (number + turn) % 6
                        )
                    else:
                        self.a.autoscaling.terminate_instance_in_auto_scaling_group(
                            InstanceId=victim, ShouldDecrementDesiredCapacity=False
                        )
            except ClientError as error:
                # The instance may have gone between the look and the call.
                if "Instance Id not found" not in str(error):
                    errors.append(error)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=disturb, args=(number,)) for number in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        equal("errors", errors, [])
        for addresses in living:
            equal("addresses in use", len(set(addresses)), len(addresses))
        self.a.autoscaling.set_desired_capacity(AutoScalingGroupName=self.workers, DesiredCapacity=3)

        def settled():
            return sorted(self.a.states(self.workers).values()) == ["InService"] * 3

        until("three machines in service", settled)
        equal("machines", len(self.a.machines(self.workers)), 3)

    def check_stack_deletion_that_leaves_something_fails(self):
        name = self.network + "-extra"
        role = group_template("")["Resources"]["Role"]
        value = {"Fn::GetAtt": ["Role", "Arn"]}
        parameter = {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": value}}
        self.a.deploy(name, {"Resources": {"Role": role, "Note": parameter}}, {}, "CREATE")
        stack_id = self.a.cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackId"]
        made = self.a.cloudformation.describe_stack_resource(StackName=name, LogicalResourceId="Role")
        role_name = made["StackResourceDetail"]["PhysicalResourceId"]
        # A profile that the stack doesn't know keeps the role from being deleted.
        self.a.iam.create_instance_profile(InstanceProfileName=name)
        self.a.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role_name)
        self.a.cloudformation.delete_stack(StackName=name)
        self.a.settled(stack_id, "DELETE_FAILED")
        self.a.iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=role_name)
        self.a.iam.delete_instance_profile(InstanceProfileName=name)
        self.a.delete(name)

    def check_deleting_the_stacks_removes_everything(self):
        self.a.delete(self.workers)
        equal("machines left", self.a.machines(self.workers), [])
        groups = self.a.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.workers])
        equal("groups left", groups["AutoScalingGroups"], [])
        self.refused(
            "InvalidLaunchTemplateName.NotFoundException",
            self.a.ec2.describe_launch_templates,
            LaunchTemplateNames=[self.workers],
        )
        self.a.delete(self.network)
        vpcs = {v["VpcId"] for v in self.a.ec2.describe_vpcs()["Vpcs"]}
        assert self.outputs["VpcId"] not in vpcs, "the VPC is still there"


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    checks = Checks(Account(arguments[0]))
    wanted = set(arguments[1:])
    failures = 0
    for name in [name for name in vars(Checks) if name.startswith("check_")]:
        title = name.removeprefix("check_").replace("_", " ")
        needed = "stack" in name
        if wanted and not needed and name.removeprefix("check_") not in wanted:
            continue
        began = time.monotonic()
        try:
            getattr(checks, name)()
            print(f"ok    {title} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception as error:
            failures += 1
            print(f"FAIL  {title}: {error or type(error).__name__}", flush=True)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
    print(f"{failures} failed" if failures else "all checks passed", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
