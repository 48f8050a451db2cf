//! What a scenario looks at, and does, in the cloud itself.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use aws_sdk_cloudformation::types::Stack;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ssm::types::ParameterType;
use serde_json::json;

use super::lab::{Kind, Lab};

impl Lab {
    /// Waits for the answer of a call.
    pub fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime.block_on(call)
    }

    /// A client of CloudFormation.
    pub fn cloudformation(&self) -> aws_sdk_cloudformation::Client {
        aws_sdk_cloudformation::Client::new(&self.config)
    }

    /// A client of Systems Manager.
    pub fn ssm(&self) -> aws_sdk_ssm::Client {
        aws_sdk_ssm::Client::new(&self.config)
    }

    /// A client of S3.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let mut config = aws_sdk_s3::config::Builder::from(&self.config);
        config.set_force_path_style(Some(self.config.endpoint_url().is_some()));
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Sends a request of EC2's API that nobody has signed; only an emulator takes it.
    pub fn post(&self, form: &str) -> String {
        let url = self.config.endpoint_url().expect("an emulator has one").to_owned();
        let header = ("content-type", "application/x-www-form-urlencoded");
        // An emulator goes by the service's name in what would be the signature.
        let signed = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
        let request =
            reqwest::Client::new().post(url).header(header.0, header.1).header("authorization", signed);
        let request = request.body(form.to_owned());
        self.wait(async { request.send().await.expect("an answer").text().await.expect("a text") })
    }

    /// Asks until there is an answer.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let limit = Duration::from_secs(if self.kind == Kind::Aws { 600 } else { 60 });
        let begun = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(begun.elapsed() < limit, "waited {limit:?} until {what}");
            let pause = if self.kind == Kind::Aws { 1000 } else { 20 };
            std::thread::sleep(Duration::from_millis(pause));
        }
    }

    /// What CloudFormation calls a stack of the repository.
    pub fn cloud_name(&self, stack: &str) -> String {
        format!("{}-test-{stack}", self.project)
    }

    /// A stack of the repository, when it exists.
    pub fn stack(&self, stack: &str) -> Option<Stack> {
        let name = self.cloud_name(stack);
        match self.wait(self.cloudformation().describe_stacks().stack_name(name).send()) {
            Ok(answer) => answer.stacks.unwrap_or_default().into_iter().next(),
            Err(error) => {
                assert!(refused(&error, "does not exist"), "{error:?}");
                None
            }
        }
    }

    /// The status of a stack; empty when there is none.
    pub fn status(&self, stack: &str) -> String {
        self.stack(stack)
            .and_then(|stack| stack.stack_status)
            .map(|status| status.as_str().to_owned())
            .unwrap_or_default()
    }

    /// The ids of a stack's resources, by their names in its template.
    pub fn resources(&self, stack: &str) -> BTreeMap<String, String> {
        let call = self.cloudformation().list_stack_resources().stack_name(self.cloud_name(stack));
        let answer = self.wait(call.send()).expect("the resources");
        let gone = |status: &str| matches!(status, "DELETE_COMPLETE" | "DELETE_SKIPPED");
        answer
            .stack_resource_summaries
            .unwrap_or_default()
            .into_iter()
            .filter(|resource| !resource.resource_status.as_ref().is_some_and(|s| gone(s.as_str())))
            .map(|resource| {
                let name = resource.logical_resource_id.unwrap_or_default();
                (name, resource.physical_resource_id.unwrap_or_default())
            })
            .collect()
    }

    /// The value of a parameter of Systems Manager, by its name behind `/PROJECT/`; `None` when there
    /// is none.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let call = self.ssm().get_parameter().name(format!("/{}/{name}", self.project));
        match self.wait(call.send()) {
            Ok(answer) => answer.parameter.and_then(|parameter| parameter.value),
            Err(error) => {
                assert_eq!(error.code(), Some("ParameterNotFound"), "{error:?}");
                None
            }
        }
    }

    /// Puts a parameter of Systems Manager there, beside all stacks.
    pub fn put_parameter(&self, name: &str, value: &str) {
        let call = self.ssm().put_parameter().name(format!("/{}/{name}", self.project)).value(value);
        self.wait(call.r#type(ParameterType::String).overwrite(true).send()).expect("a parameter");
    }

    /// Answers the wait handle of a stack, named `Handle`, once it is there: with success, or with
    /// a failure for this reason.
    pub fn signal(&self, stack: &str, failure: Option<&str>) {
        let handle = self.until("there is a handle", || {
            self.stack(stack)?;
            self.resources(stack).remove("Handle").filter(|handle| handle.starts_with("http"))
        });
        let status = if failure.is_some() { "FAILURE" } else { "SUCCESS" };
        let reason = failure.unwrap_or("done");
        let body = json!({"Status": status, "UniqueId": "a", "Data": "", "Reason": reason}).to_string();
        let client = reqwest::Client::new();
        let answer = self.wait(client.put(handle).body(body).send()).expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// The project's bucket.
    pub fn bucket(&self) -> String {
        let identity = aws_sdk_sts::Client::new(&self.config).get_caller_identity();
        let account = self.wait(identity.send()).expect("the account").account.unwrap_or_default();
        format!("fleetwright-{}-{account}-{}", self.project, self.region)
    }
}

/// Whether the cloud refused a call with these words.
pub fn refused<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>, words: &str) -> bool {
    matches!(error, SdkError::ServiceError(error) if error.err().message().is_some_and(|m| m.contains(words)))
}
