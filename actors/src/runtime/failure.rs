//! Why a guest stopped, in words its author can use.

use std::time::Duration;

use orama_proto::limits::OUTPUT_MAX_BYTES;
use wasmtime::{PoolConcurrencyLimitError, Trap};

use super::call::GuestError;
use super::guest::{Guest, Stdout};
use super::output::tail_text;

/// The host ends a guest by returning one of these from a host function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("the guest exited with code {0}")]
    Exit(i32),
    #[error("the guest wrote more than it may")]
    OutputTooLarge,
    #[error("the guest ran out of time")]
    Timeout,
    #[error("handle returned a result that is not in its memory")]
    BadResult,
    #[error("malloc returned a pointer that is not in the guest's memory")]
    BadPointer,
}

/// An error from making an instance or from running it.
pub(crate) enum Failure {
    /// Before any of the guest's code ran.
    Instance(wasmtime::Error),
    /// While it ran.
    Run(wasmtime::Error),
    /// The wait for it was given up.
    Timeout,
}

/// What a failure means to the author; `Ok` when it is no failure, as `proc_exit(0)`.
pub(crate) fn judge(failure: Failure, guest: &Guest) -> Result<(), GuestError> {
    let error = match failure {
        Failure::Timeout => return Err(timeout(guest.deadline.after)),
        Failure::Instance(error) | Failure::Run(error)
            if error.is::<PoolConcurrencyLimitError>() =>
        {
            return Err(GuestError::Instance(
                "all instances of this node are in use".into(),
            ));
        }
        // A start function is the guest's own code, and memory its own demand.
        Failure::Instance(error)
            if !error.is::<Stop>() && !error.is::<Trap>() && !guest.account.refused =>
        {
            return Err(GuestError::Instance(format!("{error:#}")));
        }
        Failure::Instance(error) | Failure::Run(error) => error,
    };
    match error.downcast_ref::<Stop>() {
        Some(Stop::Exit(0)) => return Ok(()),
        Some(Stop::Timeout) => return Err(timeout(guest.deadline.after)),
        Some(Stop::OutputTooLarge) => {
            return Err(GuestError::OutputTooLarge {
                limit: OUTPUT_MAX_BYTES,
            });
        }
        Some(Stop::Exit(code)) if !guest.account.refused => {
            return Err(GuestError::Exit {
                code: *code,
                detail: last_words(guest),
            });
        }
        _ => {}
    }
    let reason = reason(&error);
    if guest.account.refused {
        let words = last_words(guest);
        return Err(GuestError::Memory {
            limit_mb: guest.function.spec.memory_limit_mb,
            detail: if words.is_empty() { reason } else { words },
        });
    }
    Err(GuestError::Trap(match guest.stderr.tail() {
        words if words.is_empty() => reason,
        words => format!("{reason}: {words}"),
    }))
}

fn timeout(after: Duration) -> GuestError {
    GuestError::Timeout { after }
}

/// The end of stderr, else of stdout.
fn last_words(guest: &Guest) -> String {
    match guest.stderr.tail() {
        words if !words.is_empty() => words,
        _ => match &guest.stdout {
            Stdout::Result(output) => tail_text(&output.bytes),
            Stdout::Log(stream) => stream.tail(),
        },
    }
}

fn reason(error: &wasmtime::Error) -> String {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return stop.to_string();
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => "stack overflow: the calls are nested too deeply".into(),
        Some(Trap::UnreachableCodeReached) => {
            "unreachable code reached, as after a panic or an abort".into()
        }
        Some(Trap::MemoryOutOfBounds) => "memory access out of bounds".into(),
        Some(Trap::TableOutOfBounds) => "table access out of bounds".into(),
        Some(Trap::IndirectCallToNull) => "indirect call through a null function pointer".into(),
        Some(Trap::BadSignature) => "indirect call of a function that has another signature".into(),
        Some(Trap::IntegerDivisionByZero) => "integer division by zero".into(),
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    }
}
