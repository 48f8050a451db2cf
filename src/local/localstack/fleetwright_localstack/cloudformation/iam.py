"""AWS::IAM::Role and AWS::IAM::InstanceProfile, updated in place.

LocalStack updates a role by deleting and making it again, which fails as soon
as an instance profile carries it, and doesn't update profiles at all.
"""

import json

from localstack.services.iam.resource_providers.aws_iam_instanceprofile import IAMInstanceProfileProvider
from localstack.services.iam.resource_providers.aws_iam_role import IAMRoleProvider

from fleetwright_localstack.cloudformation.common import success, tag_map


def _document(document) -> str:
    return document if isinstance(document, str) else json.dumps(document)


class RoleProvider(IAMRoleProvider):
    def update(self, request):
        before, model = request.previous_state, dict(request.desired_state)
        for name in ("RoleName", "Arn", "RoleId"):
            model[name] = before[name]
        iam, role = request.aws_client_factory.iam, before["RoleName"]
        if model["AssumeRolePolicyDocument"] != before.get("AssumeRolePolicyDocument"):
            iam.update_assume_role_policy(RoleName=role, PolicyDocument=_document(model["AssumeRolePolicyDocument"]))
        self._update_policies(iam, role, before, model)
        settings = {}
        if model.get("Description") != before.get("Description"):
            settings["Description"] = model.get("Description") or ""
        if model.get("MaxSessionDuration") != before.get("MaxSessionDuration"):
            settings["MaxSessionDuration"] = int(model.get("MaxSessionDuration") or 3600)
        if settings:
            iam.update_role(RoleName=role, **settings)
        old, new = tag_map(before.get("Tags")), tag_map(model.get("Tags"))
        if gone := [key for key in old if key not in new]:
            iam.untag_role(RoleName=role, TagKeys=gone)
        if fresh := [{"Key": k, "Value": v} for k, v in new.items() if old.get(k) != v]:
            iam.tag_role(RoleName=role, Tags=fresh)
        return success(model)

    def _update_policies(self, iam, role: str, before: dict, after: dict) -> None:
        old, new = set(before.get("ManagedPolicyArns") or []), set(after.get("ManagedPolicyArns") or [])
        for arn in sorted(old - new):
            iam.detach_role_policy(RoleName=role, PolicyArn=arn)
        for arn in sorted(new - old):
            iam.attach_role_policy(RoleName=role, PolicyArn=arn)
        old = {policy["PolicyName"]: policy for policy in before.get("Policies") or []}
        new = {policy["PolicyName"]: policy for policy in after.get("Policies") or []}
        for name in set(old) - set(new):
            iam.delete_role_policy(RoleName=role, PolicyName=name)
        for name, policy in new.items():
            if old.get(name) != policy:
                iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=_document(policy["PolicyDocument"]))


class InstanceProfileProvider(IAMInstanceProfileProvider):
    def update(self, request):
        before, model = request.previous_state, dict(request.desired_state)
        for name in ("InstanceProfileName", "Arn"):
            model[name] = before[name]
        iam, profile = request.aws_client_factory.iam, before["InstanceProfileName"]
        for role in [r for r in before.get("Roles") or [] if r not in (model.get("Roles") or [])]:
            iam.remove_role_from_instance_profile(InstanceProfileName=profile, RoleName=role)
        for role in [r for r in model.get("Roles") or [] if r not in (before.get("Roles") or [])]:
            iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=role)
        return success(model)
