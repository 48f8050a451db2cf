"""The machine feed: which machines should exist, for whoever plays them.

``GET  /_fleetwright/instances?since=REV&wait=SECONDS``
``POST /_fleetwright/instances/ID/vanished``
"""

import base64
import binascii
import json
import time

from localstack.http import Request, Response
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends

from fleetwright_localstack import groups, moto_patches
from fleetwright_localstack.state import LOCK, revision, wait_for_change

# How long a terminated instance stays in the feed, in seconds.
REMEMBERED = 600
LONGEST_WAIT = 60

# What a document that is meant for cloud-init can begin with.
DOCUMENT_STARTS = (b"#", b"Content-Type:", b"MIME-Version:", b"\x1f\x8b", b"{")


def _json(value, status: int = 200) -> Response:
    return Response(json.dumps(value), status=status, mimetype="application/json")


def list_instances(request: Request) -> Response:
    try:
        since = request.args.get("since")
        since = None if since is None else int(since)
        wait = float(request.args.get("wait", 0))
    except ValueError:
        return _json({"error": "since and wait must be numbers"}, 400)
    if since is not None and wait > 0:
        wait_for_change(since, min(wait, LONGEST_WAIT))
    with LOCK:
        return _json({"revision": revision(), "instances": _instances()})


def vanished(request: Request, instance_id: str) -> Response:
    with LOCK:
        for _account, _region, ec2 in _backends():
            instance = ec2.get_instance_by_id(instance_id)
            if instance is None:
                continue
            group, state = _membership(instance)
            if state is not None:
                groups.finish_termination(group, state)
                groups.reconcile(group)
            elif instance.state != "terminated":
                ec2.terminate_instances([instance_id])
            return _json({"id": instance_id, "state": instance.state})
    return _json({"error": f"no instance {instance_id}"}, 404)


def _backends():
    for account, regions in list(ec2_backends.items()):
        for region, backend in list(regions.items()):
            yield account, region, backend


def _membership(instance):
    """The instance's group and its state there; no state when it has left the group."""
    group = getattr(instance, "autoscaling_group", None)
    if group is None:
        return None, None
    states = (state for state in group.instance_states if state.instance is instance)
    return group, next(states, None)


def _instances() -> list[dict]:
    now = time.time()
    found = []
    for account, region, backend in _backends():
        for instance in backend.all_instances():
            ended = getattr(instance, "fleetwright_terminated_at", None)
            if ended is None or now - ended < REMEMBERED:
                found.append(_describe(account, region, backend, instance))
    return found


def _describe(account: str, region: str, backend, instance) -> dict:
    group, state = _membership(instance)
    lifecycle = state.lifecycle_state if state else None
    if state is None and group is not None and instance.state == "terminated":
        lifecycle = "Terminated"
    leaving = instance.state in ("shutting-down", "terminated") or (lifecycle or "").startswith("Terminat")
    template = getattr(instance, "fleetwright_template", None)
    return {
        "id": instance.id,
        "state": instance.state,
        "private_ip": instance.private_ip,
        "subnet_id": instance.subnet_id,
        "vpc_id": instance.vpc_id,
        "vpc_cidr": _vpc_cidr(backend, instance),
        "zone": instance._placement.zone,
        "region": region,
        "account": account,
        "group": group.name if group else None,
        "lifecycle": lifecycle,
        "target_lifecycle": "Terminated" if leaving else "InService",
        "launch_template": template
        and {
            "id": template["LaunchTemplateId"],
            "name": template["LaunchTemplateName"],
            "version": template["Version"],
        },
        "image_id": instance.image_id,
        "user_data": plain_user_data(moto_patches.user_data_of(instance)),
        "tags": {tag["key"]: tag["value"] for tag in instance.get_tags()},
        "role": _role(account, instance),
        "launched_at": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _vpc_cidr(backend, instance) -> str | None:
    vpc = backend.vpcs.get(instance.vpc_id)
    return vpc.cidr_block if vpc else None


def plain_user_data(encoded: str | None) -> str | None:
    """Base64 of the raw document, also when someone encoded it twice."""
    if not encoded:
        return None
    try:
        raw = base64.b64decode(encoded)
    except binascii.Error:
        return None
    while not raw.startswith(DOCUMENT_STARTS):
        try:
            inner = base64.b64decode(b"".join(raw.split()), validate=True)
        except binascii.Error:
            break
        if not inner.startswith(DOCUMENT_STARTS):
            break
        raw = inner
    return base64.b64encode(raw).decode("ascii")


def _role(account: str, instance) -> str | None:
    """The name of the role that the instance's profile carries."""
    profile = getattr(instance, "fleetwright_profile", None)
    if profile is None:
        association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
        profile = association.instance_profile.name if association else None
    if not profile:
        return None
    name = profile.rsplit("/", 1)[-1]
    for partition in iam_backends[account].values():
        for candidate in partition.instance_profiles.values():
            if candidate.name == name and candidate.roles:
                return candidate.roles[0].name
    return None
