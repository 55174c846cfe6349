//! What the files of a group must survive.
