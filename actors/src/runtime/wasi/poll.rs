//! `poll_oneoff`: sleep, and readiness of the standard streams.

use std::time::Duration;

use wasmtime::Caller;

use super::clock::Clock;
use super::stdio::Stream;
use super::{Errno, answer};
use crate::runtime::guest::Guest;
use crate::runtime::import::{Import, import};
use crate::runtime::memory::{Fault, GuestMemory, offset, split};
use crate::runtime::slices;

pub(super) const TABLE: &[Import] = &[
    import!(async poll_oneoff(subscriptions: u32, events: u32, count: u32, stored: u32) -> u32 = poll_oneoff),
];

/// Subscriptions of one call.
const SUBSCRIPTIONS_MAX: u32 = 1024;
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;
const ABSOLUTE: u16 = 1;
const HANGUP: u16 = 1;
/// What stdout is always ready to take.
const WRITABLE_BYTES: u64 = 64 * 1024;

/// What a subscription comes to when it is looked at.
#[derive(Debug, Clone, Copy)]
enum Ready {
    /// At once, with an event to report.
    Now {
        errno: Errno,
        bytes: u64,
        flags: u16,
    },
    /// After this many nanoseconds.
    After(u64),
}

#[derive(Debug, Clone, Copy)]
struct Subscription {
    userdata: u64,
    /// clock, fd_read or fd_write.
    tag: u8,
    ready: Ready,
}

async fn poll_oneoff(
    mut caller: Caller<'_, Guest>,
    subscriptions: u32,
    events: u32,
    count: u32,
    stored: u32,
) -> Result<u32, wasmtime::Error> {
    let subscriptions = match subscribe(&mut caller, subscriptions, events, count, stored) {
        Ok(subscriptions) => subscriptions,
        Err(errno) => return answer(Err(errno)),
    };
    let wait = subscriptions
        .iter()
        .map(|subscription| match subscription.ready {
            Ready::Now { .. } => 0,
            Ready::After(nanos) => nanos,
        })
        .min()
        .unwrap_or(0);
    if wait > 0 {
        // Bounded by the guest's own limit.
        let sleep = tokio::time::sleep(Duration::from_nanos(wait));
        slices::wait(&mut caller, sleep).await;
    }
    answer(report(&mut caller, &subscriptions, wait, events, stored))
}

/// Reads all subscriptions before any event is written, as the arrays may overlap.
fn subscribe(
    caller: &mut Caller<'_, Guest>,
    subscriptions: u32,
    events: u32,
    count: u32,
    stored: u32,
) -> Result<Vec<Subscription>, Errno> {
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Err(Errno::INVAL);
    }
    let (memory, guest) = split(caller);
    memory.check(subscriptions, count * SUBSCRIPTION_BYTES)?;
    memory.check(events, count * EVENT_BYTES)?;
    memory.check(stored, 4)?;
    (0..count)
        .map(|i| {
            let at = offset(subscriptions, i * SUBSCRIPTION_BYTES)?;
            subscription(&memory, guest, at)
        })
        .collect()
}

fn subscription(memory: &GuestMemory<'_>, guest: &Guest, at: u32) -> Result<Subscription, Errno> {
    let field = |by| offset(at, by);
    let tag = memory.u8(field(8)?)?;
    let ready = match tag {
        0 => clock(
            guest,
            memory.u32(field(16)?)?,
            memory.u64(field(24)?)?,
            memory.u16(field(40)?)?,
        ),
        1 | 2 => stream(guest, tag, memory.u32(field(16)?)?),
        _ => return Err(Errno::INVAL),
    };
    Ok(Subscription {
        userdata: memory.u64(at)?,
        tag,
        ready: ready.unwrap_or_else(|errno| Ready::Now {
            errno,
            bytes: 0,
            flags: 0,
        }),
    })
}

fn clock(guest: &Guest, id: u32, timeout: u64, flags: u16) -> Result<Ready, Errno> {
    let clock = match Clock::from_id(id)? {
        // Nothing here can wait for processor time to pass.
        Clock::Cpu => return Err(Errno::NOTSUP),
        clock => clock,
    };
    if flags & !ABSOLUTE != 0 {
        return Err(Errno::INVAL);
    }
    Ok(Ready::After(if flags & ABSOLUTE == 0 {
        timeout
    } else {
        timeout.saturating_sub(clock.now(guest))
    }))
}

fn stream(guest: &Guest, tag: u8, fd: u32) -> Result<Ready, Errno> {
    let ready = |bytes, flags| Ready::Now {
        errno: Errno::SUCCESS,
        bytes,
        flags,
    };
    match (guest.stdio.get(fd)?, tag) {
        (Stream::In, 1) => {
            let rest = guest.stdin.len().saturating_sub(guest.stdin_read) as u64;
            Ok(ready(rest, if rest == 0 { HANGUP } else { 0 }))
        }
        (Stream::Out | Stream::Err, 2) => Ok(ready(WRITABLE_BYTES, 0)),
        _ => Err(Errno::BADF),
    }
}

/// Writes an event for each subscription that came true within `waited` nanoseconds.
fn report(
    caller: &mut Caller<'_, Guest>,
    subscriptions: &[Subscription],
    waited: u64,
    events: u32,
    stored: u32,
) -> Result<(), Fault> {
    let (mut memory, _) = split(caller);
    let mut count = 0;
    for subscription in subscriptions {
        let (errno, bytes, flags) = match subscription.ready {
            Ready::Now {
                errno,
                bytes,
                flags,
            } => (errno, bytes, flags),
            Ready::After(nanos) if nanos <= waited => (Errno::SUCCESS, 0, 0),
            Ready::After(_) => continue,
        };
        let mut event = [0; EVENT_BYTES as usize];
        event[0..8].copy_from_slice(&subscription.userdata.to_le_bytes());
        event[8..10].copy_from_slice(&errno.0.to_le_bytes());
        event[10] = subscription.tag;
        event[16..24].copy_from_slice(&bytes.to_le_bytes());
        event[24..26].copy_from_slice(&flags.to_le_bytes());
        memory.write(offset(events, count * EVENT_BYTES)?, &event)?;
        count += 1;
    }
    memory.put_u32(stored, count)
}
