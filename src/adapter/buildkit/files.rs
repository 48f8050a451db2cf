//! The files of a build, given to the engine as it asks for them.
//!
//! The engine asks for a folder by name: `dockerfile` or `context`. It gets a list of everything
//! in it first, parents before children, and then asks for the contents that it needs. The
//! Dockerfile has a folder of its own, so that the image never holds the one with pinned bases.

use std::collections::BTreeMap;
use std::sync::Arc;

use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::model::image::EntryKind;
use crate::port::images::{BuildRequest, Open};

/// What the Dockerfile is called in its folder.
pub(super) const DOCKERFILE: &str = "Dockerfile";
/// Bits of Go's file modes.
const FOLDER: u32 = 1 << 31;
const LINK: u32 = 1 << 27;
/// The most of a file that one message holds.
const PIECE: usize = 256 * 1024;
/// How many contents are sent at the same time.
const AT_ONCE: usize = 4;

/// The files of one build.
pub(super) struct Files {
    dockerfile: Arc<Vec<(Stat, Source)>>,
    context: Arc<Vec<(Stat, Source)>>,
    open: Open,
}

/// Where a content comes from.
#[derive(Debug, Clone)]
enum Source {
    None,
    Bytes(Bytes),
    Blob(String),
}

impl Files {
    pub(super) fn new(request: BuildRequest) -> Self {
        let time = request.time.timestamp_nanos_opt().unwrap_or(0);
        let stat = |path: &str, mode: u32, size: u64, linkname: &str| Stat {
            path: path.to_owned(),
            mode,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            mod_time: time,
            linkname: linkname.to_owned(),
            ..Stat::default()
        };
        let text = Bytes::from(request.dockerfile);
        let dockerfile = vec![(stat(DOCKERFILE, 0o644, text.len() as u64, ""), Source::Bytes(text))];
        // The engine refuses a list that is not in the order of the paths' parts.
        let mut sorted: BTreeMap<Vec<&str>, (Stat, Source)> = BTreeMap::new();
        for file in &request.context {
            let parts: Vec<&str> = file.path.split('/').collect();
            for depth in 1..parts.len() {
                sorted.entry(parts[..depth].to_vec()).or_insert_with(|| {
                    (stat(&parts[..depth].join("/"), FOLDER | 0o755, 0, ""), Source::None)
                });
            }
            let blob = || Source::Blob(file.blob.clone());
            let entry = match file.kind {
                EntryKind::Link => (stat(&file.path, LINK | 0o777, 0, &file.target), Source::None),
                EntryKind::Executable => (stat(&file.path, 0o755, file.size, ""), blob()),
                EntryKind::File => (stat(&file.path, 0o644, file.size, ""), blob()),
                EntryKind::Folder | EntryKind::Submodule => {
                    (stat(&file.path, FOLDER | 0o755, 0, ""), Source::None)
                }
            };
            sorted.insert(parts, entry);
        }
        let context = sorted.into_values().collect();
        Self { dockerfile: Arc::new(dockerfile), context: Arc::new(context), open: request.open }
    }
}

#[tonic::async_trait]
impl FileSync for Files {
    type DiffCopyStream = BoxStream<'static, Result<Packet, Status>>;
    type TarStreamStream = BoxStream<'static, Result<Packet, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let values = |key: &str| -> Vec<String> {
            let all = request.metadata().get_all(key).iter();
            all.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect()
        };
        let wanted = values("followpaths");
        let files = match values("dir-name").first().map(String::as_str) {
            Some("dockerfile") => Arc::clone(&self.dockerfile),
            // What is ignored has been left out already.
            Some("context")
                if !wanted.is_empty() && wanted.iter().all(|path| path.ends_with(".dockerignore")) =>
            {
                Arc::default()
            }
            Some("context") => Arc::clone(&self.context),
            other => return Err(Status::not_found(format!("there is no folder {other:?}"))),
        };
        let (sender, receiver) = mpsc::channel(16);
        let open = Arc::clone(&self.open);
        // Both end with the connection: nothing can be sent or received then.
        tokio::spawn(list(Arc::clone(&files), sender.clone()));
        tokio::spawn(answer(files, open, request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(receiver).boxed()))
    }

    async fn tar_stream(
        &self,
        _: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("DiffCopy only"))
    }
}

type Sender = mpsc::Sender<Result<Packet, Status>>;

/// Sends the list, and an empty entry that ends it.
async fn list(files: Arc<Vec<(Stat, Source)>>, sender: Sender) {
    let stats = files.iter().map(|(stat, _)| Some(stat.clone())).chain([None]);
    for stat in stats {
        let packet = Packet { r#type: PacketType::PacketStat.into(), stat, ..Packet::default() };
        if sender.send(Ok(packet)).await.is_err() {
            return;
        }
    }
}

/// Sends the contents that the engine asks for.
async fn answer(
    files: Arc<Vec<(Stat, Source)>>,
    open: Open,
    mut requests: Streaming<Packet>,
    sender: Sender,
) {
    let room = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    while let Ok(Some(packet)) = requests.message().await {
        match packet.r#type() {
            PacketType::PacketReq => {
                let source = files.get(packet.id as usize).map(|(_, source)| source.clone());
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
                let (open, sender) = (Arc::clone(&open), sender.clone());
                tokio::spawn(async move {
                    content(packet.id, source.unwrap_or(Source::None), open, sender).await;
                    drop(permit);
                });
            }
            PacketType::PacketFin => {
                let packet = Packet { r#type: PacketType::PacketFin.into(), ..Packet::default() };
                let _ = sender.send(Ok(packet)).await;
                return;
            }
            PacketType::PacketErr => return,
            PacketType::PacketStat | PacketType::PacketData => {}
        }
    }
}

/// Sends a content in pieces, and an empty piece that ends it.
async fn content(id: u32, source: Source, open: Open, sender: Sender) {
    let piece = |data: &[u8]| Packet {
        r#type: PacketType::PacketData.into(),
        id,
        data: data.to_vec(),
        ..Packet::default()
    };
    let mut pieces = match source {
        Source::None => futures_util::stream::empty().boxed(),
        Source::Bytes(bytes) => futures_util::stream::once(async { Ok(bytes) }).boxed(),
        Source::Blob(blob) => open(&blob),
    };
    while let Some(bytes) = pieces.next().await {
        match bytes {
            Ok(bytes) => {
                for part in bytes.chunks(PIECE) {
                    if sender.send(Ok(piece(part))).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let _ = sender.send(Err(Status::data_loss(error.to_string()))).await;
                return;
            }
        }
    }
    let _ = sender.send(Ok(piece(&[]))).await;
}
