"""AWS::EC2::Volume: a record that instances are attached to. No device appears in a machine."""

import localstack.services.cloudformation.provider_utils as util
from localstack.services.cloudformation.resource_provider import ResourceProvider

from fleetwright_localstack.cloudformation.common import success, sync_tags

ARGUMENTS = ("AvailabilityZone", "Size", "SnapshotId", "VolumeType", "Iops", "Throughput", "Encrypted", "KmsKeyId")


class VolumeProvider(ResourceProvider[dict]):
    TYPE = "AWS::EC2::Volume"
    SCHEMA = {
        "typeName": TYPE,
        "primaryIdentifier": ["/properties/VolumeId"],
        "readOnlyProperties": ["/properties/VolumeId"],
        "createOnlyProperties": ["/properties/AvailabilityZone", "/properties/Encrypted", "/properties/SnapshotId"],
        "properties": {},
    }

    def create(self, request):
        model = dict(request.desired_state)
        ec2 = request.aws_client_factory.ec2
        given = {name: model[name] for name in ARGUMENTS if model.get(name) is not None}
        shape = ec2.meta.service_model.operation_model("CreateVolume").input_shape
        made = ec2.create_volume(**util.convert_request_kwargs(given, shape))
        sync_tags(ec2, made["VolumeId"], [], model.get("Tags"))
        model["VolumeId"] = made["VolumeId"]
        return success(model)

    def update(self, request):
        before, after = request.previous_state, request.desired_state
        ec2 = request.aws_client_factory.ec2
        model = {**after, "VolumeId": before["VolumeId"]}
        if before.get("Size") != after.get("Size"):
            ec2.modify_volume(VolumeId=model["VolumeId"], Size=int(after["Size"]))
        sync_tags(ec2, model["VolumeId"], before.get("Tags"), after.get("Tags"))
        return success(model)

    def delete(self, request):
        ec2 = request.aws_client_factory.ec2
        volume_id = request.desired_state["VolumeId"]
        try:
            # Whatever it is still attached to goes with the same stack.
            for volume in ec2.describe_volumes(VolumeIds=[volume_id])["Volumes"]:
                for attachment in volume.get("Attachments", []):
                    ec2.detach_volume(VolumeId=volume_id, InstanceId=attachment["InstanceId"])
            ec2.delete_volume(VolumeId=volume_id)
        except ec2.exceptions.ClientError as error:
            if "NotFound" not in error.response["Error"]["Code"]:
                raise
        return success({})
