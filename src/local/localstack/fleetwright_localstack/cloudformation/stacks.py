"""What DescribeStacks says wrong.

LocalStack lists deleted stacks with the living ones, answers 500 for the id of
a stack that never was, and gives the time of creation as the time of the last
update.
"""

from datetime import UTC, datetime

from localstack.utils.patch import patch


def apply() -> None:
    from localstack.aws.api.cloudformation import StackStatus
    from localstack.services.cloudformation.v2 import provider
    from localstack.services.cloudformation.v2.entities import Stack

    original_find = provider.find_stack_v2

    def find_stack_v2(state, stack_name):
        try:
            return original_find(state, stack_name)
        except KeyError:
            return None

    provider.find_stack_v2 = find_stack_v2

    @patch(provider.CloudformationProviderV2.describe_stacks)
    def describe_stacks(fn, self, context, stack_name=None, next_token=None, **kwargs):
        response = fn(self, context, stack_name=stack_name, next_token=next_token, **kwargs)
        if not stack_name:
            response["Stacks"] = [s for s in response["Stacks"] if s["StackStatus"] != StackStatus.DELETE_COMPLETE]
        return response

    @patch(provider.CloudformationProviderV2._describe_stack)
    def _describe_stack(fn, self, stack):
        described = fn(self, stack)
        updated = getattr(stack, "fleetwright_updated", None)
        if updated:
            described["LastUpdatedTime"] = updated
        if not stack.status.startswith("DELETE_"):
            # LocalStack gives failed stacks a time of deletion.
            described.pop("DeletionTime", None)
        return described

    @patch(Stack.set_stack_status)
    def set_stack_status(fn, self, status, *args, **kwargs):
        if status in (StackStatus.CREATE_IN_PROGRESS, StackStatus.UPDATE_IN_PROGRESS):
            self.fleetwright_updated = datetime.now(UTC)
        return fn(self, status, *args, **kwargs)
