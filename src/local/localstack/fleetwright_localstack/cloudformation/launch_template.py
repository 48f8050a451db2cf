"""AWS::EC2::LaunchTemplate: every change of its data is a new version."""

import localstack.services.cloudformation.provider_utils as util
from localstack.services.cloudformation.resource_provider import ResourceProvider

from fleetwright_localstack.cloudformation.common import success, sync_tags

READ_ONLY = ("LaunchTemplateId", "LatestVersionNumber", "DefaultVersionNumber")


def _own_tags(model: dict) -> list:
    """The tags of the template itself; those of instances are part of its data."""
    return [
        tag
        for specification in model.get("TagSpecifications") or []
        if specification.get("ResourceType") == "launch-template"
        for tag in specification.get("Tags") or []
    ]


def typed(ec2, data: dict) -> dict:
    """Template values with the types the API wants: CloudFormation lets numbers be strings."""
    shape = ec2.meta.service_model.operation_model("CreateLaunchTemplate").input_shape
    return util.convert_request_kwargs(data, shape.members["LaunchTemplateData"])


class LaunchTemplateProvider(ResourceProvider[dict]):
    TYPE = "AWS::EC2::LaunchTemplate"
    SCHEMA = {
        "typeName": TYPE,
        "primaryIdentifier": ["/properties/LaunchTemplateId"],
        "readOnlyProperties": [f"/properties/{name}" for name in READ_ONLY],
        "createOnlyProperties": ["/properties/LaunchTemplateName"],
        "properties": {},
    }

    def create(self, request):
        model = dict(request.desired_state)
        ec2 = request.aws_client_factory.ec2
        model.setdefault(
            "LaunchTemplateName",
            util.generate_default_name(request.stack_name, request.logical_resource_id),
        )
        arguments = {
            "LaunchTemplateName": model["LaunchTemplateName"],
            "LaunchTemplateData": typed(ec2, model["LaunchTemplateData"]),
        }
        if model.get("VersionDescription"):
            arguments["VersionDescription"] = model["VersionDescription"]
        made = ec2.create_launch_template(**arguments)["LaunchTemplate"]
        sync_tags(ec2, made["LaunchTemplateId"], [], _own_tags(model))
        model["LaunchTemplateId"] = made["LaunchTemplateId"]
        # GetAtt must give strings.
        model["LatestVersionNumber"] = str(made["LatestVersionNumber"])
        model["DefaultVersionNumber"] = str(made["DefaultVersionNumber"])
        return success(model)

    def update(self, request):
        before, after = request.previous_state, request.desired_state
        ec2 = request.aws_client_factory.ec2
        model = {**after, **{name: before[name] for name in READ_ONLY}}
        model["LaunchTemplateName"] = before["LaunchTemplateName"]
        content = ("LaunchTemplateData", "VersionDescription")
        if any(before.get(name) != after.get(name) for name in content):
            arguments = {
                "LaunchTemplateId": model["LaunchTemplateId"],
                "LaunchTemplateData": typed(ec2, after["LaunchTemplateData"]),
            }
            if after.get("VersionDescription"):
                arguments["VersionDescription"] = after["VersionDescription"]
            made = ec2.create_launch_template_version(**arguments)["LaunchTemplateVersion"]
            model["LatestVersionNumber"] = str(made["VersionNumber"])
        sync_tags(ec2, model["LaunchTemplateId"], _own_tags(before), _own_tags(after))
        return success(model)

    def delete(self, request):
        ec2 = request.aws_client_factory.ec2
        template_id = request.desired_state["LaunchTemplateId"]
        try:
            ec2.delete_launch_template(LaunchTemplateId=template_id)
        except ec2.exceptions.ClientError as error:
            if "NotFound" not in error.response["Error"]["Code"]:
                raise
        return success({})
