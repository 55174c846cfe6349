//! `random()` and `randomblob()` from the entry's seed.
