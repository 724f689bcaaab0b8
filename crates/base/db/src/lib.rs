//! The one SQLite database: opening, migrations, transactions.

#![forbid(unsafe_code)]
