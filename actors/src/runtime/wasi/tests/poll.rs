//! Sleeping and readiness.

use super::*;

impl Harness {
    fn subscribe_clock(&mut self, at: u32, userdata: u64, id: u32, timeout: u64, flags: u16) {
        self.put(at, &[0; 48]);
        self.put(at, &userdata.to_le_bytes());
        self.put(at + 16, &id.to_le_bytes());
        self.put(at + 24, &timeout.to_le_bytes());
        self.put(at + 40, &flags.to_le_bytes());
    }
    fn subscribe_fd(&mut self, at: u32, userdata: u64, tag: u8, fd: u32) {
        self.put(at, &[0; 48]);
        self.put(at, &userdata.to_le_bytes());
        self.put(at + 8, &[tag]);
        self.put(at + 16, &fd.to_le_bytes());
    }
    /// userdata, errno, type, bytes, flags.
    fn event(&mut self, at: u32) -> (u64, u16, u8, u64, u16) {
        let bytes = self.bytes(at, 32);
        let u16_at = |i: usize| u16::from_le_bytes([bytes[i], bytes[i + 1]]);
        (
            self.u64(at),
            u16_at(8),
            bytes[10],
            self.u64(at + 16),
            u16_at(24),
        )
    }
}

#[tokio::test]
async fn sleeping() {
    let mut h = Harness::new(b"").await;
    const MS: u64 = 1_000_000;
    // The earliest of several clocks ends the wait; only what is due is told.
    h.subscribe_clock(0, 1, 1, 500 * MS, 0);
    h.subscribe_clock(48, 2, 1, 20 * MS, 0);
    h.subscribe_clock(96, 3, 0, 10 * MS, 0);
    let started = Instant::now();
    assert_eq!(h.call("poll_oneoff", &[0, 1024, 3, 900]).await, OK);
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(10)..Duration::from_millis(400)).contains(&took),
        "{took:?}"
    );
    assert_eq!(h.u32(900), 1);
    assert_eq!(h.event(1024), (3, 0, 0, 0, 0));
    // An instant on either clock; one that is past returns at once.
    for id in [0, 1] {
        assert_eq!(h.call("clock_time_get", &[id, 0, 800]).await, OK);
        let at = h.u64(800);
        for (deadline, least) in [(at + 15 * MS, 14), (at, 0), (0, 0)] {
            h.subscribe_clock(0, 9, id as u32, deadline, 1);
            let started = Instant::now();
            assert_eq!(h.call("poll_oneoff", &[0, 1024, 1, 900]).await, OK);
            assert_eq!((h.u32(900), h.event(1024)), (1, (9, 0, 0, 0, 0)));
            let took = started.elapsed();
            assert!(
                took >= Duration::from_millis(least) && took < Duration::from_millis(200),
                "{took:?}"
            );
        }
    }
    // Clocks that cannot be waited for are events with an error.
    for (id, errno) in [(2, Errno::NOTSUP), (3, Errno::NOTSUP), (77, Errno::INVAL)] {
        h.subscribe_clock(0, 5, id, u64::MAX, 0);
        assert_eq!(h.call("poll_oneoff", &[0, 1024, 1, 900]).await, OK);
        assert_eq!((h.u32(900), h.event(1024)), (1, (5, errno.0, 0, 0, 0)));
    }
    h.subscribe_clock(0, 5, 1, 0, 2);
    assert_eq!(h.call("poll_oneoff", &[0, 1024, 1, 900]).await, OK);
    assert_eq!(h.event(1024), (5, Errno::INVAL.0, 0, 0, 0));
}

#[tokio::test]
async fn polling_streams() {
    let mut h = Harness::new(b"12345").await;
    let started = Instant::now();
    h.subscribe_clock(0, 1, 1, 10_000_000_000, 0);
    for (i, (tag, fd)) in [(1, 0), (2, 1), (2, 2), (1, 1), (2, 0), (1, 3)]
        .iter()
        .enumerate()
    {
        h.subscribe_fd(48 * (i as u32 + 1), 10 + i as u64, *tag, *fd);
    }
    // Events go over the subscriptions: they are read first.
    assert_eq!(h.call("poll_oneoff", &[0, 0, 7, 900]).await, OK);
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "something was ready"
    );
    assert_eq!(h.u32(900), 6);
    assert_eq!(h.event(0), (10, 0, 1, 5, 0));
    assert_eq!(h.event(32), (11, 0, 2, 65536, 0));
    assert_eq!(h.event(64), (12, 0, 2, 65536, 0));
    for (i, tag) in [(3, 1), (4, 2), (5, 1)] {
        assert_eq!(
            h.event(32 * i),
            (10 + u64::from(i), Errno::BADF.0, tag, 0, 0)
        );
    }
    h.put_u32s(500, &[1000, 100]);
    assert_eq!(h.call("fd_read", &[0, 500, 1, 64]).await, OK);
    h.subscribe_fd(0, 1, 1, 0);
    assert_eq!(h.call("poll_oneoff", &[0, 1024, 1, 900]).await, OK);
    assert_eq!(
        h.event(1024),
        (1, 0, 1, 0, 1),
        "end of input is ready and hung up"
    );
}

#[tokio::test]
async fn polling_nonsense() {
    let mut h = Harness::new(b"").await;
    let end = u64::from(END);
    for count in [0, 1025, u64::from(u32::MAX)] {
        assert_eq!(
            h.call("poll_oneoff", &[0, 1024, count, 900]).await,
            Errno::INVAL
        );
    }
    h.subscribe_clock(0, 1, 1, 0, 0);
    for args in [
        [end - 47, 1024, 1, 900],
        [0, end - 31, 1, 900],
        [0, 1024, 1, end - 3],
        [u64::from(u32::MAX), 0, 2, 0],
    ] {
        assert_eq!(h.call("poll_oneoff", &args).await, Errno::FAULT);
    }
    h.put(8, &[3]);
    assert_eq!(
        h.call("poll_oneoff", &[0, 1024, 1, 900]).await,
        Errno::INVAL
    );
}
