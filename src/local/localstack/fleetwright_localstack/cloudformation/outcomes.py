"""How deployments end when something fails, as with CloudFormation.

LocalStack stops where a deployment failed, says ROLLBACK_COMPLETE whatever it
was, and forgets the resources that it hadn't come to yet. Here a failed
creation removes what it made, and a failed update restores what it changed.

It tells a deployment's end before its outputs can be read, and calls every
deletion complete. Here one that leaves something behind is DELETE_FAILED, and
the next try deletes the rest.
"""

import copy

from localstack.utils.patch import patch


def apply() -> None:
    from localstack.aws.api.cloudformation import ChangeAction, StackStatus
    from localstack.services.cloudformation.engine.v2.change_set_model_executor import (
        ChangeSetModelExecutor,
        ChangeSetModelExecutorResult,
        TriggerRollback,
    )
    from localstack.services.cloudformation.resource_provider import OperationStatus, ProgressEvent

    @patch(ChangeSetModelExecutor.execute)
    def execute(fn, self):
        stack = self._change_set.stack
        if stack.status == StackStatus.DELETE_IN_PROGRESS:
            return _delete(self, fn)
        failure = None
        try:
            self.process()
        except TriggerRollback as error:
            failure = error.reason or f"{error.logical_resource_id} failed"
        except Exception as error:
            failure = str(error) or type(error).__name__
        if failure:
            _roll_back(self, failure)
        elif self._deferred_actions:
            stack.set_stack_status(StackStatus.UPDATE_COMPLETE_CLEANUP_IN_PROGRESS)
            for deferred in reversed(self._deferred_actions):
                deferred.action()
        if not failure:
            _publish(self)
        return ChangeSetModelExecutorResult(resources=self.resources, outputs=self.outputs, failure_message=failure)

    @patch(ChangeSetModelExecutor._execute_resource_action)
    def _execute_resource_action(fn, self, action, logical_resource_id, resource_type, **kwargs):
        removal = action == ChangeAction.Remove and not kwargs.get("part_of_replacement")
        if removal and logical_resource_id in getattr(self._change_set.stack, "fleetwright_gone", ()):
            return ProgressEvent(status=OperationStatus.SUCCESS, resource_model={})
        event = fn(
            self,
            action=action,
            logical_resource_id=logical_resource_id,
            resource_type=resource_type,
            **kwargs,
        )
        if removal:
            outcomes = self.__dict__.setdefault("fleetwright_removals", {})
            outcomes[logical_resource_id] = event.status == OperationStatus.SUCCESS
        return event


def _publish(executor) -> None:
    """Gives the stack its outputs before its status says that it is complete.

    LocalStack does it right after, when a client may have read the old ones.
    """
    change_set = executor._change_set
    stack = change_set.stack
    stack.resolved_resources = executor.resources
    stack.resolved_outputs = executor.outputs
    stack.resolved_exports = {
        output["ExportName"]: output["OutputValue"] for output in executor.outputs if output.get("ExportName")
    }
    stack.change_set_id = change_set.change_set_id


class DeletionFailed(Exception):
    """Something of a stack couldn't be deleted."""


def _delete(executor, execute):
    from localstack.services.cloudformation.engine.v2.change_set_model_executor import (
        ChangeSetModelExecutorResult,
    )

    stack = executor._change_set.stack
    if not stack.resolved_resources:
        # References in its template have nothing to refer to.
        return ChangeSetModelExecutorResult(resources={}, outputs=[])
    result = execute(executor)
    outcomes = getattr(executor, "fleetwright_removals", {})
    # What is gone stays in the stack's state, for others may refer to it in the next try.
    gone = {name for name, success in outcomes.items() if success}
    stack.fleetwright_gone = getattr(stack, "fleetwright_gone", set()) | gone
    left = sorted(set(outcomes) - gone)
    reason = result.failure_message
    if left:
        reason = f"The following resource(s) failed to delete: [{', '.join(left)}]."
    if reason:
        stack.status_reason = reason
        raise DeletionFailed(reason)
    return result


def _roll_back(executor, reason: str) -> None:
    from localstack.aws.api.cloudformation import ChangeAction, ChangeSetType, StackStatus

    change_set = executor._change_set
    stack = change_set.stack
    creating = change_set.change_set_type == ChangeSetType.CREATE
    stack.set_stack_status(
        StackStatus.ROLLBACK_IN_PROGRESS if creating else StackStatus.UPDATE_ROLLBACK_IN_PROGRESS,
        reason,
    )
    before, reached = dict(stack.resolved_resources), dict(executor.resources)
    restored = dict(before)
    # In the order of the deployment, because what comes later refers to what came before.
    for name, now in reached.items():
        old = before.get(name)
        if old is None or now is old or _is_new(now, old):
            continue
        current = now.get("Properties") or old["Properties"]
        wanted = _with_current_versions(old["Properties"], before, restored)
        if _perform(executor, ChangeAction.Modify, name, now, current, wanted):
            restored[name] = executor.resources[name]
    for name, now in reversed(reached.items()):
        made = now.get("PhysicalResourceId") and str(now["ResourceStatus"]).endswith("_COMPLETE")
        if made and _is_new(now, before.get(name)):
            _perform(executor, ChangeAction.Remove, name, now, now["Properties"], None)
    executor.resources.clear()
    executor.resources.update(restored)
    stack.resolved_resources = executor.resources
    if creating:
        stack.set_stack_status(StackStatus.ROLLBACK_COMPLETE)
        return
    # Whoever runs the deployment copies these to the stack, also when it failed.
    for name in ("template", "template_body", "processed_template", "resolved_parameters"):
        setattr(change_set, name, getattr(stack, name))
    # The last change set's cached values are no longer true of the stack.
    stack.change_set_id = None
    stack.set_stack_status(StackStatus.UPDATE_ROLLBACK_COMPLETE)


def _is_new(now: dict, old: dict | None) -> bool:
    """Whether the deployment made the resource, or another one in its place."""
    physical_id = now.get("PhysicalResourceId")
    return old is None or (physical_id is not None and physical_id != old.get("PhysicalResourceId"))


def _perform(executor, action, name: str, resource: dict, before: dict, after: dict | None) -> bool:
    from localstack.services.cloudformation.engine.v2.change_set_model_preproc import PreprocProperties
    from localstack.services.cloudformation.resource_provider import OperationStatus

    def report(status, reason=None):
        executor._process_event(
            action=action,
            logical_resource_id=name,
            event_status=status,
            resource_type=resource["Type"],
            reason=reason,
        )

    report(OperationStatus.IN_PROGRESS)
    event = executor._execute_resource_action(
        action=action,
        logical_resource_id=name,
        resource_type=resource["Type"],
        before_properties=PreprocProperties(properties=before),
        after_properties=None if after is None else PreprocProperties(properties=after),
    )
    report(event.status, event.message)
    return event.status == OperationStatus.SUCCESS


def _with_current_versions(properties: dict, before: dict, restored: dict) -> dict:
    """A group that had its template's latest version gets the one the roll-back made."""
    properties = copy.deepcopy(properties)
    reference = properties.get("LaunchTemplate")
    for name, resource in restored.items() if isinstance(reference, dict) else ():
        old = before.get(name, {}).get("Properties") or {}
        if (
            resource.get("Type") == "AWS::EC2::LaunchTemplate"
            and reference.get("LaunchTemplateId") == old.get("LaunchTemplateId")
            and reference.get("Version") == old.get("LatestVersionNumber")
        ):
            reference["Version"] = resource["Properties"]["LatestVersionNumber"]
    return properties
