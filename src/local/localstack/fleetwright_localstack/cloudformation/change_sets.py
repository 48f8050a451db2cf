"""Change sets that show what follows from a launch template's change.

LocalStack describes ``!GetAtt Template.LatestVersionNumber`` with the value of
the deployed template, so that a group which will get a new version seems
unchanged. AWS lists it as a change that is known after apply.
"""

from localstack.utils.patch import patch

MOVING_ATTRIBUTES = {"AWS::EC2::LaunchTemplate": {"LatestVersionNumber"}}
CONTENT = {"LaunchTemplateData", "VersionDescription"}


def apply() -> None:
    from localstack.services.cloudformation.engine.v2.change_set_model_describer import (
        CHANGESET_KNOWN_AFTER_APPLY,
        ChangeSetModelDescriber,
    )

    @patch(ChangeSetModelDescriber._resolve_attribute)
    def _resolve_attribute(fn, self, arguments, select_before):
        value = fn(self, arguments=arguments, select_before=select_before)
        if select_before:
            return value
        name, attribute = arguments.split(".", 1) if isinstance(arguments, str) else arguments[:2]
        node = self._get_node_resource_for(
            resource_name=name, node_template=self._change_set.update_model.node_template
        )
        if attribute in MOVING_ATTRIBUTES.get(node.type_.value, ()) and _changes(self, node):
            return CHANGESET_KNOWN_AFTER_APPLY
        return value


def _changes(describer, node) -> bool:
    """Whether the deployment will make a new version of the launch template."""
    delta = describer.visit(node)
    before = getattr(delta.before, "properties", None)
    after = getattr(delta.after, "properties", None)
    if before is None or after is None:
        return True
    return any(before.properties.get(name) != after.properties.get(name) for name in CONTENT)
