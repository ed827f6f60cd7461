//! An S3 server for the program to keep large messages in, with faults to be switched on: the very one
//! of the unit tests.

#[path = "../../../src/blob/testing/s3.rs"]
pub mod server;

use tempfile::TempDir;

use crate::support::s3::server::S3Server;
use crate::support::server::Builder;

/// A server with an empty bucket.
pub struct Bucket {
    pub server: S3Server,
    folder: TempDir,
}

impl Bucket {
    pub fn start() -> Bucket {
        let folder = TempDir::with_prefix("postrider-s3-").expect("temporary folder");
        std::fs::create_dir(folder.path().join("mail")).expect("a bucket");
        Bucket { server: S3Server::start(folder.path()), folder }
    }

    /// Has a server in the making keep its blobs here.
    pub fn keep_blobs_of(&self, builder: Builder) -> Builder {
        builder
            .env("POSTRIDER_BLOB_URL", self.server.url("mail/blobs"))
            .env("POSTRIDER_S3_ACCESS_KEY_ID", server::KEY_ID)
            .env("POSTRIDER_S3_SECRET_ACCESS_KEY", server::SECRET)
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        let mut folders = vec![self.folder.path().join("mail")];
        let mut count = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.path().is_dir() {
                    true => folders.push(entry.path()),
                    false => count += usize::from(entry.file_name() != "ready"),
                }
            }
        }
        count
    }
}
