//! How long documents are looked for: in a knowledge base of many short ones, and in a full one
//! of long ones; the first time, when all of it is opened and counted, and after it.

use crewlog::{
    domain::{Name, crew::KNOWLEDGE_BASE_BYTES_MAX, ids::KnowledgeBaseId},
    service::DocumentDraft,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    READS, ROUNDS, Site,
    harness::{median, owner::request, taken},
};

/// Words that texts are made of; the first are the commonest.
const WORDS: u32 = 20_000;

fn word(random: &mut StdRng) -> String {
    let rank: f64 = random.r#gen();
    format!("wort{}", (f64::from(WORDS) * rank.powi(3)) as u32)
}

fn text(random: &mut StdRng, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.push_str(&word(random));
        text.push(' ');
    }
    text.truncate(bytes);
    text
}

async fn filled(site: &Site, name: &str, documents: usize, bytes: usize) -> KnowledgeBaseId {
    let (service, at, principal) = (site.service(), site.crew(1), &site.principal);
    let made = service
        .create_knowledge_base(
            &request(),
            principal,
            at,
            Name::parse(name).expect("a name"),
        )
        .await;
    let base = made.expect("a knowledge base").value.id;
    let mut random = StdRng::seed_from_u64(1);
    for nth in 0..documents {
        let draft = DocumentDraft {
            title: Name::parse(&format!("Document {nth}")).expect("a name"),
            text: text(&mut random, bytes),
        };
        let made = service
            .create_document(&request(), principal, at, base, draft)
            .await;
        made.expect("a document");
    }
    base
}

pub async fn measure(site: &mut Site) -> Vec<(String, String)> {
    let full = (KNOWLEDGE_BASE_BYTES_MAX / (256 * 1024)) as usize;
    let mut rows = Vec::new();
    for (name, documents, bytes) in [
        ("1,000 documents of 4 KiB", 1_000, 4 * 1024),
        ("128 documents of 256 KiB", full, 256 * 1024),
    ] {
        let base = filled(site, name, documents, bytes).await;
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // What was counted goes with the process.
            site.stop().await;
            site.start().await;
            let (time, ()) = taken(search(site, base)).await;
            first.push(time.seconds * 1_000.0);
            for _ in 0..READS / ROUNDS {
                let (time, ()) = taken(search(site, base)).await;
                later.push(time.seconds * 1_000.0);
            }
        }
        rows.push((
            format!("finding ten in {name}, ms, the first time and later"),
            format!("{:.0}, {:.1}", median(first), median(later)),
        ));
    }
    rows
}

async fn search(site: &Site, base: KnowledgeBaseId) {
    let (service, at) = (site.service(), site.crew(1));
    let asked = ("wort17 wort4711 wort9", 10);
    let found = service
        .search_documents(&request(), &site.principal, at, base, asked)
        .await;
    assert!(!found.expect("a search").value.is_empty());
}
