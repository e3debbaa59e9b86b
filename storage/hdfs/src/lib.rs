//! The raw archive's files on HDFS, as an object store.
//!
//! A file appears under its name complete, on the DataNodes' disks, or not at all:
//! it is written under a temporary name, synced, closed and renamed, and a name that
//! is there is never replaced unless the caller asks for it. No call waits without
//! bound: a client whose question was not answered in time is given up, since its
//! connection may be dead without anybody having said so.
//!
//! Listings go through `hdfs-native-object-store`. Its puts give no sync and no
//! replication, leave temporary files among the others and wait for ever; its reads panic
//! at a file that was closed a moment ago: both are our own.
//!
//! `docs/hdfs.md` describes configuration and what was tested.

mod config;
mod error;
mod put;

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use hdfs_native::Client;
use hdfs_native_object_store::HdfsObjectStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

pub use config::{HdfsConfig, HdfsConfigError, KerberosConfig};
pub use error::HdfsFailure;

/// Between two looks at a file whose last block is not confirmed yet.
const UNCONFIRMED_WAIT: Duration = Duration::from_millis(50);

/// A folder on HDFS. Clones share the connection.
#[derive(Clone)]
pub struct HdfsStore {
    shared: Arc<Shared>,
}

struct Shared {
    config: HdfsConfig,
    connection: Mutex<Connection>,
    /// When leftovers were last looked for.
    cleaned: Mutex<Option<Instant>>,
}

/// A client, and how many there were before it.
#[derive(Clone)]
struct Connection {
    client: Client,
    number: u64,
}

impl HdfsStore {
    /// Checks the configuration and connects to nothing yet, so that a program can
    /// start while HDFS is down.
    pub fn new(config: HdfsConfig) -> Result<Self, HdfsConfigError> {
        let connection = Mutex::new(Connection { client: config.client()?, number: 0 });
        Ok(Self { shared: Arc::new(Shared { config, connection, cleaned: Mutex::new(None) }) })
    }

    #[must_use]
    pub fn config(&self) -> &HdfsConfig {
        &self.shared.config
    }

    /// Asks the NameNode for the archive's folder; an error says why it does not answer.
    /// A folder that is not there yet is no error.
    pub async fn probe(&self) -> Result<()> {
        let (connection, root) = (self.connection(), self.shared.config.root.as_str());
        let asked = self.bounded(&connection, "look at", root, connection.client.get_file_info(root)).await?;
        match asked {
            Ok(_) => Ok(()),
            Err(error) if error::is_missing(&error) => Ok(()),
            Err(error) => Err(error::failed("look at", root, error)),
        }
    }

    fn connection(&self) -> Connection {
        self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an answer, but not for ever; afterwards others get a new client.
    async fn bounded<T>(
        &self,
        connection: &Connection,
        what: &'static str,
        path: &str,
        asked: impl Future<Output = T>,
    ) -> Result<T> {
        self.bounded_by(self.shared.config.operation_timeout(), connection, what, path, asked).await
    }

    async fn bounded_by<T>(
        &self,
        after: Duration,
        connection: &Connection,
        what: &'static str,
        path: &str,
        asked: impl Future<Output = T>,
    ) -> Result<T> {
        match tokio::time::timeout(after, asked).await {
            Ok(answer) => Ok(answer),
            Err(_) => {
                self.give_up(connection);
                Err(error::timeout(what, path, after))
            }
        }
    }

    fn give_up(&self, connection: &Connection) {
        let mut current = self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if current.number != connection.number {
            return;
        }
        match self.shared.config.client() {
            Ok(client) => *current = Connection { client, number: current.number + 1 },
            Err(error) => tracing::warn!(%error, "kept an hdfs client that does not answer"),
        }
    }

    /// The path on HDFS of a place in the archive.
    fn absolute(&self, location: &Path) -> String {
        format!("{}/{location}", self.shared.config.root)
    }

    fn reads(&self, connection: &Connection) -> PrefixStore<HdfsObjectStore> {
        let root = Path::from(self.shared.config.root.as_str());
        PrefixStore::new(HdfsObjectStore::new(connection.client.clone()), root)
    }

    /// The bytes of `range` in a file of `size` bytes. For a moment after a file was
    /// closed its last block may not be confirmed by a DataNode; the library would
    /// panic at what lies in it.
    async fn pieces(
        &self,
        connection: Connection,
        path: String,
        size: u64,
        range: &Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let begun = Instant::now();
        let after = self.shared.config.operation_timeout();
        let file = loop {
            let asked = connection.client.read(&path);
            let file = self.bounded(&connection, "open", &path, asked).await?;
            let file = file.map_err(|error| error::failed("open", &path, error))?;
            if file.file_length() as u64 >= size {
                break file;
            }
            if begun.elapsed() >= after {
                return Err(error::timeout("read the end of", &path, after));
            }
            tokio::time::sleep(UNCONFIRMED_WAIT).await;
        };
        let place = |at: u64| usize::try_from(at).map_err(|_| not_here("a file larger than memory"));
        let pieces = file.read_range_stream(place(range.start)?, place(range.end - range.start)?);
        let named = path.clone();
        let pieces = pieces.map(move |piece| piece.map_err(|error| error::failed("read", &named, error)));
        Ok(self.bounded_items(connection, "read", path, pieces.boxed()))
    }

    /// Each item of `items` must come in time; after one that did not, the stream ends.
    fn bounded_items<T: Send + 'static>(
        &self,
        connection: Connection,
        what: &'static str,
        path: String,
        items: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let store = self.clone();
        stream::unfold(Some((items, path)), move |state| {
            let (store, connection) = (store.clone(), connection.clone());
            async move {
                let (mut items, path) = state?;
                match store.bounded(&connection, what, &path, items.next()).await {
                    Ok(None) => None,
                    Ok(Some(Ok(item))) => Some((Ok(item), Some((items, path)))),
                    Ok(Some(Err(error))) => Some((Err(error::reworded(what, &path, error)), None)),
                    Err(error) => Some((Err(error), None)),
                }
            }
        })
        .boxed()
    }
}

#[async_trait]
impl ObjectStore for HdfsStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        put::put(self, location, payload, &options).await
    }

    async fn put_multipart_opts(
        &self,
        _location: &Path,
        _options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(not_here("a put in parts"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (range, head) = (options.range.clone(), options.head);
        let (connection, path) = (self.connection(), self.absolute(location));
        let reads = self.reads(&connection);
        let asked = reads.get_opts(location, options.with_range(None::<GetRange>).with_head(true));
        let got = self.bounded(&connection, "open", &path, asked).await?;
        let mut got = got.map_err(|error| error::reworded("open", &path, error))?;
        if head {
            return Ok(got);
        }
        let size = got.meta.size;
        let range = range.map_or(Ok(0..size), |range| range.as_range(size));
        got.range = range.map_err(|error| Error::Generic { store: "HDFS", source: error.into() })?;
        let pieces = self.pieces(connection, path, size, &got.range).await?;
        got.payload = GetResultPayload::Stream(pieces);
        Ok(got)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    let (connection, path) = (store.connection(), store.absolute(&location));
                    let asked = connection.client.delete(&path, false);
                    match store.bounded(&connection, "delete", &path, asked).await? {
                        // `false` says that it was not there: what was wanted holds.
                        Ok(_) => Ok(location),
                        Err(error) => Err(error::failed("delete", &path, error)),
                    }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let connection = self.connection();
        let items = self.reads(&connection).list(prefix);
        let path = self.absolute(prefix.unwrap_or(&Path::default()));
        self.bounded_items(connection, "list", path, items)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let connection = self.connection();
        let path = self.absolute(prefix.unwrap_or(&Path::default()));
        let asked = self.reads(&connection);
        let listed = self.bounded(&connection, "list", &path, asked.list_with_delimiter(prefix)).await?;
        listed.map_err(|error| error::reworded("list", &path, error))
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(not_here("a copy"))
    }

    async fn rename_opts(&self, _from: &Path, _to: &Path, _options: RenameOptions) -> Result<()> {
        Err(not_here("a rename"))
    }
}

/// The archive needs none of these, and half a promise is worse than none.
fn not_here(operation: &str) -> Error {
    Error::NotImplemented { operation: operation.to_owned(), implementer: "HdfsStore".to_owned() }
}

impl fmt::Display for HdfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.shared.config.url, self.shared.config.root)
    }
}

impl fmt::Debug for HdfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HdfsStore({self})")
    }
}
