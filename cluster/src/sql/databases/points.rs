//! Moments at which a kill leaves something half done. Tests look at the files then.

/// Such a moment.
#[cfg(not(test))]
pub(super) fn reached(_name: &'static str) {}

#[cfg(test)]
pub(super) use hook::{ignore, reached, watch};

#[cfg(test)]
mod hook {
    use std::cell::RefCell;

    type Hook = Box<dyn FnMut(&'static str)>;
    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    pub(in super::super) fn watch(hook: impl FnMut(&'static str) + 'static) {
        HOOK.with(|h| *h.borrow_mut() = Some(Box::new(hook)));
    }

    pub(in super::super) fn ignore() {
        HOOK.with(|h| *h.borrow_mut() = None);
    }

    pub(in super::super) fn reached(name: &'static str) {
        let hook = HOOK.with(|h| h.borrow_mut().take());
        if let Some(mut hook) = hook {
            hook(name);
            HOOK.with(|h| *h.borrow_mut() = Some(hook));
        }
    }
}
