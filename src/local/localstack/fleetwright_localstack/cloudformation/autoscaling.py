"""AWS::AutoScaling::AutoScalingGroup and AWS::AutoScaling::LifecycleHook."""

import localstack.services.cloudformation.provider_utils as util
from localstack.services.cloudformation.resource_provider import ResourceProvider

from fleetwright_localstack.cloudformation.common import is_true, stack_tags, success

NUMBERS = {
    "MinSize": "MinSize",
    "MaxSize": "MaxSize",
    "DesiredCapacity": "DesiredCapacity",
    "HealthCheckGracePeriod": "HealthCheckGracePeriod",
    "Cooldown": "DefaultCooldown",
}
AS_THEY_ARE = (
    "LaunchConfigurationName",
    "MixedInstancesPolicy",
    "AvailabilityZones",
    "HealthCheckType",
    "PlacementGroup",
    "TerminationPolicies",
)
ONLY_AT_CREATION = ("LoadBalancerNames", "TargetGroupARNs")
HOOK = ("LifecycleHookName", "LifecycleTransition", "DefaultResult", "NotificationTargetARN", "RoleARN")


def _arguments(model: dict) -> dict:
    """The API's arguments for a group's properties."""
    arguments = {"AutoScalingGroupName": model["AutoScalingGroupName"]}
    for name, argument in NUMBERS.items():
        if model.get(name) is not None:
            arguments[argument] = int(model[name])
    for name in AS_THEY_ARE:
        if model.get(name):
            arguments[name] = model[name]
    for name in ("CapacityRebalance", "NewInstancesProtectedFromScaleIn"):
        if model.get(name) is not None:
            arguments[name] = is_true(model[name])
    if template := model.get("LaunchTemplate"):
        arguments["LaunchTemplate"] = {
            name: str(template[name])
            for name in ("LaunchTemplateId", "LaunchTemplateName", "Version")
            if template.get(name) is not None
        }
    if subnets := model.get("VPCZoneIdentifier"):
        arguments["VPCZoneIdentifier"] = ",".join(subnets if isinstance(subnets, list) else [subnets])
    return arguments


def _tags(model: dict, name: str) -> dict[str, dict]:
    return {
        tag["Key"]: {
            "Key": tag["Key"],
            "Value": str(tag["Value"]),
            "PropagateAtLaunch": is_true(tag.get("PropagateAtLaunch")),
            "ResourceId": name,
            "ResourceType": "auto-scaling-group",
        }
        for tag in model.get("Tags") or []
    }


def _hook(specification: dict) -> dict:
    hook = {name: specification[name] for name in HOOK if specification.get(name)}
    if specification.get("HeartbeatTimeout") is not None:
        hook["HeartbeatTimeout"] = int(specification["HeartbeatTimeout"])
    return hook


def _hooks(model: dict) -> dict[str, dict]:
    hooks = [_hook(specification) for specification in model.get("LifecycleHookSpecificationList") or []]
    return {hook["LifecycleHookName"]: hook for hook in hooks}


class GroupProvider(ResourceProvider[dict]):
    TYPE = "AWS::AutoScaling::AutoScalingGroup"
    SCHEMA = {
        "typeName": TYPE,
        "primaryIdentifier": ["/properties/AutoScalingGroupName"],
        "readOnlyProperties": ["/properties/AutoScalingGroupARN"],
        "createOnlyProperties": ["/properties/AutoScalingGroupName", "/properties/InstanceId"],
        "properties": {},
    }

    def create(self, request):
        model = dict(request.desired_state)
        client = request.aws_client_factory.autoscaling
        model.setdefault(
            "AutoScalingGroupName",
            util.generate_default_name(request.stack_name, request.logical_resource_id),
        )
        name = model["AutoScalingGroupName"]
        arguments = _arguments(model)
        for argument in ONLY_AT_CREATION:
            if model.get(argument):
                arguments[argument] = model[argument]
        tags = _tags(model, name)
        for key, value in stack_tags(request).items():
            tag = {"Key": key, "Value": value, "PropagateAtLaunch": True}
            tags[key] = {**tag, "ResourceId": name, "ResourceType": "auto-scaling-group"}
        arguments["Tags"] = list(tags.values())
        if hooks := _hooks(model):
            arguments["LifecycleHookSpecificationList"] = list(hooks.values())
        client.create_auto_scaling_group(**arguments)
        described = client.describe_auto_scaling_groups(AutoScalingGroupNames=[name])
        model["AutoScalingGroupARN"] = described["AutoScalingGroups"][0]["AutoScalingGroupARN"]
        return success(model)

    def update(self, request):
        before, after = request.previous_state, dict(request.desired_state)
        client = request.aws_client_factory.autoscaling
        name = after["AutoScalingGroupName"] = before["AutoScalingGroupName"]
        after["AutoScalingGroupARN"] = before.get("AutoScalingGroupARN")
        # Machines that this update takes out of service wait for its hooks already.
        self._update_hooks(client, name, before, after)
        arguments = _arguments(after)
        # As with IgnoreUnmodifiedGroupSizeProperties, which fleetwright puts into every template: sizes that the
        # template does not change stay as they are. Update policies do not reach resource providers.
        for size in ("MinSize", "MaxSize", "DesiredCapacity"):
            if size in arguments and str(before.get(size)) == str(after.get(size)):
                del arguments[size]
        # A property that is gone from the template goes back to its default.
        defaults = {"HealthCheckType": "EC2", "HealthCheckGracePeriod": 0, "TerminationPolicies": ["Default"]}
        for argument, default in defaults.items():
            if before.get(argument) is not None and argument not in arguments:
                arguments[argument] = default
        client.update_auto_scaling_group(**arguments)
        self._update_tags(client, name, before, after)
        return success(after)

    def _update_tags(self, client, name: str, before: dict, after: dict) -> None:
        old, new = _tags(before, name), _tags(after, name)
        if gone := [tag for key, tag in old.items() if key not in new]:
            client.delete_tags(Tags=gone)
        if fresh := [tag for key, tag in new.items() if old.get(key) != tag]:
            client.create_or_update_tags(Tags=fresh)

    def _update_hooks(self, client, name: str, before: dict, after: dict) -> None:
        old, new = _hooks(before), _hooks(after)
        for gone in set(old) - set(new):
            client.delete_lifecycle_hook(AutoScalingGroupName=name, LifecycleHookName=gone)
        for key, hook in new.items():
            if old.get(key) != hook:
                client.put_lifecycle_hook(AutoScalingGroupName=name, **hook)

    def delete(self, request):
        client = request.aws_client_factory.autoscaling
        name = request.desired_state["AutoScalingGroupName"]
        try:
            client.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
        except client.exceptions.ClientError as error:
            if "not found" not in error.response["Error"]["Message"]:
                raise
        return success({})


class HookProvider(ResourceProvider[dict]):
    TYPE = "AWS::AutoScaling::LifecycleHook"
    SCHEMA = {
        "typeName": TYPE,
        "primaryIdentifier": ["/properties/LifecycleHookName"],
        "readOnlyProperties": [],
        "createOnlyProperties": ["/properties/AutoScalingGroupName", "/properties/LifecycleHookName"],
        "properties": {},
    }

    def create(self, request):
        model = dict(request.desired_state)
        model.setdefault(
            "LifecycleHookName",
            util.generate_default_name(request.stack_name, request.logical_resource_id),
        )
        return self._put(request, model)

    def update(self, request):
        model = dict(request.desired_state)
        model["LifecycleHookName"] = request.previous_state["LifecycleHookName"]
        return self._put(request, model)

    def _put(self, request, model: dict):
        request.aws_client_factory.autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=model["AutoScalingGroupName"], **_hook(model)
        )
        return success(model)

    def delete(self, request):
        model = request.desired_state
        request.aws_client_factory.autoscaling.delete_lifecycle_hook(
            AutoScalingGroupName=model["AutoScalingGroupName"],
            LifecycleHookName=model["LifecycleHookName"],
        )
        return success({})
