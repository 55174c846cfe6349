//! The standard streams as descriptors.

use super::*;

#[tokio::test]
async fn reading() {
    let mut h = Harness::new(b"hello world").await;
    h.put_u32s(0, &[100, 3, 200, 0, 300, 4]);
    // What cannot be done entirely takes nothing.
    let end = u64::from(END);
    assert_eq!(h.call("fd_read", &[0, 0, 3, end - 3]).await, Errno::FAULT);
    assert_eq!(h.call("fd_read", &[0, end - 8, 2, 64]).await, Errno::FAULT);
    assert_eq!(
        h.call("fd_read", &[0, u64::from(u32::MAX) - 7, 2, 64])
            .await,
        Errno::FAULT
    );
    h.put_u32s(400, &[100, 3, END - 1, 2]);
    assert_eq!(h.call("fd_read", &[0, 400, 2, 64]).await, Errno::FAULT);
    h.put_u32s(400, &[u32::MAX, u32::MAX]);
    assert_eq!(h.call("fd_read", &[0, 400, 1, 64]).await, Errno::FAULT);
    assert_eq!(h.call("fd_read", &[0, 0, 1025, 64]).await, Errno::INVAL);

    assert_eq!(h.call("fd_read", &[0, 0, 3, 64]).await, OK);
    assert_eq!(
        (h.u32(64), h.bytes(100, 3), h.bytes(300, 4)),
        (7, b"hel".to_vec(), b"lo w".to_vec())
    );
    assert_eq!(h.call("fd_read", &[0, 0, 0, 64]).await, OK);
    assert_eq!(h.u32(64), 0);
    assert_eq!(h.call("fd_read", &[0, 0, 3, 64]).await, OK);
    assert_eq!(
        (h.u32(64), h.bytes(100, 3), h.bytes(300, 1)),
        (4, b"orl".to_vec(), b"d".to_vec())
    );
    for _ in 0..2 {
        assert_eq!(h.call("fd_read", &[0, 0, 3, 64]).await, OK);
        assert_eq!(h.u32(64), 0, "end of input");
    }
    for fd in [1, 2, 3, u64::from(u32::MAX)] {
        assert_eq!(h.call("fd_read", &[fd, 0, 3, 64]).await, Errno::BADF);
    }
}

#[tokio::test]
async fn a_read_over_its_own_buffers_does_not_escape() {
    // The first piece lands on the second entry and changes it to one outside.
    let mut input = (END - 2).to_le_bytes().to_vec();
    input.extend(1000u32.to_le_bytes());
    input.extend([7; 20]);
    let mut h = Harness::new(&input).await;
    h.put_u32s(0, &[8, 8, 500, 4]);
    assert_eq!(h.call("fd_read", &[0, 0, 2, 64]).await, Errno::FAULT);
}

#[tokio::test]
async fn writing() {
    let mut h = Harness::new(b"").await;
    h.put(100, b"hello world\nrest");
    h.put_u32s(0, &[100, 5, 0, 0, 105, 7]);
    let end = u64::from(END);
    assert_eq!(h.call("fd_write", &[1, 0, 3, end - 3]).await, Errno::FAULT);
    assert_eq!(h.call("fd_write", &[1, end - 8, 2, 64]).await, Errno::FAULT);
    assert_eq!(h.call("fd_write", &[1, 0, 1025, 64]).await, Errno::INVAL);
    h.put_u32s(400, &[100, 3, END - 1, 2]);
    for fd in [1, 2] {
        assert_eq!(h.call("fd_write", &[fd, 400, 2, 64]).await, Errno::FAULT);
    }
    assert_eq!(h.stdout(), b"");
    assert_eq!(h.call("fd_write", &[1, 0, 3, 64]).await, OK);
    assert_eq!((h.u32(64), h.stdout()), (12, &b"hello world\n"[..]));
    assert_eq!(h.call("fd_write", &[2, 0, 3, 64]).await, OK);
    assert_eq!(h.store.data().log.lines[0].message, "hello world");
    for fd in [0, 3, u64::from(u32::MAX)] {
        assert_eq!(h.call("fd_write", &[fd, 0, 3, 64]).await, Errno::BADF);
    }
    // The whole memory 1,024 times over is more than any output.
    for i in 0..1024 {
        h.put_u32s(8192 + i * 8, &[0, END]);
    }
    assert_eq!(h.call("fd_write", &[2, 8192, 1024, 64]).await, OK);
    assert_eq!(h.u32(64), 1 << 20, "stderr is taken in pieces");
    assert_eq!(
        h.try_call("fd_write", &[1, 8192, 1024, 64]).await,
        Err(Stop::OutputTooLarge)
    );
}

#[tokio::test]
async fn descriptors() {
    let mut h = Harness::new(b"").await;
    const READ: u64 = 1 << 1;
    const WRITE: u64 = 1 << 6;
    const SEEK_AND_TELL: u64 = 1 << 2 | 1 << 5;
    for (fd, has, lacks) in [(0, READ, WRITE), (1, WRITE, READ), (2, WRITE, READ)] {
        h.put(0, &[0xff; 24]);
        assert_eq!(h.call("fd_fdstat_get", &[fd, 0]).await, OK);
        assert_eq!(h.u64(0), 0, "type unknown, no flags");
        let rights = h.u64(8);
        assert!(
            rights & has != 0 && rights & (lacks | SEEK_AND_TELL) == 0,
            "{rights:b}"
        );
        assert_eq!(h.u64(16), 0);
        h.put(0, &[0xff; 64]);
        assert_eq!(h.call("fd_filestat_get", &[fd, 0]).await, OK);
        assert_eq!(h.bytes(0, 64), [0; 64]);
        for flags in [0, 1, 4, 0x1f] {
            assert_eq!(h.call("fd_fdstat_set_flags", &[fd, flags]).await, OK);
        }
        assert_eq!(
            h.call("fd_fdstat_set_flags", &[fd, 0x20]).await,
            Errno::INVAL
        );
        assert_eq!(h.call("fd_seek", &[fd, 0, 0, 0]).await, Errno::SPIPE);
        assert_eq!(h.call("fd_seek", &[fd, 0, 3, 0]).await, Errno::INVAL);
        assert_eq!(h.call("fd_tell", &[fd, 0]).await, Errno::SPIPE);
        for at in [END - 23, u32::MAX] {
            assert_eq!(
                h.call("fd_fdstat_get", &[fd, at.into()]).await,
                Errno::FAULT
            );
            assert_eq!(
                h.call("fd_filestat_get", &[fd, at.into()]).await,
                Errno::FAULT
            );
        }
    }
    for fd in [0, 1, 2, 3, 4, u64::from(u32::MAX)] {
        assert_eq!(h.call("fd_prestat_get", &[fd, 0]).await, Errno::BADF);
        assert_eq!(
            h.call("fd_prestat_dir_name", &[fd, 0, 0]).await,
            Errno::BADF
        );
    }
    for fd in [3, u64::from(u32::MAX)] {
        assert_eq!(h.call("fd_fdstat_get", &[fd, 0]).await, Errno::BADF);
        assert_eq!(h.call("fd_filestat_get", &[fd, 0]).await, Errno::BADF);
        assert_eq!(h.call("fd_fdstat_set_flags", &[fd, 0]).await, Errno::BADF);
        assert_eq!(h.call("fd_seek", &[fd, 0, 0, 0]).await, Errno::BADF);
        assert_eq!(h.call("fd_tell", &[fd, 0]).await, Errno::BADF);
        assert_eq!(h.call("fd_close", &[fd]).await, Errno::BADF);
    }
    assert_eq!(h.call("fd_close", &[1]).await, OK);
    assert_eq!(h.call("fd_close", &[1]).await, Errno::BADF);
    assert_eq!(h.call("fd_write", &[1, 0, 0, 64]).await, Errno::BADF);
    assert_eq!(h.call("fd_write", &[2, 0, 0, 64]).await, OK);
}
