"""What moto gets wrong about EC2 machines and SSM, mended in place; and S3's place."""

import copy
import ipaddress
import os
import time

from localstack import config
from localstack.services.s3.storage.ephemeral import EphemeralS3ObjectStore
from localstack.utils.patch import patch
from moto.core.types import Base64EncodedString
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateBackend
from moto.ec2.models.subnets import Subnet
from moto.ec2.models.tags import TagBackend
from moto.ec2.utils import parse_user_data
from moto.ssm.models import Parameter, ParameterDict, SimpleSystemManagerBackend

from fleetwright_localstack.state import LOCK, changed

# AWS keeps the first four addresses and the last one of every subnet.
FIRST_HOST = 4


class NoFreeAddress(EC2ClientError):
    def __init__(self, subnet_id: str):
        super().__init__(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{subnet_id}' to satisfy the requested"
            " number of instances.",
        )


def apply() -> None:
    _patch_launch_templates()
    _patch_addresses()
    _patch_instances()
    _patch_ssm()
    _patch_s3()


def _patch_launch_templates() -> None:
    @patch(LaunchTemplate.create_version)
    def create_version(fn, self, data, description):
        # moto wraps the user data of a template's first version only, and then
        # fails an assertion when an instance is launched from a later one.
        if data and isinstance(data.get("UserData"), str):
            data["UserData"] = parse_user_data(data["UserData"])
        with LOCK:
            return fn(self, data, description)

    @patch(LaunchTemplateBackend.create_launch_template)
    def create_launch_template(fn, self, *args, **kwargs):
        with LOCK:
            return fn(self, *args, **kwargs)


def _patch_addresses() -> None:
    @patch(Subnet.get_available_subnet_ip)
    def get_available_subnet_ip(fn, self, instance):
        # moto hands a freed address to the very next instance. A machine that
        # replaces another must be told apart from it by its address, so go
        # round the subnet before using one again.
        if not isinstance(self.cidr, ipaddress.IPv4Network):
            return fn(self, instance)
        with LOCK:
            used = set(self._subnet_ips)
            for eni in list(self.ec2_backend.enis.values()):
                if eni.subnet.id == self.id:
                    used.update(a["PrivateIpAddress"] for a in eni.private_ip_addresses)
            last = self.cidr.num_addresses - 2
            start = getattr(self, "fleetwright_next_host", FIRST_HOST)
            for host in [*range(start, last + 1), *range(FIRST_HOST, start)]:
                address = str(self.cidr.network_address + host)
                if address not in used:
                    self.fleetwright_next_host = host + 1
                    self._subnet_ips[address] = instance
                    return address
        raise NoFreeAddress(self.id)

    # moto frees an instance's addresses when Python collects the object, which
    # may be long after they have gone to another one. Termination frees them.
    Instance.__del__ = lambda self: None


def _patch_instances() -> None:
    @patch(Instance.terminate)
    def terminate(fn, self):
        with LOCK:
            if self._state.name == "terminated":
                return copy.copy(self._state)
            previous = fn(self)
            for nic in list(self.nics.values()):
                own = nic.description == "Primary network interface"
                if own and nic.id in self.ec2_backend.enis:
                    nic.delete()
            self.fleetwright_terminated_at = time.time()
            changed()
            return previous

    @patch(InstanceBackend.run_instances)
    def run_instances(fn, self, *args, **kwargs):
        with LOCK:
            reservation = fn(self, *args, **kwargs)
            changed()
            return reservation

    def announced(method):
        @patch(method)
        def call(fn, self, *args, **kwargs):
            with LOCK:
                result = fn(self, *args, **kwargs)
                changed()
                return result

    announced(InstanceBackend.start_instances)
    announced(InstanceBackend.stop_instances)
    announced(TagBackend.delete_tags)

    @patch(TagBackend.create_tags)
    def create_tags(fn, self, resource_ids, tags):
        with LOCK:
            result = fn(self, resource_ids, tags)
            if any(resource_id.startswith("i-") for resource_id in resource_ids):
                changed()
            return result


def _patch_ssm() -> None:
    @patch(SimpleSystemManagerBackend.put_parameter)
    def put_parameter(fn, self, *args, **kwargs):
        # moto looks first and stores later, so that of two callers who create
        # one parameter both would win.
        with LOCK:
            return fn(self, *args, **kwargs)

    @patch(ParameterDict.__init__)
    def __init__(fn, self, account_id, region_name):
        # Publishers of images name them by parameters that everybody can read.
        fn(self, account_id, region_name)
        for pair in os.environ.get("FLEETWRIGHT_PUBLIC_PARAMETERS", "").split():
            name, value = pair.split("=", 1)
            self[name].append(
                Parameter(
                    account_id=account_id,
                    name=name,
                    value=value,
                    parameter_type="String",
                    description=None,
                    allowed_pattern=None,
                    keyid=None,
                    last_modified_date=time.time(),
                    version=1,
                    data_type="aws:ec2:image",
                )
            )


def _patch_s3() -> None:
    @patch(EphemeralS3ObjectStore.__init__)
    def __init__(fn, self, root_directory=None):
        # LocalStack keeps all objects in one fixed directory, where two local
        # clouds would delete each other's buckets.
        fn(self, os.path.join(config.dirs.tmp, "s3"))


def user_data_of(instance) -> str | None:
    """The instance's user data in base64, as moto's callers left it."""
    value = instance.user_data
    if value is None:
        return None
    if isinstance(value, Base64EncodedString):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return str(value)
