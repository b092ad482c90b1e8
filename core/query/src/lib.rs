//! SQL over folders of JSON lines and Delta tables.
