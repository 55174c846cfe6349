//! Host functions: one registration table, identical under `env`, `host` and `orama`.
