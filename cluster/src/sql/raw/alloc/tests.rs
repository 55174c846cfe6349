use super::*;

/// Allocates and frees through the methods that SQLite calls.
fn hold(bytes: u64) -> Option<impl FnOnce()> {
    crate::sql::raw::register().unwrap();
    // SAFETY: what `malloc` gave is freed once.
    let at = unsafe { malloc(c_int::try_from(bytes).unwrap()) };
    (!at.is_null()).then_some(move || unsafe { free(at) })
}

#[test]
fn a_write_holds_and_touches_so_much() {
    crate::sql::raw::register().unwrap();
    meter::reset();
    let bound = Bound::Write {
        held: 3 * LARGE,
        touched: 5 * LARGE,
    };
    count(bound);
    let small = hold(LARGE - 8).unwrap();
    let first = hold(LARGE).unwrap();
    let second = hold(2 * LARGE).unwrap();
    assert!(hold(LARGE).is_none(), "more at a time");
    assert_eq!(stop_counting(), Some(Refused::Held));
    assert_eq!(meter::take_steps(), 3 * LARGE / meter::BYTES_A_STEP);
    hold(LARGE).unwrap()();
    assert_eq!(
        meter::take_steps(),
        0,
        "outside of statements nothing counts"
    );

    count(bound);
    for _ in 0..5 {
        hold(LARGE).unwrap()();
    }
    assert!(hold(LARGE).is_none(), "more in all");
    let free_of_charge = uncounted(|| hold(LARGE)).unwrap();
    assert_eq!(stop_counting(), Some(Refused::Work));
    free_of_charge();
    first();
    second();
    small();
    assert_eq!(stop_counting(), None);
}

#[test]
fn growing_and_shrinking_is_counted() {
    crate::sql::raw::register().unwrap();
    count(Bound::Write {
        held: 4 * LARGE,
        touched: u64::MAX,
    });
    // SAFETY: one allocation, always used by its last address, freed once.
    unsafe {
        let mut at = malloc(16);
        for size in [LARGE, 4 * LARGE, 16, 4 * LARGE] {
            at = realloc(at, c_int::try_from(size).unwrap());
            assert!(!at.is_null(), "{size}");
        }
        assert!(realloc(at, c_int::try_from(4 * LARGE + 8).unwrap()).is_null());
        free(at);
    }
    hold(4 * LARGE).unwrap()();
    assert_eq!(stop_counting(), Some(Refused::Held));
}

#[test]
fn a_read_gives_back_what_it_took() {
    crate::sql::raw::register().unwrap();
    count(Bound::Read { held: 2 * LARGE });
    let kept = hold(2 * LARGE).unwrap();
    assert!(reads() >= 2 * LARGE);
    assert!(hold(LARGE).is_none());
    assert_eq!(stop_counting(), Some(Refused::Held));
    kept();
    // Other tests read meanwhile, but they hold little.
    assert!(reads() < READS_MAX / 2);
    assert!(!take_from_reads(READS_MAX + 1));
    assert!(reads() < READS_MAX / 2);
}
