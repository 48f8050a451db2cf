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
        "access-too-long",
        "`access` is published as one parameter of Systems Manager, which takes 4096 bytes. Name roles instead of their members, or use `*` in names.",
        "",
    ),
    explain(
        "address-overlap",
        "Two networks of a machine have addresses in common, so that one of them can't be reached: the cluster's overlay networks (`clusters.NAME.addresses` in fleetwright.yaml), the VPC of its machines, and the bridges that Docker makes on each of them (172.17.0.0/16 and 172.18.0.0/16).",
        "clusters:\n  main:\n    engine: swarm\n    addresses: {pool: 10.200.0.0/13, subnet: 24}",
    ),
    explain(
        "adjacent-tokens",
        "coreos-cloudinit replaces `$private_ipv4` together with the character before it. Where the same token follows at once, that character is gone already, and the second token stays as it is.",
        "$private_ipv4$private_ipv4      # the second is not replaced\n$private_ipv4,$private_ipv4     # right",
    ),
    explain(
        "admin-wildcard",
        "Who has the level admin may create tokens and remove services. A pattern with `*` also matches roles and users that do not exist yet, so whoever can create one could make themselves admin. Name each admin in full.",
        "admin: [role/admin-*]            # rejected\nadmin: [role/Administrators]     # right",
    ),
    explain(
        "ambiguous-step",
        "Several steps before this one are called so, and `needs` can't tell them apart. Give each of them a `name`.",
        "- build: {image: demo/web, name: web-arm, target: arm}",
    ),
    explain(
        "bad-access",
        "`access` lists roles and users: `role/NAME`, `user/NAME`, `root`, or `*` for every role and user of the cluster's own account. `*` in a name stands for any characters but `/`. Principals of another account are named by ARN. Sessions of a role match their role, and IAM groups can't be named, since no request carries them.",
        "deployer: [arn:aws:sts::123456789012:assumed-role/deploy/ada]   # rejected\ndeployer: [role/deploy]                                         # right",
    ),
    explain(
        "bad-address-pool",
        "The overlay networks of a cluster get their addresses from this pool. It must be private, have room for 16 networks, and differ from the ranges that Docker uses on every machine (172.17.0.0/16 and 172.18.0.0/16).",
        "clusters:\n  main:\n    engine: swarm\n    addresses:\n      pool: 10.200.0.0/13\n      subnet: 24",
    ),
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
        "stop_grace_period: 30       # refused\nstop_grace_period: 30s      # right",
    ),
    explain(
        "bad-escape",
        "systemd resolves escapes in command lines as C does: `\\n`, `\\t`, `\\x2d`, `\\\\`. What it does not know it hands on with the backslash, and logs a warning. A backslash that the program shall see is written twice.",
        "ExecStart=/bin/grep a\\.b /etc/hosts       # warned of\nExecStart=/bin/grep a\\\\.b /etc/hosts      # right",
    ),
    explain(
        "bad-header",
        "Engines tell user data by its first line. coreos-cloudinit compares it with `#cloud-config`, blanks at its end aside; cloud-init looks at how the text starts. A document that they don't know is not applied: legacy fails, Flatcar and cloud-init boot as if there were nothing.",
        "# cloud-config     # refused\n#cloud-config      # right",
    ),
    explain(
        "bad-hostname",
        "A hostname has letters, digits and `-`, and 63 characters at most. Flatcar cuts it at its first dot.",
        "",
    ),
    explain(
        "bad-image",
        "Images are named without a registry's host and without a tag: where to push and pull comes from the environment, and a rollout always uses a digest.",
        "image: registry.example:5000/team/web:latest   # refused\nimage: team/web                                # right",
    ),
    explain(
        "bad-message",
        "User data of several parts is a MIME message. Its first header names the boundary that stands between the parts, `--` before it, and the parts are text as it is or in base64.",
        "Content-Type: multipart/mixed                     # refused\nContent-Type: multipart/mixed; boundary=\"x\"       # right",
    ),
    explain(
        "bad-mode",
        "A file's mode is three or four octal digits in quotes. coreos-cloudinit refuses anything else; cloud-init falls back to 0644 and only writes a line into its log.",
        "permissions: u=rw      # refused\npermissions: \"0600\"    # right",
    ),
    explain(
        "bad-name",
        "Names become parts of other names, in CloudFormation, Docker and DNS, so they are short and plain. Logical names in a CloudFormation template are letters and digits only.",
        "web-server: {Type: ...}     # refused in a template\nWebServer: {Type: ...}      # right",
    ),
    explain(
        "bad-notify",
        "`notify` lists receivers. Each has `slack` or `url`, the secret that holds its URL, and may have `events` (service-not-whole, machine-lost, rollout-failed, job-failed, machine-short; all by default) and `after`, how long a service must not be whole (`1m`).",
        "notify:\n  - slack: {secret: slack-hook}\n    events: [service-not-whole, machine-lost]",
    ),
    explain(
        "bad-parameter-type",
        "The type of a parameter is String, Number, CommaDelimitedList, List<Number>, a type that CloudFormation looks up in the account (AWS::EC2::Subnet::Id, List<AWS::EC2::Subnet::Id>), or AWS::SSM::Parameter::Value<...> of one of these.",
        "Subnets: {Type: List<Subnet>}                   # refused\nSubnets: {Type: List<AWS::EC2::Subnet::Id>}     # right",
    ),
    explain(
        "bad-parameter-value",
        "CloudFormation refuses a value that the parameter's own AllowedValues, AllowedPattern, lengths or bounds refuse, or that is none of its type; of types such as AWS::EC2::VPC::Id only the shape is checked here. All of the value must match the pattern, which is one of Java's; a pattern with look-around in its middle, backreferences or possessive quantifiers is left to CloudFormation. An item of a list can't hold a comma, which separates items.",
        "Zones: [\"eu-west-1a,eu-west-1b\"]     # rejected\nZones: [eu-west-1a, eu-west-1b]       # right",
    ),
    explain(
        "bad-part",
        "Documents that one names with `# fleetwright: include` are put together with it by their keys. So each must be one cloud-config with keys, or have nothing in it.",
        "#!/bin/sh                   # refused\n#cloud-config\nruncmd:\n  - ...      # right",
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
    explain(
        "bad-schedule",
        "A schedule has five fields: minute, hour, day of the month, month and day of the week. Fields hold numbers, names (`MON`, `JAN`), lists, ranges and steps; `L` is the last day of a month, `15W` the working day nearest to the 15th, `MON#2` the second Monday. The time zone is a name of IANA's.",
        "schedule: 0 2 * *              # rejected: four fields\nschedule: 0 2 * * *            # right: at 02:00\ntimezone: Europe/Berlin",
    ),
    explain("bad-size", "Sizes are written with their unit: 256MB, 1GB.", ""),
    explain(
        "bad-ssh-key",
        "Lines of authorized_keys hold a type such as ssh-ed25519, the key and a comment. sshd passes over a line that it can't read, and nobody gets in.",
        "",
    ),
    explain(
        "bad-sub-variable",
        "Fn::Sub reads every `${...}` as a variable. Names have letters, digits, `_`, `.` and `::`. What a shell shall read itself is written `${!...}`.",
        "!Sub echo ${HOME:-/root}      # refused\n!Sub echo ${!HOME:-/root}     # right",
    ),
    explain("bad-template", "A template is a mapping with a section Resources, in YAML or JSON.", ""),
    explain(
        "bad-unit-name",
        "Names of units have letters, digits and `:-_.\\`, an instance behind `@`, at most 255 bytes, and a suffix that says what they are: `.service`, `.socket`, `.timer`, `.path`, `.mount`, `.automount`, `.swap`, `.target`, `.slice`, `.scope`, `.device`. Mounts are named for their path, `/srv/data` is `srv-data.mount`. Drop-ins end in `.conf` and stand in a folder with the unit's name and `.d`.",
        "After=docker              # refused\nAfter=docker.service      # right",
    ),
    explain(
        "bad-value",
        "The value is none of those that may stand here; the message names them, or what they look like.",
        "",
    ),
    explain(
        "command-is-mapping",
        "A colon and a space make a mapping of an item, and cloud-init then fails to write the script of the whole list: none of the commands runs. Quote the command.",
        "- echo done: ok      # refused\n- 'echo done: ok'    # right",
    ),
    explain(
        "command-on-masked-unit",
        "A masked unit can't be started. coreos-cloudinit stops at the first command that fails and runs none of those that follow.",
        "",
    ),
    explain("conflicting-keys", "Two keys exclude each other: only one of them can have its way.", ""),
    explain(
        "deprecated-key",
        "The key still works, or is at least still read without an error, but has a successor; newer versions of systemd may ignore it.",
        "MemoryLimit=1G     # warned of\nMemoryMax=1G       # right",
    ),
    explain(
        "duplicate-access",
        "The pattern has a higher level already, or stands in the same list. Each level includes the ones below it.",
        "",
    ),
    explain(
        "duplicate-entry",
        "A file or a unit is given twice. The last one stays, and Ignition refuses the document.",
        "",
    ),
    explain(
        "duplicate-export",
        "The name of an export is unique in an account and region: CloudFormation refuses the stack that brings it a second time. Names are compared as far as they can be told offline.",
        "Export: {Name: vpc}                              # rejected in a second stack\nExport: {Name: !Sub \"${AWS::StackName}-vpc\"}    # right",
    ),
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
    explain(
        "empty-document",
        "The document has its first line and nothing else. coreos-cloudinit does nothing with it, and `cloud-init schema` refuses it.",
        "",
    ),
    explain("empty-file", "The file has no content.", ""),
    explain(
        "empty-token",
        "coreos-cloudinit replaces the token by what the metadata service says. EC2's has no IPv6 addresses in the form that it knows, so that nothing is left of `$public_ipv6` and `$private_ipv6`.",
        "",
    ),
    explain(
        "former-key",
        "The key was renamed. The old name still works.",
        "drain: 30s                # warned of\nstop_grace_period: 30s    # right",
    ),
    explain(
        "function-arguments",
        "The function is called with too few values, too many, or one of the wrong kind.",
        "!Join [a, b, c]          # refused\n!Join [\"-\", [a, b, c]]   # right",
    ),
    explain(
        "groovy-syntax",
        "The Jenkinsfile can't be read: a text, a comment, a bracket or a block does not end, or ends what was not begun. The place is where it begins.",
        "",
    ),
    explain(
        "hidden-by-mount",
        "The file is written first, and then something is mounted on a directory above it: the file is there, and nobody sees it. cloud-init's `defer: true` writes it at the end of the boot.",
        "- path: /data/config\n  defer: true",
    ),
    explain(
        "host-path",
        "A folder of the machine is mounted only where fleetwright.yaml lists it, since a container that can write to one may become root on the machine.",
        "# services/web.yaml\nvolumes: [\"/var/log/app:/logs\"]\n# fleetwright.yaml\nhost_paths: [/var/log/app]",
    ),
    explain(
        "hyphenated-key",
        "Flatcar's coreos-cloudinit reads with yaml.v3 since 2024. Its validator still takes keys with hyphens, as Container Linux did, but at boot they are dropped without a word.",
        "reboot-strategy: off      # lost\nreboot_strategy: \"off\"    # right",
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
        "link-outside",
        "Links in a repository are followed as long as they stay within it. This one is absolute or leads out of it, so that it would mean another file on every machine.",
        "ln -s /srv/shared/base.yaml base.yaml    # refused\nln -s ../shared/base.yaml base.yaml      # right, below the repository",
    ),
    explain(
        "locked-password",
        "cloud-init locks the password of a user whom it creates, unless `lock_passwd` says otherwise, even if a hash is given.",
        "passwd: $6$...\nlock_passwd: false",
    ),
    explain(
        "merge-key",
        "YAML's merge key, `<<`, is not known to CloudFormation, which refuses the template, and not to the repository's own files. Write the keys out, or let the template's language put them in.",
        "<<: *tags                # rejected\n<% include \"tags.yaml\" %>  # right, in a template of the repository",
    ),
    explain(
        "misplaced-function",
        "No function is called in Parameters and Mappings: they are read before anything else.",
        "",
    ),
    explain(
        "misplaced-key",
        "systemd knows the key, but in another section, and ignores it where it stands.",
        "[Unit]\nRestart=always     # refused\n\n[Service]\nRestart=always     # right",
    ),
    explain(
        "misplaced-reference",
        "What is referred to is not known yet where the reference stands: conditions are decided, and mappings read, before there are resources. In the files of stacks, outputs of other stacks can only be used in parameters.",
        "",
    ),
    explain("missing-file", "A file that is needed is not there.", ""),
    explain(
        "missing-install",
        "`systemctl enable` does what [Install] says. Without it, enabling a unit does nothing, and it does not start at boot.",
        "[Install]\nWantedBy=multi-user.target",
    ),
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
    explain(
        "misspelt-token",
        "coreos-cloudinit replaces exactly $public_ipv4, $private_ipv4, $public_ipv6 and $private_ipv6, and looks at nothing behind them. What is only like one of them stays as it is.",
        "",
    ),
    explain(
        "no-admin",
        "Tokens are created, and services removed, by admins. Where nobody is one, only the break-glass token of the parameter store can do that.",
        "",
    ),
    explain(
        "no-default-user",
        "Keys at the root belong to the image's default user. Where `users` is given without `default`, cloud-init creates no such user, and the keys are nobody's.",
        "users:\n  - default\n  - name: ops",
    ),
    explain("no-registry", "Pipelines push images to the environment's registry, and it has none.", ""),
    explain(
        "not-a-hash",
        "`passwd` and `hashed_passwd` go into /etc/shadow as they are. A password in clear there matches nothing, so that nobody can log in with it, and everybody on the machine can read it.",
        "passwd: hunter2                # refused\npasswd: $6$rounds=500000$...   # right",
    ),
    explain(
        "not-a-pipeline",
        "`fleetwright pipeline import` reads workflows of Woodpecker 3, in files that end with .yml or .yaml and have `steps`, and declarative Jenkinsfiles, which have `pipeline { stages { ... } }`. A scripted Jenkinsfile is a program and has to be rewritten by hand.",
        "",
    ),
    explain(
        "not-allowed",
        "Steps that a git repository has itself use only the services, jobs and secrets that their pipeline gives them: whoever may push to that repository writes them.",
        "web:\n  repository: web\n  steps: {file: .fleetwright.yaml}\n  allow: {services: [web], secrets: [/shop/web/*]}",
    ),
    explain(
        "not-compose",
        "`fleetwright import compose` reads files of the Compose Specification, with `services`, and fig.yml, whose keys are services.",
        "",
    ),
    explain(
        "not-in-ignition",
        "Ignition runs once, before the system is up: it makes disks, files, units and users. It runs no commands and installs no packages. What must run later is a unit's work.",
        "",
    ),
    explain(
        "not-in-target",
        "The engine that the document is converted for has no counterpart for this, and leaving it out would make a machine that lacks it without a word. Write what is wanted in another way, such as a file or a unit, and convert again.",
        "",
    ),
    explain(
        "not-installable",
        "`enable` links a unit to where its section [Install] says. Without one nothing is linked, systemd reports no error, and the unit does not start at boot.",
        "[Install]\nWantedBy=multi-user.target",
    ),
    explain(
        "null-value",
        "CloudFormation refuses a template with an empty value anywhere (\"'null' values are not allowed in templates\"). A key with nothing behind it is one; remove it, or give it `{}`, `[]` or \"\".",
        "",
    ),
    explain(
        "ordering-cycle",
        "By After and Before, and by the order that systemd adds itself, the units would have to start each before itself. systemd then leaves out one of them at each boot. Services come after sysinit.target and basic.target unless they have `DefaultDependencies=no`; timers, sockets and paths come before what they start.",
        "",
    ),
    explain(
        "out-of-range",
        "The number is outside of what makes sense here; the message has the bounds.",
        "",
    ),
    explain(
        "owner-created-later",
        "cloud-init writes files before it creates users. An owner that does not exist yet stops it: none of the files that follow is written. `defer: true` writes the file at the end of the boot.",
        "- path: /srv/app/config\n  owner: app:app\n  defer: true",
    ),
    explain(
        "part-not-included",
        "`# fleetwright: include` names parts that are put together when a repository is rendered. To everybody else the line is a comment, so the document is checked without its parts.",
        "",
    ),
    explain(
        "part-replaces-key",
        "Where several parts of a MIME message have the same key, cloud-init keeps the last and forgets the others, unless a part says how to merge. Parts that are named with `# fleetwright: include` are merged before.",
        "",
    ),
    explain(
        "pipeline-circle",
        "A pipeline that runs after another one must not lead to it again: each run would start the next for ever.",
        "on: {after: [build]}   # and `build` must not run after this one",
    ),
    explain(
        "port-conflict",
        "A port of a machine goes to one container. Two services with the same `host` keep each other from starting, unless `placement` keeps them on different machines.",
        "ports: [{container: 8080, host: 80}]     # rejected in a second service\nports: [{container: 8080}]               # right: the engine picks a free one",
    ),
    explain(
        "read-only-path",
        "/usr is read-only on Container Linux, Flatcar and Fedora CoreOS (which has a writable /usr/local). Write below /etc, /opt or /var.",
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
    explain(
        "relative-path",
        "systemd takes absolute paths only. The program of a command may also be a plain name, which is looked up in a fixed search path; a name with a slash in it is refused. No shell is there to read `~` or variables.",
        "ExecStart=bin/web              # refused\nExecStart=/opt/web/bin/web     # right",
    ),
    explain(
        "repository-too-large",
        "A repository has at most 10,000 files of 4 MiB each and 64 MiB together in `stacks`, `templates`, `services` and `pipelines`. Folders are at most 32 deep.",
        "",
    ),
    explain("reserved-name", "The name is one that every template gets by itself.", ""),
    explain(
        "resource-cycle",
        "Resources need each other in a circle, by Ref, Fn::GetAtt, Fn::Sub or DependsOn, so that CloudFormation could create none of them first. Usually two security groups name each other: give the rules resources of their own (AWS::EC2::SecurityGroupIngress).",
        "",
    ),
    explain(
        "second-command",
        "Only a service of `Type=oneshot` has more than one `ExecStart=`. A drop-in adds to its unit: to replace the command, it first takes back the old one with an empty `ExecStart=`.",
        "[Service]\nExecStart=\nExecStart=/opt/web/bin/web --verbose",
    ),
    explain(
        "second-document",
        "User data is one YAML document. What follows a line `---` is never read by coreos-cloudinit, and makes cloud-init refuse all of it.",
        "",
    ),
    explain(
        "secret-in-file",
        "Whoever knows the URL of a webhook can write there, so it is a secret: `fleetwright secret set NAME` keeps it, and the file names it.",
        "- slack: https://hooks.slack.com/...   # rejected\n- slack: {secret: slack-hook}          # right",
    ),
    explain(
        "secret-in-user-data",
        "User data is no place for secrets: every process and container of the machine that reaches the metadata service reads it, as does whoever may describe the launch template. Let the machine's role fetch them from SSM or a secrets manager.",
        "",
    ),
    explain(
        "service-cycle",
        "Services name each other in `depends_on` in a circle, so that none could be rolled out first. The key only orders rollouts: services that need each other while they run need no entry.",
        "",
    ),
    explain(
        "shell-in-list",
        "A command that is a list is run as it is: `|`, `&&` and `>` are arguments of its program.",
        "- [echo, hello, '>', /tmp/x]    # hardly meant\n- echo hello > /tmp/x           # right",
    ),
    explain(
        "shell-syntax",
        "systemd starts programs by itself, without a shell: `&&`, `|`, `>` and `$(...)` reach the program as arguments.",
        "ExecStart=/bin/a | /bin/b               # warned of\nExecStart=/bin/sh -c '/bin/a | /bin/b'    # right",
    ),
    explain(
        "step-cycle",
        "The steps of the workflow depend on each other in a circle, so that none of them could be the first. Remove one of the `depends_on`.",
        "",
    ),
    explain(
        "swallowed-line",
        "A line that ends in a backslash goes on in the next, and this one looks as if it were meant to stand for itself.",
        "ExecStart=/bin/web \\\n  --port 80 \\\nRestart=always",
    ),
    explain(
        "systemd-verify",
        "What `systemd-analyze verify` of this machine says, which `unit check --verify` runs. What it ignores or refuses is an error; the rest, such as a program that is not installed here, a warning.",
        "",
    ),
    explain(
        "template-error",
        "Rendering the template failed: a variable that is not set, or a filter or function that does not like its arguments.",
        "",
    ),
    explain(
        "template-not-rendered",
        "cloud-init puts instance data only into user data whose first line is `## template: jinja`. Anything else stays as it is written.",
        "#cloud-config\nhostname: {{ v1.instance_id }}     # stays as it is\n## template: jinja\n#cloud-config\nhostname: {{ v1.instance_id }}     # right",
    ),
    explain(
        "template-syntax",
        "The template can't be parsed. `<{ }>` puts in a value, `<% %>` is a statement, `<# #>` a comment.",
        "",
    ),
    explain(
        "token-not-replaced",
        "$private_ipv4 and its like are replaced by coreos-cloudinit only, and only in text: not in a content that is packed or base64, not by cloud-init, and not by Ignition.",
        "",
    ),
    explain("unbalanced-quotes", "A quote is opened and not closed. systemd ignores the whole line.", ""),
    explain("unchecked-part", "User data of this kind is taken by the engine, but not looked into here.", ""),
    explain(
        "undecodable-content",
        "The content is not what its `encoding` says. coreos-cloudinit refuses the document; cloud-init stops and writes none of the files that follow.",
        "",
    ),
    explain(
        "unit-ends",
        "A service of units runs until it is removed, so a unit that ends is started again immediately, for ever. A oneshot that leaves something behind says `RemainAfterExit=yes`; one that is due at times has a timer of its name beside it in templates/units/.",
        "[Service]\nType=oneshot                 # refused\n\n[Service]\nType=oneshot\nRemainAfterExit=yes          # right",
    ),
    explain(
        "unit-not-in-image",
        "The document starts a unit that is in no image and that it does not bring along. The command fails, and coreos-cloudinit runs none of those that follow.",
        "",
    ),
    explain(
        "unit-outlives",
        "A unit is asked to stop, and counts as stopped after the service's `stop_grace_period`. Where systemd would wait longer than that for it, it would be killed early, or a copy would start beside it.",
        "stop_grace_period: 10s    # refused with TimeoutStopSec=30s\nstop_grace_period: 40s    # right",
    ),
    explain(
        "unit-syntax",
        "A unit file has sections, `[Name]`, and below them lines of `Key=value`. A line without `=`, or before the first section, is ignored; a line that begins with `[` and is no section, or is longer than 1 MiB, makes systemd refuse the file. A backslash joins lines only as the very last character.",
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
        "unknown-instance-data",
        "A template of cloud-init puts instance data in: `v1` and what is in it, `ds`, which the metadata service gives, and few more. What is not there is put in as `CI_MISSING_JINJA_VAR/NAME`, with a warning in the log.",
        "{{ local_ipv4 }}                # warned of\n{{ ds.meta_data.local_ipv4 }}   # right",
    ),
    explain("unknown-job", "jobs/ has no job of that name.", ""),
    explain(
        "unknown-key",
        "The key is none of those that may stand here. Most often it is misspelt, or stands one level too high or too low.",
        "",
    ),
    explain(
        "unknown-owner",
        "The document creates no such user or group. Where the image has none either, the engine stops there and writes none of the files that follow. cloud-init looks up numbers as names, too.",
        "",
    ),
    explain("unknown-parameter", "The template declares no parameter of that name.", ""),
    explain(
        "unknown-part-type",
        "cloud-init has a handler for each type of part that it knows, and passes over all others with a line in its log.",
        "Content-Type: text/yaml             # refused\nContent-Type: text/cloud-config     # right",
    ),
    explain(
        "unknown-pipeline",
        "pipelines/ has no pipeline of that name.",
        "on: {after: [build]}   # runs when `build` has succeeded",
    ),
    explain(
        "unknown-property",
        "The resource type has no property of that name; CloudFormation refuses it. Names are case-sensitive.",
        "CIDRBlock: 10.0.0.0/16     # refused\nCidrBlock: 10.0.0.0/16     # right",
    ),
    explain(
        "unknown-public-parameter",
        "`${ssm:/aws/service/...}` is the value of a public parameter of Systems Manager in the environment's region, which is asked for when the stack is planned. Not every publisher serves every region.",
        "ImageId: ${ssm:/aws/service/debian/release/12/latest/amd64}",
    ),
    explain(
        "unknown-region",
        "No region of AWS that this version knows has that name. If the region is newer, accept the finding on its line.",
        "region: eu-west-9     # fleetwright: accept unknown-region",
    ),
    explain("unknown-repository", "fleetwright.yaml has no repository of that name.", ""),
    explain(
        "unknown-section",
        "systemd ignores a section that the kind of unit does not have, with all that stands below it. Names are case-sensitive. Sections that begin with `X-` are left to others.",
        "[service]     # refused\n[Service]     # right",
    ),
    explain("unknown-service", "services/ has no service of that name.", ""),
    explain(
        "unknown-specifier",
        "`%` with a letter or digit stands for something that systemd puts in, such as `%n`, `%i` or `%H`; a line with one that does not exist is ignored. A percent sign itself is `%%`.",
        "ExecStart=/bin/date +%F      # refused\nExecStart=/bin/date +%%F     # right",
    ),
    explain("unknown-stack", "stacks/ has no stack of that name.", ""),
    explain(
        "unknown-step",
        "`needs` names steps of the same pipeline that stand before this one: by their `name`, or else by the image that a build makes, the last part of the image that a command runs in, or the service of a rollout.",
        "- run: {name: test, image: demo/web, command: make test, needs: [demo/web]}",
    ),
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
    explain(
        "unpublished-agent",
        "The machines of a stack fetch the agent that `agent` in fleetwright.yaml names, and nothing is there yet. `fleetwright agent publish` puts the agent into the project's bucket and writes its version and checksum. `validate` and `render` do without.",
        "",
    ),
    explain(
        "unquoted-mode",
        "A mode without quotes is a number to YAML. coreos-cloudinit takes it as it was written, so that 420 is the mode 0420; cloud-init takes the number, so that 420 is 0644 and 644 is 01204; and `cloud-init schema` refuses any number.",
        "permissions: 420       # refused\npermissions: \"0644\"    # right",
    ),
    explain(
        "unreadable-file",
        "The file can't be read, is not UTF-8, is larger than 4 MiB, or is no regular file: folders, named pipes, sockets and devices are not read.",
        "",
    ),
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
        "unused-setting",
        "The setting has no effect, since no template passes it on to the machines.",
        "",
    ),
    explain(
        "useless-key",
        "What is asked for has no effect: networkd's files are neither enabled nor started, and a unit with nothing but a name is left as it is.",
        "",
    ),
    explain(
        "useless-policy",
        "Only some resource types have an UpdatePolicy or a CreationPolicy; on others it has no effect.",
        "",
    ),
    explain("user-data-too-large", "EC2 takes 16,384 bytes of user data, before base64.", ""),
    explain(
        "wrong-dialect",
        "coreos-cloudinit and cloud-init both read `#cloud-config`, but have few keys in common. What only the other one knows is passed over without a word.",
        "",
    ),
    explain(
        "wrong-type",
        "The value is of another kind than what must stand here: a list instead of a text, say. Numbers and booleans may be written as texts, as CloudFormation takes them so.",
        "",
    ),
    explain(
        "x-fleet",
        "`[X-Fleet]` of a service's units is carried out: `Global` is `every_machine`, `MachineMetadata` and `MachineID` are `placement`, `Conflicts` keeps services off each other's machines, and `MachineOf` is naming both in `units`. What pushes others away, follows a unit of another service, or names a machine by an id of fleet's is rejected.",
        "MachineID=148a18ff                  # rejected\nMachineMetadata=disk=ssd            # right",
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
