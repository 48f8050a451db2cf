"""Change sets that show what really changes, no more and no less.

LocalStack types a list or number parameter's new value and leaves the old one a
string, so that whatever refers to it seems changed (and ``Fn::Select`` fails
when the stack is deleted).

It describes ``!GetAtt Template.LatestVersionNumber``, and references to what will
be replaced, with the values deployed, so that a group which will get a new
version seems unchanged. AWS lists it as a change that is known after apply.

And it decides whether a resource is replaced by the template's text alone, so
that one whose create-only property refers to a replaced resource stays.
"""

from localstack.utils.patch import patch

MOVING_ATTRIBUTES = {"AWS::EC2::LaunchTemplate": {"LatestVersionNumber"}}
CONTENT = {"LaunchTemplateData", "VersionDescription"}


def apply() -> None:
    _patch_parameters()
    _patch_replacement()
    _patch_describer()
    _patch_template()


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


def _patch_replacement() -> None:
    from localstack.services.cloudformation.engine.v2.change_set_model_preproc import ChangeSetModelPreproc

    @patch(ChangeSetModelPreproc.visit_node_resource)
    def visit_node_resource(fn, self, node_resource):
        delta = fn(self, node_resource)
        before, after = _properties(delta.before), _properties(delta.after)
        if before is not None and after is not None and delta.before.resource_type == delta.after.resource_type:
            # A property that is merely left out keeps its value, as a generated name does.
            changed = any(
                name in after and before.get(name) != after[name] for name in _create_only(delta.after.resource_type)
            )
            delta.after.requires_replacement = changed
        return delta


def _create_only(resource_type: str) -> list[str]:
    from localstack.services.cloudformation.resource_provider import ResourceProviderExecutor

    provider = ResourceProviderExecutor.try_load_resource_provider(resource_type)
    names = provider.SCHEMA.get("createOnlyProperties", []) if provider else []
    return [name.removeprefix("/properties/") for name in names]


def _properties(resource) -> dict | None:
    return getattr(getattr(resource, "properties", None), "properties", None)


def _patch_describer() -> None:
    from localstack.services.cloudformation.engine.v2.change_set_model_describer import (
        CHANGESET_KNOWN_AFTER_APPLY,
        ChangeSetModelDescriber,
    )

    @patch(ChangeSetModelDescriber.visit_node_resource)
    def visit_node_resource(fn, self, node_resource):
        delta = fn(self, node_resource)
        if getattr(delta.after, "requires_replacement", False):
            # Whoever refers to it changes with it.
            delta.after.physical_resource_id = CHANGESET_KNOWN_AFTER_APPLY
        return delta

    @patch(ChangeSetModelDescriber._resolve_attribute)
    def _resolve_attribute(fn, self, arguments, select_before):
        value = fn(self, arguments=arguments, select_before=select_before)
        if select_before:
            return value
        name, attribute = arguments.split(".", 1) if isinstance(arguments, str) else arguments[:2]
        node = self._get_node_resource_for(
            resource_name=name, node_template=self._change_set.update_model.node_template
        )
        delta = self.visit(node)
        properties = _properties(delta.after)
        replaced = getattr(delta.after, "requires_replacement", False)
        if replaced and attribute not in (properties or {}):
            return CHANGESET_KNOWN_AFTER_APPLY
        if attribute in MOVING_ATTRIBUTES.get(node.type_.value, ()) and _changes(delta):
            return CHANGESET_KNOWN_AFTER_APPLY
        return value


def _changes(delta) -> bool:
    """Whether the deployment will make a new version of the launch template."""
    before, after = _properties(delta.before), _properties(delta.after)
    if before is None or after is None:
        return True
    return any(before.get(name) != after.get(name) for name in CONTENT)


def _patch_template() -> None:
    from localstack.aws.api.cloudformation import TemplateStage
    from localstack.services.cloudformation.stores import get_cloudformation_store
    from localstack.services.cloudformation.v2.provider import CloudformationProviderV2, find_change_set_v2

    @patch(CloudformationProviderV2.get_template)
    def get_template(fn, self, context, stack_name=None, change_set_name=None, template_stage=None, **rest):
        answer = fn(
            self,
            context,
            stack_name=stack_name,
            change_set_name=change_set_name,
            template_stage=template_stage,
            **rest,
        )
        if change_set_name and template_stage != TemplateStage.Processed:
            store = get_cloudformation_store(context.account_id, context.region)
            change_set = find_change_set_v2(store, change_set_name, stack_name=stack_name)
            answer["TemplateBody"] = change_set.template_body
        return answer
