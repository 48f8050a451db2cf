//! EC2's launch templates: the one thing of EC2 that is asked for. Its SDK crate takes longer to
//! compile than everything else together, so the one call is made by hand, in the query
//! protocol, signed by the SDK's own signer.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use roxmltree::{Document, Node};
use serde_json::{Map, Value};

use super::answers::missing;
use super::failure;
use crate::model::drift::TemplateVersion;
use crate::port::cloud::CloudError;

/// The version of the API that the answers are read in.
const API: &str = "2016-11-15";
/// How often a call is made, when the answer is that there are too many or that EC2 failed.
const TRIES: u32 = 4;
/// How long to wait before the second try; twice as long before each one after.
const FIRST_WAIT: Duration = Duration::from_millis(400);

/// EC2 in one region.
pub struct Ec2 {
    config: SdkConfig,
    http: reqwest::Client,
}

/// What EC2 answered instead of what it was asked for.
struct Refusal {
    status: u16,
    code: String,
    reason: String,
    /// When it was answered.
    date: Option<String>,
}

impl Ec2 {
    /// With the credentials, region and endpoint of `config`.
    pub fn new(config: SdkConfig) -> Self {
        Self { config, http: reqwest::Client::new() }
    }

    /// The newest version of a launch template; `None` when there is no such template.
    pub async fn launch_template(&self, id: &str) -> Result<Option<TemplateVersion>, CloudError> {
        let doing = format!("reading launch template `{id}`");
        // Nothing in an id needs to be encoded.
        if !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Ok(None);
        }
        let body = format!(
            "Action=DescribeLaunchTemplateVersions&Version={API}&LaunchTemplateId={id}\
             &LaunchTemplateVersion.1=%24Latest"
        );
        let mut wait = FIRST_WAIT;
        for last in (1..=TRIES).map(|attempt| attempt == TRIES) {
            match self.post(&body, &doing).await? {
                Ok(text) => return newest(&text, &doing),
                Err(refusal) if refusal.code.starts_with("InvalidLaunchTemplateId.") => return Ok(None),
                Err(refusal)
                    if !last && (refusal.status >= 500 || refusal.code == "RequestLimitExceeded") =>
                {
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                Err(Refusal { code, reason, status, date }) => {
                    return Err(failure::answered(doing, &code, Some(&reason), status, date.as_deref()));
                }
            }
        }
        Ok(None)
    }

    async fn post(&self, body: &str, doing: &str) -> Result<Result<String, Refusal>, CloudError> {
        let denied = |reason: String| CloudError::Denied { doing: doing.to_owned(), reason };
        let region = self.config.region().map_or("us-east-1", |region| region.as_ref());
        let url = match self.config.endpoint_url() {
            Some(url) => url.to_owned(),
            None if region.starts_with("cn-") => format!("https://ec2.{region}.amazonaws.com.cn/"),
            None => format!("https://ec2.{region}.amazonaws.com/"),
        };
        let provider = self
            .config
            .credentials_provider()
            .ok_or_else(|| denied("there are no credentials".to_owned()))?;
        let credentials = provider.provide_credentials().await;
        let credentials = credentials.map_err(|error| failure::uncredentialed(doing.to_owned(), &error))?;
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("ec2")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| denied(error.to_string()))?
            .into();
        let content = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let body_bytes = SignableBody::Bytes(body.as_bytes());
        let signable = SignableRequest::new("POST", &url, [content].into_iter(), body_bytes);
        let signed = signable.map(|request| sign(request, &parameters));
        let (instructions, _) = signed
            .map_err(|error| denied(error.to_string()))?
            .map_err(|error| denied(error.to_string()))?
            .into_parts();
        let mut request = self
            .http
            .post(&url)
            .header(content.0, content.1)
            .timeout(Duration::from_secs(30))
            .body(body.to_owned());
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        let unanswered = |error: reqwest::Error| failure::unanswered(doing.to_owned(), &url, &error);
        let answer = request.send().await.map_err(unanswered)?;
        let status = answer.status();
        let header = |name: &str| Some(answer.headers().get(name)?.to_str().ok()?.to_owned());
        let (date, kind) = (header("date"), header("content-type"));
        let text = answer.text().await.map_err(unanswered)?;
        if status.is_success() {
            return Ok(Ok(text));
        }
        let parsed = Document::parse(&text).ok();
        let word = |name: &str| {
            let found = parsed.as_ref().and_then(|d| d.descendants().find(|node| node.has_tag_name(name)));
            found.and_then(|node| node.text()).unwrap_or_default().to_owned()
        };
        let (status, code) = (status.as_u16(), word("Code"));
        // A gateway in between has trouble for some seconds: that is worth another try.
        if code.is_empty() && status < 500 {
            return Err(failure::page(doing.to_owned(), url, status, text.as_bytes(), kind.as_deref()));
        }
        let code = if code.is_empty() { format!("HTTP {status}") } else { code };
        Ok(Err(Refusal { status, code, reason: word("Message"), date }))
    }
}

/// Reads the answer of DescribeLaunchTemplateVersions.
fn newest(text: &str, doing: &str) -> Result<Option<TemplateVersion>, CloudError> {
    let document = Document::parse(text).map_err(|error| CloudError::Refused {
        doing: doing.to_owned(),
        code: "MalformedResponse".to_owned(),
        reason: error.to_string(),
    })?;
    let child = |node: Node<'_, '_>, name: &str| {
        node.children()
            .find(|child| child.tag_name().name() == name)
            .and_then(|child| child.text())
            .map(str::to_owned)
    };
    let versions = document
        .descendants()
        .find(|node| node.tag_name().name() == "launchTemplateVersionSet")
        .into_iter()
        .flat_map(|set| set.children().filter(Node::is_element))
        .map(|item| {
            let data = item.children().find(|node| node.tag_name().name() == "launchTemplateData");
            let number = child(item, "versionNumber").and_then(|number| number.trim().parse().ok());
            Ok(TemplateVersion {
                version: number.ok_or_else(|| missing(doing, "versionNumber"))?,
                made_by: child(item, "createdBy").unwrap_or_default(),
                data: value(data.ok_or_else(|| missing(doing, "launchTemplateData"))?)
                    .unwrap_or_else(|| Value::Object(Map::new())),
            })
        });
    let versions = versions.collect::<Result<Vec<_>, CloudError>>()?;
    let has = |name: &str| document.descendants().any(|node| node.tag_name().name() == name);
    if !has("launchTemplateVersionSet") {
        return Err(missing(doing, "launchTemplateVersionSet"));
    }
    if document.descendants().any(|node| node.tag_name().name() == "nextToken" && node.text().is_some()) {
        // Only the newest was asked for: where there are pages, it may be on another one.
        return Err(missing(doing, "the newest version on the first page"));
    }
    // An endpoint may give all of them where the newest was asked for.
    Ok(versions.into_iter().max_by_key(|version| version.version))
}

/// An element as a tree in CloudFormation's names; `None` for one that says nothing.
fn value(node: Node<'_, '_>) -> Option<Value> {
    let children: Vec<Node<'_, '_>> = node.children().filter(Node::is_element).collect();
    if children.is_empty() {
        return node.text().map(|text| Value::String(text.to_owned()));
    }
    if children.iter().all(|child| child.tag_name().name() == "item") {
        return Some(Value::Array(children.into_iter().filter_map(value).collect()));
    }
    let entries = children
        .into_iter()
        // How far EC2 is with applying the options is no part of the template.
        .filter(|child| !(child.tag_name().name() == "state" && node.tag_name().name() == "metadataOptions"))
        .filter_map(|child| Some((name(child.tag_name().name()), value(child)?)));
    let map: Map<String, Value> = entries.collect();
    (!map.is_empty()).then_some(Value::Object(map))
}

/// The name that CloudFormation has for a name of EC2's answers.
fn name(of_ec2: &str) -> String {
    let special = match of_ec2 {
        "licenseSet" => Some("LicenseSpecifications"),
        "instanceRequirements" => Some("InstanceRequirements"),
        _ => None,
    };
    if let Some(special) = special {
        return special.to_owned();
    }
    let (stem, many) = match of_ec2.strip_suffix("Set") {
        Some(stem) => (stem, true),
        None => (of_ec2, false),
    };
    let mut name = String::with_capacity(of_ec2.len());
    let mut letters = stem.chars();
    name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
    name.push_str(letters.as_str());
    if many && !name.ends_with('s') {
        name.push('s');
    }
    name
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeLaunchTemplateVersionsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <launchTemplateVersionSet>
    <item>
      <launchTemplateId>lt-1</launchTemplateId><versionNumber>4</versionNumber>
      <createdBy>arn:aws:iam::1:user/ops</createdBy><defaultVersion>false</defaultVersion>
      <launchTemplateData>
        <imageId>ami-1</imageId>
        <iamInstanceProfile><arn>arn:p</arn></iamInstanceProfile>
        <securityGroupIdSet><item>sg-1</item><item>sg-2</item></securityGroupIdSet>
        <networkInterfaceSet><item><deviceIndex>0</deviceIndex><groupSet><item>sg-3</item></groupSet></item></networkInterfaceSet>
        <metadataOptions><state>pending</state><httpTokens>required</httpTokens></metadataOptions>
        <securityGroupSet/>
        <userData>I2Nsb3Vk</userData>
      </launchTemplateData>
    </item>
  </launchTemplateVersionSet>
</DescribeLaunchTemplateVersionsResponse>"#;

    #[test]
    fn launch_templates_are_read_in_the_names_of_cloudformation() {
        let version = newest(ANSWER, "reading").expect("an answer").expect("a version");
        assert_eq!((version.version, version.made_by.as_str()), (4, "arn:aws:iam::1:user/ops"));
        assert_eq!(
            version.data,
            json!({
                "ImageId": "ami-1",
                "IamInstanceProfile": {"Arn": "arn:p"},
                "SecurityGroupIds": ["sg-1", "sg-2"],
                "NetworkInterfaces": [{"DeviceIndex": "0", "Groups": ["sg-3"]}],
                "MetadataOptions": {"HttpTokens": "required"},
                "UserData": "I2Nsb3Vk",
            })
        );
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_an_empty_one_is_none() {
        assert!(newest("not XML", "reading").is_err());
        let empty = "<R><launchTemplateVersionSet/></R>";
        assert_eq!(newest(empty, "reading"), Ok(None));
    }
}
