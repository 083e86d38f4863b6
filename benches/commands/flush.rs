//! The disk alone: some bytes at the end of a file, and a flush, one after the other.

use std::{fs::File, io::Write, path::Path};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::Mutex;

use crate::{Answer, Side};

/// About what a renamed workspace adds to a write-ahead log.
const BYTES: [u8; 512] = [7; 512];

pub struct Flush {
    file: Mutex<File>,
}

impl Flush {
    pub fn in_folder(folder: &Path) -> Self {
        let file = File::create(folder.join("flushed")).expect("a file can be made");
        Self {
            file: Mutex::new(file),
        }
    }
}

impl Side for Flush {
    fn name(&self) -> &'static str {
        "disk flushes"
    }

    fn rename(&self, _stream: usize, _count: u64) -> BoxFuture<'_, Answer> {
        async move {
            let mut file = self.file.lock().await;
            let flushed = tokio::task::block_in_place(|| {
                file.write_all(&BYTES)?;
                file.sync_data()
            });
            flushed.expect("the disk takes it");
            Answer::Done
        }
        .boxed()
    }

    fn remark(&self) -> BoxFuture<'_, Option<String>> {
        async move { None }.boxed()
    }
}
