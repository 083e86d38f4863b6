//! Finding people by the words of their names, which are sealed everywhere else.
//!
//! Beside the log stands a keyed hash of each word that somebody was ever called by in an
//! organization, so a search opens nothing: it hashes the word that is looked for. The
//! organization is in the hash, so that equal words of two organizations are not seen to be
//! equal. Whole words are found, in whatever case; parts of words are not.
//!
//! Written in the append that records the name. A store that was filled by an earlier version is
//! caught up once, by due work.

use std::collections::BTreeSet;

use super::{Opened, Service, ServiceError};
use crate::{
    domain::{EmailAddress, ids::UserId},
    journal::stores::{Statement, page_rows},
    projections::{ACCOUNT, PersonField},
};

/// People that one word of a search may stand for.
const PEOPLE_MAX: u64 = 1_000;
/// Words of one name that it is found by.
const NAME_WORDS_MAX: usize = 16;
/// Recorded names that are looked at at once when an older store is caught up.
const CAUGHT_UP_AT_ONCE: u64 = 500;
/// The row that says that an older store was caught up.
const CAUGHT_UP: &str = "caught up";

const INSERT: &str = "
INSERT INTO name_words (realm, word, user_id)
VALUES ($1, $2, $3)
    ON CONFLICT (realm, word, user_id) DO NOTHING";

const SELECT_CAUGHT_UP: &str = "
SELECT 1
  FROM name_words
 WHERE realm = '' AND word = $1";

/// The words of a name, or of what is looked for, each once.
fn words(text: &str) -> BTreeSet<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|character: char| !character.is_alphanumeric());
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

impl Service {
    fn hashed_word(&self, realm: &str, word: &str) -> String {
        self.keyring.lookup("name_word", &format!("{realm} {word}"))
    }

    /// What lets somebody be found by the words of a name in an organization; to be written in
    /// the append that records the name there.
    pub(super) fn keep_words(&self, realm: &str, user: UserId, name: &str) -> Vec<Statement> {
        let words = words(name).into_iter().take(NAME_WORDS_MAX);
        let keep = |word: String| {
            let word = self.hashed_word(realm, &word);
            Statement::new(INSERT, [realm.into(), word.into(), user.to_string().into()])
        };
        words.map(keep).collect()
    }

    /// Everybody in an organization who was ever called by what is looked for, or whose address
    /// it is now.
    ///
    /// # Errors
    /// An invalid value where these are too many to look for.
    pub(super) async fn people_called(
        &self,
        realm: &str,
        wanted: &str,
    ) -> Result<BTreeSet<UserId>, ServiceError> {
        if let Ok(email) = EmailAddress::parse(wanted) {
            let lookup = self.email_lookup(&email);
            let found = self.subjects.of_email(realm, &lookup).await?;
            return Ok(found.and_then(|found| found.user).into_iter().collect());
        }
        let mut people: Option<BTreeSet<UserId>> = None;
        for word in words(wanted) {
            let called = self.people_with_word(realm, &word).await?;
            people = Some(match people {
                None => called,
                Some(people) => people.intersection(&called).copied().collect(),
            });
        }
        Ok(people.unwrap_or_default())
    }

    async fn people_with_word(
        &self,
        realm: &str,
        word: &str,
    ) -> Result<BTreeSet<UserId>, ServiceError> {
        let sql = format!(
            "SELECT user_id FROM name_words WHERE realm = $1 AND word = $2 LIMIT {}",
            page_rows(PEOPLE_MAX + 1)
        );
        let parameters = vec![realm.into(), self.hashed_word(realm, word).into()];
        let rows = self.journal.store().query(&sql, parameters).await?;
        if rows.len() as u64 > PEOPLE_MAX {
            return Err(ServiceError::InvalidParameter {
                name: "q",
                detail: format!("more than {PEOPLE_MAX} people are called so; ask for their ids"),
            });
        }
        Ok(rows
            .iter()
            .map(|row| row.parsed(0))
            .collect::<Result<_, _>>()?)
    }

    /// Lets everybody be found whose name was recorded before names were found by words; once in
    /// the life of a store. Doing it twice, or half, does no harm.
    pub(super) async fn catch_up_with_words(&self) -> Result<u64, ServiceError> {
        let store = self.journal.store();
        if self
            .words_caught_up
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            return Ok(0);
        }
        let asked = store
            .query(SELECT_CAUGHT_UP, vec![CAUGHT_UP.into()])
            .await?;
        let mut caught_up = 0;
        if asked.is_empty() {
            let mut after: Option<String> = None;
            loop {
                let page = self
                    .people()
                    .page_of_all(after.as_deref(), CAUGHT_UP_AT_ONCE)
                    .await?;
                let mut statements = Vec::new();
                for (_, row) in &page.items {
                    if row.field != PersonField::Name || row.realm == ACCOUNT {
                        continue;
                    }
                    if let Opened::Value(name) = self.open(&row.value).await? {
                        statements.extend(self.keep_words(&row.realm, row.user, &name));
                        caught_up += 1;
                    }
                }
                if !statements.is_empty() {
                    store.execute(statements).await?;
                }
                after = page.items.last().map(|(key, _)| key.clone());
                if !page.more {
                    break;
                }
            }
            let done = Statement::new(INSERT, ["".into(), CAUGHT_UP.into(), "".into()]);
            store.execute(vec![done]).await?;
        }
        self.words_caught_up
            .store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(caught_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_stands_between_other_characters() {
        let found = |text: &str| words(text).into_iter().collect::<Vec<_>>();
        assert_eq!(
            found("Ada  O'Brien-LOVELACE"),
            ["ada", "brien", "lovelace", "o"]
        );
        assert_eq!(found("Ångström 王"), ["ångström", "王"]);
        assert!(found(" .-' ").is_empty());
    }
}
