//! What machines reach on the gateway of their network: the emulator and the registry
//! (passed on to 127.0.0.1 at the same ports), the agent's executable and STS (on one port), the
//! metadata service.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::LocalError;
use super::instance::Instances;
use super::keys::CloudKeys;
use super::machines::gateway;
use super::metadata;
use super::reconcile::Network;
use super::state::Ports;
use super::sts::Sts;

/// The open gateway of one network; closed when dropped.
#[derive(Debug)]
pub struct Gateway {
    _tasks: JoinSet<()>,
}

impl Gateway {
    /// Listens on the gateway's address.
    ///
    /// # Errors
    /// When a port is taken there.
    pub async fn open(
        network: &Network,
        ports: Ports,
        executable: &Path,
        instances: watch::Receiver<Arc<Instances>>,
        keys: CloudKeys,
        sts: Sts,
    ) -> Result<Self, LocalError> {
        let address = gateway(network.cidr);
        let listen = async |port: u16| {
            let listener = TcpListener::bind((address, port)).await;
            listener.map_err(|source| LocalError::Port { port, source })
        };
        let mut tasks = JoinSet::new();
        for port in [ports.emulator, ports.registry] {
            tasks.spawn(pass_on(listen(port).await?, (Ipv4Addr::LOCALHOST, port).into()));
        }
        let files = Router::new().route("/fleetwright", get(send)).with_state(executable.to_owned());
        let files = files.merge(sts.router());
        let listener = listen(ports.agent).await?;
        tasks.spawn(async move {
            let _ = axum::serve(listener, files).await;
        });
        let metadata = metadata::router(&network.vpc, instances, keys)
            .into_make_service_with_connect_info::<SocketAddr>();
        let listener = listen(ports.metadata).await?;
        tasks.spawn(async move {
            let _ = axum::serve(listener, metadata).await;
        });
        Ok(Self { _tasks: tasks })
    }
}

/// Passes every connection on to `to`. When nobody listens there the connection is closed,
/// and the next one is tried anew: the registry may be away for a while.
async fn pass_on(listener: TcpListener, to: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((mut from, _)) => {
                    connections.spawn(async move {
                        let Ok(mut to) = TcpStream::connect(to).await else { return };
                        let _ = (from.set_nodelay(true), to.set_nodelay(true));
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                    });
                }
                // Out of file descriptors, most likely: others must end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Sends the executable.
async fn send(State(path): State<PathBuf>) -> Response {
    let Ok(file) = tokio::fs::File::open(&path).await else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let length = file.metadata().await.map(|meta| meta.len()).unwrap_or_default();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    let body = Body::from_stream(tokio_util::io::ReaderStream::with_capacity(file, 1 << 18));
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_server_that_was_away_is_reached_again() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = server.local_addr().unwrap();
        drop(server);
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = front.local_addr().unwrap();
        let proxy = tokio::spawn(pass_on(front, to));

        let mut away = TcpStream::connect(at).await.unwrap();
        assert!(matches!(away.read(&mut [0]).await, Ok(0) | Err(_)));

        let server = TcpListener::bind(to).await.unwrap();
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        let mut said = [0; 4];
        accepted.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"ping");
        drop(accepted);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        proxy.abort();
    }
}
