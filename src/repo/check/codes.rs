//! What each code of a diagnostic means, at more length than a message has room for.

use crate::source::suggest;

/// What stands behind a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// The code.
    pub code: &'static str,
    /// Why it is a problem, and what to do. Whole sentences.
    pub text: &'static str,
    /// What is refused, and what would be right; empty where the text says it all.
    pub example: &'static str,
}

/// Every code, by name.
pub const ALL: &[Explanation] = &[
    explain(
        "bad-condition",
        "Conditions, and the arguments of Fn::And, Fn::Or and Fn::Not, are functions that say yes or no: Fn::And, Fn::Or, Fn::Not, Fn::Equals, or the name of another condition.",
        "IsLive: !Ref Stage                      # refused\nIsLive: !Equals [!Ref Stage, live]      # right",
    ),
    explain(
        "bad-default",
        "CloudFormation refuses a template whose parameter has a default that the parameter's own AllowedValues, AllowedPattern, lengths or bounds refuse. The default of a list is one text with commas.",
        "Size: {Type: String, AllowedValues: [small, large], Default: medium}   # refused",
    ),
    explain(
        "bad-duration",
        "Durations are written with their unit: 90s, 5m, 2h.",
        "drain: 30       # refused\ndrain: 30s      # right",
    ),
    explain(
        "bad-image",
        "Images are named without a registry's host and without a tag: where to push and pull comes from the environment, and a rollout always uses a digest.",
        "image: registry.example:5000/team/web:latest   # refused\nimage: team/web                                # right",
    ),
    explain(
        "bad-name",
        "Names become parts of other names, in CloudFormation, Docker and DNS, so they are short and plain. Logical names in a CloudFormation template are letters and digits only.",
        "web-server: {Type: ...}     # refused in a template\nWebServer: {Type: ...}      # right",
    ),
    explain(
        "bad-parameter-type",
        "The type of a parameter is String, Number, CommaDelimitedList, List<Number>, a type that CloudFormation looks up in the account (AWS::EC2::Subnet::Id, List<AWS::EC2::Subnet::Id>), or AWS::SSM::Parameter::Value<...> of one of these.",
        "Subnets: {Type: List<Subnet>}                   # refused\nSubnets: {Type: List<AWS::EC2::Subnet::Id>}     # right",
    ),
    explain(
        "bad-plan-file",
        "The file is not a plan that `fleetwright plan --out FILE` wrote, or was changed since.",
        "",
    ),
    explain(
        "bad-reference",
        "`${stack.Output}` is an output of another stack, `${env.NAME}` an environment variable, `${env.NAME:-default}` one with a default.",
        "",
    ),
    explain("bad-size", "Sizes are written with their unit: 256MB, 1GB.", ""),
    explain(
        "bad-sub-variable",
        "Fn::Sub reads every `${...}` as a variable. Names have letters, digits, `_`, `.` and `::`. What a shell shall read itself is written `${!...}`.",
        "!Sub echo ${HOME:-/root}      # refused\n!Sub echo ${!HOME:-/root}     # right",
    ),
    explain("bad-template", "A template is a mapping with a section Resources, in YAML or JSON.", ""),
    explain(
        "bad-value",
        "The value is none of those that may stand here; the message names them, or what they look like.",
        "",
    ),
    explain("conflicting-keys", "Two keys exclude each other: only one of them can have its way.", ""),
    explain(
        "duplicate-key",
        "A key is given twice in one mapping. Parsers keep either one silently, so one of the two never has an effect. In a template this is also how a logical id is given twice.",
        "",
    ),
    explain(
        "duplicate-name",
        "One name is given to two things of a kind. In a CloudFormation template parameters and resources share one set of names, since Ref finds either.",
        "",
    ),
    explain("empty-file", "The file has no content.", ""),
    explain(
        "function-arguments",
        "The function is called with too few values, too many, or one of the wrong kind.",
        "!Join [a, b, c]          # refused\n!Join [\"-\", [a, b, c]]   # right",
    ),
    explain(
        "image-not-built",
        "A service is rolled out with an image that no step before builds, so there would be no digest to roll out.",
        "",
    ),
    explain("include-cycle", "A template includes itself, directly or through others.", ""),
    explain(
        "invalid-value",
        "The value breaks a rule of the resource type's schema: it is none of the values allowed, does not look as its pattern says, or lies outside of its bounds. Functions and references are not judged, only what is written out.",
        "HttpTokens: mandatory     # refused\nHttpTokens: required      # right",
    ),
    explain(
        "limit-exceeded",
        "CloudFormation's quotas: 500 resources, 200 outputs, 200 parameters and 200 mappings in a template, 1,000,000 bytes for its body (from 51,200 on it is sent through S3, which fleetwright does by itself), 255 characters for a name, 1,024 bytes for the description.",
        "",
    ),
    explain(
        "misplaced-function",
        "No function is called in Parameters and Mappings: they are read before anything else.",
        "",
    ),
    explain(
        "misplaced-reference",
        "What is referred to is not known yet where the reference stands: conditions are decided, and mappings read, before there are resources. In the files of stacks, outputs of other stacks can only be used in parameters.",
        "",
    ),
    explain("missing-file", "A file that is needed is not there.", ""),
    explain("missing-key", "Something that must be given is not.", ""),
    explain(
        "missing-parameter",
        "A parameter of the template has no default, and the stack gives no value for it.",
        "",
    ),
    explain(
        "missing-property",
        "The resource type requires a property that is not given; CloudFormation would refuse to create the resource.",
        "",
    ),
    explain("missing-template", "A stack or template names a template that is not there.", ""),
    explain(
        "missing-transform",
        "The function, or the resource type, exists only where the transform runs that the message names.",
        "Transform: AWS::LanguageExtensions",
    ),
    explain("no-registry", "Pipelines push images to the environment's registry, and it has none.", ""),
    explain(
        "null-value",
        "CloudFormation refuses a template with an empty value anywhere (\"'null' values are not allowed in templates\"). A key with nothing behind it is one; remove it, or give it `{}`, `[]` or \"\".",
        "",
    ),
    explain(
        "out-of-range",
        "The number is outside of what makes sense here; the message has the bounds.",
        "",
    ),
    explain(
        "read-only-property",
        "The service sets this property itself; it can be read with Fn::GetAtt, but not given.",
        "",
    ),
    explain(
        "reference-cycle",
        "Stacks need each other's outputs in a circle, so that none could be created first.",
        "",
    ),
    explain(
        "region-lacks-type",
        "By the published schemas, the region does not have this resource type. They may be older than the region's latest types, so this is a warning.",
        "",
    ),
    explain("reserved-name", "The name is one that every template gets by itself.", ""),
    explain(
        "resource-cycle",
        "Resources need each other in a circle, by Ref, Fn::GetAtt, Fn::Sub or DependsOn, so that CloudFormation could create none of them first. Usually two security groups name each other: give the rules resources of their own (AWS::EC2::SecurityGroupIngress).",
        "",
    ),
    explain(
        "template-error",
        "Rendering the template failed: a variable that is not set, or a filter or function that does not like its arguments.",
        "",
    ),
    explain(
        "template-syntax",
        "The template can't be parsed. `<{ }>` puts in a value, `<% %>` is a statement, `<# #>` a comment.",
        "",
    ),
    explain(
        "unknown-attribute",
        "The resource type has no such attribute for Fn::GetAtt.",
        "!GetAtt Group.ID          # refused\n!GetAtt Group.GroupId     # right",
    ),
    explain("unknown-cluster", "fleetwright.yaml has no cluster of that name.", ""),
    explain("unknown-environment", "fleetwright.yaml has no environment of that name.", ""),
    explain("unknown-function", "CloudFormation has no function of that name.", ""),
    explain(
        "unknown-key",
        "The key is none of those that may stand here. Most often it is misspelt, or stands one level too high or too low.",
        "",
    ),
    explain("unknown-parameter", "The template declares no parameter of that name.", ""),
    explain(
        "unknown-property",
        "The resource type has no property of that name; CloudFormation refuses it. Names are case-sensitive.",
        "CIDRBlock: 10.0.0.0/16     # refused\nCidrBlock: 10.0.0.0/16     # right",
    ),
    explain("unknown-repository", "fleetwright.yaml has no repository of that name.", ""),
    explain("unknown-service", "services/ has no service of that name.", ""),
    explain("unknown-stack", "stacks/ has no stack of that name.", ""),
    explain(
        "unknown-type",
        "No region has a resource type of that name. Types of your own are Custom::NAME, or have another first part than AWS.",
        "AWS::EC2::Vpc     # refused\nAWS::EC2::VPC     # right",
    ),
    explain(
        "unlisted-value",
        "The value is none of those that the service has in any region, by a list that grows every few weeks: types of instances, say. It may be newer than the list, so this is a warning.",
        "",
    ),
    explain("unreadable-file", "The file can't be read, or is not UTF-8.", ""),
    explain("unresolved-reference", "What is referred to is not there. Names are case-sensitive.", ""),
    explain(
        "unset-variable",
        "An environment variable that the files name is not set, and has no default. `validate` and `render` do without; what goes on to the cloud can't.",
        "export AWS_REGION=eu-west-1",
    ),
    explain(
        "unused-accept",
        "`# fleetwright: accept CODE` takes findings of that code on its own line and the next one for looked at. This one accepts nothing, most likely since the finding is gone.",
        "InstanceTenancy: burst     # fleetwright: accept invalid-value",
    ),
    explain("unused-condition", "The condition decides nothing. It does no harm.", ""),
    explain("unused-mapping", "Nothing is looked up in the mapping. It does no harm.", ""),
    explain(
        "unused-parameter",
        "The parameter is asked for and has no effect, so what is given for it may be believed to matter.",
        "",
    ),
    explain(
        "useless-policy",
        "Only some resource types have an UpdatePolicy or a CreationPolicy; on others it has no effect.",
        "",
    ),
    explain("user-data-too-large", "EC2 takes 16,384 bytes of user data, before base64.", ""),
    explain(
        "wrong-type",
        "The value is of another kind than what must stand here: a list instead of a text, say. Numbers and booleans may be written as texts, as CloudFormation takes them so.",
        "",
    ),
    explain("yaml-syntax", "The text is not YAML.", ""),
    explain("yaml-too-large", "The document is nested too deep, or grows too large through aliases.", ""),
];

const fn explain(code: &'static str, text: &'static str, example: &'static str) -> Explanation {
    Explanation { code, text, example }
}

/// The explanation of `code`.
///
/// # Errors
/// The nearest code there is, when there is none of that name and one is near.
pub fn find(code: &str) -> Result<&'static Explanation, Option<&'static str>> {
    ALL.iter()
        .find(|explanation| explanation.code == code)
        .ok_or_else(|| suggest(code, ALL.iter().map(|explanation| explanation.code)))
}
