//! The disk is full, may not be written, gives errors, or has changed what was on it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::unistd::Uid;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::outages::{readiness, red};
use super::{check, check_all, rounds, seed, tell};
use crate::support::commands::{crewlog_on, run};
use crate::support::load::{Ask, Load, Told, until};
use crate::support::postgres::{Cluster, Ending};
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, on, once, with_cluster};

pub fn trials() -> Vec<Case> {
    let sqlite = [StoreKind::Sqlite];
    vec![
        once("faults", "the_disk_is_full", full),
        on(&sqlite, "faults", "writing_fails", writing_fails),
        on(&sqlite, "faults", "the_file_is_read_only", read_only),
        on(
            &sqlite,
            "faults",
            "a_page_of_the_file_is_damaged",
            damaged_file,
        ),
        with_cluster("faults", "a_page_of_the_table_is_damaged", damaged_table),
        on(
            &[StoreKind::Postgres],
            "faults",
            "the_database_is_read_only",
            read_only_database,
        ),
    ]
}

const CLIENTS: usize = 4;

/// A small file system of its own, unmounted when dropped.
pub struct Mounted(PathBuf);

impl Mounted {
    /// One over a folder, of whoever that belongs to.
    ///
    /// # Errors
    /// With the reason why there is none.
    pub fn new(at: &Path, megabytes: usize) -> Result<Self, String> {
        if !Uid::effective().is_root() {
            return Err("only root may mount a small file system".to_owned());
        }
        let folder = fs::metadata(at).map_err(|error| format!("{}: {error}", at.display()))?;
        let (user, group) = (folder.uid(), folder.gid());
        let options = format!("size={megabytes}m,mode=0700,uid={user},gid={group}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options])
            .arg("tmpfs")
            .arg(at)
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        match mounted.status.success() {
            true => Ok(Self(at.to_owned())),
            false => Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned()),
        }
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Fills it to the last byte, faster than anybody can take it.
    pub fn fill(&self) {
        let mut file = fs::File::create(self.filler()).expect("a file");
        let mut chunk = vec![7; 1 << 20];
        while !chunk.is_empty() {
            if file.write_all(&chunk).is_err() {
                chunk.truncate(chunk.len() / 2);
            }
        }
    }

    /// Gives back what it was filled with.
    pub fn empty(&self) {
        fs::remove_file(self.filler()).expect("the filler to go");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn full(directory: TempDir) {
    // The write-ahead log alone grows to 80 MB before it is moved into the file.
    let mounted = match Mounted::new(directory.path(), 160) {
        Ok(mounted) => mounted,
        Err(reason) => {
            println!("NOT TESTED: a full disk ({reason})");
            return;
        }
    };
    let store = StoreUnderTest::in_directory(directory);
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 2, seed()).await;
    let url = server.base_url().to_owned();
    let rounds = rounds(1);
    for _ in 0..rounds {
        let clients = load.start(std::slice::from_ref(&url), CLIENTS);
        load.answers(10).await;
        mounted.fill();
        red(&server, "its disk is full").await;
        // What fits into the blocks that a failed batch has left behind is still written.
        while load.send(&url, load.add(0, Ask::Rename).number).await != Told::Later {}
        // It stays red while the disk is full, and can be read.
        red(&server, "its disk is full").await;
        let owner = &load.owners[0];
        let path = format!("/v1/workspaces/{}", owner.workspace);
        server.get(&path).bearer(&owner.token).await.expect(200);
        mounted.empty();
        load.answers(10).await;
        clients.stop().await;
        readiness(&server, true).await;
        load.settle(&url).await;
        check(&store, &load).await;
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check_all(&store, &load).await;
    tell("disk full", &store, rounds, &figures);
    drop(store);
    drop(mounted);
}

/// Every write and flush beyond a size of files fails, which SQLite calls an I/O error: it may have
/// failed in the midst of a commit.
async fn writing_fails(store: StoreUnderTest) {
    let inner = Server::command(&store);
    let mut command = Command::new("sh");
    // An ignored signal is inherited; without it the process would be killed for its write.
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    command.arg(inner.get_program()).args(inner.get_args());
    let mut server = Server::launch(command).await;
    let load = Load::begin(&server, 2, seed()).await;
    let url = server.base_url().to_owned();
    let limit = |bytes: &str| {
        let pid = server.id().to_string();
        let limited = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")])
            .status();
        limited.is_ok_and(|status| status.success())
    };
    if !limit("unlimited") {
        println!("NOT TESTED: I/O errors (there is no prlimit)");
        return;
    }
    let rounds = rounds(2);
    for _ in 0..rounds {
        let clients = load.start(std::slice::from_ref(&url), CLIENTS);
        load.answers(10).await;
        // In the midst of what the next batch writes.
        let written = fs::metadata(store.data_dir().join("crewlog.sqlite-wal"))
            .expect("the write-ahead log")
            .len();
        let bytes = written + 1 + load.below(30_000) as u64;
        assert!(limit(&bytes.to_string()));
        readiness(&server, false).await;
        assert!(limit("unlimited"));
        load.answers(10).await;
        clients.stop().await;
        readiness(&server, true).await;
        load.settle(&url).await;
        check(&store, &load).await;
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check_all(&store, &load).await;
    tell("I/O errors of the file", &store, rounds, &figures);
}

/// A file system that becomes read-only, as one does after an error of the disk.
async fn read_only(store: StoreUnderTest) {
    let data = store.data_dir().to_owned();
    let mounted = match Mounted::new(&data, 16) {
        Ok(mounted) => mounted,
        Err(reason) => {
            println!("NOT TESTED: a read-only file system ({reason})");
            return;
        }
    };
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 1, seed()).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let remount = |how: &str| {
        let mut command = Command::new("mount");
        command.args(["-o", &format!("remount,{how}")]).arg(&data);
        assert!(command.status().expect("mount").success());
    };
    remount("ro");
    let ended = run(crewlog_on(&store, &["serve", "--listen", "127.0.0.1:0"]));
    ended.refused_with(&["--data"]);
    remount("rw");
    let mut server = Server::start(&store).await;
    let command = load.add(0, Ask::Rename);
    let told = load.send(server.base_url(), command.number).await;
    assert_eq!(told, Told::Answered);
    assert!(server.terminate().await.success(), "{}", server.logs());
    check_all(&store, &load).await;
    drop(mounted);
}

async fn read_only_database(store: StoreUnderTest) {
    let mut server = Server::start(&store).await;
    let load = Load::begin(&server, 1, seed()).await;
    let url = store.database_url().expect("a database").to_owned();
    let administer = async |statement: &str| {
        let mut connection = PgConnection::connect(&url).await.expect("the database");
        for statement in statement.split(';') {
            let done = sqlx::raw_sql(statement).execute(&mut connection).await;
            done.expect("the statement");
        }
    };
    let name = url.rsplit('/').next().expect("a name");
    let name = name.split('?').next().expect("a name").to_owned();
    // Existing sessions keep their setting, so they are ended.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let set = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    administer(&format!("{set};{end}")).await;
    let command = load.add(0, Ask::Rename);
    let told = load.send(server.base_url(), command.number).await;
    assert_eq!(told, Told::Later);
    red(&server, "it is read-only").await;
    let reset = format!(
        "SET default_transaction_read_only = off;
         ALTER DATABASE {name} RESET default_transaction_read_only"
    );
    administer(&format!("{reset};{end}")).await;
    readiness(&server, true).await;
    load.settle(server.base_url()).await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    check_all(&store, &load).await;
}

/// Overwrites a little in the middle of a file.
fn overwrite(file: &Path, at: u64, bytes: usize) {
    let file = OpenOptions::new().write(true).open(file).expect("the file");
    file.write_all_at(&vec![0x5a; bytes], at).expect("a write");
    file.sync_all().expect("a flush");
}

/// Once it has met the damage, the server writes no more, says so, and stays with it.
async fn stops_at_damage(store: &StoreUnderTest, load: &Load, position: u64) {
    load.is_damaged.store(true, Ordering::SeqCst);
    let mut server = Server::start(store).await;
    let owner = &load.owners[0];
    let path = format!("/v1/workspaces/{}/audit/{position}", owner.workspace);
    server.get(&path).bearer(&owner.token).await.expect(500);
    red(
        &server,
        "damaged, and nothing is written any more; run `crewlog verify`",
    )
    .await;
    let command = load.add(0, Ask::Rename);
    let told = load.send(server.base_url(), command.number).await;
    assert_eq!(told, Told::Later);
    let said = || server.logs().contains("damaged");
    until("it to say so", Duration::from_secs(10), said).await;
    red(&server, "damaged").await;
    assert!(server.terminate().await.success(), "{}", server.logs());
    let verified = run(crewlog_on(store, &["verify", "--json"]))
        .expect(1)
        .json();
    assert_eq!(verified["holds"], false, "{verified}");
    let found = verified["failures"].as_array().expect("failures").iter();
    let mut found = found.filter_map(|failure| failure["position"].as_u64());
    assert!(found.any(|at| at == position), "{position} in {verified}");
}

/// Renames until there are some pages of entries, and stops; answers with a position in their midst.
async fn some_pages(store: &StoreUnderTest) -> (std::sync::Arc<Load>, u64) {
    let mut server = Server::start(store).await;
    let load = Load::begin(&server, 1, seed()).await;
    for _ in 0..60 {
        let command = load.add(0, Ask::Rename);
        let told = load.send(server.base_url(), command.number).await;
        assert_eq!(told, Told::Answered);
    }
    assert!(server.terminate().await.success(), "{}", server.logs());
    let figures = check(store, &load).await;
    (load, figures.entries as u64 - 30)
}

async fn damaged_file(store: StoreUnderTest) {
    let (load, position) = some_pages(&store).await;
    let file = store.data_dir().join("crewlog.sqlite");
    let page = leaf_page(&store, position);
    // Its kind and its count of cells.
    overwrite(&file, (page - 1) * PAGE_BYTES, 8);
    stops_at_damage(&store, &load, position).await;
}

const PAGE_BYTES: u64 = 4096;

/// The number, from 1, of the page that holds an entry: the one with its payload and its salt.
fn leaf_page(store: &StoreUnderTest, position: u64) -> u64 {
    let file = store.data_dir().join("crewlog.sqlite");
    let connection = rusqlite::Connection::open(&file).expect("the file");
    let sql = "SELECT payload, salt FROM events WHERE position = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let (payload, salt): (String, Vec<u8>) = connection
        .query_row(sql, [position], read)
        .expect("an entry");
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .expect("a checkpoint");
    let size: i64 = connection
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .expect("a size");
    assert_eq!(u64::try_from(size), Ok(PAGE_BYTES));
    drop(connection);
    let bytes = fs::read(&file).expect("the file");
    let has = |page: &[u8], part: &[u8]| page.windows(part.len()).any(|found| found == part);
    let of_entry = |page: &&[u8]| has(page, payload.as_bytes()) && has(page, &salt);
    let pages = bytes.chunks(PAGE_BYTES as usize);
    let found = (1..).zip(pages).find(|(_, page)| of_entry(page));
    found.expect("the page of the entry").0
}

async fn damaged_table(cluster: Cluster) {
    let database = cluster.database().await.expect("a database");
    let store = StoreUnderTest::in_database(database);
    let (load, position) = some_pages(&store).await;
    let url = store.database_url().expect("a database");
    let mut connection = PgConnection::connect(url).await.expect("the database");
    let file: String = sqlx::query_scalar("SELECT pg_relation_filepath('events')")
        .fetch_one(&mut connection)
        .await
        .expect("a file");
    let page: i64 =
        sqlx::query_scalar("SELECT (ctid::text::point)[0]::bigint FROM events WHERE position = $1")
            .bind(i64::try_from(position).expect("a position"))
            .fetch_one(&mut connection)
            .await
            .expect("a page");
    drop(connection);
    tokio::task::block_in_place(|| cluster.stop(Ending::Fast));
    let at = u64::try_from(page).expect("a page") * 8192 + 5_000;
    overwrite(&cluster.data().join(file), at, 16);
    tokio::task::block_in_place(|| cluster.recover());
    stops_at_damage(&store, &load, position).await;
}
