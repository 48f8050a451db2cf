"""What the resource providers share."""

from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent


def success(model: dict) -> ProgressEvent:
    return ProgressEvent(status=OperationStatus.SUCCESS, resource_model=model)


def is_true(value) -> bool:
    """Templates hold booleans as true or 'true'."""
    return value is True or str(value).lower() == "true"


def stack_tags(request) -> dict[str, str]:
    """The tags that CloudFormation puts on whatever it makes."""
    return {
        "aws:cloudformation:stack-name": request.stack_name,
        "aws:cloudformation:logical-id": request.logical_resource_id,
        "aws:cloudformation:stack-id": request.stack_id,
    }


def tag_map(tags) -> dict[str, str]:
    return {tag["Key"]: str(tag["Value"]) for tag in tags or []}


def sync_tags(ec2, resource_id: str, before, after) -> None:
    """Makes an EC2 resource's tags those of the template, leaving all others alone."""
    old, new = tag_map(before), tag_map(after)
    gone = [{"Key": key} for key in old if key not in new]
    if gone:
        ec2.delete_tags(Resources=[resource_id], Tags=gone)
    fresh = [{"Key": key, "Value": value} for key, value in new.items() if old.get(key) != value]
    if fresh:
        ec2.create_tags(Resources=[resource_id], Tags=fresh)
