//! Where SQLite and MySQL or MariaDB want other words for the same thing.
//!
//! All statements but those of the tables are the same text for both.

/// Which words a database understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    File,
    Server,
}

/// Words of a migration: what it says, for SQLite, for a server.
const WORDS: [(&str, &str, &str); 8] = [
    // Text that is compared byte for byte and has at most 128 characters.
    ("$key", "TEXT", "VARCHAR(128)"),
    // As `$key`, but a space at its end counts, which servers overlook in text.
    ("$exact", "TEXT", "VARBINARY(512)"),
    ("$text", "TEXT", "TEXT"),
    ("$integer", "INTEGER", "BIGINT"),
    ("$document", "BLOB", "LONGBLOB"),
    // A number that only grows.
    ("$identity", "INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT NOT NULL PRIMARY KEY AUTO_INCREMENT"),
    ("$table", "STRICT", "ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"),
    // Begins a statement that a server does not need.
    ("-- $file only\n", "", "$"),
];

impl Dialect {
    /// The statements of a migration. Blank lines separate them.
    pub(super) fn statements(self, migration: &str) -> Vec<String> {
        let words = |text: &str| {
            WORDS.iter().fold(text.to_owned(), |text, (word, file, server)| match self {
                Self::File => text.replace(word, file),
                Self::Server => text.replace(word, server),
            })
        };
        let statements = migration.split("\n\n").map(|statement| words(statement.trim()));
        statements.filter(|statement| is_statement(statement) && !statement.starts_with('$')).collect()
    }

    /// How a transaction begins that writes; nobody else writes until it ends.
    pub(super) fn begin_write(self) -> &'static [&'static str] {
        match self {
            Self::File => &["BEGIN IMMEDIATE"],
            // Every writer takes this row first. What is read afterwards is newer than
            // what the writer before has committed.
            Self::Server => &["START TRANSACTION", "SELECT number FROM revision WHERE id = 1 FOR UPDATE"],
        }
    }

    /// What a transaction that wrote does at its end, so that other processes see it.
    /// SQLite has triggers for it; on servers with a binary log, making triggers takes
    /// rights that nobody should give to a program.
    pub(super) fn before_commit(self) -> Option<&'static str> {
        match self {
            Self::File => None,
            Self::Server => Some("UPDATE revision SET number = number + 1 WHERE id = 1"),
        }
    }
}

fn is_statement(text: &str) -> bool {
    text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with("--"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dialect_gets_its_words_and_statements() {
        let migration = "-- A comment.\n\nCREATE TABLE a (id $identity, b $key) $table;\n\n-- $file only\nCREATE TRIGGER t;\n";
        assert_eq!(
            Dialect::File.statements(migration),
            ["CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT, b TEXT) STRICT;", "CREATE TRIGGER t;"]
        );
        let server = Dialect::Server.statements(migration);
        assert_eq!(server.len(), 1);
        assert!(server[0].contains("b VARCHAR(128)") && server[0].contains("InnoDB"), "{server:?}");
        assert!(!server[0].contains('$'));
    }
}
