//! Who calls, with what request, and what the function was given at deploy (CONTRACT 1.6).

use orama_proto::SecretName;
use wasmtime::Caller;

use super::bytes::{give, name, warn};
use crate::runtime::guest::Guest;
use crate::runtime::import::{Import, import};
use crate::runtime::slices;

type Answer = Result<u64, wasmtime::Error>;

pub(super) const TABLE: &[Import] = &[
    import!(bytes get_caller_wallet() = caller_wallet),
    import!(bytes get_caller_jwt_subject() = caller_jwt_subject),
    import!(bytes get_caller_claim(ptr: u32, len: u32) = caller_claim),
    import!(bytes get_request_id() = request_id),
    import!(bytes get_env(ptr: u32, len: u32) = env),
    import!(bytes get_secret(ptr: u32, len: u32) = secret),
];

async fn caller_wallet(mut caller: Caller<'_, Guest>) -> Answer {
    if !caller.data().in_call {
        return Ok(0);
    }
    // Holding the principal lets its text be copied into the guest without a copy between.
    let principal = caller.data().principal.clone();
    give(&mut caller, principal.wallet().as_bytes()).await
}

async fn caller_jwt_subject(mut caller: Caller<'_, Guest>) -> Answer {
    if !caller.data().in_call {
        return Ok(0);
    }
    let principal = caller.data().principal.clone();
    give(&mut caller, principal.jwt_subject().as_bytes()).await
}

async fn caller_claim(mut caller: Caller<'_, Guest>, ptr: u32, len: u32) -> Answer {
    let Some(claim) = name(&mut caller, "get_caller_claim", ptr, len) else {
        return Ok(0);
    };
    if !caller.data().in_call {
        return Ok(0);
    }
    let principal = caller.data().principal.clone();
    give(&mut caller, principal.claim(&claim).as_bytes()).await
}

async fn request_id(mut caller: Caller<'_, Guest>) -> Answer {
    if !caller.data().in_call {
        return Ok(0);
    }
    let request_id = caller.data().request_id.clone();
    give(&mut caller, request_id.as_str().as_bytes()).await
}

async fn env(mut caller: Caller<'_, Guest>, ptr: u32, len: u32) -> Answer {
    let Some(key) = name(&mut caller, "get_env", ptr, len) else {
        return Ok(0);
    };
    if !caller.data().in_call {
        return Ok(0);
    }
    let function = caller.data().function.clone();
    match function.spec.env_vars.get(&key) {
        Some(value) => give(&mut caller, value.as_bytes()).await,
        None => Ok(0),
    }
}

async fn secret(mut caller: Caller<'_, Guest>, ptr: u32, len: u32) -> Answer {
    let Some(key) = name(&mut caller, "get_secret", ptr, len) else {
        return Ok(0);
    };
    if !caller.data().in_call {
        return Ok(0);
    }
    let key = match SecretName::parse(&key) {
        Ok(key) => key,
        Err(e) => {
            warn(&mut caller, &format!("get_secret: {e}"));
            return Ok(0);
        }
    };
    let function = caller.data().function.clone();
    let services = caller.data().services.clone();
    let found = services.secret(&function.namespace, &key);
    match slices::wait(&mut caller, found).await {
        Ok(Some(value)) => give(&mut caller, &value).await,
        Ok(None) => Ok(0),
        Err(e) => {
            warn(&mut caller, &format!("get_secret {key}: {e}"));
            Ok(0)
        }
    }
}
