//! TLS of the real program: what it refuses to start with, whom it speaks to, and a certificate
//! that is exchanged while it serves.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::commands::{crewlog, run};
use crate::support::load::until;
use crate::support::server::Server;
use crate::support::trials::{Case, StoreKind, StoreUnderTest, on, once};

pub fn trials() -> Vec<Case> {
    vec![
        on(
            &[StoreKind::Sqlite],
            "tls",
            "a_certificate_is_exchanged_while_it_serves",
            a_certificate_is_exchanged,
        ),
        once("tls", "what_cannot_be_served_is_refused", what_is_refused),
    ]
}

/// A certificate for this machine, in the two files that the server reads; as a client knows it.
fn write_identity(folder: &Path) -> Certificate {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    fs::write(folder.join("certificate.pem"), cert.pem()).expect("it is written");
    let key = folder.join("key.pem");
    fs::write(&key, signing_key.serialize_pem()).expect("it is written");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode");
    Certificate::from_pem(cert.pem().as_bytes()).expect("a certificate")
}

fn with_identity(mut command: Command, folder: &Path) -> Command {
    command.arg("--tls-certificate");
    command.arg(folder.join("certificate.pem"));
    command.arg("--tls-key");
    command.arg(folder.join("key.pem"));
    command
}

/// Somebody who believes this certificate and no other, and keeps no connection.
fn client_of(certificate: &Certificate) -> Client {
    Client::builder()
        .no_proxy()
        .tls_built_in_root_certs(false)
        .add_root_certificate(certificate.clone())
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(10))
        .build()
        .expect("an HTTP client")
}

async fn is_served(server: &Server, certificate: &Certificate) -> bool {
    let asked = client_of(certificate).get(format!("{}/healthz", server.base_url()));
    asked
        .send()
        .await
        .is_ok_and(|answer| answer.status() == 200)
}

async fn says(server: &Server, words: &str) {
    until(words, Duration::from_secs(10), || {
        server.logs().contains(words)
    })
    .await;
}

async fn a_certificate_is_exchanged(store: StoreUnderTest) {
    let folder = tempfile::tempdir().expect("a folder");
    let first = write_identity(folder.path());
    let mut command = Server::command(&store);
    command.args(["--request-timeout-ms", "1000"]);
    let mut server = Server::launch(with_identity(command, folder.path())).await;
    assert!(server.base_url().starts_with("https://"));
    assert!(is_served(&server, &first).await);

    // Who speaks no TLS is told nothing, and who says nothing is not waited for.
    let plain = server.base_url().replace("https://", "http://");
    let asked = Client::new().get(format!("{plain}/healthz")).send().await;
    assert!(asked.is_err(), "it answers in plain text");
    let address = plain.trim_start_matches("http://");
    let mut silent = TcpStream::connect(address).await.expect("it listens");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), silent.read_to_end(&mut rest));
    ended.await.expect("it is cut off").expect("in order");

    // A file that is half written when it is read changes nothing.
    let certificate = folder.path().join("certificate.pem");
    let text = fs::read_to_string(&certificate).expect("it is read");
    fs::write(&certificate, &text[..text.len() / 2]).expect("it is written");
    server.signal(Signal::SIGHUP);
    says(&server, "stays in use").await;
    assert!(is_served(&server, &first).await);

    let second = write_identity(folder.path());
    server.signal(Signal::SIGHUP);
    says(&server, "read the certificate again").await;
    assert!(is_served(&server, &second).await);
    assert!(
        !is_served(&server, &first).await,
        "the first is still shown"
    );
    assert!(server.terminate().await.success());
    assert!(!server.logs().contains("PRIVATE KEY"));
}

async fn what_is_refused(folder: TempDir) {
    let path = folder.path();
    let serve = || {
        let data = path.join("data");
        let data = data.to_str().expect("a path");
        let command = crewlog(&["serve", "--listen", "127.0.0.1:0", "--data", data]);
        with_identity(command, path)
    };
    let missing = run(serve()).expect(3).stderr;
    assert!(missing.contains("key.pem cannot be read"), "{missing}");
    write_identity(path);
    let key = path.join("key.pem");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("a mode");
    let open = run(serve()).expect(3).stderr;
    assert!(open.contains("chmod 600"), "{open}");
    fs::write(&key, "no key").expect("it is written");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode");
    let no_key = run(serve()).expect(3).stderr;
    assert!(no_key.contains("the key") && no_key.contains("cannot be read"));
    let certificate = path.join("certificate.pem");
    let alone = [
        "serve",
        "--tls-certificate",
        certificate.to_str().expect("a path"),
    ];
    let alone = run(crewlog(&alone)).expect(2).stderr;
    assert!(alone.contains("--tls-key"), "{alone}");
}
