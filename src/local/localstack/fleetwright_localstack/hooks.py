"""LocalStack's ways in: two start-up hooks and the ``autoscaling`` service.

This module imports nothing heavy. moto takes seconds to load, and the emulator
should answer before that: the patches are applied when the first service is
needed, which the warm-up in the background makes happen at once.
"""

import logging
import threading

from localstack.runtime import hooks
from localstack.services.plugins import Service, aws_provider

LOG = logging.getLogger(__name__)

# What every apply needs, in the order it needs them.
WARMED = ("cloudformation", "ec2", "s3", "iam", "sts", "ssm", "autoscaling")

_once = threading.RLock()
_patched = False


@hooks.on_infra_start()
def install() -> None:
    """Adds the routes and sees to it that no service is loaded unpatched."""
    from localstack.http import Request
    from localstack.services.edge import ROUTER
    from localstack.services.plugins import ServicePluginManager
    from localstack.utils.patch import patch

    @patch(ServicePluginManager.require)
    def require(fn, self, name):
        ensure_patched()
        return fn(self, name)

    def list_instances(request: Request, **_):
        ensure_patched()
        from fleetwright_localstack import routes

        return routes.list_instances(request)

    def vanished(request: Request, instance_id: str, **_):
        ensure_patched()
        from fleetwright_localstack import routes

        return routes.vanished(request, instance_id)

    ROUTER.add("/_fleetwright/instances", list_instances, methods=["GET"])
    ROUTER.add("/_fleetwright/instances/<instance_id>/vanished", vanished, methods=["POST"])


def ensure_patched() -> None:
    """Applies all patches once; later callers wait until that is done."""
    global _patched
    if _patched:
        return
    with _once:
        if _patched:
            return
        from fleetwright_localstack import groups, lifecycle, moto_patches
        from fleetwright_localstack.cloudformation import registry

        moto_patches.apply()
        groups.apply()
        registry.apply()
        lifecycle.start_clock()
        _patched = True


@hooks.on_infra_ready()
def warm_up() -> None:
    """Loads the services in the background that the first request would wait seconds for.

    LocalStack's own EAGER_SERVICE_LOADING does it before it answers at all.
    """
    threading.Thread(target=_load, name="fleetwright-warm-up", daemon=True).start()


def _load() -> None:
    from localstack.services.plugins import SERVICE_PLUGINS

    for name in WARMED:
        try:
            SERVICE_PLUGINS.require(name)
        except Exception:
            # SERVICES may exclude it; whoever uses it will be told.
            LOG.debug("can't load %s ahead of its use", name, exc_info=True)
    from fleetwright_localstack.cloudformation import registry

    registry.providers()


@aws_provider(api="autoscaling")
def autoscaling() -> Service:
    """Builds the service; LocalStack calls it at the first autoscaling request."""
    from fleetwright_localstack import service

    return service.build()
