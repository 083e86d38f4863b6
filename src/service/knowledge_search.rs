//! Finding documents of a knowledge base by their words, the best first.
//!
//! Contents are sealed at rest, and no index of words lies beside them: there is nothing to read
//! without the key, to keep in step, or to empty when something is deleted. How often each word
//! occurs in a content is counted when it is first searched, and kept in this process's memory by
//! the content's digest, so that it is never stale; words are kept as hashes under a key that
//! each process makes for itself. A knowledge base is bounded, and so is what a search opens.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use tokio::sync::Semaphore;

use super::{InCrew, Principal, Request, Service, ServiceError, contents::SealedContent};
use crate::{
    domain::{
        contents::{
            Digest,
            words::{self, Word},
        },
        ids::{KnowledgeBaseId, WorkspaceId},
    },
    journal::beside,
    projections::{Found, KnowledgeDocumentDocument, KnowledgeDocuments},
};

/// How much of counted words is kept in memory, in bytes.
const COUNTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How many contents are opened at once.
const OPENED_AT_ONCE: usize = 32;
/// How many callers may have contents counted at a time; others wait.
const COUNTING_AT_ONCE: usize = 2;
/// A word of a title counts as much as so many in the text.
const TITLE_WEIGHT: u32 = 3;
/// How many places of a document are shown.
const SNIPPETS_MAX: usize = 3;
/// How much is shown before and after a word that was found, in bytes.
const SNIPPET_AROUND_BYTES: usize = 80;

/// A document that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct KnowledgeMatch {
    pub document: KnowledgeDocumentDocument,
    /// How often the words occur, in the title and the text.
    pub matches: u64,
    /// The first places in the text, each in parts.
    pub snippets: Vec<Vec<SnippetPart>>,
}

/// A part of what is shown of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnippetPart {
    pub text: String,
    /// Whether it is one of the words.
    pub matches: bool,
}

/// How often each word occurs in a content, by its hash, in the order of hashes.
#[derive(Debug)]
struct WordCounts {
    counts: Box<[(u64, u32)]>,
    /// How many words it has.
    length: u32,
}

impl WordCounts {
    fn of(text: &str, hasher: &RandomState) -> Self {
        let (mut hashes, mut folded) = (Vec::new(), String::new());
        for word in words::words(text) {
            words::fold(word.text, &mut folded);
            hashes.push(hasher.hash_one(&folded));
        }
        hashes.sort_unstable();
        let runs = hashes.chunk_by(|one, other| one == other);
        let counts = runs.map(|run| (run[0], saturated(run.len())));
        Self {
            counts: counts.collect(),
            length: saturated(hashes.len()),
        }
    }

    fn count(&self, hash: u64) -> u32 {
        let found = self.counts.binary_search_by_key(&hash, |(hash, _)| *hash);
        found.map_or(0, |place| self.counts[place].1)
    }

    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.counts) + 128
    }
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Where a content is kept; its text never changes.
type Place = (WorkspaceId, Digest);

/// The words of contents that were searched, for as long as there is room.
pub(super) struct WordIndex {
    hasher: RandomState,
    kept: Mutex<KeptCounts>,
    counting: Semaphore,
}

struct KeptCounts {
    counts: LruCache<Place, Arc<WordCounts>>,
    bytes: usize,
}

impl fmt::Debug for WordIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("WordIndex(…)")
    }
}

impl Default for WordIndex {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            kept: Mutex::new(KeptCounts {
                counts: LruCache::unbounded(),
                bytes: 0,
            }),
            counting: Semaphore::new(COUNTING_AT_ONCE),
        }
    }
}

impl WordIndex {
    fn kept(&self) -> MutexGuard<'_, KeptCounts> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are known, into `found`; answers which are not.
    fn known(
        &self,
        workspace: WorkspaceId,
        digests: impl Iterator<Item = Digest>,
        found: &mut HashMap<Digest, Arc<WordCounts>>,
    ) -> Vec<Digest> {
        let mut kept = self.kept();
        let mut missing = Vec::new();
        for digest in digests {
            match kept.counts.get(&(workspace, digest)) {
                Some(counts) => drop(found.insert(digest, counts.clone())),
                None => missing.push(digest),
            }
        }
        missing
    }

    fn keep(&self, place: Place, counts: Arc<WordCounts>) {
        let mut kept = self.kept();
        kept.bytes += counts.weight_bytes();
        if let Some(before) = kept.counts.put(place, counts) {
            kept.bytes -= before.weight_bytes();
        }
        while kept.bytes > COUNTS_BYTES_MAX {
            let Some((_, oldest)) = kept.counts.pop_lru() else {
                return;
            };
            kept.bytes -= oldest.weight_bytes();
        }
    }
}

/// A document with how often each word that is looked for occurs in it.
struct Candidate {
    document: KnowledgeDocumentDocument,
    /// One for each word.
    in_text: Vec<u32>,
    in_title: Vec<u32>,
    length: u32,
}

impl Candidate {
    fn weighed(&self, word: usize) -> f64 {
        f64::from(self.in_text[word]) + f64::from(self.in_title[word].saturating_mul(TITLE_WEIGHT))
    }

    fn matches(&self) -> u64 {
        let counts = self.in_text.iter().chain(&self.in_title);
        counts.map(|count| u64::from(*count)).sum()
    }
}

/// The best `limit` of those that have any of the words, by BM25 with its usual constants: rare
/// words count for more than common ones, and short documents are not behind long ones.
fn ranked(candidates: Vec<Candidate>, words: usize, limit: usize) -> Vec<Candidate> {
    const SATURATION: f64 = 1.2;
    const LENGTH_SHARE: f64 = 0.75;
    let all = candidates.len() as f64;
    let lengths: f64 = candidates.iter().map(|one| f64::from(one.length)).sum();
    let average = (lengths / all).max(1.0);
    let rarity = |word: usize| {
        let having = candidates.iter().filter(|one| one.weighed(word) > 0.0);
        let having = having.count() as f64;
        (1.0 + (all - having + 0.5) / (having + 0.5)).ln()
    };
    let rarities: Vec<_> = (0..words).map(rarity).collect();
    let score = |one: &Candidate| -> f64 {
        let share = 1.0 - LENGTH_SHARE + LENGTH_SHARE * f64::from(one.length) / average;
        let of_word = |(word, rarity): (usize, &f64)| {
            let count = one.weighed(word);
            rarity * count * (SATURATION + 1.0) / (count + SATURATION * share)
        };
        rarities.iter().enumerate().map(of_word).sum()
    };
    let having = candidates.into_iter().filter(|one| one.matches() > 0);
    let mut scored: Vec<_> = having.map(|one| (score(&one), one)).collect();
    scored.sort_by(|(score, one), (other_score, other)| {
        let by_id = one.document.id.cmp(&other.document.id);
        other_score.total_cmp(score).then(by_id)
    });
    scored.truncate(limit);
    scored.into_iter().map(|(_, one)| one).collect()
}

/// The first places of a text with any of the words.
fn snippets(text: &str, wanted: &BTreeSet<String>) -> Vec<Vec<SnippetPart>> {
    let mut folded = String::new();
    let mut found = words::words(text).filter(|word| {
        words::fold(word.text, &mut folded);
        wanted.contains(&folded)
    });
    let mut snippets = Vec::new();
    let mut next = found.next();
    while let (Some(first), true) = (next, snippets.len() < SNIPPETS_MAX) {
        let end = end_of(text, first.at + first.text.len());
        let mut inside = vec![first];
        next = found.next();
        while let Some(word) = next.filter(|word| word.at + word.text.len() <= end) {
            inside.push(word);
            next = found.next();
        }
        snippets.push(parts(text, begin_of(text, first.at), &inside, end));
    }
    snippets
}

/// The last place between two characters at or before this one.
fn boundary_before(text: &str, at: usize) -> usize {
    let mut places = (0..=at).rev();
    places
        .find(|place| text.is_char_boundary(*place))
        .unwrap_or(0)
}

/// Where what is shown before a word begins: at a word, where one is near.
fn begin_of(text: &str, at: usize) -> usize {
    let earliest = boundary_before(text, at.saturating_sub(SNIPPET_AROUND_BYTES));
    if earliest == 0 {
        return 0;
    }
    let blank = text[earliest..at].find(char::is_whitespace);
    blank.map_or(earliest, |blank| {
        let rest = &text[earliest + blank..at];
        at - rest.trim_start().len()
    })
}

/// Where what is shown after a word ends.
fn end_of(text: &str, at: usize) -> usize {
    let latest = boundary_before(text, (at + SNIPPET_AROUND_BYTES).min(text.len()));
    if latest == text.len() {
        return latest;
    }
    let blank = text[at..latest].rfind(char::is_whitespace);
    blank.map_or(latest, |blank| at + text[at..at + blank].trim_end().len())
}

fn parts(text: &str, begin: usize, inside: &[Word<'_>], end: usize) -> Vec<SnippetPart> {
    let mut parts = Vec::new();
    let mut push = |text: &str, matches| {
        if !text.is_empty() {
            let text = text.to_owned();
            parts.push(SnippetPart { text, matches });
        }
    };
    let mut told = begin;
    for word in inside {
        push(&text[told..word.at], false);
        push(word.text, true);
        told = word.at + word.text.len();
    }
    push(&text[told..end], false);
    parts
}

impl Service {
    /// The documents of a knowledge base that have any of the words in `query`, the best first,
    /// at most `limit`.
    ///
    /// # Errors
    /// A refusal unless the caller may see the crew; that there is no such knowledge base.
    pub async fn search_documents(
        &self,
        request: &Request,
        principal: &Principal,
        at: InCrew,
        base: KnowledgeBaseId,
        (query, limit): (&str, usize),
    ) -> Result<Found<Vec<KnowledgeMatch>>, ServiceError> {
        let position = self
            .knowledge_base(request, principal, at, base)
            .await?
            .position;
        let wanted = folded_words(query);
        let state = self.state_of_crew(request, at.1).await?;
        let documents = state.documents::<KnowledgeDocuments>();
        let documents = match wanted.is_empty() {
            true => vec![],
            false => documents.of_parents(&[base.to_string()]).await?,
        };
        let documents: Vec<_> = documents
            .into_iter()
            .map(|(_, document)| document)
            .collect();
        let candidates = self.candidates(at.0, documents, &wanted).await?;
        let best = ranked(candidates, wanted.len(), limit);
        let value = self.shown_matches(at.0, best, wanted).await?;
        Ok(Found { position, value })
    }

    async fn candidates(
        &self,
        workspace: WorkspaceId,
        documents: Vec<KnowledgeDocumentDocument>,
        wanted: &BTreeSet<String>,
    ) -> Result<Vec<Candidate>, ServiceError> {
        let counts = self.word_counts(workspace, &documents).await?;
        let hasher = &self.word_index.hasher;
        let hashes: Vec<_> = wanted.iter().map(|word| hasher.hash_one(word)).collect();
        let candidate = |document: KnowledgeDocumentDocument| {
            let of_text = counts.get(&document.document.content.digest)?;
            let of_title = WordCounts::of(&document.document.title, hasher);
            let count =
                |counts: &WordCounts| hashes.iter().map(|hash| counts.count(*hash)).collect();
            Some(Candidate {
                in_text: count(of_text),
                in_title: count(&of_title),
                length: of_text.length,
                document,
            })
        };
        Ok(documents.into_iter().filter_map(candidate).collect())
    }

    /// The counted words of every document's text, by its digest.
    async fn word_counts(
        &self,
        workspace: WorkspaceId,
        documents: &[KnowledgeDocumentDocument],
    ) -> Result<HashMap<Digest, Arc<WordCounts>>, ServiceError> {
        let index = &self.word_index;
        let digests = documents
            .iter()
            .map(|document| document.document.content.digest);
        let digests: BTreeSet<_> = digests.collect();
        let mut found = HashMap::new();
        let missing = index.known(workspace, digests.into_iter(), &mut found);
        if missing.is_empty() {
            return Ok(found);
        }
        let counting = index.counting.acquire().await;
        let _counting = counting.map_err(|error| ServiceError::Internal(error.to_string()))?;
        // Whoever was before may have counted them.
        let missing = index.known(workspace, missing.into_iter(), &mut found);
        for some in missing.chunks(OPENED_AT_ONCE) {
            let sealed = self.sealed_contents(workspace, some).await?;
            let hasher = index.hasher.clone();
            let count = move |sealed: SealedContent| {
                let text = sealed.open()?;
                Ok((sealed.digest, Arc::new(WordCounts::of(&text, &hasher))))
            };
            let counted: Result<Vec<_>, ServiceError> =
                beside(move || sealed.into_iter().map(count).collect()).await;
            for (digest, counts) in counted? {
                index.keep((workspace, digest), counts.clone());
                found.insert(digest, counts);
            }
        }
        Ok(found)
    }

    async fn shown_matches(
        &self,
        workspace: WorkspaceId,
        best: Vec<Candidate>,
        wanted: BTreeSet<String>,
    ) -> Result<Vec<KnowledgeMatch>, ServiceError> {
        let wanted = Arc::new(wanted);
        let mut shown = Vec::with_capacity(best.len());
        let mut rest = best.into_iter().peekable();
        while rest.peek().is_some() {
            let some: Vec<_> = rest.by_ref().take(OPENED_AT_ONCE).collect();
            let digests = some.iter().map(|one| one.document.document.content.digest);
            let digests: BTreeSet<_> = digests.collect();
            let digests: Vec<_> = digests.into_iter().collect();
            let sealed = self.sealed_contents(workspace, &digests).await?;
            let wanted = wanted.clone();
            let snippets_of = move |sealed: SealedContent| {
                let text = sealed.open()?;
                Ok((sealed.digest, snippets(&text, &wanted)))
            };
            let snippets: Result<BTreeMap<_, _>, ServiceError> =
                beside(move || sealed.into_iter().map(snippets_of).collect()).await;
            let snippets = snippets?;
            shown.extend(some.into_iter().map(|one| {
                KnowledgeMatch {
                    matches: one.matches(),
                    snippets: snippets
                        .get(&one.document.document.content.digest)
                        .cloned()
                        .unwrap_or_default(),
                    document: one.document,
                }
            }));
        }
        Ok(shown)
    }
}

/// The words that are looked for, each once.
fn folded_words(query: &str) -> BTreeSet<String> {
    let fold_one = |word: Word<'_>| {
        let mut folded = String::new();
        words::fold(word.text, &mut folded);
        folded
    };
    words::words(query).map(fold_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        Timestamp,
        contents::Content,
        crew::KnowledgeDocument,
        ids::{CrewId, DocumentId},
    };
    use uuid::Uuid;

    fn document(number: u128) -> KnowledgeDocumentDocument {
        let uuid = Uuid::from_u128(number);
        KnowledgeDocumentDocument {
            id: DocumentId::from_uuid(uuid),
            knowledge_base: KnowledgeBaseId::from_uuid(uuid),
            crew: CrewId::from_uuid(uuid),
            workspace: WorkspaceId::from_uuid(uuid),
            version: 1,
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
            document: KnowledgeDocument {
                title: String::new(),
                content: Content {
                    digest: Digest([0; 32]),
                    size: 0,
                },
            },
        }
    }

    fn order(texts: &[(&str, &str)], query: &str) -> Vec<u128> {
        let (hasher, wanted) = (RandomState::new(), folded_words(query));
        let hashes: Vec<_> = wanted.iter().map(|word| hasher.hash_one(word)).collect();
        let candidates = texts.iter().zip(1..).map(|((title, text), number)| {
            let count = |text: &str| {
                let counts = WordCounts::of(text, &hasher);
                hashes.iter().map(|hash| counts.count(*hash)).collect()
            };
            Candidate {
                document: document(number),
                in_text: count(text),
                in_title: count(title),
                length: WordCounts::of(text, &hasher).length,
            }
        });
        let best = ranked(candidates.collect(), wanted.len(), 10);
        let number = |one: Candidate| one.document.id.uuid().as_u128();
        best.into_iter().map(number).collect()
    }

    #[test]
    fn more_and_rarer_words_come_first_and_titles_count_for_more() {
        let texts = [
            ("a", "the refund of the order"),
            ("b", "the order the order the order"),
            ("c", "nothing of this order"),
            ("Refund", "what to do with the order then"),
            ("e", "the refund policy: a refund within days"),
        ];
        assert_eq!(order(&texts, "refund order"), [4, 1, 5, 2, 3]);
        assert_eq!(order(&texts, "REFÜND"), [4, 5, 1]);
        assert_eq!(order(&texts, "nobody ?"), [] as [u128; 0]);
    }

    fn shown(text: &str, query: &str) -> Vec<String> {
        let part = |part: &SnippetPart| match part.matches {
            true => format!("[{}]", part.text),
            false => part.text.clone(),
        };
        let snippets = snippets(text, &folded_words(query));
        let snippet = |parts: &Vec<SnippetPart>| parts.iter().map(part).collect();
        snippets.iter().map(snippet).collect()
    }

    #[test]
    fn snippets_show_the_words_with_what_is_around_them() {
        assert_eq!(
            shown("How do I reset it?", "RESET"),
            ["How do I [reset] it?"]
        );
        assert_eq!(shown("été et hiver", "ete"), ["[été] et hiver"]);
        let far = "filler ".repeat(40);
        let text = format!("{far}one refund, two refunds, one refund {far}refund");
        let told = shown(&text, "refund");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("filler"), "{told:?}");
        assert!(told[0].contains("one [refund], two refunds, one [refund] filler"));
        assert!(told[1].ends_with("filler [refund]"), "{told:?}");
        // However long a word is, and whatever it is made of.
        let long = format!("{}é{}", "ü".repeat(500), "ü".repeat(500));
        for query in [long.as_str(), "x"] {
            shown(&long, query);
        }
        let many = "refund ".repeat(400);
        assert_eq!(shown(&many, "refund").len(), SNIPPETS_MAX);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let index = WordIndex::default();
        let workspace = WorkspaceId::from_uuid(Uuid::from_u128(1));
        let counts = || {
            Arc::new(WordCounts {
                counts: vec![(1, 1); 1 << 20].into(),
                length: 1,
            })
        };
        for number in 0..8 {
            index.keep((workspace, Digest([number; 32])), counts());
            index.keep((workspace, Digest([number; 32])), counts());
        }
        let kept = index.kept();
        assert_eq!(kept.counts.len(), 3);
        let sum: usize = kept.counts.iter().map(|(_, one)| one.weight_bytes()).sum();
        assert_eq!(kept.bytes, sum);
    }
}
