//! git over HTTP as a forge serves it: git's own program behind a server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncWriteExt as _;

/// Serves every repository of a folder to everybody, on all addresses.
pub struct GitHttp {
    port: u16,
    advertisements: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl GitHttp {
    pub fn serve(folder: &Path) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let advertisements = Arc::new(AtomicUsize::new(0));
        let state = (folder.to_owned(), Arc::clone(&advertisements));
        let router = Router::new().fallback(backend).with_state(state);
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { port, advertisements, _runtime: runtime }
    }

    /// How often it was asked what it can do and has, which is how git's program begins.
    pub fn advertisements(&self) -> usize {
        self.advertisements.load(Ordering::Relaxed)
    }

    /// The URL of a repository, as seen from `host`.
    pub fn url(&self, host: &str, repository: &str) -> String {
        format!("http://{host}:{}/{repository}", self.port)
    }
}

async fn backend(
    State((folder, advertisements)): State<(PathBuf, Arc<AtomicUsize>)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if method == Method::GET {
        advertisements.fetch_add(1, Ordering::Relaxed);
    }
    let mut command = tokio::process::Command::new("git");
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", &folder)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        // Repositories of a container's root are another's to git.
        .envs([
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "safe.directory"),
            ("GIT_CONFIG_VALUE_0", "*"),
        ])
        .env("REQUEST_METHOD", method.as_str())
        .env("PATH_INFO", uri.path())
        .env("QUERY_STRING", uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("git runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let feeding = tokio::spawn(async move { stdin.write_all(&body).await });
    let output = child.wait_with_output().await.expect("its end");
    let _ = feeding.await;
    let end = output.stdout.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0);
    let mut response = output.stdout[(end + 4).min(output.stdout.len())..].to_vec().into_response();
    response.headers_mut().clear();
    for line in String::from_utf8_lossy(&output.stdout[..end]).lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if name == "Status" {
            let code = value.split(' ').next().and_then(|code| code.parse::<u16>().ok());
            *response.status_mut() = code
                .and_then(|code| StatusCode::from_u16(code).ok())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            continue;
        }
        let name = name.to_ascii_lowercase();
        if let (Ok(name), Ok(value)) = (axum::http::HeaderName::try_from(name), value.parse()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
