//! Visitors as delivery reads them: Cassandra, or an embedded store.
