"""Network types that LocalStack has, with the parts it drops."""

import localstack.services.cloudformation.provider_utils as util
from localstack.services.cloudformation.resource_provider import OperationStatus, ResourceProvider
from localstack.services.ec2.resource_providers.aws_ec2_internetgateway import EC2InternetGatewayProvider
from localstack.services.ec2.resource_providers.aws_ec2_route import EC2RouteProvider
from localstack.services.ec2.resource_providers.aws_ec2_routetable import EC2RouteTableProvider
from localstack.services.ec2.resource_providers.aws_ec2_securitygroup import EC2SecurityGroupProvider
from localstack.services.ec2.resource_providers.aws_ec2_subnet import EC2SubnetProvider
from localstack.services.ec2.resource_providers.aws_ec2_vpc import EC2VPCProvider
from moto.ec2.utils import generate_route_id

from fleetwright_localstack.cloudformation.common import is_true, success, sync_tags


def _kept(provider, request) -> dict:
    """The new properties together with what only the emulator knows."""
    names = [path.rsplit("/", 1)[-1] for path in provider.SCHEMA.get("readOnlyProperties", [])]
    before = request.previous_state
    return {**request.desired_state, **{name: before[name] for name in names if name in before}}


class VpcProvider(EC2VPCProvider):
    """DNS settings are applied, at creation too; tags can change."""

    def create(self, request):
        wanted = dict(request.desired_state)
        event = super().create(request)
        if event.status == OperationStatus.IN_PROGRESS:
            vpc_id = event.resource_model["VpcId"]
            _set_dns(request.aws_client_factory.ec2, vpc_id, wanted)
            for name in ("EnableDnsSupport", "EnableDnsHostnames"):
                if wanted.get(name) is not None:
                    event.resource_model[name] = is_true(wanted[name])
        return event

    def update(self, request):
        model = _kept(self, request)
        ec2 = request.aws_client_factory.ec2
        _set_dns(ec2, model["VpcId"], model)
        sync_tags(ec2, model["VpcId"], request.previous_state.get("Tags"), model.get("Tags"))
        return success(model)


def _set_dns(ec2, vpc_id: str, model: dict) -> None:
    # One attribute a call: the API takes no more.
    for name in ("EnableDnsSupport", "EnableDnsHostnames"):
        if model.get(name) is not None:
            ec2.modify_vpc_attribute(VpcId=vpc_id, **{name: {"Value": is_true(model[name])}})


class SubnetProvider(EC2SubnetProvider):
    """Public addresses and tags can change."""

    def update(self, request):
        model = _kept(self, request)
        ec2 = request.aws_client_factory.ec2
        ec2.modify_subnet_attribute(
            SubnetId=model["SubnetId"],
            MapPublicIpOnLaunch={"Value": is_true(model.get("MapPublicIpOnLaunch"))},
        )
        sync_tags(ec2, model["SubnetId"], request.previous_state.get("Tags"), model.get("Tags"))
        return success(model)


class InternetGatewayProvider(EC2InternetGatewayProvider):
    """Tags can change."""

    def update(self, request):
        model = _kept(self, request)
        ec2 = request.aws_client_factory.ec2
        sync_tags(ec2, model["InternetGatewayId"], request.previous_state.get("Tags"), model.get("Tags"))
        return success(model)


class RouteTableProvider(EC2RouteTableProvider):
    """Tags can change."""

    def update(self, request):
        model = _kept(self, request)
        ec2 = request.aws_client_factory.ec2
        sync_tags(ec2, model["RouteTableId"], request.previous_state.get("Tags"), model.get("Tags"))
        return success(model)


ROUTE_ARGUMENTS = (
    "RouteTableId",
    "DestinationCidrBlock",
    "DestinationIpv6CidrBlock",
    "EgressOnlyInternetGatewayId",
    "GatewayId",
    "InstanceId",
    "NatGatewayId",
    "NetworkInterfaceId",
    "TransitGatewayId",
    "VpcPeeringConnectionId",
)


class RouteProvider(EC2RouteProvider):
    """The route's target is kept; LocalStack's own routes lead nowhere."""

    def create(self, request):
        model = dict(request.desired_state)
        arguments = {name: model[name] for name in ROUTE_ARGUMENTS if model.get(name)}
        request.aws_client_factory.ec2.create_route(**arguments)
        model["Id"] = generate_route_id(
            model["RouteTableId"],
            model.get("DestinationCidrBlock"),
            model.get("DestinationIpv6CidrBlock", ""),
        )
        return success(model)

    def update(self, request):
        model = _kept(self, request)
        arguments = {name: model[name] for name in ROUTE_ARGUMENTS if model.get(name)}
        request.aws_client_factory.ec2.replace_route(**arguments)
        return success(model)


def _permission(rule: dict, other: str) -> dict:
    """An API permission for a template's rule; ``other`` is Source or Destination."""
    described = {"Description": rule["Description"]} if rule.get("Description") else {}
    permission = {"IpProtocol": str(rule.get("IpProtocol", "-1"))}
    for name in ("FromPort", "ToPort"):
        if rule.get(name) is not None:
            permission[name] = int(rule[name])
    if rule.get("CidrIp"):
        permission["IpRanges"] = [{"CidrIp": rule["CidrIp"], **described}]
    if rule.get("CidrIpv6"):
        permission["Ipv6Ranges"] = [{"CidrIpv6": rule["CidrIpv6"], **described}]
    if rule.get(f"{other}SecurityGroupId"):
        permission["UserIdGroupPairs"] = [{"GroupId": rule[f"{other}SecurityGroupId"], **described}]
    if rule.get(f"{other}PrefixListId"):
        permission["PrefixListIds"] = [{"PrefixListId": rule[f"{other}PrefixListId"], **described}]
    return permission


ANYWHERE = {"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}


class SecurityGroupProvider(EC2SecurityGroupProvider):
    """Rules are applied; LocalStack drops them."""

    def create(self, request):
        event = super().create(request)
        model, ec2 = event.resource_model, request.aws_client_factory.ec2
        # EC2 gives a new group the rule that anything may leave; rules of the
        # template take its place.
        self._sync(ec2, model["GroupId"], {}, model)
        described = ec2.describe_security_groups(GroupIds=[model["GroupId"]])["SecurityGroups"][0]
        model["GroupName"] = described["GroupName"]
        return event

    def update(self, request):
        before, model = request.previous_state, _kept(self, request)
        model.setdefault("GroupName", before.get("GroupName"))
        ec2 = request.aws_client_factory.ec2
        self._sync(ec2, model["GroupId"], before, model)
        sync_tags(ec2, model["GroupId"], before.get("Tags"), model.get("Tags"))
        return success(model)

    def _sync(self, ec2, group_id: str, before: dict, after: dict) -> None:
        old, new = before.get("SecurityGroupIngress") or [], after.get("SecurityGroupIngress") or []
        for rule in [rule for rule in old if rule not in new]:
            ec2.revoke_security_group_ingress(GroupId=group_id, IpPermissions=[_permission(rule, "Source")])
        for rule in [rule for rule in new if rule not in old]:
            ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[_permission(rule, "Source")])
        old = before.get("SecurityGroupEgress") or [ANYWHERE]
        new = after.get("SecurityGroupEgress") or [ANYWHERE]
        for rule in [rule for rule in old if rule not in new]:
            ec2.revoke_security_group_egress(GroupId=group_id, IpPermissions=[_permission(rule, "Destination")])
        for rule in [rule for rule in new if rule not in old]:
            ec2.authorize_security_group_egress(GroupId=group_id, IpPermissions=[_permission(rule, "Destination")])


class _RuleProvider(ResourceProvider[dict]):
    """One rule of a security group that is defined elsewhere, usually to name itself."""

    other: str
    authorize: str
    revoke: str

    def create(self, request):
        model = dict(request.desired_state)
        model["Id"] = util.generate_default_name(request.stack_name, request.logical_resource_id)
        self._call(request, self.authorize, model)
        return success(model)

    def update(self, request):
        model = _kept(self, request)
        self._call(request, self.revoke, request.previous_state)
        self._call(request, self.authorize, model)
        return success(model)

    def delete(self, request):
        ec2 = request.aws_client_factory.ec2
        try:
            self._call(request, self.revoke, request.desired_state)
        except ec2.exceptions.ClientError as error:
            # The group may be gone already, and its rules with it.
            if "NotFound" not in error.response["Error"]["Code"]:
                raise
        return success({})

    def _call(self, request, operation: str, rule: dict) -> None:
        call = getattr(request.aws_client_factory.ec2, operation)
        call(GroupId=rule["GroupId"], IpPermissions=[_permission(rule, self.other)])


def _rule_schema(type_name: str) -> dict:
    return {
        "typeName": type_name,
        "primaryIdentifier": ["/properties/Id"],
        "readOnlyProperties": ["/properties/Id"],
        "createOnlyProperties": ["/properties/GroupId"],
        "properties": {},
    }


class IngressProvider(_RuleProvider):
    TYPE = "AWS::EC2::SecurityGroupIngress"
    SCHEMA = _rule_schema(TYPE)
    other = "Source"
    authorize = "authorize_security_group_ingress"
    revoke = "revoke_security_group_ingress"


class EgressProvider(_RuleProvider):
    TYPE = "AWS::EC2::SecurityGroupEgress"
    SCHEMA = _rule_schema(TYPE)
    other = "Destination"
    authorize = "authorize_security_group_egress"
    revoke = "revoke_security_group_egress"
