"""The ``autoscaling`` API: moto's operations, and ours where moto's fall short.

Every operation runs under the one lock, because moto's groups are plain
objects and LocalStack serves requests in many threads.
"""

from localstack.aws.api import CommonServiceException
from localstack.aws.skeleton import Skeleton
from localstack.aws.spec import load_service
from localstack.services.moto import _proxy_moto
from localstack.services.plugins import Service
from moto.autoscaling import autoscaling_backends
from moto.core.exceptions import ServiceException

from fleetwright_localstack import groups, lifecycle
from fleetwright_localstack.state import LOCK, changed


def build() -> Service:
    spec = load_service("autoscaling")
    table = {name: _guarded(_proxy_moto) for name in spec.operation_names}
    table.update({name: _guarded(_native(function)) for name, function in OPERATIONS.items()})
    return Service("autoscaling", skeleton=Skeleton(spec, table))


def _guarded(handler):
    def call(context, request):
        with LOCK:
            try:
                response = handler(context, request)
            except ServiceException as error:
                raise CommonServiceException(error.code, error.message, sender_fault=True) from error
            if not context.operation.name.startswith("Describe"):
                changed()
            return response

    return call


def _native(function):
    def call(context, request):
        backend = autoscaling_backends[context.account_id][context.region]
        return function(backend, request) or {}

    return call


def _invalid(message: str) -> CommonServiceException:
    return CommonServiceException("ValidationError", message, sender_fault=True)


def _group(backend, name: str):
    group = backend.autoscaling_groups.get(name)
    if group is None:
        raise _invalid(f"AutoScalingGroup name not found - AutoScalingGroup {name} not found")
    return group


def _check_sizes(smallest: int, largest: int, desired: int) -> None:
    if smallest > largest:
        raise _invalid(f"Max bound, {largest}, must be greater than or equal to min bound, {smallest}")
    if not smallest <= desired <= largest:
        raise _invalid(
            f"Desired capacity:{desired} must be between the specified min size:{smallest} and max size:{largest}"
        )


def _check_template(backend, template: dict | None) -> None:
    """Refuses a launch template or version that doesn't exist, before anything changes."""
    if not template:
        return
    try:
        if template.get("LaunchTemplateId"):
            found = backend.ec2_backend.get_launch_template(template["LaunchTemplateId"])
        else:
            found = backend.ec2_backend.get_launch_template_by_name(template.get("LaunchTemplateName"))
        found.get_version(template.get("Version") or "$Default")
    except (ServiceException, KeyError, ValueError) as error:
        message = getattr(error, "message", str(error))
        raise _invalid(f"You must use a valid fully-formed launch template. {message}") from error


def create_group(backend, request):
    name = request["AutoScalingGroupName"]
    if name in backend.autoscaling_groups:
        raise CommonServiceException(
            "AlreadyExists",
            f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
            sender_fault=True,
        )
    desired = request.get("DesiredCapacity")
    desired = request["MinSize"] if desired is None else desired
    _check_sizes(request["MinSize"], request["MaxSize"], desired)
    _check_template(backend, request.get("LaunchTemplate"))
    # Hooks come first: they hold for the very first instances too.
    specifications = request.get("LifecycleHookSpecificationList") or []
    for hook in specifications:
        _put_hook(backend, name, hook)
    try:
        group = backend.create_auto_scaling_group(
            name=name,
            availability_zones=request.get("AvailabilityZones") or [],
            desired_capacity=desired,
            max_size=request["MaxSize"],
            min_size=request["MinSize"],
            launch_config_name=request.get("LaunchConfigurationName"),
            launch_template=request.get("LaunchTemplate") or {},
            vpc_zone_identifier=request.get("VPCZoneIdentifier"),
            default_cooldown=request.get("DefaultCooldown"),
            health_check_period=request.get("HealthCheckGracePeriod"),
            health_check_type=request.get("HealthCheckType"),
            load_balancers=request.get("LoadBalancerNames") or [],
            target_group_arns=request.get("TargetGroupARNs") or [],
            placement_group=request.get("PlacementGroup"),
            termination_policies=request.get("TerminationPolicies") or [],
            tags=[dict(tag) for tag in request.get("Tags") or []],
            capacity_rebalance=bool(request.get("CapacityRebalance")),
            new_instances_protected_from_scale_in=bool(request.get("NewInstancesProtectedFromScaleIn")),
            instance_id=request.get("InstanceId"),
            mixed_instances_policy=request.get("MixedInstancesPolicy"),
        )
    except Exception:
        for hook in specifications:
            backend.delete_lifecycle_hook(name, hook["LifecycleHookName"])
        raise
    group.health_check_grace_period = request.get("HealthCheckGracePeriod") or 0


def update_group(backend, request):
    group = _group(backend, request["AutoScalingGroupName"])
    smallest = request.get("MinSize")
    smallest = group.min_size if smallest is None else smallest
    largest = request.get("MaxSize")
    largest = group.max_size if largest is None else largest
    desired = request.get("DesiredCapacity")
    if desired is None:
        desired = max(smallest, min(largest, group.desired_capacity))
    _check_sizes(smallest, largest, desired)
    _check_template(backend, request.get("LaunchTemplate"))
    if request.get("DefaultCooldown") is not None:
        group.default_cooldown = request["DefaultCooldown"]
    if request.get("TerminationPolicies"):
        group.termination_policies = request["TerminationPolicies"]
    if request.get("CapacityRebalance") is not None:
        group.capacity_rebalance = request["CapacityRebalance"]
    backend.update_auto_scaling_group(
        name=group.name,
        availability_zones=request.get("AvailabilityZones") or [],
        desired_capacity=desired,
        max_size=request.get("MaxSize"),
        min_size=request.get("MinSize"),
        launch_config_name=request.get("LaunchConfigurationName"),
        launch_template=request.get("LaunchTemplate") or {},
        vpc_zone_identifier=request.get("VPCZoneIdentifier"),
        health_check_period=request.get("HealthCheckGracePeriod"),
        health_check_type=request.get("HealthCheckType"),
        new_instances_protected_from_scale_in=request.get("NewInstancesProtectedFromScaleIn"),
    )


def delete_group(backend, request):
    group = _group(backend, request["AutoScalingGroupName"])
    if group.instance_states and not request.get("ForceDelete"):
        raise CommonServiceException(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance"
            " request(s) still in the group.",
            sender_fault=True,
        )
    group.desired_capacity = 0
    for state in list(group.instance_states):
        groups.finish_termination(group, state)
    del backend.autoscaling_groups[group.name]
    for hook in backend.describe_lifecycle_hooks(group.name):
        backend.delete_lifecycle_hook(group.name, hook.name)
    for name in [n for n, p in backend.policies.items() if p.auto_scaling_group_name == group.name]:
        backend.delete_policy(name)


def set_desired_capacity(backend, request):
    group = _group(backend, request["AutoScalingGroupName"])
    desired = request["DesiredCapacity"]
    if desired > group.max_size:
        raise _invalid(
            f"New SetDesiredCapacity value {desired} is above max value {group.max_size} for the AutoScalingGroup."
        )
    if desired < group.min_size:
        raise _invalid(
            f"New SetDesiredCapacity value {desired} is below min value {group.min_size} for the AutoScalingGroup."
        )
    group.set_desired_capacity(desired)


def terminate_instance(backend, request):
    group, state = groups.find_instance(backend, request["InstanceId"])
    if request.get("ShouldDecrementDesiredCapacity") and state.lifecycle_state in groups.COUNTED:
        if group.desired_capacity <= group.min_size:
            raise _invalid(
                f"Currently, desiredSize equals minSize ({group.min_size}). Terminating instance without"
                " replacement will violate group's min size constraint. Either set"
                " shouldDecrementDesiredCapacity flag to false or lower group's min size."
            )
        group.desired_capacity -= 1
    groups.begin_termination(group, state, "a user request")
    groups.reconcile(group)
    description = f"Terminating EC2 instance: {state.instance_id}"
    activity = next(dict(a) for a in group.fleetwright_activities if a["Description"] == description)
    waiting = state.lifecycle_state == "Terminating:Wait"
    activity.update(StatusCode="InProgress" if waiting else "Successful", Progress=0 if waiting else 100)
    return {"Activity": activity}


def set_instance_health(backend, request):
    status = request["HealthStatus"]
    if status not in ("Healthy", "Unhealthy"):
        raise _invalid(f"Valid instance health states are: [Healthy, Unhealthy], not {status}")
    group, state = groups.find_instance(backend, request["InstanceId"])
    state.health_status = status
    if status == "Unhealthy" and "ReplaceUnhealthy" not in group._suspended_processes:
        groups.begin_termination(group, state, "a failed health check")
        groups.reconcile(group)


def describe_activities(backend, request):
    name = request.get("AutoScalingGroupName")
    chosen = [_group(backend, name)] if name else backend.autoscaling_groups.values()
    activities = [a for group in chosen for a in getattr(group, "fleetwright_activities", ())]
    activities.sort(key=lambda activity: activity["StartTime"], reverse=True)
    if request.get("ActivityIds"):
        activities = [a for a in activities if a["ActivityId"] in request["ActivityIds"]]
    return {"Activities": activities[: request.get("MaxRecords") or 100]}


def _put_hook(backend, group_name: str, request) -> None:
    known = {h.name: h for h in backend.describe_lifecycle_hooks(group_name)}
    old = known.get(request["LifecycleHookName"])
    transition = request.get("LifecycleTransition") or (old and old.lifecycle_transition)
    if not transition:
        raise _invalid("Lifecycle transition is required to create a lifecycle hook.")
    hook = backend.create_lifecycle_hook(
        name=request["LifecycleHookName"],
        as_name=group_name,
        transition=transition,
        timeout=request.get("HeartbeatTimeout") or (old and old.heartbeat_timeout),
        result=request.get("DefaultResult") or (old and old.default_result),
    )
    # moto invents a role and a queue for every hook.
    hook.role_arn = request.get("RoleARN")
    hook.notification_target_arn = request.get("NotificationTargetARN")
    hook.global_timeout = min(172800, 100 * int(hook.heartbeat_timeout))


def put_hook(backend, request):
    group = _group(backend, request["AutoScalingGroupName"])
    _put_hook(backend, group.name, request)


def _action(request):
    token, instance_id = request.get("LifecycleActionToken"), request.get("InstanceId")
    action = lifecycle.find(request["AutoScalingGroupName"], request["LifecycleHookName"], token, instance_id)
    if action is None:
        what = f"token {token}" if token else f"instance ID {instance_id}"
        raise _invalid(f"No active Lifecycle Action found with {what}")
    return action


def complete_action(backend, request):
    result = request["LifecycleActionResult"]
    if result not in ("CONTINUE", "ABANDON"):
        raise _invalid(f"Lifecycle action result must be CONTINUE or ABANDON, not {result}")
    lifecycle.complete(_action(request), result)


def record_heartbeat(backend, request):
    _action(request).beat()


OPERATIONS = {
    "CreateAutoScalingGroup": create_group,
    "UpdateAutoScalingGroup": update_group,
    "DeleteAutoScalingGroup": delete_group,
    "SetDesiredCapacity": set_desired_capacity,
    "TerminateInstanceInAutoScalingGroup": terminate_instance,
    "SetInstanceHealth": set_instance_health,
    "DescribeScalingActivities": describe_activities,
    "PutLifecycleHook": put_hook,
    "CompleteLifecycleAction": complete_action,
    "RecordLifecycleActionHeartbeat": record_heartbeat,
}
