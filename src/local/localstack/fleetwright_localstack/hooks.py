"""LocalStack calls this once, before it serves its first request."""

from localstack.runtime import hooks


@hooks.on_infra_start()
def install() -> None:
    """Applies the patches, adds the routes and starts the lifecycle clock."""
    from fleetwright_localstack import groups, lifecycle, moto_patches, routes
    from fleetwright_localstack.cloudformation import registry

    moto_patches.apply()
    groups.apply()
    registry.apply()
    routes.add()
    lifecycle.start_clock()
