//! Live tails of audit logs: every entry once and in order, whatever breaks, for as long as the
//! reader may read and no longer.

use std::future::IntoFuture;
use std::time::Duration;

use futures::future::join_all;
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::routes::problem;
use super::team::{Person, Team, grant, number, text};
use super::{Running, eventually};
use crate::support::server::{Reply, Server};
use crate::support::trials::{Case, StoreUnderTest, both};

pub fn trials() -> Vec<Case> {
    vec![
        both("edge", "tails_tell_all_once_and_in_order", subscribers),
        both("edge", "tails_wait_for_slow_readers", slow),
        both("edge", "tails_go_on_over_a_restart", restart),
        both("edge", "tails_end_with_access", access),
        both("edge", "tails_have_the_filters_of_lists", filters),
        both("edge", "tails_have_a_bound", bounded),
        both("edge", "long_answers_do_not_hold_a_stop", stopping),
    ]
}

const WRITERS: u64 = 32;
const SUBSCRIBERS: u64 = 64;
const WRITES: u64 = 8;

/// One event of a tail.
#[derive(Debug)]
pub struct Told {
    pub id: Option<u64>,
    event: String,
    data: Value,
}

/// A tail that is open.
pub struct Tail {
    response: reqwest::Response,
    received: String,
}

fn client() -> Client {
    Client::builder()
        .no_proxy()
        .build()
        .expect("an HTTP client")
}

impl Tail {
    /// Opens one, behind `last` where something was seen.
    pub async fn open(
        client: &Client,
        base_url: &str,
        path: &str,
        token: &str,
        last: Option<u64>,
    ) -> Option<Self> {
        let mut request = client
            .get(format!("{base_url}{path}"))
            .bearer_auth(token)
            .header("Accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.ok()?;
        let is_open = response.status() == 200;
        is_open.then_some(Self {
            response,
            received: String::new(),
        })
    }

    async fn of(server: &Server, path: &str, reader: &str) -> Self {
        let opened = Self::open(&client(), server.base_url(), path, reader, None).await;
        opened.unwrap_or_else(|| panic!("{path} is followed"))
    }

    /// The next event; none where the connection has ended.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some((event, rest)) = self.received.split_once("\n\n") {
                let told = told(event);
                self.received = rest.to_owned();
                match told {
                    Some(told) => return Some(told),
                    None => continue,
                }
            }
            let chunk = self.response.chunk().await.ok()??;
            self.received
                .push_str(std::str::from_utf8(&chunk).expect("events are cut between characters"));
        }
    }

    /// The entries up to the end, and why it ended.
    async fn read_to_its_end(mut self) -> (Vec<Value>, Option<String>) {
        let mut entries = Vec::new();
        while let Some(told) = self.next().await {
            if told.event == "end" {
                assert!(told.id.is_none(), "an end is at no position");
                let because = text(&told.data, "/because");
                assert!(self.next().await.is_none(), "nothing comes after the end");
                return (entries, Some(because));
            }
            entries.push(told.data);
        }
        (entries, None)
    }
}

/// An event; none for a comment.
fn told(text: &str) -> Option<Told> {
    let field = |name: &str| {
        let prefix = format!("{name}: ");
        text.lines().find_map(|line| line.strip_prefix(&prefix))
    };
    let event = field("event")?.to_owned();
    let told = Told {
        id: field("id").map(|id| id.parse().expect("a position")),
        data: serde_json::from_str(field("data").expect("data")).expect("JSON"),
        event,
    };
    if told.event == "entry" {
        assert_eq!(told.id, told.data["position"].as_u64(), "its id");
    }
    Some(told)
}

fn position(reply: &Reply) -> u64 {
    let position = reply.header("crewlog-position").expect("a position");
    position.parse().expect("a number")
}

/// Writes an entry into a workspace, and answers with its position.
async fn write(server: &Server, workspace: &str, by: &Person, name: &str) -> u64 {
    let call = server
        .patch(&format!("/v1/workspaces/{workspace}"))
        .bearer(&by.token)
        .json(json!({"name": name, "reason": "r".repeat(480)}));
    position(&call.await.expect(200))
}

/// The entries of a list behind a position, oldest first.
async fn listed(server: &Server, path: &str, reader: &str) -> Vec<Value> {
    let more = if path.contains('?') { '&' } else { '?' };
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let call = server.get(&format!("{path}{more}order=asc&limit=200{cursor}"));
        let page = call.bearer(reader).await.expect(200).body;
        all.extend(page["data"].as_array().expect("a list").clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn positions(entries: &[Value]) -> Vec<u64> {
    let position = |entry: &Value| entry["position"].as_u64().expect("a position");
    entries.iter().map(position).collect()
}

const LAST: &str = "The last name";

fn is_last(entry: &Value) -> bool {
    entry["changes"][0]["to"] == LAST
}

/// Follows a log until the last entry, with connections that it closes at random.
async fn subscribed(
    client: Client,
    base_url: String,
    path: String,
    token: String,
    after: u64,
) -> Vec<Value> {
    let mut random = StdRng::seed_from_u64(number());
    let (mut seen, mut last) = (Vec::new(), after);
    loop {
        let opened = Tail::open(&client, &base_url, &path, &token, Some(last)).await;
        let Some(mut tail) = opened else {
            // As many as may be are open: those that were closed have not all been noticed yet.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let is_slow = random.gen_range(0..8) == 0;
        for _ in 0..=random.gen_range(0..60) {
            let Some(told) = tail.next().await else {
                break;
            };
            last = told.id.expect("it does not end by itself");
            let was_last = is_last(&told.data);
            seen.push(told.data);
            if was_last {
                return seen;
            }
            if is_slow {
                tokio::time::sleep(Duration::from_millis(random.gen_range(0..5))).await;
            }
        }
    }
}

async fn subscribers(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let places = [
        (&team.workspace, &team.owner),
        (&team.neighbours_workspace, &team.neighbour),
    ];
    let after = write(&server, &team.workspace, &team.owner, "The first name").await;
    // One for all: what it costs to make them is not what is tried here.
    let client = client();
    let following = (0..SUBSCRIBERS).map(|number| {
        let (workspace, reader) = places[usize::from(number % 2 == 1)];
        let path = format!("/v1/workspaces/{workspace}/audit/stream");
        let (base_url, token) = (server.base_url().to_owned(), reader.token.clone());
        tokio::spawn(subscribed(client.clone(), base_url, path, token, after))
    });
    let following: Vec<_> = following.collect();
    let server = &server;
    let writing = (0..WRITERS).map(|number| async move {
        let (workspace, writer) = places[usize::from(number % 4 == 1)];
        for count in 0..WRITES {
            let name = format!("Name {number} {count}");
            write(server, workspace, writer, &name).await;
        }
    });
    join_all(writing).await;
    for (workspace, writer) in places {
        write(server, workspace, writer, LAST).await;
    }
    let mut lists = Vec::new();
    for (workspace, reader) in places {
        let path = format!("/v1/workspaces/{workspace}/audit?after={after}");
        let mut list = listed(server, &path, &reader.token).await;
        let last = list.iter().position(is_last).expect("the last entry");
        list.truncate(last + 1);
        lists.push(list);
    }
    assert!(lists[0].len() as u64 > WRITERS * WRITES / 2);
    for (number, seen) in join_all(following).await.into_iter().enumerate() {
        let seen = seen.expect("a subscriber does not panic");
        let list = &lists[number % 2];
        assert_eq!(positions(&seen), positions(list), "subscriber {number}");
        assert_eq!(&seen, list, "subscriber {number}");
    }
    super::held(&store);
}

/// A reader who takes nothing until all is written gets all of it.
async fn slow(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let owner = &team.owner;
    let after = write(&server, &team.workspace, owner, "The first name").await;
    let path = team.path(&format!("/audit/stream?after={after}"));
    let mut reader = taking_nothing(&server, &path, &owner.token).await;
    let (running, place) = (&server, &team.workspace);
    let writing = (0..WRITERS).map(|number| async move {
        for count in 0..WRITES {
            write(running, place, owner, &format!("Name {number} {count}")).await;
        }
    });
    join_all(writing).await;
    let last = write(&server, place, owner, LAST).await;
    let list = team.path(&format!("/audit?after={after}"));
    let list = listed(&server, &list, &owner.token).await;

    let mut received = Vec::new();
    let is_last = format!("id: {last}\n");
    while !String::from_utf8_lossy(&received).contains(&is_last) || !received.ends_with(b"\n\n") {
        let more = reader.read_buf(&mut received).await.expect("more of it");
        assert!(more > 0, "it does not end by itself");
    }
    let received = String::from_utf8(received).expect("text");
    let (_, body) = received.split_once("\r\n\r\n").expect("a head");
    let seen: Vec<_> = body.split("\n\n").filter_map(told).collect();
    let seen: Vec<_> = seen.into_iter().map(|told| told.data).collect();
    assert_eq!(positions(&seen), positions(&list));
    super::held(&store);
}

async fn restart(store: StoreUnderTest) {
    let Running { mut server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let path = team.path("/audit/stream");
    let name = |count: u64| format!("Name {count}");
    let after = write(&server, &team.workspace, &team.owner, &name(0)).await;
    let mut tail = Tail::of(&server, &path, &team.owner.token).await;
    for count in 1..5 {
        write(&server, &team.workspace, &team.owner, &name(count)).await;
    }
    let first = tail.next().await.expect("an entry");
    let last = first.id.expect("a position");
    // What it has not read when the server stops comes later, and so does what is written after.
    server.terminate().await;
    let server = Server::start(&store).await;
    for count in 5..8 {
        write(&server, &team.workspace, &team.owner, &name(count)).await;
    }
    write(&server, &team.workspace, &team.owner, LAST).await;
    let base_url = server.base_url().to_owned();
    let rest = subscribed(client(), base_url, path, team.owner.token.clone(), last).await;
    let mut seen = vec![first.data];
    seen.extend(rest);
    let list = team.path(&format!("/audit?after={after}"));
    let list = listed(&server, &list, &team.owner.token).await;
    assert_eq!(positions(&seen), positions(&list));
}

/// That a tail ends, with nothing in it from when access has ended.
async fn ends(
    mut tail: Tail,
    server: &Server,
    team: &Team,
    what: &str,
    end: impl IntoFuture<Output = Reply>,
) {
    let before = write(
        server,
        &team.workspace,
        &team.owner,
        &format!("Before {}", number()),
    )
    .await;
    let seen = tail
        .next()
        .await
        .unwrap_or_else(|| panic!("{what} is open"));
    assert_eq!(seen.id, Some(before), "{what}");
    let ended = end.await;
    assert!(ended.status < 300, "{what}: {}", ended.text);
    let ended_at = position(&ended);
    if what != "a workspace" {
        write(
            server,
            &team.workspace,
            &team.owner,
            &format!("After {}", number()),
        )
        .await;
    }
    let (entries, because) = tail.read_to_its_end().await;
    assert_eq!(because.as_deref(), Some("access_ended"), "{what}");
    let late = positions(&entries).into_iter().filter(|at| *at >= ended_at);
    assert_eq!(late.count(), 0, "{what}: {entries:?}");
}

async fn access(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let path = team.path("/audit/stream");
    let of_organization = format!("/v1/organizations/{}/audit/stream", team.organization);
    let owner = &team.owner.token;

    let other = team.owner.sign_in(&server).await;
    let tail = Tail::of(&server, &path, &other.token).await;
    let end = server.delete(&format!("/v1/sessions/{}", other.session));
    ends(tail, &server, &team, "a session", end.bearer(owner)).await;

    let tail = Tail::of(&server, &path, &team.admin.token).await;
    let end = server
        .patch(&team.path(&format!("/members/{}", team.admin.user)))
        .bearer(owner)
        .json(json!({"role": "viewer"}));
    ends(tail, &server, &team, "a role", end).await;

    let tail = Tail::of(&server, &path, &team.auditor.token).await;
    let end = server.delete(&team.path(&format!("/auditors/{}", team.auditor.user)));
    ends(tail, &server, &team, "an auditor grant", end.bearer(owner)).await;

    let tail = Tail::of(&server, &of_organization, &team.organization_auditor.token).await;
    let end = server.delete(&format!(
        "/v1/organizations/{}/members/{}",
        team.organization, team.organization_auditor.user
    ));
    let end = end.bearer(&team.organization_owner.token);
    ends(tail, &server, &team, "a role in an organization", end).await;

    let keys = [
        (
            team.path("/api-keys"),
            &path,
            owner,
            json!({"environment": "production"}),
        ),
        (
            format!("/v1/organizations/{}/api-keys", team.organization),
            &of_organization,
            &team.organization_owner.token,
            json!({}),
        ),
    ];
    for (keys, path, by, mut terms) in keys {
        super::team::merge(
            &mut terms,
            json!({"name": "tails", "scopes": ["audit:read"]}),
        );
        let made = server.post(&keys).bearer(by).json(terms).await.expect(201);
        let (id, secret) = (text(&made.body, "/id"), text(&made.body, "/secret"));
        let tail = Tail::of(&server, path, &secret).await;
        let end = server.delete(&format!("{keys}/{id}")).bearer(by);
        ends(tail, &server, &team, "a key", end).await;
    }

    // That somebody reads no more is not an attempt of theirs.
    let refused = listed(&server, &team.path("/audit?outcome=denied"), owner).await;
    assert_eq!(refused, Vec::<Value>::new());
    // Who is granted it again follows it again.
    let granted = grant(&server, &team.workspace, &team.owner, &team.auditor).await;
    assert!(granted.status < 300, "{}", granted.text);
    let tail = Tail::of(&server, &path, &team.auditor.token).await;
    let workspace = team.path("");
    let end = async {
        let named = server.get(&workspace).bearer(owner).await.expect(200);
        let name = text(&named.body, "/name");
        let call = server.delete(&workspace).bearer(owner);
        call.json(json!({"confirm": name})).await
    };
    ends(tail, &server, &team, "a workspace", end).await;
    super::held(&store);
}

async fn filters(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let name = format!("Searched {}", number());
    write(&server, &team.workspace, &team.owner, &name).await;
    team.crew(&server, "production").await;
    let refused = server.get(&team.path("/limits")).bearer(&team.member.token);
    refused.await.expect(403);
    let head = write(&server, &team.workspace, &team.owner, "A later name").await;
    let before = head + 1;
    let owner = &team.owner;
    let of_organization = format!("/v1/organizations/{}/audit", team.organization);
    let actor = format!("actor={}", owner.user);
    let target = format!("target={}", team.admin.user);
    let words = format!("q={}", name.replace(' ', "%20"));
    let mut found = 0;
    for (log, reader) in [
        (team.path("/audit"), owner),
        (of_organization, &team.organization_owner),
    ] {
        for filter in [
            "",
            &actor,
            &target,
            &words,
            "action=member.joined",
            "environment=production",
            "outcome=denied",
            "from=2020-01-01T00:00:00Z&outcome=ok",
        ] {
            let query = format!("after=3&before={before}&{filter}");
            let stream = format!("{log}/stream?{query}");
            let tail = Tail::of(&server, stream.trim_end_matches('&'), &reader.token).await;
            let (seen, because) = tail.read_to_its_end().await;
            assert_eq!(because.as_deref(), Some("reached"), "{stream}");
            let list = format!("{log}?{query}");
            let list = listed(&server, list.trim_end_matches('&'), &reader.token).await;
            assert_eq!(seen, list, "{stream}");
            found += usize::from(!list.is_empty());
        }
    }
    assert!(found >= 12, "{found} filters find something");
    let past = "after=0&to=2020-01-01T00:00:00Z";
    let past = format!("{}?{past}", team.path("/audit/stream"));
    let (seen, because) = Tail::of(&server, &past, &owner.token)
        .await
        .read_to_its_end()
        .await;
    assert_eq!((seen.len(), because.as_deref()), (0, Some("reached")));

    let stream = team.path("/audit/stream");
    let wrong = server.get(&stream).bearer(&owner.token);
    problem(
        &wrong.header("Last-Event-ID", "evt_1").await,
        400,
        "invalid_request",
    );
    let to_come = server.get(&stream).bearer(&owner.token);
    let to_come = to_come.header("Last-Event-ID", "999999999").await;
    problem(&to_come, 503, "position_not_reached");
    for unknown in ["limit=5", "cursor=x", "order=asc"] {
        let reply = server
            .get(&format!("{stream}?{unknown}"))
            .bearer(&owner.token);
        problem(&reply.await, 400, "invalid_request");
    }
    super::held(&store);
}

async fn bounded(store: StoreUnderTest) {
    let Running { server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let path = team.path("/audit/stream");
    let token = &team.owner.token;
    let (mut tails, client) = (Vec::new(), client());
    while let Some(tail) = Tail::open(&client, server.base_url(), &path, token, None).await {
        tails.push(tail);
    }
    assert_eq!(tails.len(), 128);
    let refused = server.get(&path).bearer(token).await;
    problem(&refused, 429, "too_many_tails");
    assert!(refused.header("retry-after").is_some());
    // Other organizations have their own.
    let other = Person::sign_up(&server, "other").await;
    let of_other = json!({"name": "Other"});
    let organization = server
        .post("/v1/organizations")
        .bearer(&other.token)
        .json(of_other);
    let organization = text(&organization.await.expect(201).body, "/id");
    let path_of_other = format!("/v1/organizations/{organization}/audit/stream");
    Tail::of(&server, &path_of_other, &other.token).await;
    // One place is free again when somebody goes.
    tails.truncate(100);
    eventually("a place", async || {
        Tail::open(&client, server.base_url(), &path, token, None).await
    })
    .await;
    super::held(&store);
}

/// A request whose answer nobody takes, by HTTP/1.0: what comes is what was sent.
async fn taking_nothing(server: &Server, path: &str, token: &str) -> TcpStream {
    let address = server.base_url().trim_start_matches("http://");
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(2_048).expect("a small buffer");
    let address = address.parse().expect("an address");
    let mut stream = socket.connect(address).await.expect("it listens");
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it is sent");
    stream
}

async fn stopping(store: StoreUnderTest) {
    let Running { mut server, store } = Running::on(store).await;
    let team = Team::make(&server).await;
    let owner = &team.owner;
    let (stream, export) = (team.path("/audit/stream"), team.path("/audit/export"));
    let (running, place) = (&server, &team.workspace);
    let writing = (0..WRITERS).map(|number| async move {
        for count in 0..20 {
            let name = format!("Name {number} {count}");
            write(running, place, owner, &name).await;
        }
    });
    join_all(writing).await;
    let all = format!("{stream}?after=0");
    let open = Tail::of(&server, &stream, &owner.token).await;
    let mut kept = Vec::new();
    for path in [&all, &export, &stream] {
        kept.push(taking_nothing(&server, path, &owner.token).await);
    }
    // Both have begun: an export is an entry.
    let told = team.path("/audit?action=audit.exported");
    eventually("the export", async || {
        let found = listed(&server, &told, &owner.token).await;
        (!found.is_empty()).then_some(())
    })
    .await;
    let status = server.terminate().await;
    assert!(status.success(), "{status}");
    let logs = server.logs();
    assert!(logs.contains("stopped: everything"), "{logs}");
    assert!(!logs.contains("did not end in time"), "{logs}");
    let (_, because) = open.read_to_its_end().await;
    assert_eq!(because.as_deref(), Some("stopping"));
    drop(kept);
    super::held(&store);
}
