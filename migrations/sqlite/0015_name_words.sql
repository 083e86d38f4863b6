-- By which words people are found in an organization: a keyed hash of each word of every name
-- that they have had there. Erasing somebody there deletes their rows.
CREATE TABLE name_words (
    realm   TEXT NOT NULL,
    word    TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (realm, word, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX name_words_by_user ON name_words (user_id, realm);
