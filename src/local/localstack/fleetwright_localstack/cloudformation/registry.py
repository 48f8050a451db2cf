"""Which resource types are ours, and how LocalStack comes to use them.

LocalStack finds providers by entry point and takes any one of two with the same
name, so types that it has as well can't be replaced that way. Its one look-up
function asks here first.
"""

import functools


@functools.cache
def providers() -> dict:
    """The provider class for each resource type of ours."""
    from fleetwright_localstack.cloudformation import autoscaling, iam, launch_template, network, volume

    classes = [
        autoscaling.GroupProvider,
        autoscaling.HookProvider,
        launch_template.LaunchTemplateProvider,
        network.VpcProvider,
        network.SubnetProvider,
        network.InternetGatewayProvider,
        network.RouteTableProvider,
        network.RouteProvider,
        network.SecurityGroupProvider,
        network.IngressProvider,
        network.EgressProvider,
        iam.RoleProvider,
        iam.InstanceProfileProvider,
        volume.VolumeProvider,
    ]
    return {provider.TYPE: explained(provider) for provider in classes}


def explained(provider: type) -> type:
    """The provider, with failures that say why.

    LocalStack words every failure of an update as one to delete.
    """
    for name in ("create", "update"):
        setattr(provider, name, _explained(getattr(provider, name)))
    return provider


def _explained(handler):
    from botocore.exceptions import ClientError
    from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent

    @functools.wraps(handler)
    def call(self, request):
        try:
            return handler(self, request)
        except (ClientError, KeyError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, ClientError) else f"{type(error).__name__}: {error}"
            return ProgressEvent(
                status=OperationStatus.FAILED,
                resource_model={},
                message=f'Resource handler returned message: "{reason}"',
            )

    return call


def apply() -> None:
    from localstack.services.cloudformation.resource_provider import ResourceProviderExecutor

    from fleetwright_localstack.cloudformation import change_sets, outcomes, stacks

    original = ResourceProviderExecutor.try_load_resource_provider

    def try_load_resource_provider(resource_type: str):
        provider = providers().get(resource_type)
        return provider() if provider else original(resource_type)

    ResourceProviderExecutor.try_load_resource_provider = staticmethod(try_load_resource_provider)
    change_sets.apply()
    outcomes.apply()
    stacks.apply()
