"""Change sets that show what really changes, no more and no less.

LocalStack types a list or number parameter's new value and leaves the old one a
string, so that whatever refers to it seems changed (and ``Fn::Select`` fails
when the stack is deleted).

It describes ``!GetAtt Template.LatestVersionNumber`` with the value of
the deployed template, so that a group which will get a new version seems
unchanged. AWS lists it as a change that is known after apply.
"""

from localstack.utils.patch import patch

MOVING_ATTRIBUTES = {"AWS::EC2::LaunchTemplate": {"LatestVersionNumber"}}
CONTENT = {"LaunchTemplateData", "VersionDescription"}


def apply() -> None:
    _patch_parameters()
    _patch_describer()


def _patch_parameters() -> None:
    from localstack.services.cloudformation.engine.v2.change_set_model_preproc import ChangeSetModelPreproc

    @patch(ChangeSetModelPreproc.visit_node_parameter)
    def visit_node_parameter(fn, self, node_parameter):
        delta = fn(self, node_parameter)
        if isinstance(delta.before, str):
            delta.before = typed(delta.before, self.visit(node_parameter.type_).before)
        return delta


def typed(value: str, kind: str):
    """A parameter's value as templates see it."""
    from localstack.utils.numbers import to_number

    if kind == "CommaDelimitedList" or str(kind).startswith("List<"):
        return [item.strip() for item in value.split(",")]
    return to_number(value) if kind == "Number" else value


def _patch_describer() -> None:
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
