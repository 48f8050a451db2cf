//! What a person set for the SDK that can't work: an endpoint without a scheme, a profile that is in no file.

use std::path::PathBuf;

use crate::port::cloud::CloudError;
use crate::source::read;

/// The most bytes of a profile file that are read.
const MOST: u64 = 1 << 20;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Why no credentials can be had through the profile that was asked for, when it is in no file.
pub fn missing() -> Option<String> {
    let (name, from) = match (variable("AWS_PROFILE"), variable("AWS_DEFAULT_PROFILE")) {
        (Some(name), _) => (name, "AWS_PROFILE"),
        (None, Some(name)) => (name, "AWS_DEFAULT_PROFILE"),
        (None, None) => return None,
    };
    let home = variable("HOME").map(PathBuf::from).unwrap_or_default();
    let file = |variable_name: &str, usual: &str| {
        variable(variable_name).map_or_else(|| home.join(usual), PathBuf::from)
    };
    let config = file("AWS_CONFIG_FILE", ".aws/config");
    let credentials = file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials");
    let text = |path: &PathBuf| read::named(path, MOST).and_then(read::text).unwrap_or_default();
    let known: Vec<String> = [(&config, true), (&credentials, false)]
        .into_iter()
        .flat_map(|(path, prefixed)| profiles(&text(path), prefixed))
        .collect();
    if known.contains(&name) {
        return None;
    }
    let (config, credentials) = (config.display(), credentials.display());
    let near = crate::source::suggest(&name, known.iter().map(String::as_str));
    let near = near.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
    Some(format!("the profile `{name}` ({from}) is neither in {config} nor in {credentials}{near}"))
}

/// The profiles of a file; in the configuration file all but `default` are called `profile NAME`.
fn profiles(text: &str, prefixed: bool) -> Vec<String> {
    let section = |line: &str| {
        let name = line.trim().strip_prefix('[')?.split(']').next()?.trim().to_owned();
        match name.strip_prefix("profile ") {
            Some(name) => Some(name.trim().trim_matches('"').to_owned()),
            None if prefixed && name != "default" => None,
            None => Some(name),
        }
    };
    text.lines().filter_map(section).collect()
}

/// Refuses an address of an endpoint that no request can be sent to.
///
/// # Errors
/// With the variable that holds it.
pub fn endpoints(configured: Option<&str>) -> Result<(), CloudError> {
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value.into_string().ok()?))
    });
    let set = variables.filter(|(name, value)| name.starts_with("AWS_ENDPOINT_URL") && !value.is_empty());
    let configured = configured.map(|value| ("endpoint_url".to_owned(), value.to_owned()));
    for (name, value) in set.chain(configured) {
        if let Err(why) = endpoint(&value) {
            return Err(CloudError::Endpoint { name, value, why });
        }
    }
    Ok(())
}

fn endpoint(value: &str) -> Result<(), String> {
    let Some((scheme, rest)) = value.split_once("://") else {
        return Err(format!("it has no scheme: write `http://{value}` or `https://{value}`"));
    };
    if !matches!(scheme, "http" | "https") {
        return Err(format!("`{scheme}` is no scheme for it: write `http://` or `https://`"));
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (name, port) = match host.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    if name.is_empty() || host.contains(char::is_whitespace) {
        return Err("it names no host".to_owned());
    }
    match port {
        Some(port) if port.parse::<u16>().is_err() => Err(format!("`{port}` is no port")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_need_a_scheme_and_a_host() {
        for good in
            ["http://localhost:4566", "https://aws.example.com", "http://[::1]:4566/x", "http://[::1]"]
        {
            assert_eq!(endpoint(good), Ok(()), "{good}");
        }
        for bad in [
            "localhost:4566",
            "localhost",
            "ftp://host",
            "http://",
            "http://:80",
            "http://a:b",
            "http://a:99999",
            "",
        ] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn profiles_have_another_name_in_each_file() {
        let config = "[default]\nregion=x\n [ profile work ]\n[profile \"a b\"]\n[sso-session s]\n[plain]\n";
        assert_eq!(profiles(config, true), ["default", "work", "a b"]);
        assert_eq!(profiles("[default]\n[work]\n", false), ["default", "work"]);
    }
}
