//! Arguments, clocks, exit, random numbers, and everything there is not.

use super::*;

#[tokio::test]
async fn args_and_environ() {
    let mut h = Harness::new(b"").await;
    assert_eq!(h.call("args_sizes_get", &[0, 4]).await, OK);
    assert_eq!((h.u32(0), h.u32(4)), (1, 5));
    assert_eq!(h.call("args_get", &[8, 100]).await, OK);
    assert_eq!(h.u32(8), 100);
    assert_eq!(h.bytes(100, 5), b"echo\0");
    assert_eq!(h.call("environ_sizes_get", &[0, 4]).await, OK);
    assert_eq!((h.u32(0), h.u32(4)), (0, 0));
    assert_eq!(h.call("environ_get", &[0, 0]).await, OK);
    for args in [[END - 3, 4], [0, END - 3], [u32::MAX, 0]] {
        let args = args.map(u64::from);
        assert_eq!(h.call("args_sizes_get", &args).await, Errno::FAULT);
        assert_eq!(h.call("environ_sizes_get", &args).await, Errno::FAULT);
    }
    assert_eq!(
        h.call("args_get", &[u64::from(END) - 3, 0]).await,
        Errno::FAULT
    );
    h.put(8, &[9; 4]);
    assert_eq!(
        h.call("args_get", &[8, u64::from(END) - 4]).await,
        Errno::FAULT
    );
    assert_eq!(
        h.bytes(8, 4),
        [9; 4],
        "nothing is written when not everything can be"
    );
}

#[tokio::test]
async fn clocks_move() {
    let mut h = Harness::new(b"").await;
    for id in 0..4 {
        assert_eq!(h.call("clock_res_get", &[id, 0]).await, OK);
        assert_eq!(h.u64(0), 1);
        assert_eq!(h.call("clock_time_get", &[id, 0, 0]).await, OK);
        assert_eq!(h.call("clock_time_get", &[id, u64::MAX, 8]).await, OK);
        let (first, then) = (h.u64(0), h.u64(8));
        assert!(then > first, "clock {id}: {first} {then}");
        assert_eq!(
            h.call("clock_time_get", &[id, 0, END.into()]).await,
            Errno::FAULT
        );
        assert_eq!(
            h.call("clock_res_get", &[id, u64::from(END) - 7]).await,
            Errno::FAULT
        );
    }
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert_eq!(h.call("clock_time_get", &[0, 0, 0]).await, OK);
    assert!(Duration::from_nanos(h.u64(0)).abs_diff(now) < Duration::from_secs(5));
    assert_eq!(h.call("clock_time_get", &[1, 0, 0]).await, OK);
    assert!(h.u64(0) >= 1_000_000_000, "never 0");
    for id in [4, u64::from(u32::MAX)] {
        assert_eq!(h.call("clock_time_get", &[id, 0, 0]).await, Errno::INVAL);
        assert_eq!(h.call("clock_res_get", &[id, 0]).await, Errno::INVAL);
    }
}

#[tokio::test]
async fn process_and_random() {
    for code in [0, 1, 255, u64::from(u32::MAX)] {
        let mut h = Harness::new(b"").await;
        let functions = h.instance.get_func(&mut h.store, "proc_exit").unwrap();
        let error = functions
            .call_async(&mut h.store, &[Val::I32(code as u32 as i32)], &mut [])
            .await
            .unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Stop::Exit(code as u32 as i32)));
    }
    let mut h = Harness::new(b"").await;
    assert_eq!(h.call("proc_raise", &[6]).await, Errno::NOTSUP);
    assert_eq!(h.call("sched_yield", &[]).await, OK);
    assert_eq!(h.call("random_get", &[0, 32]).await, OK);
    assert_eq!(h.call("random_get", &[32, 32]).await, OK);
    let (first, second) = (h.bytes(0, 32), h.bytes(32, 32));
    assert!(first != second && first != [0; 32]);
    assert_eq!(h.bytes(64, 8), [0; 8], "and no more than was asked for");
    let end = u64::from(END);
    assert_eq!(h.call("random_get", &[0, end]).await, OK);
    assert!(h.bytes(END - 64, 64) != [0; 64]);
    assert_eq!(h.call("random_get", &[end, 0]).await, OK);
    for args in [
        [end, 1],
        [0, end + 1],
        [u64::from(u32::MAX), u64::from(u32::MAX)],
    ] {
        assert_eq!(h.call("random_get", &args).await, Errno::FAULT);
    }
}

#[tokio::test]
async fn what_there_is_not() {
    let mut h = Harness::new(b"").await;
    let pipe = |name: &str| match name {
        "fd_advise" | "fd_allocate" | "fd_pread" | "fd_pwrite" => Errno::SPIPE,
        "fd_datasync" | "fd_sync" | "fd_filestat_set_size" => Errno::INVAL,
        "fd_fdstat_set_rights" | "fd_filestat_set_times" => Errno::NOTCAPABLE,
        "fd_renumber" => Errno::NOTSUP,
        "fd_readdir" => Errno::NOTDIR,
        name if name.starts_with("path_") => Errno::NOTDIR,
        name if name.starts_with("sock_") => Errno::NOTSOCK,
        other => panic!("{other}"),
    };
    for f in crate::runtime::wasi::unsupported::TABLE {
        let place = if f.name == "path_symlink" { 2 } else { 0 };
        let mut args = vec![0; f.params.len()];
        for (fd, errno) in [
            (0, pipe(f.name)),
            (1, pipe(f.name)),
            (3, Errno::BADF),
            (u64::MAX, Errno::BADF),
        ] {
            args[place] = fd;
            assert_eq!(h.call(f.name, &args).await, errno, "{}({args:?})", f.name);
        }
    }
    assert_eq!(h.call("fd_renumber", &[0, 9]).await, Errno::BADF);
}

#[tokio::test]
async fn no_arguments_do_harm() {
    // Every combination of hostile values in up to three places, over hostile memory.
    let values = [
        0,
        1,
        3,
        u64::from(END) - 4,
        u64::from(END),
        u64::from(u32::MAX),
        u64::MAX,
    ];
    for fill in [0x00, 0xff] {
        let mut h = Harness::new(b"input").await;
        for f in functions() {
            // Sleeping for ever is right when asked for; random bytes would change the memory.
            if f.name == "proc_exit"
                || f.name == "random_get"
                || (f.name == "poll_oneoff" && fill == 0)
            {
                continue;
            }
            let places = f.params.len().min(3) as u32;
            for combination in 0..values.len().pow(places) {
                let mut rest = combination;
                let args: Vec<u64> = (0..f.params.len())
                    .map(|_| {
                        let value = values[rest % values.len()];
                        rest /= values.len();
                        value
                    })
                    .collect();
                h.memory.data_mut(&mut h.store).fill(fill);
                let _ = h.try_call(f.name, &args).await;
            }
        }
    }
}
