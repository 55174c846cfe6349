//! Several nodes in one process, over the real mesh and groups.
