"""LocalStack calls these once each: before it serves its first request, and then."""

import logging
import threading

from localstack.runtime import hooks

LOG = logging.getLogger(__name__)

# What every apply needs, in the order it needs them.
WARMED = ("cloudformation", "ec2", "s3", "iam", "sts", "ssm", "autoscaling")


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


@hooks.on_infra_ready()
def warm_up() -> None:
    """Loads the services in the background that the first request would wait seconds for.

    LocalStack's own EAGER_SERVICE_LOADING does it before it answers at all.
    """
    threading.Thread(target=_load, name="fleetwright-warm-up", daemon=True).start()


def _load() -> None:
    from localstack.services.plugins import SERVICE_PLUGINS

    from fleetwright_localstack.cloudformation import registry

    for name in WARMED:
        try:
            SERVICE_PLUGINS.require(name)
        except Exception:
            # SERVICES may exclude it; whoever uses it will be told.
            LOG.debug("can't load %s ahead of its use", name, exc_info=True)
    registry.providers()
