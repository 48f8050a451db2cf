#!/usr/bin/env python3
"""Reduces CloudFormation's resource schemas to what a template check needs.

Reads the resource provider schemas, and the service limits beside them, out of
a cfn-lint wheel (MIT-0), drops all prose, and writes one compressed file that
the binary embeds. The same wheel and the same zstandard give the same bytes.

How to run it, in an environment that is thrown away afterwards:

    python3 -m venv VENV && VENV/bin/pip install zstandard==0.25.0
    VENV/bin/python scripts/schemas.py            # fetches the wheel with pip
    VENV/bin/python scripts/schemas.py --wheel cfn_lint-1.58.0-py3-none-any.whl
    VENV/bin/python scripts/schemas.py --check    # reads back what is there

File format
-----------

    8 bytes   magic, `FWSCHEM1`
    4 bytes   length of the compressed index, little-endian
    ...       the index, one zstd frame
    ...       zstd frames, one per chunk

The index is text. Its first line is a JSON object:

    source      "cfn-lint 1.58.0"
    regions     sorted names; bit n of a mask is the nth of them
    dictionary  [offset, length] of a zstd dictionary for the chunks, or null
    chunks      [[offset, compressed length, raw length], ...]

Offsets count from the end of the compressed index. Every other line is one
type, sorted bytewise, so that it can be found by binary search:

    AWS::EC2::Instance \\t chunk \\t offset in the raw chunk \\t length \\t region mask in hex

Each type's record is one JSON object of UTF-8, independent of its neighbours.

Records
-------

A record is a schema node (the resource's properties) with these keys added:

    definitions      name -> node, only those that are reachable
    attributes       what Fn::GetAtt accepts; `*` stands for any text
    readOnlyProperties, writeOnlyProperties, createOnlyProperties,
    conditionalCreateOnlyProperties, deprecatedProperties, primaryIdentifier
                     paths such as `Endpoint/Address` or `List/*/Name`
    replacementStrategy   `create_then_delete` or `delete_then_create`
    tagging          {"taggable": bool, "tagProperty": path}
    lifecycle        {"status": "sunset" | "shutdown" | "maintenance", "date": ...}
    rules            [{"rule": id, "at": path, "schema": node}]: limits of the service
                     that hold at one path only; no `ref` inside points to `definitions`
                     of the record, a rule that needs some carries its own
    regionalEnums    [{"rule": id, "at": path, "enum": name of a pseudo-type}]

A node uses JSON Schema's vocabulary with CloudFormation's additions
(`requiredXor`, `requiredOr`, `dependentExcluded`, `enumCaseInsensitive`,
`uniqueKeys`, `maxUniqueItems`, `insertionOrder`), and three differences:

    ref              name in `definitions`, in place of `$ref`; its siblings count too
    pattern          in the syntax of Rust's `regex`, ASCII classes, unanchored
    patterns, notPatterns
                     lists of patterns that must, or must not, match as well: what
                     was a look-ahead at the pattern's start

Keywords that say nothing (`minLength: 0`, `uniqueItems: false`,
`additionalProperties: true`, `insertionOrder: true`) are left out.

Pseudo-types, all in region mask 0:

    fleetwright::UpdatePolicy, fleetwright::CreationPolicy
                     {"types": {resource type: node}, "definitions": {...}}
    fleetwright::Enum::<name>
                     {"regions": mask of the regions known, "values": {mask: [value, ...]}}
"""

import argparse
import ast
import collections
import json
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import zipfile

import zstandard

VERSION = "1.58.0"
MAGIC = b"FWSCHEM1"
OUTPUT = pathlib.Path(__file__).parent.parent / "src/schema/schemas.bin"

# The most a chunk holds before compression, unless one type alone is larger.
CHUNK_BYTES = 64 * 1024
LEVEL = 19
DICTIONARY_BYTES = 32 * 1024

# Extension schemas above this size are tables of instance classes against
# engines and versions: they outweigh everything else and age within weeks.
RULE_BYTES = 40 * 1024

# Engines of databases with their versions: new ones come every few weeks, and services take
# their names in any case.
VERSION_RULES = frozenset("E3690 E3691 E3695".split())

# What most templates of a cluster use, so that checking them touches few chunks.
CORE_TYPES = """
    AWS::AutoScaling::AutoScalingGroup AWS::AutoScaling::LifecycleHook
    AWS::AutoScaling::ScalingPolicy AWS::CloudFormation::Stack
    AWS::CloudFormation::WaitCondition AWS::CloudFormation::WaitConditionHandle
    AWS::CloudWatch::Alarm AWS::EC2::EIP AWS::EC2::Instance AWS::EC2::InternetGateway
    AWS::EC2::LaunchTemplate AWS::EC2::NatGateway AWS::EC2::Route AWS::EC2::RouteTable
    AWS::EC2::SecurityGroup AWS::EC2::SecurityGroupEgress AWS::EC2::SecurityGroupIngress
    AWS::EC2::Subnet AWS::EC2::SubnetRouteTableAssociation AWS::EC2::VPC
    AWS::EC2::VPCEndpoint AWS::EC2::VPCGatewayAttachment AWS::EC2::Volume
    AWS::ECR::Repository AWS::EFS::FileSystem AWS::EFS::MountTarget
    AWS::ElasticLoadBalancingV2::Listener AWS::ElasticLoadBalancingV2::ListenerRule
    AWS::ElasticLoadBalancingV2::LoadBalancer AWS::ElasticLoadBalancingV2::TargetGroup
    AWS::Events::Rule AWS::IAM::InstanceProfile AWS::IAM::ManagedPolicy AWS::IAM::Policy
    AWS::IAM::Role AWS::KMS::Alias AWS::KMS::Key AWS::Lambda::Permission
    AWS::Logs::LogGroup AWS::Route53::HostedZone AWS::Route53::RecordSet
    AWS::S3::BucketPolicy AWS::SNS::Subscription AWS::SNS::Topic AWS::SNS::TopicPolicy
    AWS::SQS::Queue AWS::SQS::QueuePolicy AWS::SSM::Parameter AWS::SecretsManager::Secret
""".split()

# Keywords that are taken over as they are.
PLAIN_KEYWORDS = frozenset(
    """type enum enumCaseInsensitive const minimum maximum exclusiveMinimum exclusiveMaximum
    multipleOf minLength maxLength minItems maxItems maxUniqueItems minProperties maxProperties
    uniqueItems uniqueKeys insertionOrder required requiredXor requiredOr
    dependentRequired dependentExcluded""".split()
)
# Keywords whose value is a node, a list of nodes, or names mapped to nodes.
NODE_KEYWORDS = frozenset("items additionalProperties contains propertyNames".split())
LIST_KEYWORDS = frozenset("allOf anyOf prefixItems".split())
# Values that make a keyword say nothing.
EMPTY = {
    "minLength": 0,
    "minItems": 0,
    "minProperties": 0,
    "uniqueItems": False,
    "insertionOrder": True,
    "additionalProperties": True,
}
FORMATS = frozenset("date-time json uri ipv4-network ipv6-network".split())

PATH_LISTS = (
    "readOnlyProperties",
    "writeOnlyProperties",
    "createOnlyProperties",
    "conditionalCreateOnlyProperties",
    "deprecatedProperties",
    "primaryIdentifier",
)


# --- Patterns: from the dialect of the schemas to the one of Rust's `regex`


class Untranslatable(Exception):
    """Says why a pattern has no counterpart."""


SHORT_SETS = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t-\r\x20"}
# One class, or the dot, in a translated pattern.
SET = r"(\[(?:[^\[\]\\]|\\.|\[:\w+:\])+\]|\.|\(\?s:\.\))"
# Java's names for parts of ASCII, which Rust knows as something else or not at all.
POSIX = {
    "Alnum": "[:alnum:]", "Alpha": "[:alpha:]", "ASCII": "[:ascii:]", "Blank": "[:blank:]",
    "Cntrl": "[:cntrl:]", "Digit": "[:digit:]", "Graph": "[:graph:]", "Lower": "[:lower:]",
    "Print": "[:print:]", "Punct": "[:punct:]", "Space": "[:space:]", "Upper": "[:upper:]",
    "XDigit": "[:xdigit:]",
}  # fmt: skip
CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}


def char(code):
    """Writes one code point so that it is literal inside and outside a class."""
    c = chr(code)
    if c.isascii() and c.isalnum() or c in " _/:@,;%='\"!<>`":
        return c
    if c.isascii() and c.isprintable():
        return "\\" + c
    return "\\x{%X}" % code


class Pattern:
    """Reads one pattern and writes its translation.

    Classes such as `\\d` become ASCII: the services that wrote the patterns match
    them with Java, where they are, and Unicode classes repeated hundreds of times
    make automata of megabytes.
    """

    def __init__(self, text):
        self.text = text
        self.at = 0

    def translate(self):
        out = []
        while self.at < len(self.text):
            out.append(self.term())
        return "".join(out)

    def peek(self, n=1):
        return self.text[self.at : self.at + n]

    def take(self, expression):
        found = re.compile(expression).match(self.text, self.at)
        if found:
            self.at = found.end()
        return found

    def term(self):
        c = self.peek()
        if c == "[":
            return self.set()
        if c == "\\":
            literal, members = self.escape(in_set=False)
            return char(literal) if members is None else members
        if c == "(":
            return self.group()
        if found := self.take(r"\{(\d*)(,?)(\d*)\}"):
            low, comma, high = found.groups()
            if low or (comma and high):
                return "{%s%s%s}" % (low or 0, comma, high) + self.suffix()
            return re.sub(r"[{}]", r"\\\g<0>", found.group())
        self.at += 1
        if c in "*+?":
            return c + self.suffix()
        if c in "^$|.)":
            return c
        return char(ord(c))

    def suffix(self):
        """Takes what may follow a quantifier."""
        if self.peek() == "+":
            raise Untranslatable("possessive quantifier")
        return self.take(r"\?").group() if self.peek() == "?" else ""

    def group(self):
        if found := self.take(r"\(\?([ims]+)([:)])"):
            return found.group()
        if self.take(r"\(\?:|\(\?P?<[A-Za-z_]\w*>"):
            return "(?:"
        if self.take(r"\(\?"):
            raise Untranslatable("look-around" if self.peek() in "=!<" else "group syntax")
        self.at += 1
        return "(?:"

    def escape(self, in_set):
        """Returns a literal code point, or the text of a set."""
        if found := self.take(r"\\u\{([0-9A-Fa-f]+)\}|\\x\{([0-9A-Fa-f]+)\}"):
            return int(found.group(1) or found.group(2), 16), None
        pair = r"\\u([dD][89abAB][0-9A-Fa-f]{2})\\u([dD][c-fC-F][0-9A-Fa-f]{2})"
        if found := self.take(pair):
            high, low = (int(g, 16) for g in found.groups())
            return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00), None
        if found := self.take(r"\\u([0-9A-Fa-f]{4})|\\x([0-9A-Fa-f]{2})"):
            return int(found.group(1) or found.group(2), 16), None
        if found := self.take(r"\\p\{(\w+)\}"):
            if found.group(1) not in POSIX:
                return None, found.group()
            members = POSIX[found.group(1)]
            return None, members if in_set else f"[{members}]"
        if found := self.take(r"\\[pP](\{\^?[\w=]+\}|[A-Z])"):
            return None, found.group()
        self.at += 2
        c = self.text[self.at - 1 : self.at]
        if c in SHORT_SETS and c:
            return None, SHORT_SETS[c] if in_set else f"[{SHORT_SETS[c]}]"
        if c.lower() in SHORT_SETS and c:
            return None, f"[^{SHORT_SETS[c.lower()]}]"
        if c in CONTROL and c:
            return ord(CONTROL[c]), None
        if c == "b" and in_set:
            return 8, None
        if not in_set and c in ("b", "B", "A"):
            return None, "\\" + c
        if not in_set and c in ("Z", "z"):
            return None, r"\z"
        if c.isascii() and c and not c.isalnum():
            return ord(c), None
        raise Untranslatable("backreference" if c.isdigit() else f"escape \\{c}")

    def set(self):
        out = [self.take(r"\[\^?").group()]
        items = 0
        while items == 0 or self.peek() != "]":
            if self.at >= len(self.text):
                raise Untranslatable("unclosed class")
            items += 1
            if self.peek(3) == "&&[":
                raise Untranslatable("intersection of classes")
            if found := self.take(r"\[:\^?[a-z]+:\]"):
                out.append(found.group())
                continue
            low, members = self.set_item()
            if members is not None:
                out.append(members)
                continue
            high = low
            if self.peek() == "-" and self.peek(2) not in ("-", "-]"):
                back = self.at
                self.at += 1
                high, members = self.set_item()
                if members is not None:
                    self.at, high = back, low
            out.append(self.range(low, high))
        self.at += 1
        members = "".join(out[1:])
        if not members:
            raise Untranslatable("class of surrogates only")
        # Not every engine nests classes, and these two need not.
        if out[0] == "[" and members.startswith("[^") and members.index("]") == len(members) - 1:
            return members
        if out[0] == "[" and set(out[1:]) >= {SHORT_SETS["s"], f"[^{SHORT_SETS['s']}]"}:
            return "(?s:.)"
        return out[0] + members + "]"

    def set_item(self):
        if self.peek() == "\\":
            return self.escape(in_set=True)
        self.at += 1
        return ord(self.text[self.at - 1]), None

    @staticmethod
    def range(low, high):
        """Writes a range without the surrogates, which no text of ours contains."""
        if low > high:
            raise Untranslatable("range out of order")
        if 0xD800 <= low <= 0xDFFF:
            low = 0xE000
        if 0xD800 <= high <= 0xDFFF:
            high = 0xD7FF
        if low > high:
            return ""
        return char(low) if low == high else f"{char(low)}-{char(high)}"


def closing(text, start):
    """Returns the index after the group that opens at `start`."""
    depth, i, in_set = 0, start, False
    while i < len(text):
        c = text[i]
        if c == "\\":
            i += 1
        elif in_set:
            in_set = c != "]"
        elif c == "[":
            in_set = True
            if text[i + 1 : i + 2] == "^":
                i += 1
            if text[i + 1 : i + 2] == "]":
                i += 1
        elif c == "(":
            depth += 1
        elif c == ")":
            depth -= 1
            if depth == 0:
                return i + 1
        i += 1
    raise Untranslatable("unclosed group")


def alternates(text):
    """Whether `text` has a `|` outside every group."""
    i = 0
    while i < len(text):
        if text[i] == "(":
            i = closing(text, i)
            continue
        if text[i] == "[":
            probe = Pattern(text)
            probe.at = i
            probe.set()
            i = probe.at
            continue
        if text[i] == "|":
            return True
        i += 2 if text[i] == "\\" else 1
    return False


def translate(text):
    """Returns (pattern or None, patterns that must match too, patterns that must not)."""
    also, never = [], []
    rest = text
    if rest.startswith("(") and not rest.startswith("(?") and closing(rest, 0) == len(rest):
        rest = rest[1:-1]
    while re.match(r"\^\(\?[!=]", rest):
        end = closing(rest, 1)
        if alternates(rest[end:]):
            raise Untranslatable("look-around")
        body = "^(?:" + Pattern(rest[4 : end - 1]).translate() + ")"
        (never if rest[3] == "!" else also).append(body)
        rest = "^" + rest[end:]
    return simplify(Pattern(rest).translate()), also, never


def simplify(pattern):
    """Shortens a pattern that looks for one class anywhere; None if all text matches."""
    if pattern in ("", "^", "$", "^.*"):
        return None
    found = re.fullmatch(SET + r"(?:\*|(\+)|\{(\d+)(?:,\d*)?\})", pattern)
    if not found:
        return pattern
    members, plus, low = found.groups()
    count = 1 if plus else int(low or 0)
    if count == 0:
        return None
    return members if count == 1 else f"{members}{{{count}}}"


# --- Schemas


class Reducer:
    """Reduces the nodes of one schema, following its `$ref`s."""

    def __init__(self, schema, stats):
        self.schema = schema
        self.stats = stats
        self.wanted = {}  # definition name -> source node, in order of discovery
        self.weakened = 0  # how often something was dropped that a value could fail

    def node(self, source):
        if not isinstance(source, dict):
            return source
        out = {}
        for key in sorted(source):
            value = source[key]
            if key in EMPTY and value == EMPTY[key] and type(value) is type(EMPTY[key]):
                continue
            if key in PLAIN_KEYWORDS:
                out[key] = value[0] if key == "type" and len(value) == 1 else value
            elif key in NODE_KEYWORDS:
                out[key] = self.node(value)
            elif key in LIST_KEYWORDS:
                out.setdefault(key, []).extend(self.node(item) for item in value)
            elif key == "properties":
                out[key] = {name: self.node(item) for name, item in value.items()}
            elif key == "patternProperties":
                out[key] = self.pattern_properties(value)
            elif key == "pattern":
                self.pattern(value, out)
            elif key == "format":
                if value in FORMATS or value.startswith("AWS::"):
                    out[key] = value
            elif key == "dependencies":
                self.dependencies(value, out)
            elif key == "$ref":
                out["ref"] = self.ref(value)
            elif key == "oneOf":
                branches, weak = self.attempt(value)
                # Branches that accept more than they did can't be told apart any more.
                out.setdefault("anyOf" if weak else "oneOf", []).extend(branches)
            elif key == "not":
                inner, weak = self.attempt(value)
                if not weak:
                    out[key] = inner
            elif key == "if":
                condition, weak = self.attempt(value)
                branches = {k: self.node(source[k]) for k in ("then", "else") if k in source}
                if not weak and branches:
                    out.update({"if": condition, **branches})
        return out

    def attempt(self, source):
        """Reduces nodes and tells whether they accept more than before."""
        before = self.weakened
        if isinstance(source, list):
            return [self.node(item) for item in source], self.weakened > before
        return self.node(source), self.weakened > before

    def pattern(self, text, out):
        self.stats["patterns"] += 1
        try:
            pattern, also, never = translate(text)
        except Untranslatable as why:
            self.stats[f"patterns dropped: {why}"] += 1
            self.weakened += 1
            return
        if also or never:
            self.stats["patterns whose look-ahead became patterns or notPatterns"] += 1
        if pattern is not None:
            pattern = self.lift_length(pattern, out)
            out["pattern"] = pattern
        if also:
            out["patterns"] = also
        if never:
            out["notPatterns"] = never

    @staticmethod
    def lift_length(pattern, out):
        """Turns `^[class]{1,2048}$` into `^[class]*$` and lengths.

        It means the same, and compiles in microseconds instead of milliseconds.
        """
        found = re.fullmatch(r"\^" + SET + r"\{(\d+)(,?)(\d*)\}\$", pattern)
        if not found:
            return pattern
        members, low, comma, high = found.groups()
        high = high if comma else low
        if int(low):
            out["minLength"] = max(int(low), out.get("minLength", 0))
        if high:
            out["maxLength"] = min(int(high), out.get("maxLength", int(high)))
        return f"^{members}*$"

    def pattern_properties(self, source):
        out = {}
        for text, item in source.items():
            self.stats["patterns"] += 1
            try:
                pattern, also, never = translate(text)
                if also or never:
                    raise Untranslatable("look-around")
                out[pattern or ""] = self.node(item)
            except Untranslatable as why:
                # Names can't be checked then, so every name is accepted.
                self.stats[f"patterns dropped: {why}"] += 1
                self.weakened += 1
                out[""] = self.node(item) if len(source) == 1 else {}
        return out

    def dependencies(self, source, out):
        for name, needs in source.items():
            if isinstance(needs, list):
                out.setdefault("dependentRequired", {})[name] = needs
            else:
                self.stats["dependencies with a schema, dropped"] += 1
                self.weakened += 1

    def ref(self, pointer):
        parts = pointer.removeprefix("#/").split("/")
        source = self.schema
        for part in parts:
            source = source[part]
        name = parts[1] if parts[0] == "definitions" and len(parts) == 2 else "/".join(parts)
        self.wanted.setdefault(name, source)
        return name

    def definitions(self):
        done = {}
        while missing := [name for name in self.wanted if name not in done]:
            for name in missing:
                done[name] = self.node(self.wanted[name])
        return dict(sorted(done.items()))


def path(pointer):
    return pointer.removeprefix("/properties/")


class Attributes:
    """What Fn::GetAtt accepts: cfn-lint's own lists, read from its source."""

    def __init__(self, source):
        names = {}
        for statement in ast.parse(source).body:
            if isinstance(statement, ast.Assign):
                names[statement.targets[0].id] = ast.literal_eval(statement.value)
        self.every_property = frozenset(names["_all_property_types"])
        self.additions = names["_exceptions"]
        self.anything = tuple(names["_unnamed_unknown_types"])

    def of(self, schema):
        name = schema["typeName"]
        read_only = [path(p).replace("/", ".") for p in schema.get("readOnlyProperties", [])]
        if name in self.every_property:
            found = []
            for key, node in schema.get("properties", {}).items():
                self.leaves(schema, node, key, found, 0)
            return sorted(set(found))
        found = list(self.additions.get(name, []))
        if name in ("AWS::CloudFormation::Stack", "AWS::Serverless::Application"):
            return sorted(found + ["Outputs.*"])
        if name == "AWS::ServiceCatalog::CloudFormationProvisionedProduct":
            read_only = ["Outputs.*" if a == "Outputs" else a for a in read_only]
        if name.startswith(self.anything):
            found.append("*")
        return sorted(set(found + read_only))

    def leaves(self, schema, node, name, found, depth):
        types = node.get("type", [])
        if "object" in ([types] if isinstance(types, str) else types):
            for key, inner in node.get("properties", {}).items():
                self.leaves(schema, inner, f"{name}.{key}", found, depth)
        elif "array" in ([types] if isinstance(types, str) else types):
            # An element can't be reached, so a list of structures gives nothing.
            if node.get("items", {}).get("type") not in ("object", "array"):
                found.append(name)
        elif "$ref" in node:
            if depth < 8:
                inner = schema["definitions"][node["$ref"].rsplit("/", 1)[1]]
                self.leaves(schema, inner, name, found, depth + 1)
        else:
            found.append(name)


def reduce_type(schema, attributes, stats):
    """Returns the record of one resource type, without its rules."""
    reducer = Reducer(schema, stats)
    record = reducer.node(schema)
    if definitions := reducer.definitions():
        record["definitions"] = definitions
    record["attributes"] = attributes.of(schema)
    for key in PATH_LISTS:
        if schema.get(key):
            record[key] = [path(p) for p in schema[key]]
    if "replacementStrategy" in schema:
        record["replacementStrategy"] = schema["replacementStrategy"]
    if "lifecycle" in schema:
        record["lifecycle"] = schema["lifecycle"]
    tagging = schema.get("tagging", {})
    taggable = tagging.get("taggable", schema.get("taggable"))
    if taggable is not None:
        record["tagging"] = {"taggable": taggable}
        property = path(tagging.get("tagProperty", "/properties/Tags"))
        if taggable and property.split("/")[0] in schema.get("properties", {}):
            record["tagging"]["tagProperty"] = property
    return record


# --- Limits of the services: cfn-lint's extension schemas and the rules that apply them


def extension_rules(wheel):
    """Yields (rule id, name of the extension, its schema, where it applies)."""
    root = "cfnlint/data/schemas/extensions"
    for name in sorted(wheel.namelist()):
        if not re.match(r"cfnlint/rules/resources/.*\.py$", name):
            continue
        source = wheel.read(name).decode()
        if "schemas.extensions" not in source:
            continue
        rule = keywords = extension = None
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "id":
                rule = rule or ast.literal_eval(node.value)
            elif isinstance(node, ast.keyword) and node.arg == "keywords":
                if isinstance(node.value, ast.List):
                    keywords = ast.literal_eval(node.value)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "SchemaDetails":
                module, file = [*node.args, *(k.value for k in node.keywords)]
                module = ast.unparse(module).rsplit(".", 1)[1]
                extension = f"{module}/{ast.literal_eval(file)}"
        if not (rule and keywords and extension):
            continue
        yield rule, extension, wheel.read(f"{root}/{extension}"), keywords


def has_key(value, keys):
    if isinstance(value, dict):
        return any(k in keys or has_key(v, keys) for k, v in value.items())
    return isinstance(value, list) and any(has_key(v, keys) for v in value)


class Rules:
    """Sorts the extensions into rules, regional enumerations and what is left out."""

    def __init__(self, wheel, regions, stats):
        self.by_type = collections.defaultdict(list)
        self.enums_by_type = collections.defaultdict(list)
        self.enums = {}
        self.skipped = []
        for rule, extension, text, keywords in extension_rules(wheel):
            schema = json.loads(text)
            reason = self.refuse(rule, schema, text, regions)
            if reason:
                self.skipped.append((rule, extension, reason))
            elif regional(schema, regions):
                name = "fleetwright::Enum::" + extension.removesuffix(".json")
                self.enums[name] = regional_enum(schema, regions)
                for type_name, at in map(target, keywords):
                    self.enums_by_type[type_name].append({"rule": rule, "at": at, "enum": name})
            else:
                reducer = Reducer(schema, stats)
                node = reducer.node(schema)
                if definitions := reducer.definitions():
                    node["definitions"] = definitions
                if reducer.weakened:
                    self.skipped.append((rule, extension, "a pattern has no translation"))
                    continue
                for type_name, at in map(target, keywords):
                    self.by_type[type_name].append({"rule": rule, "at": at, "schema": node})

    @staticmethod
    def refuse(rule, schema, text, regions):
        if not rule.startswith("E"):
            return "a warning"
        if has_key(schema, ("cfnGather", "$data")):
            return "compares resources or properties with each other"
        if by_region := regional(schema, regions):
            plain = all(set(node) == {"enum"} for node in by_region.values())
            return None if plain else "conditions per region"
        if rule in VERSION_RULES:
            return "versions of engines"
        if len(text) > RULE_BYTES:
            return f"{len(text) // 1024} KiB of instance classes by engine and version"
        return None


def target(keyword):
    """Splits `Resources/AWS::EC2::Instance/Properties/InstanceType`."""
    _, type_name, _, *at = keyword.split("/")
    return type_name, "/".join(at)


def mask(names, regions):
    return "%x" % sum(1 << i for i, region in enumerate(regions) if region in names)


def regional(schema, regions):
    return {region: schema[region] for region in regions if region in schema}


def regional_enum(schema, regions):
    where = collections.defaultdict(set)
    for region, node in regional(schema, regions).items():
        for value in node["enum"]:
            where[value].add(region)
    values = collections.defaultdict(list)
    for value in sorted(where):
        values[mask(where[value], regions)].append(value)
    return {"regions": mask(set(schema), regions), "values": dict(sorted(values.items()))}


def update_policy(wheel, stats):
    """Turns "if Type is ... then UpdatePolicy is ..." into a table."""
    schema = json.loads(wheel.read("cfnlint/data/schemas/other/resources/update_policy.json"))
    reducer = Reducer(schema, stats)
    types = {}
    for case in schema["allOf"]:
        if "then" not in case:
            continue
        condition = case["if"]["properties"]["Type"]
        for name in condition.get("enum", [condition.get("const")]):
            types[name] = reducer.node(case["then"]["properties"]["UpdatePolicy"])
    return {"types": dict(sorted(types.items())), "definitions": reducer.definitions()}


def creation_policy(wheel, stats):
    """Reads the table that cfn-lint keeps as `if resource_type == ...: return {...}`."""
    tree = ast.parse(wheel.read("cfnlint/rules/resources/CreationPolicy.py"))
    types = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.body[0], ast.Return):
            if isinstance(node.body[0].value, ast.Dict):
                name = ast.literal_eval(node.test.comparators[0])
                types[name] = Reducer({}, stats).node(ast.literal_eval(node.body[0].value))
    return {"types": dict(sorted(types.items())), "definitions": {}}


# --- The file


def build(wheel, stats):
    """Returns (regions, {type: (region mask, record)}, skipped extensions)."""
    providers = "cfnlint/data/schemas/providers/"
    tables = {
        pathlib.PurePath(name).stem: json.loads(wheel.read(name))
        for name in wheel.namelist()
        if name.startswith(providers) and name.endswith(".json")
    }
    # Types of the serverless transform are listed apart, and are the same everywhere.
    serverless = tables.pop("sam")
    regions = sorted(tables)
    where = collections.defaultdict(dict)
    for region in ["us-east-1", *regions]:
        for name, digest in tables[region].items():
            where[name].setdefault(region, digest)
    for name, digest in serverless.items():
        where[name] = dict.fromkeys(regions, digest)
    stats["types whose schema differs between regions"] = sum(
        len(set(digests.values())) > 1 for digests in where.values()
    )

    attributes = Attributes(wheel.read("cfnlint/schema/_getatts.py"))
    rules = Rules(wheel, regions, stats)
    records = {}
    for name, digests in where.items():
        digest = next(iter(digests.values()))  # us-east-1 first, then the first region
        schema = json.loads(wheel.read(f"cfnlint/data/schemas/resources/{digest}.json"))
        record = reduce_type(schema, attributes, stats)
        if name in rules.by_type:
            record["rules"] = rules.by_type[name]
        if name in rules.enums_by_type:
            record["regionalEnums"] = rules.enums_by_type[name]
        records[name] = (mask(digests, regions), record)
    records["fleetwright::UpdatePolicy"] = ("0", update_policy(wheel, stats))
    records["fleetwright::CreationPolicy"] = ("0", creation_policy(wheel, stats))
    for name, record in rules.enums.items():
        records[name] = ("0", record)
    return regions, dict(sorted(records.items())), rules.skipped


def encode(record):
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def group(name):
    """Names whose group is equal may share a chunk; the order is that of the file."""
    if name in CORE_TYPES or name in ("fleetwright::UpdatePolicy", "fleetwright::CreationPolicy"):
        return (0, "")
    if name.startswith("fleetwright::Enum::"):
        return (2, name)
    return (1, name.rsplit("::", 1)[0])


def pack(records):
    """Returns chunks: lists of (type, bytes), services kept together where they fit."""
    groups = collections.defaultdict(list)
    for name, (_, record) in records.items():
        groups[group(name)].append((name, encode(record)))
    chunks = []
    room, previous = 0, None
    for key in sorted(groups):
        total = sum(len(data) for _, data in groups[key])
        # Small services share a chunk; a service that would be torn starts its own.
        if key[0] != previous or key[0] == 2 or total > room:
            chunks.append([])
            room = CHUNK_BYTES
        previous = key[0]
        for name, data in groups[key]:
            if chunks[-1] and len(data) > room:
                chunks.append([])
                room = CHUNK_BYTES
            chunks[-1].append((name, data))
            room -= len(data)
    return chunks


def compress(regions, records, chunks, dictionary_bytes):
    options = {"level": LEVEL}
    raw = [b"".join(data for _, data in chunk) for chunk in chunks]
    body, dictionary = b"", None
    if dictionary_bytes:
        samples = [data for chunk in chunks for _, data in chunk]
        trained = zstandard.train_dictionary(dictionary_bytes, samples, level=LEVEL)
        options["dict_data"] = trained
        body = trained.as_bytes()
        dictionary = [0, len(body)]
    compressor = zstandard.ZstdCompressor(**options, write_checksum=False)
    table = []
    lines = []
    for number, (chunk, data) in enumerate(zip(chunks, raw)):
        frame = compressor.compress(data)
        table.append([len(body), len(frame), len(data)])
        body += frame
        offset = 0
        for name, record in chunk:
            line = [name, number, offset, len(record), records[name][0]]
            lines.append("\t".join(map(str, line)))
            offset += len(record)
    header = {
        "source": f"cfn-lint {VERSION}",
        "regions": regions,
        "dictionary": dictionary,
        "chunks": table,
    }
    lines.sort(key=lambda line: line.split("\t")[0].encode())
    text = "\n".join([encode(header).decode(), *lines]) + "\n"
    index = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False).compress(text.encode())
    return MAGIC + struct.pack("<I", len(index)) + index + body


class Reader:
    """Reads the file the way the binary does."""

    def __init__(self, data):
        assert data[:8] == MAGIC, "not a schema file"
        (length,) = struct.unpack_from("<I", data, 8)
        self.body = data[12 + length :]
        self.index_bytes = length
        text = zstandard.ZstdDecompressor().decompress(data[12 : 12 + length]).decode()
        header, *lines = text.splitlines()
        self.index_text_bytes = len(text)
        self.header = json.loads(header)
        self.types = {}
        for line in lines:
            name, chunk, offset, size, where = line.split("\t")
            self.types[name] = (int(chunk), int(offset), int(size), where)
        assert [n.encode() for n in self.types] == sorted(n.encode() for n in self.types)
        options = {}
        if self.header["dictionary"]:
            start, size = self.header["dictionary"]
            options["dict_data"] = zstandard.ZstdCompressionDict(self.body[start : start + size])
        self.decompressor = zstandard.ZstdDecompressor(**options)
        self.cache = {}

    def chunk(self, number):
        if number not in self.cache:
            start, size, raw = self.header["chunks"][number]
            data = self.decompressor.decompress(self.body[start : start + size])
            assert len(data) == raw
            self.cache[number] = data
        return self.cache[number]

    def record(self, name):
        number, offset, size, _ = self.types[name]
        return json.loads(self.chunk(number)[offset : offset + size])


NAMED = ("properties", "patternProperties", "definitions")
NESTED = NODE_KEYWORDS | LIST_KEYWORDS | {"oneOf", "not", "if", "then", "else"}


def count_keywords(node, definitions, counts):
    """Counts the keywords below a node and checks that every `ref` leads somewhere."""
    if not isinstance(node, dict):
        return
    definitions = node.get("definitions", definitions)
    for key, value in node.items():
        counts[key] += 1
        if key == "ref":
            assert value in definitions, value
        elif key in NAMED:
            for item in value.values():
                count_keywords(item, definitions, counts)
        elif key in NESTED:
            for item in value if isinstance(value, list) else [value]:
                count_keywords(item, definitions, counts)
        elif key == "rules":
            for rule in value:
                count_keywords(rule["schema"], {}, counts)


def check(data):
    reader = Reader(data)
    counts = collections.Counter()
    for name in reader.types:
        record = reader.record(name)
        if name.startswith("fleetwright::Enum::"):
            counts["fleetwright::Enum"] += 1
            continue
        count_keywords(record, {}, counts)
        for node in record.get("types", {}).values():
            count_keywords(node, record["definitions"], counts)
        for entry in record.get("regionalEnums", []):
            assert entry["enum"] in reader.types
    report(reader, data)
    print("\nkeyword counts")
    for key, count in counts.most_common():
        print(f"{count:8} {key}")


def report(reader, data):
    chunks = reader.header["chunks"]
    print(f"file             {len(data):9} bytes")
    print(f"index            {reader.index_bytes:9} bytes, {reader.index_text_bytes} decompressed")
    print(f"dictionary       {(reader.header['dictionary'] or [0, 0])[1]:9} bytes")
    print(f"chunks           {len(chunks):9}, {sum(c[2] for c in chunks)} bytes decompressed")
    print(f"largest chunk    {max(c[2] for c in chunks):9} bytes decompressed")
    print(f"types            {sum(not n.startswith('fleetwright::') for n in reader.types):9}")
    core = sorted({reader.types[name][0] for name in CORE_TYPES})
    size, raw = (sum(chunks[n][i] for n in core) for i in (1, 2))
    print(f"core chunks      {core}: {size} bytes, {raw} decompressed")


def fetch(folder):
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", folder, f"cfn-lint=={VERSION}"], check=True)
    return next(pathlib.Path(folder).glob("cfn_lint-*.whl"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=pathlib.Path, help=f"cfn-lint {VERSION}; or pip fetches it")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    parser.add_argument("--dictionary", type=int, default=DICTIONARY_BYTES, help="bytes; 0: none")
    parser.add_argument("--check", action="store_true", help="read the file back instead")
    parser.add_argument("--show", metavar="TYPE", help="print one record instead")
    arguments = parser.parse_args()
    if arguments.show:
        record = Reader(arguments.output.read_bytes()).record(arguments.show)
        print(json.dumps(record, indent=1, ensure_ascii=False))
        return
    if arguments.check:
        check(arguments.output.read_bytes())
        return

    stats = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(arguments.wheel or fetch(folder)) as wheel:
            regions, records, skipped = build(wheel, stats)
    data = compress(regions, records, pack(records), arguments.dictionary)
    arguments.output.write_bytes(data)
    report(Reader(data), data)
    print()
    for key, count in sorted(stats.items()):
        print(f"{count:8} {key}")
    print("\nextensions left out")
    for rule, extension, reason in skipped:
        print(f"  {rule} {extension}: {reason}")


if __name__ == "__main__":
    main()
