"""Capacity: what a group launches and what it terminates.

moto's groups launch everything into one subnet, ignore hooks and forget which
launch template version an instance came from. ``reconcile`` replaces that: it
is called after every change of a group's capacity or instances.
"""

import itertools
import logging
import uuid
from collections import deque
from datetime import UTC, datetime

from localstack.utils.patch import patch
from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import (
    ASG_NAME_TAG,
    AutoScalingBackend,
    FakeAutoScalingGroup,
    InstanceState,
)

from fleetwright_localstack import lifecycle
from fleetwright_localstack.state import LOCK, changed

LOG = logging.getLogger(__name__)

# States that count towards a group's capacity.
COUNTED = ("Pending", "Pending:Wait", "Pending:Proceed", "InService")

_sequence = itertools.count(1)


def apply() -> None:
    """Replaces moto's capacity handling by this module's."""
    # Defaults for instances that were attached instead of launched.
    InstanceState.template = None
    InstanceState.template_version = 0
    InstanceState.sequence = 0
    InstanceState.launch_template = property(lambda self: self.template)

    @patch(FakeAutoScalingGroup.set_desired_capacity)
    def set_desired_capacity(fn, self, new_capacity):
        with LOCK:
            self.desired_capacity = self.min_size if new_capacity is None else new_capacity
            # A group under construction has no name in the backend yet; whoever
            # creates it wants to hear of a launch that fails.
            known = self.name in self.autoscaling_backend.autoscaling_groups
            reconcile(self, strict=not known)

    @patch(AutoScalingBackend.notify_terminate_instances)
    def notify_terminate_instances(fn, self, instance_ids):
        with LOCK:
            for group in list(self.autoscaling_groups.values()):
                for state in list(group.instance_states):
                    if state.instance_id in instance_ids:
                        finish_termination(group, state)
                reconcile(group)


def counted(group) -> list:
    return [state for state in group.instance_states if state.lifecycle_state in COUNTED]


def reconcile(group, strict: bool = False) -> None:
    """Launches or terminates until the group has its desired capacity.

    As on AWS a launch that fails doesn't fail the caller but is recorded as a
    failed activity, unless ``strict``.
    """
    with LOCK:
        difference = (group.desired_capacity or 0) - len(counted(group))
        suspended = set(group._suspended_processes)
        if difference > 0 and "Launch" not in suspended:
            try:
                launch(group, difference)
            except Exception as error:
                if strict:
                    raise
                LOG.warning("group %s can't launch: %s", group.name, error)
                record(group, "Launching a new EC2 instance", "Failed", str(error))
        elif difference < 0 and "Terminate" not in suspended:
            for state in victims(group, -difference):
                begin_termination(group, state, "a change of the group's capacity")
        changed()
        if group.name in group.autoscaling_backend.autoscaling_groups:
            group.autoscaling_backend.update_attached_elbs(group.name)
            group.autoscaling_backend.update_attached_target_groups(group.name)


def victims(group, count: int) -> list:
    """Which instances scale-in takes: the oldest template version first, then the oldest."""
    candidates = [state for state in counted(group) if not state.protected_from_scale_in]
    policy = (group.termination_policies or ["Default"])[0]
    if policy == "NewestInstance":
        candidates.sort(key=lambda state: -state.sequence)
    elif policy == "OldestInstance":
        candidates.sort(key=lambda state: state.sequence)
    else:
        candidates.sort(key=lambda state: (state.template_version, state.sequence))
    return candidates[:count]


def launch(group, count: int) -> None:
    """Launches instances from the group's template, spread over its subnets."""
    for _ in range(count):
        instance, template, version = _run_instance(group)
        instance.autoscaling_group = group
        state = InstanceState(
            instance,
            lifecycle_state="Pending",
            protected_from_scale_in=group.new_instances_protected_from_scale_in,
        )
        state.template = template
        state.template_version = version
        state.sequence = next(_sequence)
        group.instance_states.append(state)
        if lifecycle.begin(group, state, lifecycle.LAUNCHING):
            state.lifecycle_state = "Pending:Wait"
        else:
            state.lifecycle_state = "InService"
        record(group, f"Launching a new EC2 instance: {instance.id}", "Successful")
        changed()


def _run_instance(group):
    ec2 = group.ec2_backend
    tags = {k: v for k, v in group.get_propagated_tags().items() if v is not None}
    tags.update(group.instance_tags)
    tags[ASG_NAME_TAG] = group.name
    settings = {}
    security_groups = list(group.security_groups)
    template = version = None
    if group.ec2_launch_template:
        version = group.ec2_launch_template.get_version(group.launch_template_version)
        template = {
            "LaunchTemplateId": group.ec2_launch_template.id,
            "LaunchTemplateName": group.ec2_launch_template.name,
            "Version": str(version.number),
        }
        tags["aws:ec2launchtemplate:id"] = group.ec2_launch_template.id
        tags["aws:ec2launchtemplate:version"] = str(version.number)
        settings, group_ids = _settings_of(version.data)
        settings["launch_template"] = {
            "LaunchTemplateId": group.ec2_launch_template.id,
            "Version": version.number,
        }
        settings["security_group_ids"] = group_ids
    elif group.launch_config:
        settings["associate_public_ip"] = group.launch_config.associate_public_ip_address
        settings["launch_config"] = group.launch_config
    subnet_id, zone = _next_place(group)
    reservation = ec2.run_instances(
        group.image_id,
        1,
        group.user_data,
        security_groups,
        instance_type=group.instance_type,
        tags={"instance": tags},
        placement=zone,
        subnet_id=subnet_id,
        region_name=ec2.region_name,
        is_instance_type_default=not group.instance_type,
        **settings,
    )
    instance = reservation.instances[0]
    instance.fleetwright_template = template
    instance.fleetwright_profile = _profile_of(group, version)
    return instance, template, version.number if version else 0


def _settings_of(data: dict) -> tuple[dict, list]:
    """What RunInstances takes over from launch template data, and the security groups' ids."""
    interfaces = data.get("NetworkInterfaces") or []
    first = interfaces[0] if interfaces else {}
    group_ids = [*(data.get("SecurityGroupIds") or []), *(first.get("Groups") or [])]
    settings = {
        "key_name": data.get("KeyName"),
        "ebs_optimized": data.get("EbsOptimized") or False,
        "metadata_options": data.get("MetadataOptions") or {},
        # None leaves the decision to the subnet.
        "associate_public_ip": first.get("AssociatePublicIpAddress"),
    }
    return settings, group_ids


def _profile_of(group, version) -> str | None:
    """The name or ARN of the instance profile that new instances get."""
    if version is None:
        return getattr(group.launch_config, "iam_instance_profile", None)
    profile = version.data.get("IamInstanceProfile") or {}
    return profile.get("Arn") or profile.get("Name")


def _next_place(group) -> tuple[str | None, str]:
    """The subnet and zone with the fewest instances, in turn where several have."""
    turn = getattr(group, "fleetwright_turn", 0)
    if group.vpc_zone_identifier:
        subnets = [part.strip() for part in group.vpc_zone_identifier.split(",") if part.strip()]
        places = [(s, group.ec2_backend.get_subnet(s).availability_zone) for s in subnets]
        used = [state.instance.subnet_id for state in counted(group)]
        load = [used.count(subnet) for subnet, _ in places]
    else:
        places = [(None, zone) for zone in group.availability_zones]
        used = [state.instance._placement.zone for state in counted(group)]
        load = [used.count(zone) for _, zone in places]
    index = min(range(len(places)), key=lambda i: (load[i], (i - turn) % len(places)))
    group.fleetwright_turn = index + 1
    return places[index]


def begin_termination(group, state, cause: str) -> None:
    """Takes an instance out of service; its termination hooks may keep it waiting."""
    if state.lifecycle_state.startswith("Terminating"):
        return
    lifecycle.forget(state)
    state.lifecycle_state = "Terminating"
    record(group, f"Terminating EC2 instance: {state.instance_id}", "Successful", cause)
    if lifecycle.begin(group, state, lifecycle.TERMINATING):
        state.lifecycle_state = "Terminating:Wait"
        changed()
    else:
        finish_termination(group, state)


def finish_termination(group, state) -> None:
    """Ends an instance for good, whatever hooks it waits for."""
    lifecycle.forget(state)
    state.lifecycle_state = "Terminated"
    group.instance_states = [other for other in group.instance_states if other is not state]
    if state.instance.state != "terminated":
        group.ec2_backend.terminate_instances([state.instance_id])
    changed()


def find_instance(backend, instance_id: str):
    """The group and state of an instance.

    # Errors
    ``ValidationError`` as AWS gives it for an instance of no group.
    """
    for group in backend.autoscaling_groups.values():
        for state in group.instance_states:
            if state.instance_id == instance_id:
                return group, state
    raise ValidationError(f"Instance Id not found - No managed instance found for instance ID {instance_id}")


def record(group, description: str, status: str, cause: str = "") -> None:
    """Notes an activity for DescribeScalingActivities; the newest hundred are kept."""
    if not hasattr(group, "fleetwright_activities"):
        group.fleetwright_activities = deque(maxlen=100)
    now = datetime.now(UTC)
    group.fleetwright_activities.appendleft(
        {
            "ActivityId": str(uuid.uuid4()),
            "AutoScalingGroupName": group.name,
            "Description": description,
            "Cause": cause or f"At {now:%Y-%m-%dT%H:%M:%SZ} the group's capacity differed from the desired one.",
            "StartTime": now,
            "EndTime": now,
            "StatusCode": status,
            "StatusMessage": cause if status == "Failed" else "",
            "Progress": 100,
        }
    )
