//! What a template's parameter accepts, and why it refuses a value.
//!
//! Only what CloudFormation surely refuses is refused. What can't be judged here (some patterns, and whether a
//! VPC exists) is left to it.

use super::java_regex;

/// The most bytes that a parameter's value may have.
pub const VALUE_MOST: usize = 4096;

/// The most characters of a value that a message quotes.
const QUOTED_MOST: usize = 80;

/// The declaration of a parameter, as far as it limits values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Its type, such as `String`.
    pub kind: String,
    /// The values it may have; `None` where any.
    pub allowed: Option<Vec<Allowed>>,
    /// The pattern, one of Java's.
    pub pattern: Option<String>,
    /// The fewest characters.
    pub min_length: Option<String>,
    /// The most characters.
    pub max_length: Option<String>,
    /// The least number.
    pub min_value: Option<String>,
    /// The greatest number.
    pub max_value: Option<String>,
    /// What the template says about its rules.
    pub description: Option<String>,
    /// Whether its value is never shown.
    pub hidden: bool,
}

/// One of the values that a parameter may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// As it is written.
    pub text: String,
    /// Whether it is written as a number or a boolean, which has several spellings.
    pub plain: bool,
}

/// A value that a parameter is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// One text.
    Text(String),
    /// A list; `None` for an item that is known later.
    List(Vec<Option<String>>),
}

/// Why a value is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The item of a list that is meant, where it is one.
    pub item: Option<usize>,
    /// Why, without the value where that is never shown.
    pub why: String,
}

impl Rules {
    /// Whether it holds a list.
    pub fn is_list(&self) -> bool {
        self.kind == "CommaDelimitedList" || self.kind.starts_with("List<")
    }

    /// The same with nothing but its type, where that is one of AWS's own; `None` for other types.
    pub fn shape_only(&self) -> Option<Self> {
        let own = within(&self.kind, "List<").unwrap_or(&self.kind).starts_with("AWS::");
        own.then(|| Self { kind: self.kind.clone(), hidden: self.hidden, ..Self::default() })
    }

    /// The same without its type, where that is one of AWS's own: what a template alone can be judged by.
    pub fn without_shape(&self) -> Option<Self> {
        self.shape_only().is_none().then(|| self.clone())
    }

    /// Why `given` is refused in `region`; nothing where it is accepted or can't be judged.
    pub fn refusals(&self, given: &Given, region: Option<&str>) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let mut refuse = |item, why: Option<String>| {
            refusals.extend(why.map(|why| Refusal { item, why }));
        };
        match given {
            Given::Text(text) => {
                refuse(None, self.too_long(text));
                if is_open(text) {
                    return refusals;
                }
                if !self.is_list() {
                    refuse(None, self.element(text, region));
                } else if !text.is_empty() {
                    text.split(',').for_each(|part| refuse(None, self.element(part.trim(), region)));
                }
            }
            Given::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let Some(text) = item.as_deref().filter(|text| !is_open(text)) else { continue };
                    if text.contains(',') {
                        let shown = self.quoted(text, "the item");
                        let why =
                            format!("{shown} has a comma, which separates items: it would become several");
                        refuse(Some(index), Some(why));
                    } else if self.is_list() {
                        refuse(Some(index), self.element(text.trim(), region));
                    }
                }
                let all: Option<Vec<&str>> = items.iter().map(Option::as_deref).collect();
                let Some(joined) = all.map(|all| all.join(",")) else { return refusals };
                refuse(None, self.too_long(&joined));
                if !self.is_list() && !is_open(&joined) && !items.is_empty() {
                    refuse(None, self.element(&joined, region));
                }
            }
        }
        refusals
    }

    fn too_long(&self, text: &str) -> Option<String> {
        let long = text.len();
        (long > VALUE_MOST).then(|| format!("it has {long} bytes, of {VALUE_MOST} at most"))
    }

    /// One value, or one of a list.
    fn element(&self, value: &str, region: Option<&str>) -> Option<String> {
        if let Some(name) = within(&self.kind, "AWS::SSM::Parameter::Value<") {
            // The template's own rules are not for the name, and the value is known to CloudFormation alone.
            let what = format!("the name of an SSM parameter, whose value is a `{name}`");
            return (!parameter_name(value)).then(|| format!("{} is not {what}", self.shown(value)));
        }
        let kind = within(&self.kind, "List<").unwrap_or(&self.kind);
        if let Some((fits, shape)) = shape(kind, value, region)
            && !fits
        {
            return Some(format!("{} is not {shape}", self.shown(value)));
        }
        if kind == "Number" {
            if !is_number(value) {
                return Some(format!("{} is not a number", self.shown(value)));
            }
            if let Some(least) = self.min_value.as_deref().filter(|least| below(value, least)) {
                return Some(format!("{} is below `MinValue`, {least}", self.shown(value)));
            }
            if let Some(most) = self.max_value.as_deref().filter(|most| below(most, value)) {
                return Some(format!("{} is above `MaxValue`, {most}", self.shown(value)));
            }
        }
        if let Some(allowed) = &self.allowed
            && !allowed.iter().any(|allowed| allowed.is(value, kind == "Number"))
        {
            let names: Vec<String> = allowed.iter().map(|allowed| format!("`{}`", allowed.text)).collect();
            return Some(format!(
                "{} is not one of `AllowedValues`: {}",
                self.shown(value),
                names.join(", ")
            ));
        }
        if self.kind == "String" {
            if let Some(least) = self.min_length.as_deref().filter(|least| longest(value) < length(least)) {
                return Some(format!("{} is shorter than `MinLength`, {least}", self.shown(value)));
            }
            let most = self.max_length.as_deref();
            if let Some(most) =
                most.filter(|most| value.chars().count() as f64 > most.parse().unwrap_or(f64::MAX))
            {
                return Some(format!("{} is longer than `MaxLength`, {most}", self.shown(value)));
            }
        }
        if matches!(self.kind.as_str(), "String" | "CommaDelimitedList")
            && let Some(pattern) = &self.pattern
            && java_regex::matches(pattern, value) == Some(false)
        {
            return Some(format!("{} does not match `AllowedPattern`, `{pattern}`", self.shown(value)));
        }
        None
    }

    fn shown(&self, value: &str) -> String {
        self.quoted(value, "the value")
    }

    /// The value in backticks; one that is never shown is only named.
    fn quoted(&self, value: &str, name: &str) -> String {
        if self.hidden {
            return name.to_owned();
        }
        if value.is_empty() {
            return "the empty text".to_owned();
        }
        let text: String = value.chars().take(QUOTED_MOST).collect();
        let rest = if text.len() < value.len() { "..." } else { "" };
        format!("`{}{rest}`", text.replace(['\n', '\r'], " "))
    }
}

impl Allowed {
    fn is(&self, value: &str, number: bool) -> bool {
        let numbers = || matches!((self.text.trim().parse::<f64>(), value.trim().parse::<f64>()), (Ok(a), Ok(b)) if a == b);
        // YAML 1.1, which CloudFormation reads, has more spellings of booleans; JSON has two.
        let truth = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some("true"),
            "false" | "no" | "off" => Some("false"),
            _ => None,
        };
        self.text == value
            || number && numbers()
            || self.plain && (numbers() || truth(&self.text).is_some_and(|truth| truth == value))
    }
}

/// What stands for something that is known later: a variable that is not set, or a reference that CloudFormation resolves.
fn is_open(text: &str) -> bool {
    text.contains("{{resolve:") || text.contains("<unset ")
}

fn within<'k>(kind: &'k str, outer: &str) -> Option<&'k str> {
    kind.strip_prefix(outer)?.strip_suffix('>')
}

/// The most that any way to count says: some count characters outside the basic plane as two.
fn longest(value: &str) -> f64 {
    value.encode_utf16().count() as f64
}

fn length(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}

/// Whether CloudFormation takes a text for a number.
pub fn is_number(text: &str) -> bool {
    let text = text.trim();
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    text.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok()
}

fn below(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim(), b.trim());
    match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => a < b,
        _ => matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a < b),
    }
}

/// Whether `value` may be what CloudFormation looks up for a type of AWS's own, and what that looks like; `None`
/// for other types.
fn shape(kind: &str, value: &str, region: Option<&str>) -> Option<(bool, String)> {
    let id = |prefix: &str, what: &str| {
        let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let fits = value.strip_prefix(prefix).is_some_and(|rest| matches!(rest.len(), 8 | 17) && hex(rest));
        Some((fits, format!("the id of {what}: `{prefix}` and 8 or 17 hexadecimal digits")))
    };
    match kind {
        "AWS::EC2::VPC::Id" => id("vpc-", "a VPC"),
        "AWS::EC2::Subnet::Id" => id("subnet-", "a subnet"),
        "AWS::EC2::SecurityGroup::Id" => id("sg-", "a security group"),
        "AWS::EC2::Instance::Id" => id("i-", "an instance"),
        "AWS::EC2::Image::Id" => id("ami-", "an image"),
        "AWS::EC2::Volume::Id" => id("vol-", "a volume"),
        "AWS::EC2::AvailabilityZone::Name" => Some(match region {
            Some(region) => {
                let rest = value.strip_prefix(region);
                (rest.is_some_and(is_zone), format!("an availability zone of {region}, such as `{region}a`"))
            }
            None => {
                let digit = value.rfind(|c: char| c.is_ascii_digit());
                let fits = digit.is_some_and(|at| is_zone(&value[at + 1..]) && value.contains('-'));
                (fits, "an availability zone, such as `eu-west-1a`".to_owned())
            }
        }),
        "AWS::EC2::KeyPair::KeyName" => {
            let fits = (1..=255).contains(&value.chars().count());
            Some((fits, "the name of a key pair: 1 to 255 characters".to_owned()))
        }
        "AWS::EC2::SecurityGroup::GroupName" => {
            let letters = |b: u8| b.is_ascii_alphanumeric() || b" ._-:/()#,@[]+=&;{}!$*".contains(&b);
            let fits =
                (1..=255).contains(&value.len()) && value.bytes().all(letters) && !value.starts_with("sg-");
            Some((fits, "the name of a security group".to_owned()))
        }
        "AWS::Route53::HostedZone::Id" => {
            let id = value.strip_prefix("/hostedzone/").unwrap_or(value);
            let letters = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
            let fits = id.starts_with('Z') && (2..=32).contains(&id.len()) && id.bytes().all(letters);
            Some((fits, "the id of a hosted zone, such as `Z23ABC4XYZL05B`".to_owned()))
        }
        "AWS::SSM::Parameter::Name" => {
            Some((parameter_name(value), "the name of an SSM parameter, such as `/team/name`".to_owned()))
        }
        _ => None,
    }
}

/// What stands behind the region in a zone's name: a letter, or a place outside and a zone there (`-lax-1a`).
fn is_zone(rest: &str) -> bool {
    let letter = |text: &str| text.len() == 1 && text.bytes().all(|b| b.is_ascii_lowercase());
    letter(rest)
        || rest.strip_prefix('-').is_some_and(|rest| {
            let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            rest.ends_with(|c: char| c.is_ascii_lowercase()) && rest.bytes().all(letters)
        })
}

/// The name of an SSM parameter: with a version or label, or an ARN.
fn parameter_name(value: &str) -> bool {
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"_.-/:".contains(&b);
    let path = !value.contains('/') || value.starts_with('/') || value.starts_with("arn:");
    (1..=2048).contains(&value.len()) && value.bytes().all(letters) && path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(kind: &str) -> Rules {
        Rules { kind: kind.to_owned(), ..Rules::default() }
    }

    fn takes(rules: &Rules, value: &str) -> bool {
        rules.refusals(&Given::Text(value.to_owned()), Some("eu-west-1")).is_empty()
    }

    #[test]
    fn types_are_told_by_their_shape() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            (
                "Number",
                &["1", "-1.5", "+2", "1e3", " 7 ", ".5"],
                &["", "1x", "0x10", "1_000", "ten", "inf", "NaN", "1,2"],
            ),
            ("List<Number>", &["1,2", "80, 443", ""], &["1,a", "1,,2"]),
            (
                "AWS::EC2::VPC::Id",
                &["vpc-0a1b2c3d", "vpc-0123456789abcdef0"],
                &["vpc-1", "subnet-0a1b2c3d", "vpc-0A1B2C3D", "", "vpc-0a1b2c3d,vpc-0a1b2c3e"],
            ),
            (
                "List<AWS::EC2::Subnet::Id>",
                &["subnet-0a1b2c3d, subnet-0a1b2c3e"],
                &["subnet-0a1b2c3d,vpc-0a1b2c3d"],
            ),
            (
                "AWS::EC2::AvailabilityZone::Name",
                &["eu-west-1a", "eu-west-1-ham-1a"],
                &["eu-west-1", "us-east-1a", "a", "eu-west-11"],
            ),
            ("AWS::EC2::SecurityGroup::GroupName", &["web servers"], &["sg-0a1b2c3d", ""]),
            ("AWS::Route53::HostedZone::Id", &["Z23ABC4XYZL05B"], &["example.com", "z23abc4"]),
            ("AWS::SSM::Parameter::Name", &["/a/b", "name", "/a/b:3"], &["a/b", "", "a b"]),
            (
                "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>",
                &["/aws/service/ami-amazon-linux-latest/al2023"],
                &["a,b", ""],
            ),
            ("String", &["", "anything, really"], &[]),
        ];
        for (kind, good, bad) in cases {
            for value in *good {
                assert!(takes(&rules(kind), value), "{kind} takes {value:?}");
            }
            for value in *bad {
                assert!(!takes(&rules(kind), value), "{kind} refuses {value:?}");
            }
        }
    }

    #[test]
    fn bounds_and_lengths_include_their_ends() {
        let bounds = Rules {
            min_value: Some("1".into()),
            max_value: Some("9007199254740993".into()),
            ..rules("Number")
        };
        assert!(takes(&bounds, "1") && takes(&bounds, "9007199254740993"));
        assert!(!takes(&bounds, "0.9") && !takes(&bounds, "9007199254740994"));
        let lengths = Rules { min_length: Some("2".into()), max_length: Some("3".into()), ..rules("String") };
        assert!(takes(&lengths, "äö") && takes(&lengths, "äöü") && takes(&lengths, "𝄞"));
        assert!(!takes(&lengths, "ä") && !takes(&lengths, "äöüß"));
        assert!(takes(&rules("String"), &"a".repeat(4096)) && !takes(&rules("String"), &"ä".repeat(2049)));
    }

    #[test]
    fn allowed_values_have_the_spellings_that_yaml_gives_them() {
        let allowed = |text: &str, plain: bool| Some(vec![Allowed { text: text.into(), plain }]);
        let boolean = Rules { allowed: allowed("yes", true), ..rules("String") };
        assert!(takes(&boolean, "true") && takes(&boolean, "yes") && !takes(&boolean, "True"));
        let text = Rules { allowed: allowed("yes", false), ..rules("String") };
        assert!(takes(&text, "yes") && !takes(&text, "true"));
        let number = Rules { allowed: allowed("1.0", false), ..rules("Number") };
        assert!(takes(&number, "1") && !takes(&number, "2"));
        let list = Rules { allowed: allowed("a", false), ..rules("CommaDelimitedList") };
        assert!(takes(&list, "a, a") && !takes(&list, "a,b"));
    }

    #[test]
    fn an_item_with_a_comma_is_refused_and_others_are_judged_one_by_one() {
        let rules = Rules { pattern: Some("[a-z]+".into()), ..rules("CommaDelimitedList") };
        let given = Given::List(vec![Some("ok".into()), Some("a,b".into()), None, Some("7".into())]);
        let items: Vec<_> = rules.refusals(&given, None).into_iter().map(|refusal| refusal.item).collect();
        assert_eq!(items, [Some(1), Some(3)]);
    }

    #[test]
    fn a_hidden_value_is_in_no_message() {
        let hidden = Rules { hidden: true, ..rules("CommaDelimitedList") };
        let every = [
            Rules { kind: "Number".into(), ..hidden.clone() },
            Rules { kind: "AWS::EC2::VPC::Id".into(), ..hidden.clone() },
            Rules { kind: "AWS::SSM::Parameter::Value<String>".into(), ..hidden.clone() },
            Rules { kind: "String".into(), min_length: Some("99".into()), ..hidden.clone() },
            Rules { kind: "String".into(), max_length: Some("1".into()), ..hidden.clone() },
            Rules { pattern: Some("[0-9]".into()), ..hidden.clone() },
            Rules { allowed: Some(Vec::new()), ..hidden.clone() },
            hidden,
        ];
        for rules in every {
            let list = Given::List(vec![Some("hunter2 ,hunter2".into())]);
            for given in [Given::Text("hunter2 %".into()), list] {
                for refusal in rules.refusals(&given, None) {
                    assert!(!refusal.why.contains("hunter2"), "{}", refusal.why);
                }
            }
        }
    }
}
