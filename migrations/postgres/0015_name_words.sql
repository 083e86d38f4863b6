-- By which words people are found in an organization: a keyed hash of each word of every name
-- that they have had there. Erasing somebody there deletes their rows.
CREATE TABLE name_words (
    realm   TEXT COLLATE "C" NOT NULL,
    word    TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (realm, word, user_id)
);
CREATE INDEX name_words_by_user ON name_words (user_id, realm);
